"""The promise "about N false events a day": how many events each threshold would have made, and the threshold for N.

Pure values and objects. The event tracker is replayed, as scores come, at a ladder of thresholds at once; what it would
have opened at each is all that is kept. Between and beyond what was counted, the tail of the events' heights is a
generalised Pareto distribution, fitted by probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987).
"""

import math
from typing import Any, Literal

import msgspec
import numpy as np

from core.config import TrackerConfig

__all__ = ["LEVELS", "EventLadder", "Evidence", "Promise", "Stage", "poisson_interval", "promise_of"]

Floats = "np.ndarray[tuple[int], np.dtype[np.float64]]"
Stage = Literal["learning", "provisional", "armed"]

LEVELS: "np.ndarray[tuple[int], np.dtype[np.float64]]" = np.round(np.arange(0.5, 12.01, 0.1), 3)
"""The thresholds that are tried, -log10 P, (K,)."""
BINS = 48
"""Of the histogram of scores; BIN wide each, the last takes what is beyond."""
BIN = 0.25

LEAST_WATCHED_S = 1800.0
LEAST_EVENTS = 10
"""Less footage, or fewer events at the threshold that makes most, promise nothing."""
TAIL_EVENTS = 60
"""The tail begins where so many events are left, or a third of all."""
ARMED_EVENTS, ARMED_WATCHED_S = 10.0, 86_400.0
"""The promise is armed when so many events were to be expected in what was watched, or after a day."""
SHAPE_EVENTS, MOST_SHAPE = 50.0, 0.3
"""A tail's shape is believed by half after so many events, and never beyond that."""
LOWEST, HIGHEST = 1.0, float(LEVELS[-1])
"""Thresholds stay between."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in footage that nothing was learned from."""

    watched_s: float = 0.0
    events: tuple[float, ...] = ()
    """For each of LEVELS, how many events the tracker would have opened; not whole numbers, since old ones fade."""
    histogram: tuple[float, ...] = ()
    """Seconds that the smoothed score lay in each of BINS."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a camera's threshold stands for."""

    stage: Stage
    """"learning": too little was watched, the threshold is the configured one."""
    open_score: float
    per_day: float
    """False events a day that were asked for; 0: none were, the threshold is the configured one."""
    expected_per_day: float
    """By the tail of what was watched."""
    low_per_day: float
    """Two-sided 95 % Poisson interval of the events that this threshold would have made (Garwood 1936)."""
    high_per_day: float
    watched_s: float


class EventLadder:
    """EventTracker at each of LEVELS at once, but for the events themselves: it counts openings.

    Fed with the tracker's smoothed scores; `media_s` must not go back. Closing scores keep their proportion.
    """

    def __init__(self, config: TrackerConfig, kept: Evidence | None = None) -> None:
        """Goes on from what was `kept`."""
        self._config = config
        self._close = LEVELS * (config.close_score / config.open_score)
        self.events: Any = np.zeros(len(LEVELS))
        self.histogram: Any = np.zeros(BINS)
        self.watched_s = 0.0
        if kept and len(kept.events) == len(LEVELS) and len(kept.histogram) == BINS:
            self.events, self.histogram = np.array(kept.events, np.float64), np.array(kept.histogram, np.float64)
            self.watched_s = kept.watched_s
        self._last_s = math.nan
        self.pause()

    def pause(self) -> None:
        """What comes next does not follow what was before: whatever was open is over."""
        self._open: Any = np.zeros(len(LEVELS), bool)
        self._rising_s: Any = np.full(len(LEVELS), math.nan)
        self._began_s: Any = np.zeros(len(LEVELS))
        self._high_s: Any = np.zeros(len(LEVELS))
        self._last_s = math.nan

    def observe(self, media_s: float, smoothed: float) -> None:
        """The next smoothed score. A step of more than a few seconds is no time that was watched."""
        step_s = media_s - self._last_s
        self._last_s = media_s
        if 0 < step_s <= 3.0:
            self.watched_s += step_s
            self.histogram[min(BINS - 1, int(smoothed / BIN))] += step_s
        config = self._config
        over = smoothed >= LEVELS
        fallen = media_s - self._high_s >= config.close_s
        high = np.where(fallen, over, smoothed >= self._close)
        was_open = self._open
        self._high_s[was_open & high] = media_s
        silent = media_s - self._high_s >= config.close_s + config.merge_s
        long = media_s - self._began_s >= config.max_s
        ends = was_open & ((~high & silent) | long)
        rising = ~was_open & over
        self._rising_s[~rising] = math.nan
        fresh = rising & np.isnan(self._rising_s)
        self._rising_s[fresh] = media_s
        opens = rising & (media_s - self._rising_s >= config.persist_s)
        self._began_s[opens] = self._rising_s[opens]
        self._high_s[opens] = media_s
        self._rising_s[opens] = math.nan
        self.events[opens] += 1.0
        self._open = (was_open & ~ends) | opens

    def forgive(self, height: float) -> None:
        """An event that reached `height` was a real one: it is no evidence of false ones."""
        self.events[height >= LEVELS] = np.maximum(0.0, self.events[height >= LEVELS] - 1.0)

    def fade(self, share: float) -> None:
        """Keeps `share` of what was counted, so that what is newer counts for more."""
        self.events *= share
        self.histogram *= share
        self.watched_s *= share

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            watched_s=self.watched_s, events=tuple(self.events.tolist()), histogram=tuple(self.histogram.tolist())
        )


def promise_of(evidence: Evidence, per_day: float, configured: float) -> Promise:
    """The threshold for `per_day` false events a day; `configured` where evidence is too little, or none were asked."""
    days = evidence.watched_s / 86_400
    counts = _falling(evidence)
    known = evidence.watched_s >= LEAST_WATCHED_S and float(counts[0]) >= LEAST_EVENTS
    stage: Stage = "learning"
    threshold = configured
    if known:
        wanted = per_day * days
        stage = "armed" if wanted >= ARMED_EVENTS or evidence.watched_s >= ARMED_WATCHED_S else "provisional"
        if per_day > 0:
            threshold = min(HIGHEST, max(LOWEST, _level_of(counts, wanted)))
    counted = _events_at(counts, threshold)
    low, high = poisson_interval(round(counted))
    return Promise(
        stage=stage,
        open_score=round(threshold, 3),
        per_day=per_day,
        expected_per_day=round(_expected_at(counts, threshold) / days, 3) if days else 0.0,
        low_per_day=round(low / days, 3) if days else 0.0,
        high_per_day=round(high / days, 3) if days else 0.0,
        watched_s=round(evidence.watched_s, 1),
    )


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The means that are not refused by `count` events (Garwood 1936): exact, two-sided."""
    tail = (1 - confidence) / 2
    low = _mean_where(count - 1, 1 - tail) if count else 0.0
    return low, _mean_where(count, tail)


def _mean_where(count: int, probability: float) -> float:
    """The mean of a Poisson variable that is at most `count` with that probability."""
    low, high = 0.0, count + 10 * math.sqrt(count + 1) + 10
    for _ in range(40):
        middle = (low + high) / 2
        terms = [n * math.log(middle) - middle - math.lgamma(n + 1) for n in range(max(0, count - 400), count + 1)]
        if math.fsum(map(math.exp, terms)) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _falling(evidence: Evidence) -> Any:
    """(K,) events at each level, none fewer than at a higher one: low thresholds melt events into one."""
    if len(evidence.events) != len(LEVELS):
        return np.zeros(len(LEVELS))
    return np.maximum.accumulate(np.array(evidence.events)[::-1])[::-1]


def _tail(counts: Any) -> tuple[int, float, float]:
    """(index of the level at which it begins, shape, scale in levels) of the heights of events beyond it."""
    begin = int(np.searchsorted(-counts, -min(TAIL_EVENTS, counts[0] / 3), side="right")) - 1
    begin = max(0, begin)
    # events whose height lies between two levels, as if in the middle
    heights = LEVELS[begin:] + 0.05 - LEVELS[begin]
    weights = counts[begin:] - np.append(counts[begin + 1 :], 0.0)
    total = float(weights.sum())
    if total <= 0:
        return begin, 0.0, 0.1
    survivors = (np.cumsum(weights[::-1])[::-1] - weights / 2) / total
    first = float((weights * heights).sum()) / total
    second = float((weights * heights * survivors).sum()) / total
    shape = 2 - first / max(1e-9, first - 2 * second)
    shape = min(MOST_SHAPE, max(-MOST_SHAPE, shape)) * total / (total + SHAPE_EVENTS)
    return begin, shape, max(0.05, first * (1 - shape))


def _level_of(counts: Any, wanted: float) -> float:
    """The level that `wanted` events reach."""
    begin, shape, scale = _tail(counts)
    if wanted >= counts[begin]:
        fewer = int(np.searchsorted(-counts, -wanted, side="right"))
        if fewer == 0:
            return float(LEVELS[0])
        above, below = float(counts[fewer - 1]), float(counts[fewer])
        part = (above - wanted) / (above - below) if above > below else 0.0
        return float(LEVELS[fewer - 1] + part * (LEVELS[fewer] - LEVELS[fewer - 1]))
    ratio = max(wanted, 1e-6) / float(counts[begin])
    beyond = -scale * math.log(ratio) if abs(shape) < 1e-6 else scale / shape * (ratio**-shape - 1)
    return float(LEVELS[begin]) + beyond


def _expected_at(counts: Any, level: float) -> float:
    """How many events are to be expected at a level, by the tail where there is one."""
    begin, shape, scale = _tail(counts)
    if level <= LEVELS[begin]:
        return _events_at(counts, level)
    inside = 1 + shape * (level - float(LEVELS[begin])) / scale
    if inside <= 0:
        return 0.0
    beyond = (level - float(LEVELS[begin])) / scale
    return float(counts[begin]) * (math.exp(-beyond) if abs(shape) < 1e-6 else inside ** (-1 / shape))


def _events_at(counts: Any, level: float) -> float:
    position = (min(max(level, float(LEVELS[0])), float(LEVELS[-1])) - float(LEVELS[0])) / 0.1
    below = min(int(position), len(LEVELS) - 2)
    return float(counts[below]) + (position - below) * (float(counts[below + 1]) - float(counts[below]))
