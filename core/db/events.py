"""Events in the database: idempotent writes, keyset reads."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from core.db.tables import EventRow
from core.events.model import AnomalyEvent, EventState
from core.ids import CameraId, EventId

__all__ = ["count_events", "get_event", "last_sequence", "list_events", "open_events", "upsert_events"]

_NAMES = AnomalyEvent.__struct_fields__
_FIELDS = [getattr(EventRow, name) for name in _NAMES]


def upsert_events(connection: Connection, events: Sequence[AnomalyEvent]) -> list[tuple[int, AnomalyEvent]]:
    """Stores each event unless a revision as new is stored; returns (sequence, event) of those that were.

    To be called by the one writer, in a transaction: the sequence goes on from the highest there is.
    Replaying any part of a journal changes nothing.
    """
    newest: dict[str, AnomalyEvent] = {}
    for event in events:
        if event.id not in newest or event.revision > newest[event.id].revision:
            newest[event.id] = event
    known = dict(
        connection.execute(select(EventRow.id, EventRow.revision).where(EventRow.id.in_(newest))).tuples().all()
    )
    fresh = [event for event in newest.values() if event.revision > known.get(event.id, 0)]
    if not fresh:
        return []
    sequence = last_sequence(connection)
    numbered = list(enumerate(fresh, sequence + 1))
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(EventRow)
    changed = {name: statement.excluded[name] for name in (*_NAMES, "sequence") if name != "id"}
    statement = statement.on_conflict_do_update(
        index_elements=[EventRow.id], set_=changed, where=statement.excluded.revision > EventRow.revision
    )
    connection.execute(statement, [{**_values(event), "sequence": number} for number, event in numbered])
    return numbered


def _values(event: AnomalyEvent) -> dict[str, Any]:
    return {**msgspec.structs.asdict(event), "state": str(event.state), "severity": str(event.severity)}


def _event(row: Any) -> AnomalyEvent:
    return msgspec.convert(dict(zip(_NAMES, row, strict=True)), AnomalyEvent)


def last_sequence(connection: Connection) -> int:
    """The highest sequence number that was given; 0 where there is none."""
    return connection.execute(select(func.coalesce(func.max(EventRow.sequence), 0))).scalar_one()


def get_event(engine: Engine, event_id: EventId) -> AnomalyEvent | None:
    with engine.connect() as connection:
        row = connection.execute(select(*_FIELDS).where(EventRow.id == event_id)).first()
    return _event(row) if row else None


def list_events(
    engine: Engine,
    *,
    camera_id: CameraId | None = None,
    since: str | None = None,
    before: tuple[str, str] | None = None,
    limit: int | None = 50,
) -> list[AnomalyEvent]:
    """Events, newest first; `since` is RFC 3339 UTC, `before` the (began_at, id) of the last one of the page before."""
    query = select(*_FIELDS).order_by(EventRow.began_at.desc(), EventRow.id.desc()).limit(limit)
    if camera_id:
        query = query.where(EventRow.camera_id == camera_id)
    if since:
        query = query.where(EventRow.began_at >= since)
    if before:
        query = query.where(tuple_(EventRow.began_at, EventRow.id) < before)
    with engine.connect() as connection:
        return [_event(row) for row in connection.execute(query)]


def open_events(engine: Engine, camera_id: CameraId) -> list[AnomalyEvent]:
    """What is stored as still going on."""
    query = select(*_FIELDS).where(EventRow.camera_id == camera_id, EventRow.state == str(EventState.OPEN))
    with engine.connect() as connection:
        return [_event(row) for row in connection.execute(query)]


def count_events(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(EventRow)).scalar_one()
