"""Backtest: the events that a camera's kept scores would have made with another threshold."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from core.config import TrackerConfig
from core.events.model import AnomalyEvent, EventState
from core.events.promise import EventLadder, Promise, promise_of
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, NodeId

__all__ = ["Backtest", "backtest"]


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been; times are of the events, whose ids stand for nothing."""

    promise: Promise
    """The threshold that was tried, and what it stands for by these very scores."""
    before: int
    """Events at the configured threshold, by the same scores."""
    events: tuple[AnomalyEvent, ...]
    """With the threshold that was tried, in order of time."""


def backtest(curve: Sequence[tuple[int, float]], config: TrackerConfig, per_day: float) -> Backtest:
    """`curve`: (Unix second, highest score in it), rising. Of a second only its highest score is kept, so that a little
    more events are found than were raised: compare with `before`, which is found in the same way.
    """
    by_second = msgspec.structs.replace(config, smooth_s=0.0, persist_s=0.0)
    ladder = EventLadder(by_second)
    for second, score in curve:
        ladder.observe(float(second), score)
    promise = promise_of(ladder.evidence, per_day, config.open_score)
    return Backtest(
        promise=promise,
        before=len(_replayed(curve, by_second)),
        events=tuple(_replayed(curve, by_second.at(promise.open_score))),
    )


def _replayed(curve: Sequence[tuple[int, float]], config: TrackerConfig) -> list[AnomalyEvent]:
    tracker = EventTracker(
        config,
        camera_id=CameraId("backtest"),
        node_id=NodeId("backtest"),
        vad_type="",
        frame_width=0,
        frame_height=0,
    )
    found: list[AnomalyEvent] = []
    for second, score in curve:
        seen = Observation(media_s=float(second), at=datetime.fromtimestamp(second, UTC), score=score)
        found += tracker.observe(seen)
    return [event for event in (*found, *tracker.finish()) if event.state is EventState.CLOSED]
