"""Backtest: the events that a camera's kept scores would have made with another threshold."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from core.config import TrackerConfig
from core.events.model import AnomalyEvent, EventState
from core.events.promise import BIN, BINS, LEVELS, Evidence, Promise, promise_of
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, NodeId

__all__ = ["Backtest", "Curve", "backtest"]

Seconds = "np.ndarray[tuple[int], np.dtype[np.int64]]"
Scores = "np.ndarray[tuple[int], np.dtype[np.float64]]"
LONGEST_STEP_S = 3
"""A longer one is no time that was watched."""


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been; times are of the events, whose ids stand for nothing."""

    promise: Promise
    """The threshold that was tried, and what it stands for by these very scores."""
    before: int
    """Events at the threshold that holds now, by the same scores."""
    events: tuple[AnomalyEvent, ...]
    """With the threshold that was tried, in order of time."""


class Curve:
    """The scores of a camera, second by second, and what thresholds would have made of them.

    Of a second only its highest score is kept, without its place, so that a little more events are found than were
    raised: hold one threshold against another, found in the same way. A week takes about a second to be made.
    """

    def __init__(self, curve: Sequence[tuple[int, float]], config: TrackerConfig) -> None:
        """`curve`: (Unix second, highest score in it), rising."""
        self._config = msgspec.structs.replace(config, smooth_s=0.0, persist_s=0.0, cooldown_s=0.0)
        pairs: Any = np.array(curve, np.float64).reshape(-1, 2)
        self._seconds: Any = pairs[:, 0].astype(np.int64)
        self._scores: Any = pairs[:, 1]
        steps = np.diff(self._seconds)
        watched = (steps > 0) & (steps <= LONGEST_STEP_S)
        bins = np.minimum(BINS - 1, (self._scores[1:] / BIN).astype(np.int64))
        histogram = np.bincount(bins[watched], steps[watched], BINS)
        self.evidence = Evidence(
            watched_s=float(steps[watched].sum()),
            events=tuple(float(self._count(float(level))) for level in LEVELS),
            histogram=tuple(map(float, histogram)),
        )

    def promise(self, per_day: float) -> Promise:
        """The threshold for so many false events a day, and what it stands for."""
        return promise_of(self.evidence, per_day, self._config.open_score)

    def _count(self, level: float) -> int:
        """How many events a threshold would have opened; one that is longer than `max_s` counts once."""
        config = self._config
        near = self._scores >= level * config.close_score / config.open_score
        seconds, over = self._seconds[near], self._scores[near] >= level
        if not over.any():
            return 0
        # within a stretch, nothing is further apart than what closes an event
        stretch = np.concatenate(([0], np.cumsum(np.diff(seconds) >= config.close_s)))
        hits, first = np.unique(stretch[over], return_index=True)
        begins = seconds[over][first]
        last = np.searchsorted(stretch, hits, side="right") - 1
        ends = seconds[last]
        return 1 + int(np.count_nonzero(begins[1:] - ends[:-1] > config.close_s + config.merge_s))

    def events(self, open_score: float) -> list[AnomalyEvent]:
        """The events at a threshold, as the tracker makes them of these scores."""
        config = self._config.at(open_score)
        tracker = EventTracker(
            config,
            camera_id=CameraId("backtest"),
            node_id=NodeId("backtest"),
            vad_type="",
            frame_width=0,
            frame_height=0,
        )
        found: list[AnomalyEvent] = []
        for second, score in self._loud(config):
            seen = Observation(media_s=float(second), at=datetime.fromtimestamp(second, UTC), score=score)
            found += tracker.observe(seen)
        return [event for event in (*found, *tracker.finish()) if event.state is EventState.CLOSED]

    def _loud(self, config: TrackerConfig) -> Iterator[tuple[int, float]]:
        """What is not quiet, and as much after it as an event takes to end."""
        (high,) = np.nonzero(self._scores >= config.close_score)
        if not len(high):
            return
        tail = int(config.close_s + config.merge_s) + 2
        later = self._seconds[high] + tail
        done = 0
        for begin, end in zip(map(int, high), map(int, self._seconds.searchsorted(later, side="right")), strict=True):
            for at in range(max(done, begin), end):
                yield int(self._seconds[at]), float(self._scores[at])
            done = max(done, end)


def backtest(
    curve: Sequence[tuple[int, float]], config: TrackerConfig, per_day: float, now: float | None = None
) -> Backtest:
    """`curve`: (Unix second, highest score in it), rising. `now` is the threshold that holds; the configured one."""
    scores = Curve(curve, config)
    promise = scores.promise(per_day)
    return Backtest(
        promise=promise,
        before=len(scores.events(config.open_score if now is None else now)),
        events=tuple(scores.events(promise.open_score)),
    )
