"""The outbox in the database: what waits to be sent, what became of it, and how much of it was held back.

A message is written in the transaction in which the notifier moves on, under a key that is there only once; whoever is
about to send it claims it first, and tells afterwards what came of it. So each is sent at least once, and again, under
the same id, only where whoever sent it died before it could say so.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Integer, and_, case, delete, func, insert, or_, select, true, update

from core.clock import utc_iso
from core.db.counters import counter, set_counter, take_numbers
from core.db.engine import upsert
from core.db.tables import ChannelRow, DeliveryRow, OutboxRow, SuppressionRow
from core.db.tables.notifications import COUNTED, WAITING
from core.errors import NotFound
from core.ids import EventId, NodeId, uuid7, uuid_text
from core.notifications.model import Notice, Occasion, State

__all__ = [
    "ChannelStatistics",
    "Delivery",
    "Outcome",
    "Queued",
    "Suppression",
    "add_to_digest",
    "claim",
    "count_in_hour",
    "delete_old_messages",
    "due_channels",
    "get_message",
    "is_queued",
    "list_deliveries",
    "list_messages",
    "messages_of_events",
    "outbox_statistics",
    "queue",
    "queue_test",
    "record",
    "release",
    "replay",
    "suppress",
    "take_position",
    "told_before",
]

POSITION = "notifier"
MAX_LIMIT = 500


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the outbox."""

    id: str
    """Of the delivery: the same however often it is tried."""
    dedup_key: str
    channel_id: str
    rule_id: str | None
    event_id: EventId | None
    priority: int
    state: State
    occasion: Occasion
    due_at: str
    attempts: int
    notice: Notice
    targets: tuple[str, ...] | None
    told: str
    claimed_by: str
    created_at: str
    ended_at: str | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver a message."""

    id: str
    outbox_id: str
    channel_id: str
    event_id: EventId | None
    node_id: NodeId
    at: str
    ok: bool
    detail: str
    took_ms: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a claimed message; `state` is `waiting` where it is to be tried again at `due_at`."""

    outbox_id: str
    state: State
    due_at: str = ""
    targets: tuple[str, ...] | None = None
    told: str = ""
    delivery: Delivery | None = None
    """None where nothing was tried."""


class Suppression(msgspec.Struct, frozen=True):
    """Whether a message may go out, and how many like it were held back: before it, or with it."""

    passes: bool
    similar: int


class ChannelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What waits, and what was given up, of one channel."""

    channel_id: str
    waiting: int
    dead: int
    oldest_due_at: str | None


_NAMES = (
    "id",
    "dedup_key",
    "channel_id",
    "rule_id",
    "event_id",
    "priority",
    "state",
    "occasion",
    "due_at",
    "attempts",
    "message",
    "targets",
    "told",
    "claimed_by",
    "created_at",
    "ended_at",
)
_COLUMNS: list[Any] = [OutboxRow.__table__.c[name] for name in _NAMES]


def _queued(row: Any) -> Queued:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's name for it, and public
    return msgspec.convert({**values, "notice": values.pop("message")}, Queued)


# ---- the notifier's place in the order of events


def take_position(connection: Connection, wanted: int | None = None) -> int:
    """Where the notifiers are in the events' sequence, -1 before the first time; moves on to `wanted`.

    Others wait until the transaction ends: what is queued is decided by one at a time.
    """
    take_numbers(connection, POSITION, 0)
    position = counter(connection, POSITION)
    if wanted is not None and wanted > position:
        set_counter(connection, POSITION, wanted)
    return position


# ---- writing


def queue(
    connection: Connection,
    *,
    dedup_key: str,
    channel_id: str,
    notice: Notice,
    priority: int,
    now: datetime,
    rule_id: str | None = None,
    event_id: str | None = None,
    due_at: datetime | None = None,
    state: State = State.WAITING,
) -> str | None:
    """Writes a message, due at once where nothing else is said; returns its id, None where the key was there."""
    message_id = str(uuid7())
    values = {
        "id": message_id,
        "dedup_key": dedup_key,
        "channel_id": channel_id,
        "rule_id": rule_id,
        "event_id": event_id,
        "priority": priority,
        "state": str(state),
        "occasion": str(notice.occasion),
        "due_at": utc_iso(due_at or now),
        "scheduled_at": utc_iso(now),
        "attempts": 0,
        "message": msgspec.to_builtins(notice),
        "created_at": utc_iso(now),
        "ended_at": None if state is State.WAITING else utc_iso(now),
    }
    statement = upsert(connection, OutboxRow).on_conflict_do_nothing(index_elements=[OutboxRow.dedup_key])
    return connection.execute(statement.values(**values).returning(OutboxRow.id)).scalar()


def queue_test(connection: Connection, channel_id: str, *, now: datetime, actor: str = "") -> str:
    """Has the notifier send a test message, before all others; returns its id. Raises NotFound."""
    if not connection.execute(select(ChannelRow.id).where(ChannelRow.id == uuid_text(channel_id))).first():
        raise NotFound("there is no such channel")
    notice = Notice(occasion=Occasion.TEST, rule_name=actor)
    found = queue(connection, dedup_key=f"test|{uuid7()}", channel_id=channel_id, notice=notice, priority=0, now=now)
    assert found
    return found


def suppress(connection: Connection, key: str, *, priority: int, now_ms: int, window_ms: int) -> Suppression:
    """Asks for leave to send something like `key`, in one statement, however many ask at once.

    Leave is given once the last one that was *sent* is `window_ms` past, and for what is of higher priority (a lower
    number) than that. What lies as far in the future was written before the clock went back, and does not count.
    """
    row = SuppressionRow
    statement = upsert(connection, row).values(key=key, sent_ms=now_ms, priority=priority, suppressed=0, similar=0)
    new = statement.excluded
    passes = or_(func.abs(new.sent_ms - row.sent_ms) >= window_ms, new.priority < row.priority)
    statement = statement.on_conflict_do_update(
        index_elements=[row.key],
        set_={
            "sent_ms": case((passes, new.sent_ms), else_=row.sent_ms),
            "priority": case((passes, new.priority), else_=row.priority),
            "suppressed": case((passes, 0), else_=row.suppressed + 1),
            "similar": case((passes, row.suppressed), else_=row.similar),
        },
    ).returning(row.suppressed, row.similar)
    found: Any = connection.execute(statement).one()
    return Suppression(found.suppressed == 0, found.similar if found.suppressed == 0 else found.suppressed)


def count_in_hour(connection: Connection, channel_id: str, *, now: datetime, rule_id: str | None = None) -> int:
    """Messages queued for the channel within the last hour, of one rule or of all; tests do not count."""
    row = OutboxRow
    query = select(func.count()).where(
        row.channel_id == channel_id,
        row.created_at > utc_iso(now - timedelta(hours=1)),
        COUNTED,
        row.occasion != str(Occasion.TEST),
    )
    if rule_id:
        query = query.where(row.rule_id == rule_id)
    return connection.execute(query).scalar_one()


def messages_of_events(connection: Connection, event_ids: Collection[str]) -> dict[str, list[Queued]]:
    """All messages of these events, by event, from first to last."""
    found: dict[str, list[Queued]] = {}
    if event_ids:
        query = select(*_COLUMNS).where(OutboxRow.event_id.in_(event_ids)).order_by(OutboxRow.id)
        for row in connection.execute(query):
            one = _queued(row)
            found.setdefault(one.event_id or "", []).append(one)
    return found


def is_queued(connection: Connection, dedup_key: str) -> bool:
    return connection.execute(select(OutboxRow.id).where(OutboxRow.dedup_key == dedup_key)).first() is not None


def add_to_digest(connection: Connection, *, channel_id: str, rule_id: str, event_id: EventId, listed: int) -> bool:
    """Adds an event to the digest of this rule that waits for this channel; False where none waits."""
    row = OutboxRow
    query = select(row.id, row.message).where(
        row.channel_id == channel_id,
        row.rule_id == rule_id,
        row.occasion == str(Occasion.DIGEST),
        row.state == str(State.WAITING),
        row.claimed_by == "",
        row.attempts == 0,
    )
    found = connection.execute(query).first()
    if found is None:
        return False
    notice = msgspec.convert(found.message, Notice)
    events = notice.events if len(notice.events) >= listed else (*notice.events, event_id)
    notice = msgspec.structs.replace(notice, events=events, count=notice.count + 1)
    still = update(row).where(row.id == found.id, row.claimed_by == "", row.state == str(State.WAITING))
    return bool(connection.execute(still.values(message=msgspec.to_builtins(notice))).rowcount)


# ---- sending


def due_channels(connection: Connection, now: datetime) -> list[str]:
    """Channels for which something is due; takes no lock."""
    query = select(OutboxRow.channel_id).where(_due(now)).distinct()
    return list(connection.execute(query).scalars())


def _due(now: datetime) -> Any:
    row, text = OutboxRow, utc_iso(now)
    free = or_(row.claimed_by == "", row.claimed_until < text)
    return and_(WAITING, or_(row.due_at <= text, row.scheduled_at > text), free)


def claim(
    connection: Connection,
    channel_id: str,
    limit: int,
    *,
    node_id: NodeId,
    now: datetime,
    lease_s: float,
    starved_before: datetime | None = None,
) -> list[Queued]:
    """Takes up to `limit` due messages of a channel for this node, most urgent first, of these the longest due.

    `starved_before`: one that has been due since before then is taken first, whatever its priority.
    """
    row = OutboxRow
    order: list[Any] = [row.priority, row.due_at, row.id]
    taken: list[str] = []
    due = select(row.id).where(row.channel_id == channel_id, _due(now)).with_for_update(skip_locked=True)
    if starved_before is not None and limit > 0:
        old = due.where(row.due_at < utc_iso(starved_before)).order_by(row.due_at, row.id).limit(1)
        taken += connection.execute(old).scalars()
    if limit > len(taken):
        rest = due.where(row.id.not_in(taken) if taken else true()).order_by(*order).limit(limit - len(taken))
        taken += connection.execute(rest).scalars()
    if not taken:
        return []
    claimed = {"claimed_by": node_id, "claimed_until": utc_iso(now + timedelta(seconds=lease_s))}
    connection.execute(update(row).where(row.id.in_(taken)).values(**claimed))
    found = {one.id: one for one in map(_queued, connection.execute(select(*_COLUMNS).where(row.id.in_(taken))))}
    return [found[one] for one in taken]


def release(connection: Connection, node_id: NodeId) -> int:
    """Lets go of what this node's notifier had claimed when it died; returns how many."""
    mine = update(OutboxRow).where(OutboxRow.claimed_by == node_id, OutboxRow.state == str(State.WAITING))
    return connection.execute(mine.values(claimed_by="", claimed_until=None)).rowcount


def record(connection: Connection, outcomes: Iterable[Outcome], now: datetime) -> None:
    """Writes what came of claimed messages, and a line of the log for each attempt."""
    text = utc_iso(now)
    deliveries: list[dict[str, Any]] = []
    for one in outcomes:
        ended = one.state is not State.WAITING
        values: dict[str, Any] = {
            "state": str(one.state),
            "due_at": text if ended else one.due_at,
            "scheduled_at": text,
            "targets": None if one.targets is None else list(one.targets),
            "claimed_by": "",
            "claimed_until": None,
            "ended_at": text if ended else None,
        }
        if one.told:
            values["told"] = one.told
        if one.delivery:
            values["attempts"] = OutboxRow.attempts + 1
            deliveries.append(msgspec.structs.asdict(one.delivery))
        connection.execute(update(OutboxRow).where(OutboxRow.id == one.outbox_id).values(**values))
    if deliveries:
        connection.execute(insert(DeliveryRow), deliveries)


def told_before(connection: Connection, message: Queued) -> str | None:
    """The last verdict on its event that was told by its rule through its channel; None where none was."""
    row = OutboxRow
    query = select(row.told).where(
        row.event_id == message.event_id,
        row.channel_id == message.channel_id,
        row.rule_id == message.rule_id if message.rule_id else row.rule_id.is_(None),
        row.state == str(State.SENT),
        row.id != message.id,
    )
    return connection.execute(query.order_by(row.ended_at.desc(), row.id.desc()).limit(1)).scalar()


# ---- looking


def get_message(connection: Connection, outbox_id: str) -> Queued | None:
    found = connection.execute(select(*_COLUMNS).where(OutboxRow.id == uuid_text(outbox_id))).first()
    return _queued(found) if found else None


def list_messages(
    engine: Engine,
    *,
    states: Collection[State] = (),
    channel_id: str | None = None,
    event_id: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Queued]:
    """Messages, newest first; `before` is the id of the last one of the page before. Dead letters: (State.DEAD,)."""
    row = OutboxRow
    query = select(*_COLUMNS).order_by(row.id.desc()).limit(min(limit, MAX_LIMIT))
    if states:
        query = query.where(row.state.in_([str(state) for state in states]))
    if channel_id:
        query = query.where(row.channel_id == uuid_text(channel_id))
    if event_id:
        query = query.where(row.event_id == uuid_text(event_id))
    if before:
        query = query.where(row.id < uuid_text(before))
    with engine.connect() as connection:
        return [_queued(one) for one in connection.execute(query)]


def list_deliveries(
    engine: Engine,
    *,
    outbox_id: str | None = None,
    channel_id: str | None = None,
    event_id: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Delivery]:
    """Attempts to deliver, newest first; `before` is the id of the last one of the page before."""
    row = DeliveryRow
    query = select(*(getattr(row, name) for name in Delivery.__struct_fields__))
    for column, value in ((row.outbox_id, outbox_id), (row.channel_id, channel_id), (row.event_id, event_id)):
        if value:
            query = query.where(column == uuid_text(value))
    if before:
        query = query.where(row.id < uuid_text(before))
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(row.id.desc()).limit(min(limit, MAX_LIMIT)))
        return [msgspec.convert(dict(one), Delivery) for one in rows.mappings()]


def replay(connection: Connection, outbox_ids: Sequence[str] | None, *, now: datetime) -> int:
    """Lets dead messages be tried again, these or (None) all; returns how many. Each keeps its id."""
    dead = update(OutboxRow).where(OutboxRow.state == str(State.DEAD))
    if outbox_ids is not None:
        dead = dead.where(OutboxRow.id.in_([uuid_text(one) for one in outbox_ids]))
    text = utc_iso(now)
    again = {"state": str(State.WAITING), "due_at": text, "scheduled_at": text, "created_at": text}
    return connection.execute(dead.values(**again, attempts=0, ended_at=None)).rowcount


def outbox_statistics(engine: Engine) -> list[ChannelStatistics]:
    """What waits and what was given up, by channel."""
    row = OutboxRow
    waiting = func.sum(case((row.state == str(State.WAITING), 1), else_=0)).cast(Integer)
    dead = func.sum(case((row.state == str(State.DEAD), 1), else_=0)).cast(Integer)
    oldest = func.min(case((row.state == str(State.WAITING), row.due_at)))
    query = select(row.channel_id, waiting, dead, oldest).where(row.state.in_(["waiting", "dead"]))
    with engine.connect() as connection:
        rows = connection.execute(query.group_by(row.channel_id).order_by(row.channel_id))
        return [
            ChannelStatistics(channel_id=channel_id, waiting=waiting, dead=dead, oldest_due_at=oldest)
            for channel_id, waiting, dead, oldest in rows
        ]


def delete_old_messages(connection: Connection, before: str, limit: int) -> int:
    """Deletes up to `limit` messages that ended before; returns how many."""
    row = OutboxRow
    old = select(row.id).where(row.state != str(State.WAITING), row.ended_at < before).order_by(row.id).limit(limit)
    ids = connection.execute(old).scalars().all()
    if ids:
        connection.execute(delete(row).where(row.id.in_(ids)))
    return len(ids)
