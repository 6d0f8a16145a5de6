"""Cameras in the database: the desired state, zones and groups."""

from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.cameras import CameraConfig, Zone
from core.clock import utc_iso
from core.db.tables import CameraGroupMemberRow, CameraGroupRow, CameraRow, ZoneRow
from core.errors import ConfigError, Conflict, NotFound
from core.ids import CameraId, uuid7

__all__ = [
    "CameraGroup",
    "add_camera",
    "add_group",
    "all_zones",
    "get_camera",
    "list_cameras",
    "list_groups",
    "list_zones",
    "remove_camera",
    "remove_group",
    "replace_group",
    "replace_zones",
    "set_enabled",
    "update_camera",
]

RESERVED = {"discover", "probe"}
"""Words that the API's paths have in the place of a camera's id."""
_FIELDS = [getattr(CameraRow, name) for name in CameraConfig.__struct_fields__]


def list_cameras(engine: Engine) -> list[CameraConfig]:
    """All cameras by id."""
    with engine.connect() as connection:
        rows = connection.execute(select(*_FIELDS).order_by(CameraRow.camera_id))
        return [msgspec.convert(dict(row), CameraConfig) for row in rows.mappings()]


def added_at(engine: Engine) -> dict[CameraId, str]:
    """When each camera was added; one that was removed and added again counts from then."""
    with engine.connect() as connection:
        rows = connection.execute(select(CameraRow.camera_id, CameraRow.created_at))
        return {CameraId(camera_id): at for camera_id, at in rows}


def get_camera(engine: Engine, camera_id: CameraId) -> CameraConfig:
    """One camera; raises NotFound where there is none."""
    with engine.connect() as connection:
        row = connection.execute(select(*_FIELDS).where(CameraRow.camera_id == camera_id)).mappings().first()
    if row is None:
        raise _unknown(camera_id)
    return msgspec.convert(dict(row), CameraConfig)


def add_camera(engine: Engine, camera: CameraConfig) -> None:
    """Stores a new camera; raises Conflict where its id is taken."""
    if camera.camera_id in RESERVED:
        raise Conflict(f"{camera.camera_id} is a word of Haetae's own", "choose another name")
    now = utc_iso(datetime.now(UTC))
    try:
        with engine.begin() as connection:
            values = {**msgspec.to_builtins(camera), "created_at": now, "updated_at": now}
            connection.execute(insert(CameraRow).values(**values))
    except IntegrityError as error:
        raise Conflict(
            f"there is a camera {camera.camera_id!r} already", "choose another name, or remove that one first"
        ) from error


def update_camera(engine: Engine, camera: CameraConfig) -> None:
    """Replaces a camera's configuration; raises NotFound where there is none."""
    values = msgspec.to_builtins(camera)
    _change(engine, values.pop("camera_id"), **values)


def set_enabled(engine: Engine, camera_id: CameraId, *, enabled: bool) -> None:
    """Says whether the camera should run now; raises NotFound where there is none."""
    _change(engine, camera_id, enabled=enabled)


def remove_camera(engine: Engine, camera_id: CameraId) -> None:
    """Forgets the camera, not its events; raises NotFound where there is none."""
    with engine.begin() as connection:
        if not connection.execute(delete(CameraRow).where(CameraRow.camera_id == camera_id)).rowcount:
            raise _unknown(camera_id)


def _change(engine: Engine, camera_id: CameraId, **values: object) -> None:
    values["updated_at"] = utc_iso(datetime.now(UTC))
    with engine.begin() as connection:
        if not connection.execute(update(CameraRow).where(CameraRow.camera_id == camera_id).values(**values)).rowcount:
            raise _unknown(camera_id)


def _unknown(camera_id: CameraId) -> NotFound:
    return NotFound(f"there is no camera {camera_id!r}", "haetae camera list shows those there are")


# ---- zones

_ZONE_FIELDS = (ZoneRow.camera_id, ZoneRow.name, ZoneRow.kind, ZoneRow.points, ZoneRow.settings)


def list_zones(engine: Engine, camera_id: CameraId) -> list[Zone]:
    """A camera's zones by name; none where there is no such camera."""
    return all_zones(engine, camera_id).get(camera_id, [])


def all_zones(engine: Engine, camera_id: CameraId | None = None) -> dict[CameraId, list[Zone]]:
    """The zones of all cameras that have some, or of one, each by name."""
    query = select(*_ZONE_FIELDS).order_by(ZoneRow.camera_id, ZoneRow.name)
    if camera_id is not None:
        query = query.where(ZoneRow.camera_id == camera_id)
    found: dict[CameraId, list[Zone]] = {}
    with engine.connect() as connection:
        for row in connection.execute(query):
            zone = msgspec.convert({"name": row.name, "kind": row.kind, "points": row.points, **row.settings}, Zone)
            found.setdefault(CameraId(row.camera_id), []).append(zone)
    return found


def replace_zones(engine: Engine, camera_id: CameraId, zones: list[Zone]) -> None:
    """These are all zones of the camera from now on; raises ConfigError for two of one name, or an unknown camera."""
    now = utc_iso(datetime.now(UTC))
    rows: list[dict[str, object]] = []
    for zone in zones:
        settings = msgspec.to_builtins(zone)
        name, kind, points = settings.pop("name"), settings.pop("kind"), settings.pop("points")
        rows.append(
            {
                "id": str(uuid7()),
                "camera_id": camera_id,
                "name": name,
                "kind": kind,
                "points": points,
                "settings": settings,
                "created_at": now,
                "updated_at": now,
            }
        )
    if len({zone.name for zone in zones}) < len(zones):
        raise ConfigError("two zones of a camera have the same name", "give each a name of its own")
    with engine.begin() as connection:
        touched = update(CameraRow).where(CameraRow.camera_id == camera_id).values(updated_at=now)
        if not connection.execute(touched).rowcount:
            raise _unknown(camera_id)
        connection.execute(delete(ZoneRow).where(ZoneRow.camera_id == camera_id))
        if rows:
            connection.execute(insert(ZoneRow), rows)


# ---- groups


class CameraGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Some cameras under one name."""

    id: str
    name: str
    cameras: tuple[CameraId, ...]


def list_groups(engine: Engine) -> list[CameraGroup]:
    """All groups by name, their cameras by id."""
    member = CameraGroupMemberRow
    query = (
        select(CameraGroupRow.id, CameraGroupRow.name, member.camera_id)
        .join(member, member.group_id == CameraGroupRow.id, isouter=True)
        .order_by(CameraGroupRow.name, member.camera_id)
    )
    found: dict[str, tuple[str, list[CameraId]]] = {}
    with engine.connect() as connection:
        for row in connection.execute(query):
            _, cameras = found.setdefault(row.id, (row.name, []))
            if row.camera_id is not None:
                cameras.append(CameraId(row.camera_id))
    return [CameraGroup(id=key, name=name, cameras=tuple(cameras)) for key, (name, cameras) in found.items()]


def add_group(engine: Engine, name: str, cameras: list[CameraId]) -> CameraGroup:
    """Makes a group; raises Conflict where the name is taken, or a camera unknown."""
    group = CameraGroup(id=str(uuid7()), name=name, cameras=tuple(sorted(set(cameras))))
    now = utc_iso(datetime.now(UTC))
    try:
        with engine.begin() as connection:
            connection.execute(insert(CameraGroupRow).values(id=group.id, name=name, created_at=now))
            _set_members(connection, group)
    except IntegrityError as error:
        raise _group_refused(name) from error
    return group


def replace_group(engine: Engine, group: CameraGroup) -> None:
    """Gives a group another name and other cameras; raises Conflict as `add_group`, NotFound."""
    try:
        with engine.begin() as connection:
            renamed = update(CameraGroupRow).where(CameraGroupRow.id == group.id).values(name=group.name)
            if not connection.execute(renamed).rowcount:
                raise _unknown_group()
            connection.execute(delete(CameraGroupMemberRow).where(CameraGroupMemberRow.group_id == group.id))
            _set_members(connection, group)
    except IntegrityError as error:
        raise _group_refused(group.name) from error


def remove_group(engine: Engine, group_id: str) -> None:
    """Forgets a group, not its cameras; raises NotFound where there is none."""
    with engine.begin() as connection:
        if not connection.execute(delete(CameraGroupRow).where(CameraGroupRow.id == group_id)).rowcount:
            raise _unknown_group()


def _set_members(connection: Connection, group: CameraGroup) -> None:
    rows = [{"group_id": group.id, "camera_id": camera_id} for camera_id in sorted(set(group.cameras))]
    if rows:
        connection.execute(insert(CameraGroupMemberRow), rows)


def _group_refused(name: str) -> Conflict:
    return Conflict(f"the group {name!r} exists already, or names a camera that does not", "check both")


def _unknown_group() -> NotFound:
    return NotFound("there is no such group of cameras", "list them anew")
