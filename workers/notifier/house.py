"""What MQTT is told of the cameras, and what it may ask for; reads and writes the database, and nudges the manager."""

from typing import Any

import msgspec
import zmq
from sqlalchemy import Engine, select

from core.config import Config
from core.db.cameras import list_cameras, set_enabled
from core.db.events import stored_columns, stored_event
from core.db.tables import CameraStateRow, EventRow
from core.errors import HaetaeError
from core.events import AnomalyEvent, EventState
from core.ids import CameraId
from core.wire.messages import ApplyCameras, ManagerReply
from core.wire.rpc import RequestClient
from workers.notifier.channels.mqtt import CameraState

__all__ = ["camera_states_now", "switch_camera"]

NUDGE_S = 2.0
_ATTRIBUTES = ("id", "vlm_type", "severity", "reason", "description", "began_at", "ended_at", "state", "peak_score")


def camera_states_now(reader: Engine) -> list[CameraState]:
    """All cameras as they are, with the last event of each; blocks."""
    cameras = list_cameras(reader)
    found: list[CameraState] = []
    phases, events = CameraStateRow, EventRow
    with reader.connect() as connection:
        for camera in cameras:
            phase = select(phases.phase).where(phases.camera_id == camera.camera_id)
            newest = connection.execute(phase.order_by(phases.at.desc(), phases.id.desc()).limit(1)).scalar()
            event = select(*stored_columns()).where(events.camera_id == camera.camera_id)
            row = connection.execute(event.order_by(events.began_at.desc(), events.id.desc()).limit(1)).first()
            last = stored_event(row).event if row else None
            found.append(
                CameraState(
                    camera_id=camera.camera_id,
                    name=camera.name,
                    enabled=camera.enabled,
                    phase=newest or "stopped",
                    anomaly=last is not None and last.state is EventState.OPEN,
                    score=last.peak_score if last else 0.0,
                    event=_attributes(last) if last else {},
                    snapshot=last.snapshot if last else "",
                )
            )
    return found


def _attributes(event: AnomalyEvent) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(event, name)) for name in _ATTRIBUTES}


def switch_camera(config: Config, writer: Engine, camera_id: CameraId, *, enabled: bool) -> None:
    """Says that a camera should run, or rest, and tells the manager, which would find out by itself; blocks.

    Raises NotFound.
    """
    set_enabled(writer, camera_id, enabled=enabled)
    with zmq.Context() as context:
        client = RequestClient(context, config.endpoint("manager"), ManagerReply)
        try:
            client.call(ApplyCameras(), NUDGE_S)
        except HaetaeError:
            pass
        finally:
            client.close()
