"""Events for tests."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from core.clock import utc_iso
from core.events import AnomalyEvent, EventState, Severity
from core.ids import CameraId, EventId, NodeId, uuid7

__all__ = ["BEGIN", "make_event", "random_event"]

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
TYPES = ("unusual_motion", "fall", "loitering", "fire_smoke")
TEXTS = ("a person runs", "사람이 쓰러짐", "화재 연기가 보임", "배회하는 사람 100%_\\", "")


def make_event(seconds: float = 0.0, **changes: Any) -> AnomalyEvent:
    """A closed event of 4 s that began so many seconds after BEGIN."""
    began_at = utc_iso(BEGIN + timedelta(seconds=seconds))
    event = AnomalyEvent(
        id=EventId(str(uuid7())),
        revision=1,
        camera_id=CameraId("gate"),
        node_id=NodeId("local"),
        state=EventState.CLOSED,
        began_at=began_at,
        ended_at=utc_iso(BEGIN + timedelta(seconds=seconds + 4)),
        begin_s=seconds,
        end_s=seconds + 4.0,
        peak_score=3.5,
        peak_at=began_at,
        peak_s=seconds + 0.5,
        peak_x=1,
        peak_y=2,
        frame_width=640,
        frame_height=360,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        reason="3.1 x the usual speed here",
    )
    return msgspec.structs.replace(event, **changes)


def random_event(rnd: random.Random, span_s: float, cameras: int = 5) -> AnomalyEvent:
    """Anything that a filter may ask for; several may begin in the same moment."""
    state = rnd.choice([EventState.CLOSED, EventState.CLOSED, EventState.OPEN, EventState.INTERRUPTED])
    return make_event(
        float(rnd.randrange(int(span_s))),
        camera_id=CameraId(f"cam-{rnd.randrange(cameras)}"),
        state=state,
        severity=rnd.choice(list(Severity)),
        vlm_type=rnd.choice(TYPES),
        peak_score=round(rnd.uniform(1, 8), 3),
        description=rnd.choice(TEXTS),
        reason=f"{rnd.randrange(100)} x the usual speed here",
    )
