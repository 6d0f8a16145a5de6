"""Pages of events: any filter, newest first, by keyset; each page costs the same however many events there are.

A page walks one index from where the last one ended. A filter that the index does not know is checked on the way, for
`SCAN_ROWS` rows at most: then the page ends early, perhaps empty, and its cursor goes on from there.
"""

import base64
import binascii
import hashlib
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from sqlalchemy import (
    ARRAY,
    Connection,
    Engine,
    String,
    cast,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.sql.elements import ColumnElement

from core.clock import normal_utc
from core.db.events import StoredEvent, stored_columns, stored_events
from core.db.tables import EventRow
from core.errors import ConfigError
from core.events.model import EventState, Severity
from core.ids import CameraId

__all__ = ["EventFilter", "EventPage", "iterate_events", "page_events"]

SCAN_ROWS = 20_000
"""Rows looked at for one page, at most: some 10 ms of work."""
RARE = 2_000
"""A text that so many events hold, or fewer, is found by the full-text index, and those are sorted."""
BRANCHES = 200
"""Cameras, types or severities that are walked each by its own index; more are checked on the way."""
MAX_LIMIT = 500
_BODY: ColumnElement[str] = literal_column("(events.description || ' ' || events.reason)")
_EVENT: Any = EventRow.__table__.c
_KEY = tuple_(_EVENT.began_at, _EVENT.id)


_Conditions = list[Any]
"""Of column expressions: what must all be true."""


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events; what is left out does not matter. Times are RFC 3339 UTC, `since` included, `until` not."""

    cameras: tuple[CameraId, ...] | None = None
    """None: of all cameras; () : of none."""
    since: str | None = None
    until: str | None = None
    types: tuple[str, ...] = ()
    severities: tuple[Severity, ...] = ()
    states: tuple[EventState, ...] = ()
    min_score: float | None = None
    acknowledged: bool | None = None
    text: Annotated[str, Meta(max_length=200)] = ""
    """Part of the description or the reason, in any case of letters."""


class EventPage(msgspec.Struct, frozen=True):
    events: list[StoredEvent]
    cursor: str | None
    """Where the next page begins; None after the last."""


def page_events(engine: Engine, wanted: EventFilter, *, limit: int = 50, cursor: str | None = None) -> EventPage:
    """One page, newest first; fewer than `limit` events (1..500) with a cursor mean that the search goes on.

    Raises ConfigError for a cursor that was not made for this filter.
    """
    wanted = _normal(wanted)
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigError(f"a page has 1 to {MAX_LIMIT} events, not {limit}")
    below = _read_cursor(wanted, cursor) if cursor else None
    if wanted.cameras == ():
        return EventPage([], None)
    with engine.connect() as connection:
        conditions = _conditions(wanted)
        branches, residual = _branches(wanted)
        if wanted.text:
            numbers = _rare_numbers(connection, wanted.text)
            if numbers is None:
                residual.append(_BODY.ilike(f"%{_like(wanted.text)}%", escape="\\"))
            else:
                return _page_of_numbers(
                    connection, wanted, numbers, [*conditions, *branches.together(), *residual], below, limit
                )
        floor = _floor(connection, branches, conditions, below) if residual else None
        found = _walk(connection, branches, [*conditions, *residual], below, floor, limit + 1)
    return _page(wanted, found, limit, floor)


def iterate_events(engine: Engine, wanted: EventFilter, *, page: int = 200) -> Iterator[StoredEvent]:
    """All events of the filter, newest first, a page at a time."""
    cursor: str | None = None
    while True:
        found = page_events(engine, wanted, limit=page, cursor=cursor)
        yield from found.events
        cursor = found.cursor
        if cursor is None:
            return


# ---- what is asked for, as SQL


def _normal(wanted: EventFilter) -> EventFilter:
    """The same with its times in the one form that the database holds; raises ConfigError for what is no time."""
    times = {name: normal_utc(at) for name in ("since", "until") if (at := getattr(wanted, name))}
    return msgspec.structs.replace(wanted, **times)


def _conditions(wanted: EventFilter) -> _Conditions:
    """What every index of `_branches` knows."""
    conditions: _Conditions = []
    if wanted.since:
        conditions.append(_EVENT.began_at >= wanted.since)
    if wanted.until:
        conditions.append(_EVENT.began_at < wanted.until)
    return conditions


class _Branches(msgspec.Struct, frozen=True):
    """Indexes to be walked side by side: each begins with `column` = one of `values`, and goes on with (began_at, id).

    With no column there is one. `extra` holds for all of them and is known to the index.
    """

    column: Any
    values: list[str]
    extra: _Conditions

    def each(self) -> list[_Conditions]:
        if self.column is None:
            return [self.extra]
        return [[self.column == value, *self.extra] for value in self.values]

    def together(self) -> _Conditions:
        return self.extra if self.column is None else [self.column.in_(self.values), *self.extra]


def _branches(wanted: EventFilter) -> tuple[_Branches, _Conditions]:
    """The indexes to walk for this filter, and what they do not know."""
    cameras = sorted(set(wanted.cameras)) if wanted.cameras is not None else None
    types, severities = sorted(set(wanted.types)), sorted({str(one) for one in wanted.severities})
    states = sorted({str(one) for one in wanted.states})
    residual: _Conditions = []
    unread = [_EVENT.acknowledged_at.is_(None)] if wanted.acknowledged is False else []
    if states == [EventState.OPEN]:
        branches, states = _Branches(None, [], [text("events.state = 'open'")]), []
    elif cameras is not None and len(cameras) <= BRANCHES:
        branches, cameras, unread = _Branches(_EVENT.camera_id, list(cameras), unread), None, []
    elif types and len(types) <= BRANCHES:
        branches, types = _Branches(_EVENT.vlm_type, types, []), []
    elif severities and not unread:
        branches, severities = _Branches(_EVENT.severity, severities, []), []
    else:
        branches, unread = _Branches(None, [], unread), []
    if cameras is not None:
        residual.append(_EVENT.camera_id.in_(cameras))
    if types:
        residual.append(_EVENT.vlm_type.in_(types))
    if severities:
        residual.append(_EVENT.severity.in_(severities))
    if states:
        residual.append(_EVENT.state.in_(states))
    if wanted.min_score is not None:
        residual.append(_EVENT.peak_score >= wanted.min_score)
    if wanted.acknowledged:
        residual.append(_EVENT.acknowledged_at.is_not(None))
    return branches, [*residual, *unread]


def _walk(
    connection: Connection,
    branches: _Branches,
    conditions: _Conditions,
    below: tuple[str, str] | None,
    floor: tuple[str, str] | None,
    limit: int,
) -> list[StoredEvent]:
    """The first `limit` rows below a key, down to `floor`, of all branches together."""
    conditions = list(conditions)
    if below:
        conditions.append(below > _KEY)
    if floor:
        conditions.append(floor <= _KEY)
    each = branches.each()
    if len(each) == 1:
        query = _newest(select(*stored_columns()).where(*each[0], *conditions)).limit(limit)
    elif connection.dialect.name == "postgresql":
        query = _side_by_side(branches, conditions, limit)
    else:
        parts = [
            _newest(select(_EVENT.began_at, _EVENT.id).where(*branch, *conditions)).limit(limit).subquery()
            for branch in each
        ]
        keys = union_all(*(select(part.c.began_at, part.c.id) for part in parts)).subquery()
        nearest = select(keys.c.id).order_by(keys.c.began_at.desc(), keys.c.id.desc()).limit(limit)
        ids = connection.execute(nearest).scalars().all()
        query = _newest(select(*stored_columns()).where(_EVENT.id.in_(ids))).limit(limit)
    return stored_events(connection, query)


def _side_by_side(branches: _Branches, conditions: _Conditions, limit: int) -> Any:
    """The same for PostgreSQL: one statement, and one plan, however many branches there are."""
    values = cast(literal(branches.values, ARRAY(String)), ARRAY(String))
    given = func.unnest(values).table_valued("value").render_derived()
    one = select(*stored_columns()).where(branches.column == given.c.value, *branches.extra, *conditions)
    part = _newest(one).limit(limit).lateral()
    together = select(part).select_from(given.join(part, true()))
    return together.order_by(part.c.began_at.desc(), part.c.id.desc()).limit(limit)


def _newest(query: Any) -> Any:
    return query.order_by(_EVENT.began_at.desc(), _EVENT.id.desc())


def _floor(
    connection: Connection,
    branches: _Branches,
    conditions: _Conditions,
    below: tuple[str, str] | None,
) -> tuple[str, str] | None:
    """The key down to which this page looks; None where that is the end. Read from the indexes alone."""
    each = branches.each()
    share = max(500, SCAN_ROWS // len(each))
    keys: list[tuple[str, str]] = []
    for branch in each:
        query = _newest(select(_EVENT.began_at, _EVENT.id).where(*branch, *conditions))
        if below:
            query = query.where(below > _KEY)
        row = connection.execute(query.offset(share).limit(1)).first()
        if row:
            keys.append((row.began_at, row.id))
    return max(keys, default=None)


def _page(wanted: EventFilter, found: list[StoredEvent], limit: int, floor: tuple[str, str] | None) -> EventPage:
    events = found[:limit]
    if len(found) > limit:
        return EventPage(events, _make_cursor(wanted, _key_of(events[-1])))
    # All down to the floor was seen, the floor included: the next page begins beneath it.
    return EventPage(events, _make_cursor(wanted, floor) if floor else None)


def _key_of(stored: StoredEvent) -> tuple[str, str]:
    return stored.event.began_at, stored.event.id


# ---- text


def _like(part: str) -> str:
    return part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _rare_numbers(connection: Connection, part: str) -> list[int] | None:
    """The numbers of all events whose text holds `part`, by index; None where they are many or no index can tell."""
    if connection.dialect.name == "postgresql":
        if len(part) < 3:
            return None  # pg_trgm knows no shorter piece of a word
        query = select(_EVENT.number).where(_BODY.ilike(f"%{_like(part)}%", escape="\\")).limit(RARE + 1)
        numbers = connection.execute(query).scalars().all()
    else:
        match = _trigrams(connection, part)
        if match is None:
            return None
        if not match:
            return []
        query = text("SELECT rowid FROM event_texts WHERE event_texts MATCH :match LIMIT :limit")
        numbers = connection.execute(query, {"match": match, "limit": RARE + 1}).scalars().all()
    return list(numbers) if len(numbers) <= RARE else None


def _trigrams(connection: Connection, part: str) -> str | None:
    """The FTS5 query for `part`; "" where nothing can match, None where the index cannot help.

    Two letters, a Korean word already, are a beginning of the trigrams that the index lists in order.
    """
    if len(part) < 2:
        return None
    if len(part) > 2:
        return _quoted(part)
    begin = part.casefold()
    listed = text("SELECT term FROM event_texts_terms WHERE term >= :begin AND term < :end LIMIT 501")
    terms = connection.execute(listed, {"begin": begin, "end": begin + "\U0010ffff"}).scalars().all()
    return " OR ".join(_quoted(term) for term in terms) if len(terms) <= 500 else None


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _page_of_numbers(
    connection: Connection,
    wanted: EventFilter,
    numbers: list[int],
    conditions: _Conditions,
    below: tuple[str, str] | None,
    limit: int,
) -> EventPage:
    query = _newest(select(*stored_columns()).where(_EVENT.number.in_(numbers), *conditions))
    if below:
        query = query.where(below > _KEY)
    found = stored_events(connection, query.limit(limit + 1))
    return _page(wanted, found, limit, None)


# ---- cursors


class _Cursor(msgspec.Struct, array_like=True, frozen=True):
    filter: bytes
    began_at: str
    id: str


def _filter_mark(wanted: EventFilter) -> bytes:
    return hashlib.sha256(msgspec.json.encode(wanted)).digest()[:8]


def _make_cursor(wanted: EventFilter, key: tuple[str, str]) -> str:
    packed = msgspec.msgpack.encode(_Cursor(_filter_mark(wanted), *key))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _read_cursor(wanted: EventFilter, cursor: str) -> tuple[str, str]:
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        read = msgspec.msgpack.decode(packed, type=_Cursor)
        key = normal_utc(read.began_at), str(uuid.UUID(read.id))
    except (ValueError, binascii.Error, msgspec.DecodeError, ConfigError) as error:
        raise ConfigError("not a cursor", "take it from the page before, as it is") from error
    if read.filter != _filter_mark(wanted):
        raise ConfigError("this cursor belongs to other filters", "begin again without it")
    return key
