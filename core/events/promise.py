"""The promise "about N false events a day": how many events each threshold would have made, and the threshold for N.

Pure values and objects. The event tracker is replayed, as scores come, at a ladder of thresholds at once; what it would
have opened at each is all that is kept. Between and beyond what was counted, the tail of the events' heights is a
generalised Pareto distribution.
"""

import math
from typing import Any, Literal

import msgspec
import numpy as np

from core.config import TrackerConfig
from core.events.tracker import HIGH, LASTING_S, MEDIUM, PLACES
from core.pareto import Pareto, fit_pareto

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

    Fed with the tracker's smoothed scores; `media_s` must not go back. Closing scores keep their proportion, places
    cool down as they do there.
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
        count = len(LEVELS)
        self._quiet = True
        self._open: Any = np.zeros(count, bool)
        self._rising_s: Any = np.full(count, math.nan)
        self._began_s: Any = np.zeros(count)
        self._high_s: Any = np.zeros(count)
        self._peak: Any = np.zeros((3, count))
        """Of what rises or is open: score, x, y."""
        self._cooling: Any = np.full((PLACES, 4, count), -math.inf)
        """Until when, x, y, rarity class, of the last places; each rung's next one goes to `_slot`."""
        self._slot: Any = np.zeros(count, int)
        self._last_s = math.nan

    def observe(self, media_s: float, smoothed: float, score: float = 0.0, x: float = 0.0, y: float = 0.0) -> None:
        """The next smoothed score, and the frame's own with its peak, in heights of the frame.

        A step of more than a few seconds is no time that was watched.
        """
        step_s = media_s - self._last_s
        self._last_s = media_s
        if 0 < step_s <= 3.0:
            self.watched_s += step_s
            self.histogram[min(BINS - 1, int(smoothed / BIN))] += step_s
        if self._quiet and smoothed < LEVELS[0]:
            return  # nothing is open, rises or begins to
        config = self._config
        over = smoothed >= LEVELS
        fallen = media_s - self._high_s >= config.close_s
        high = np.where(fallen, over, smoothed >= self._close)
        was_open = self._open
        self._see_peak(was_open & (score > self._peak[0]), score, x, y)
        self._high_s[was_open & high] = media_s
        silent = media_s - self._high_s >= config.close_s + config.merge_s
        long = media_s - self._began_s >= config.max_s
        over_now = was_open & ~high & silent
        ends = over_now | (was_open & long)
        self._cool(over_now, media_s)
        rising = ~was_open & over
        self._rising_s[~rising] = math.nan
        fresh = rising & np.isnan(self._rising_s)
        self._rising_s[fresh] = media_s
        self._see_peak(fresh | (rising & (score > self._peak[0])), score, x, y)
        opens = rising & (media_s - self._rising_s >= config.persist_s)
        if config.cooldown_s and opens.any():
            opens &= ~self._cools(media_s)
        self._began_s[opens] = self._rising_s[opens]
        self._high_s[opens] = media_s
        self._rising_s[opens] = math.nan
        self.events[opens] += 1.0
        self._open = (was_open & ~ends) | opens
        self._quiet = not (over[0] or self._open.any())

    def _see_peak(self, where: Any, score: float, x: float, y: float) -> None:
        self._peak[:, where] = np.array([[score], [x], [y]])

    def _cool(self, ended: Any, now_s: float) -> None:
        """Remembers the places of events that have just ended."""
        rungs = np.flatnonzero(ended)
        if not self._config.cooldown_s or not len(rungs):
            return
        lasted = self._high_s[rungs] - self._began_s[rungs]
        rarity = self._peak[0, rungs] + np.log10(1 + lasted / LASTING_S)
        place = np.stack(
            [
                np.full(len(rungs), now_s + self._config.cooldown_s),
                self._peak[1, rungs],
                self._peak[2, rungs],
                _rank(rarity),
            ]
        )
        self._cooling[self._slot[rungs], :, rungs] = place.T
        self._slot[rungs] = (self._slot[rungs] + 1) % PLACES

    def _cools(self, now_s: float) -> Any:
        until, x, y, rank = (self._cooling[:, field] for field in range(4))
        near = np.hypot(self._peak[1] - x, self._peak[2] - y) <= self._config.cooldown_reach
        return ((now_s < until) & near & (_rank(self._peak[0]) <= rank)).any(axis=0)

    def forgive(self, height: float, weight: float = 1.0) -> None:
        """An event that reached `height` and counts `weight` is no evidence of false ones; a negative one is again."""
        self.events[height >= LEVELS] = np.maximum(0.0, self.events[height >= LEVELS] - weight)

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


def _rank(rarity: Any) -> Any:
    """Classes of severity, as `severity_of` has them."""
    return (np.asarray(rarity) >= MEDIUM).astype(np.int64) + (np.asarray(rarity) >= HIGH)


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


def _tail(counts: Any) -> tuple[int, Pareto]:
    """Index of the level at which it begins, and the heights of events beyond it, in levels."""
    begin = int(np.searchsorted(-counts, -min(TAIL_EVENTS, counts[0] / 3), side="right")) - 1
    begin = max(0, begin)
    # events whose height lies between two levels, as if in the middle
    heights = LEVELS[begin:] + 0.05 - LEVELS[begin]
    weights = counts[begin:] - np.append(counts[begin + 1 :], 0.0)
    total = float(weights.sum())
    if total <= 0:
        return begin, Pareto(0.0, 0.1)
    tail = fit_pareto(heights, weights, total)
    return begin, tail._replace(scale=max(0.05, tail.scale))


def _level_of(counts: Any, wanted: float) -> float:
    """The level that `wanted` events reach."""
    begin, tail = _tail(counts)
    if wanted >= counts[begin]:
        fewer = int(np.searchsorted(-counts, -wanted, side="right"))
        if fewer == 0:
            return float(LEVELS[0])
        above, below = float(counts[fewer - 1]), float(counts[fewer])
        part = (above - wanted) / (above - below) if above > below else 0.0
        return float(LEVELS[fewer - 1] + part * (LEVELS[fewer] - LEVELS[fewer - 1]))
    return float(LEVELS[begin]) + tail.excess(max(wanted, 1e-6) / float(counts[begin]))


def _expected_at(counts: Any, level: float) -> float:
    """How many events are to be expected at a level, by the tail where there is one."""
    begin, tail = _tail(counts)
    if level <= LEVELS[begin]:
        return _events_at(counts, level)
    return float(counts[begin]) * tail.survival(level - float(LEVELS[begin]))


def _events_at(counts: Any, level: float) -> float:
    position = (min(max(level, float(LEVELS[0])), float(LEVELS[-1])) - float(LEVELS[0])) / 0.1
    below = min(int(position), len(LEVELS) - 2)
    return float(counts[below]) + (position - below) * (float(counts[below + 1]) - float(counts[below]))
