"""What a camera's threshold stands for, and what another one would have meant, by the scores that are kept."""

import threading
from collections import OrderedDict
from datetime import timedelta
from pathlib import Path

import msgspec

from api.services import Services
from core.cameras import CameraConfig
from core.clock import utc_iso
from core.db.history import score_curve
from core.events.backtest import Curve
from core.events.promise import BIN, Promise
from core.ids import CameraId
from core.rest.cameras import SensitivityOut, TriedEvent

__all__ = ["try_sensitivity"]

MOST_EVENTS = 200
KEPT, KEPT_S = 8, 60.0
"""Curves that are kept, and for how long: a slider asks again and again."""


class _Kept(msgspec.Struct):
    """The part that is read of the file in which a camera's process keeps its promise."""

    promise: Promise


_curves: OrderedDict[tuple[CameraId, float], tuple[float, Curve]] = OrderedDict()
_lock = threading.Lock()


def try_sensitivity(services: Services, camera: CameraConfig, per_day: float | None, days: float) -> SensitivityOut:
    """Takes about a second for a week of scores, less where they were looked at a moment ago."""
    tracker = services.config.tracker
    own = camera.settings.false_events_per_day
    in_force = tracker.false_events_per_day if own is None else own
    curve = _curve(services, camera.camera_id, days)
    now = _promise(services.config.data_dir / "promises" / f"{camera.camera_id}.json")
    tried = curve.promise(in_force if per_day is None else per_day)
    events = curve.events(tried.open_score)
    return SensitivityOut(
        per_day=own,
        site_per_day=tracker.false_events_per_day,
        now=now,
        tried=tried,
        watched_s=curve.evidence.watched_s,
        before=len(curve.events(now.open_score if now else tracker.open_score)),
        after=len(events),
        events=[
            TriedEvent(
                began_at=event.began_at,
                duration_s=round(event.end_s - event.begin_s, 3),
                peak_score=round(event.peak_score, 3),
            )
            for event in events[: -MOST_EVENTS - 1 : -1]
        ],
        histogram=list(curve.evidence.histogram),
        bin_width=BIN,
    )


def _curve(services: Services, camera_id: CameraId, days: float) -> Curve:
    key = camera_id, days
    with _lock:
        known = _curves.get(key)
        if known and services.clock.monotonic() - known[0] < KEPT_S:
            return known[1]
    now = services.clock.now()
    scores = score_curve(services.reader, camera_id, utc_iso(now - timedelta(days=days)), utc_iso(now))
    curve = Curve(scores, services.config.tracker)
    with _lock:
        _curves[key] = services.clock.monotonic(), curve
        _curves.move_to_end(key)
        while len(_curves) > KEPT:
            _curves.popitem(last=False)
    return curve


def _promise(file: Path) -> Promise | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Kept).promise
    except (OSError, msgspec.DecodeError):
        return None
