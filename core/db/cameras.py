"""Cameras in the database: the desired state."""

from datetime import UTC, datetime

import msgspec
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.cameras import CameraConfig
from core.clock import utc_iso
from core.db.tables import CameraRow
from core.errors import ConfigError
from core.ids import CameraId

__all__ = ["add_camera", "get_camera", "list_cameras", "remove_camera", "set_enabled", "update_camera"]

_FIELDS = [getattr(CameraRow, name) for name in CameraConfig.__struct_fields__]


def list_cameras(engine: Engine) -> list[CameraConfig]:
    """All cameras by id."""
    with engine.connect() as connection:
        rows = connection.execute(select(*_FIELDS).order_by(CameraRow.camera_id))
        return [msgspec.convert(dict(row), CameraConfig) for row in rows.mappings()]


def get_camera(engine: Engine, camera_id: CameraId) -> CameraConfig:
    """One camera; raises ConfigError where there is none."""
    with engine.connect() as connection:
        row = connection.execute(select(*_FIELDS).where(CameraRow.camera_id == camera_id)).mappings().first()
    if row is None:
        raise _unknown(camera_id)
    return msgspec.convert(dict(row), CameraConfig)


def add_camera(engine: Engine, camera: CameraConfig) -> None:
    """Stores a new camera; raises ConfigError where its id is taken."""
    now = utc_iso(datetime.now(UTC))
    try:
        with engine.begin() as connection:
            values = {**msgspec.structs.asdict(camera), "created_at": now, "updated_at": now}
            connection.execute(insert(CameraRow).values(**values))
    except IntegrityError as error:
        raise ConfigError(
            f"there is a camera {camera.camera_id!r} already", "choose another name, or remove that one first"
        ) from error


def update_camera(engine: Engine, camera: CameraConfig) -> None:
    """Replaces a camera's configuration; raises ConfigError where there is none."""
    values = msgspec.structs.asdict(camera)
    _change(engine, values.pop("camera_id"), **values)


def set_enabled(engine: Engine, camera_id: CameraId, *, enabled: bool) -> None:
    """Says whether the camera should run now; raises ConfigError where there is none."""
    _change(engine, camera_id, enabled=enabled)


def remove_camera(engine: Engine, camera_id: CameraId) -> None:
    """Forgets the camera, not its events; raises ConfigError where there is none."""
    with engine.begin() as connection:
        if not connection.execute(delete(CameraRow).where(CameraRow.camera_id == camera_id)).rowcount:
            raise _unknown(camera_id)


def _change(engine: Engine, camera_id: CameraId, **values: object) -> None:
    values["updated_at"] = utc_iso(datetime.now(UTC))
    with engine.begin() as connection:
        if not connection.execute(update(CameraRow).where(CameraRow.camera_id == camera_id).values(**values)).rowcount:
            raise _unknown(camera_id)


def _unknown(camera_id: CameraId) -> ConfigError:
    return ConfigError(f"there is no camera {camera_id!r}", "haetae camera list shows those there are")
