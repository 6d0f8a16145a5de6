"""Events in the database: idempotent writes by the logger, and what people do with an event."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Float, Select, delete, func, insert, literal_column, select, update
from sqlalchemy.sql.elements import ColumnElement

from core.clock import later_utc
from core.db.counters import counter, take_numbers
from core.db.engine import execute_many, upsert
from core.db.tables import (
    AcknowledgementRow,
    EventAnalysisRow,
    EventMediaRow,
    EventPathRow,
    EventRow,
    EventStepRow,
    FeedbackRow,
)
from core.errors import ConfigError, NotFound
from core.events.analysis import Analysis
from core.events.judgements import Judgement, attribute_of
from core.events.model import AnomalyEvent, EventMedia, EventState, EventStep, Place, Severity
from core.ids import CameraId, EventId, uuid7

__all__ = [
    "Acknowledgement",
    "EventDetail",
    "Feedback",
    "StoredEvent",
    "acknowledge",
    "add_feedback",
    "cameras_of",
    "count_events",
    "events_after",
    "find_acknowledgements",
    "find_analyses",
    "find_events",
    "get_detail",
    "get_event",
    "judgements",
    "last_sequence",
    "open_events",
    "set_locked",
    "stored_columns",
    "stored_event",
    "stored_events",
    "undo_acknowledgement",
    "undo_feedback",
    "upsert_events",
]

_PARTS = {"media", "steps", "path", "analysis"}
_NAMES = tuple(name for name in AnomalyEvent.__struct_fields__ if name not in _PARTS)
_STATES = {str(one): one for one in EventState}
_SEVERITIES = {str(one): one for one in Severity}
_OWN = ("sequence", "acknowledged_at", "locked")


class StoredEvent(msgspec.Struct, frozen=True):
    """An event, without its files and steps, and what became of it here."""

    event: AnomalyEvent
    sequence: int
    acknowledged_at: str | None
    locked: bool


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    at: str
    actor: str
    reason: str
    note: str
    assignee: str
    undone_at: str | None
    undone_by: str | None


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """Of several on one event the last that was not taken back is in force."""

    at: str
    actor: str
    verdict: str
    note: str
    undone_at: str | None
    undone_by: str | None


class EventDetail(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one event; acknowledgements and feedback from first to last."""

    stored: StoredEvent
    """With files and steps."""
    acknowledgements: list[Acknowledgement]
    feedback: list[Feedback]


# ---- the logger's side


def upsert_events(connection: Connection, events: Sequence[AnomalyEvent]) -> list[tuple[int, AnomalyEvent]]:
    """Stores each event unless a revision as new is stored; returns (sequence, event) of those that were.

    To be called in a transaction. Replaying any part of a journal changes nothing; of several revisions only the
    newest is written.
    """
    newest: dict[str, AnomalyEvent] = {}
    for event in events:
        if event.id not in newest or event.revision > newest[event.id].revision:
            newest[event.id] = event
    if not newest:
        return []
    first = take_numbers(connection, "events", len(newest))
    rows = connection.execute(select(EventRow.id, EventRow.revision).where(EventRow.id.in_(newest)))
    known: dict[str, int] = {row.id: row.revision for row in rows}
    fresh = [event for event in newest.values() if event.revision > known.get(event.id, 0)]
    if not fresh:
        return []
    numbered = list(enumerate(fresh, first))
    statement = upsert(connection, EventRow)
    changed = {name: statement.excluded[name] for name in (*_NAMES, "sequence") if name != "id"}
    statement = statement.on_conflict_do_update(
        index_elements=[EventRow.id], set_=changed, where=statement.excluded.revision > EventRow.revision
    )
    execute_many(connection, statement, [{**_values(event), "sequence": n, "number": n} for n, event in numbered])
    _write_parts(connection, fresh, known)
    return numbered


def _write_parts(connection: Connection, events: Sequence[AnomalyEvent], known: dict[str, int]) -> None:
    """Files and steps of events whose rows were just written; a newer revision's take the place of the older's."""
    media = [{"event_id": e.id, **msgspec.structs.asdict(part)} for e in events for part in e.media]
    steps = [
        {"event_id": e.id, "position": position, **msgspec.structs.asdict(part)}
        for e in events
        for position, part in enumerate(e.steps)
    ]
    analyses = [_analysis_values(e.id, e.analysis) for e in events if e.analysis]
    paths = [{"event_id": e.id, "places": msgspec.to_builtins(e.path)} for e in events if e.path]
    changed = [e.id for e in events if e.id in known]
    parts = ((EventMediaRow, media), (EventStepRow, steps), (EventPathRow, paths), (EventAnalysisRow, analyses))
    for row, values in parts:
        if changed:
            connection.execute(delete(row).where(row.event_id.in_(changed)))
        if values:
            connection.execute(insert(row), values)


def _analysis_values(event_id: EventId, analysis: Analysis) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "verdict": str(analysis.verdict),
        "status": str(analysis.status),
        "needs_review": analysis.needs_review,
        "data": msgspec.to_builtins(analysis),
    }


def _values(event: AnomalyEvent) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in _NAMES}
    values["state"], values["severity"] = str(event.state), str(event.severity)
    return values


# ---- reading


def stored_columns() -> list[ColumnElement[Any]]:
    """What `stored_event` makes a StoredEvent of, in its order."""
    return [EventRow.__table__.c[name] for name in (*_NAMES, *_OWN)]


def stored_event(row: Sequence[Any]) -> StoredEvent:
    values = dict(zip(_NAMES, row, strict=False))
    # by hand: whole pages are made of this, and msgspec.convert takes twice as long
    values["state"], values["severity"] = _STATES[values["state"]], _SEVERITIES[values["severity"]]
    values["provisional"] = bool(values["provisional"])
    sequence, acknowledged_at, locked = row[len(_NAMES) :]
    return StoredEvent(AnomalyEvent(**values), sequence, acknowledged_at, bool(locked))


_PACKED = msgspec.json.Decoder(list[StoredEvent], strict=False)


def stored_events(connection: Connection, query: Select[Any]) -> list[StoredEvent]:
    """What `query` finds, a select of `stored_columns` with a limit, in its order.

    SQLite packs it into one JSON text: its driver takes and gives the interpreter's lock for each row, which, with
    several threads at work, costs more than all the rest (four times as many pages a second, docs/database.md).
    """
    if connection.dialect.name == "sqlite":
        try:
            return _PACKED.decode(connection.execute(select(_PACK).select_from(query.subquery())).scalar_one())
        except msgspec.DecodeError:
            pass  # a number that JSON has no word for
    return [stored_event(row) for row in connection.execute(query)]


def _pack() -> ColumnElement[str]:
    # written once: an expression of so many parts would be put together for each page
    table = EventRow.__table__.c
    # as JSON, SQLite gives 15 digits of a number; 17 tell it from its neighbours
    exact = {name: f"json(printf('%!.17g', {name}))" for name in _NAMES if isinstance(table[name].type, Float)}
    event = ", ".join(f"'{name}', {exact.get(name, name)}" for name in _NAMES)
    own = ", ".join(f"'{name}', {name}" for name in _OWN)
    return literal_column(f"json_group_array(json_object('event', json_object({event}), {own}))")


_PACK = _pack()


def last_sequence(engine: Engine) -> int:
    """The highest sequence number that was committed; 0 where there is none."""
    with engine.connect() as connection:
        return counter(connection, "events")


def events_after(engine: Engine, sequence: int, limit: int = 500) -> list[StoredEvent]:
    """What changed after `sequence`, in the order of the changes; each event once, as it is now."""
    query = select(*stored_columns()).where(EventRow.sequence > sequence).order_by(EventRow.sequence).limit(limit)
    with engine.connect() as connection:
        return stored_events(connection, query)


def find_events(connection: Connection, event_ids: Iterable[EventId]) -> dict[EventId, StoredEvent]:
    """Those of them that are there, without files and steps."""
    ids = sorted(set(event_ids))
    query = select(*stored_columns()).where(EventRow.id.in_(ids)).limit(len(ids))
    return {stored.event.id: stored for stored in stored_events(connection, query)} if ids else {}


def find_analyses(connection: Connection, event_ids: Iterable[EventId]) -> dict[EventId, Analysis]:
    """What each of them was taken to be; without those that nobody has judged."""
    query = select(EventAnalysisRow.event_id, EventAnalysisRow.data)
    rows = connection.execute(query.where(EventAnalysisRow.event_id.in_(sorted(set(event_ids)))))
    return {EventId(event_id): msgspec.convert(data, Analysis) for event_id, data in rows}


def find_acknowledgements(connection: Connection, event_ids: Iterable[EventId]) -> dict[EventId, Acknowledgement]:
    """Of each of them the acknowledgement in force; without those that nobody took note of."""
    row = AcknowledgementRow
    query = select(row.event_id, *(getattr(row, name) for name in Acknowledgement.__struct_fields__))
    query = query.where(row.event_id.in_(sorted(set(event_ids))), row.undone_at.is_(None)).order_by(row.at)
    return {
        EventId(one["event_id"]): Acknowledgement(**{name: one[name] for name in Acknowledgement.__struct_fields__})
        for one in connection.execute(query).mappings()
    }


def get_event(engine: Engine, event_id: EventId) -> AnomalyEvent | None:
    """One event with its files and steps."""
    detail = get_detail(engine, event_id)
    return detail.stored.event if detail else None


def get_detail(engine: Engine, event_id: EventId) -> EventDetail | None:
    """One event and all that hangs on it, as of one moment."""
    with engine.connect() as connection:
        stored = find_events(connection, [event_id]).get(event_id)
        if stored is None:
            return None
        media = connection.execute(_parts(EventMediaRow, EventMedia, event_id).order_by(EventMediaRow.kind))
        steps = connection.execute(_parts(EventStepRow, EventStep, event_id).order_by(EventStepRow.position))
        event = msgspec.structs.replace(
            stored.event,
            media=tuple(EventMedia(**part) for part in media.mappings()),
            steps=tuple(EventStep(**part) for part in steps.mappings()),
            path=_path(
                connection.execute(select(EventPathRow.places).where(EventPathRow.event_id == event_id)).scalar()
            ),
            analysis=find_analyses(connection, [event_id]).get(event_id),
        )
        taken = connection.execute(
            _parts(AcknowledgementRow, Acknowledgement, event_id).order_by(AcknowledgementRow.at, AcknowledgementRow.id)
        )
        said = connection.execute(_parts(FeedbackRow, Feedback, event_id).order_by(FeedbackRow.at, FeedbackRow.id))
        return EventDetail(
            stored=msgspec.structs.replace(stored, event=event),
            acknowledgements=[Acknowledgement(**one) for one in taken.mappings()],
            feedback=[Feedback(**one) for one in said.mappings()],
        )


def _path(places: Any) -> tuple[Place, ...]:
    return msgspec.convert(places or (), tuple[Place, ...])


def _parts(row: Any, struct: type[msgspec.Struct], event_id: EventId) -> Any:
    return select(*(getattr(row, name) for name in struct.__struct_fields__)).where(row.event_id == event_id)


def cameras_of(engine: Engine, event_ids: Iterable[EventId]) -> dict[EventId, CameraId]:
    """The camera of each event that is there."""
    query = select(EventRow.id, EventRow.camera_id).where(EventRow.id.in_(sorted(set(event_ids))))
    with engine.connect() as connection:
        return {EventId(row.id): CameraId(row.camera_id) for row in connection.execute(query)}


def open_events(engine: Engine, camera_id: CameraId) -> list[AnomalyEvent]:
    """What is stored as still going on, with files and steps."""
    query = select(EventRow.id).where(EventRow.camera_id == camera_id, EventRow.state == str(EventState.OPEN))
    with engine.connect() as connection:
        ids = connection.execute(query).scalars().all()
    found = (get_event(engine, EventId(event_id)) for event_id in ids)
    return [event for event in found if event]


def count_events(engine: Engine) -> int:
    """Counts row by row: for tests and checks, not for pages."""
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(EventRow)).scalar_one()


# ---- what people do


def acknowledge(
    engine: Engine,
    event_ids: Iterable[EventId],
    *,
    actor: str,
    at: str,
    user_id: str | None = None,
    reason: str = "",
    note: str = "",
    assignee: str = "",
) -> list[EventId]:
    """Takes note of events that nobody has; returns those. Unknown ones, and those already noted, are left out."""
    wanted = sorted(set(event_ids))
    if not wanted:
        return []
    with engine.begin() as connection:
        first = take_numbers(connection, "events", len(wanted))
        unread = update(EventRow).where(EventRow.id.in_(wanted), EventRow.acknowledged_at.is_(None))
        taken = connection.execute(unread.values(acknowledged_at=at).returning(EventRow.id)).scalars().all()
        _renumber(connection, taken, first)
        if taken:
            rows = [
                {
                    "id": str(uuid7()),
                    "event_id": event_id,
                    "at": at,
                    "actor": actor,
                    "user_id": user_id,
                    "reason": reason,
                    "note": note,
                    "assignee": assignee,
                }
                for event_id in taken
            ]
            connection.execute(insert(AcknowledgementRow), rows)
    return [EventId(event_id) for event_id in taken]


def undo_acknowledgement(engine: Engine, event_id: EventId, *, actor: str, at: str) -> bool:
    """Takes an acknowledgement back, leaving its trace; False where there is none in force."""
    with engine.begin() as connection:
        first = take_numbers(connection, "events", 1)
        read = update(EventRow).where(EventRow.id == event_id, EventRow.acknowledged_at.is_not(None))
        taken = connection.execute(read.values(acknowledged_at=None).returning(EventRow.id)).scalars().all()
        _renumber(connection, taken, first)
        in_force = (AcknowledgementRow.event_id == event_id, AcknowledgementRow.undone_at.is_(None))
        connection.execute(update(AcknowledgementRow).where(*in_force).values(undone_at=at, undone_by=actor))
    return bool(taken)


def set_locked(engine: Engine, event_id: EventId, *, locked: bool) -> None:
    """Keeps an event and its files from retention, or no longer; raises NotFound where there is none."""
    with engine.begin() as connection:
        first = take_numbers(connection, "events", 1)
        changed = update(EventRow).where(EventRow.id == event_id).values(locked=locked).returning(EventRow.id)
        taken = connection.execute(changed).scalars().all()
        _renumber(connection, taken, first)
    if not taken:
        raise NotFound(f"there is no event {event_id!r}")


def add_feedback(
    engine: Engine, event_id: EventId, *, verdict: str, actor: str, at: str, user_id: str | None = None, note: str = ""
) -> None:
    """Stores what a person says that it was, "normal" or "real"; raises ConfigError, NotFound."""
    if verdict not in {"normal", "real"}:
        raise ConfigError(f"not a verdict: {verdict[:40]!r}", '"normal" or "real"')
    with engine.begin() as connection:
        if not connection.execute(select(EventRow.id).where(EventRow.id == event_id)).first():
            raise NotFound(f"there is no event {event_id!r}")
        connection.execute(
            insert(FeedbackRow).values(
                id=str(uuid7()), event_id=event_id, at=at, actor=actor, user_id=user_id, verdict=verdict, note=note
            )
        )


def undo_feedback(engine: Engine, event_id: EventId, *, actor: str, at: str) -> bool:
    """Takes back what was said of an event, leaving its trace; False where nothing is in force."""
    row = FeedbackRow
    in_force = update(row).where(row.event_id == event_id, row.undone_at.is_(None))
    with engine.begin() as connection:
        return bool(connection.execute(in_force.values(undone_at=at, undone_by=actor)).rowcount)


JUDGED_DAYS, JUDGED_EVENTS = 365.0, 64
"""What was said so long ago is forgotten; and so many events of a camera are remembered."""
JUDGED_PLACES = 800
"""Of the ways of these, the newest first: 16 kB; a camera is told all of it through a pipe, which holds 64."""


def judgements(engine: Engine, now: str) -> dict[CameraId, tuple[Judgement, ...]]:
    """What is in force of what people said of events, by camera, the newest first."""
    row, event = FeedbackRow, EventRow
    columns = (getattr(event, name) for name in ("camera_id", *_JUDGED))
    query = select(row.verdict, EventPathRow.places, *columns).join(event, event.id == row.event_id)
    query = query.outerjoin(EventPathRow, EventPathRow.event_id == event.id)
    query = query.where(row.undone_at.is_(None), row.at >= later_utc(now, -JUDGED_DAYS * 86_400))
    found: dict[CameraId, dict[str, Judgement]] = {}
    places: Counter[str] = Counter()
    with engine.connect() as connection:
        for one in connection.execute(query.order_by(row.at.desc(), row.id.desc())):
            said = found.setdefault(CameraId(one.camera_id), {})
            if one.id not in said and len(said) < JUDGED_EVENTS:
                path = _path(one.places) if one.verdict == "normal" else ()
                if places[one.camera_id] + len(path) > JUDGED_PLACES:
                    path = ()
                places[one.camera_id] += len(path)
                said[one.id] = Judgement(
                    event_id=EventId(one.id),
                    verdict=one.verdict,
                    vad_type=one.vad_type,
                    score=one.peak_score,
                    x=one.peak_x / max(1, one.frame_width),
                    y=one.peak_y / max(1, one.frame_height),
                    attribute=attribute_of(one.reason),
                    path=path,
                )
    return {camera_id: tuple(said.values()) for camera_id, said in found.items()}


_JUDGED = ("id", "vad_type", "peak_score", "peak_x", "peak_y", "frame_width", "frame_height", "reason")


def _renumber(connection: Connection, event_ids: Sequence[str], first: int) -> None:
    """Gives changed events the sequence numbers from `first` on, so that whoever follows hears of it.

    The numbers are taken before anything else: all writers wait for each other there, and nowhere crosswise.
    """
    for sequence, event_id in enumerate(event_ids, first):
        connection.execute(update(EventRow).where(EventRow.id == event_id).values(sequence=sequence))
