"""Channels and rules in the database. Whoever changes them takes a number, so that the notifier reads them anew.

What writes is called in a transaction of the caller's, who may keep an audit line with it.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.clock import utc_iso
from core.db.counters import counter, take_numbers
from core.db.tables import CameraGroupRow, CameraRow, ChannelRow, RuleRow
from core.errors import ConfigError, Conflict, NotFound
from core.ids import uuid7, uuid_text
from core.notifications.channels import Channel, ChannelSecrets, ChannelSettings, kind_of
from core.notifications.model import Actions, Conditions, Rule, RuleDraft
from core.security.secrets import SecretBox

__all__ = [
    "create_channel",
    "create_rule",
    "delete_channel",
    "delete_rule",
    "find_channel",
    "get_channel",
    "get_rule",
    "list_channels",
    "list_rules",
    "move_rule",
    "notifications_version",
    "open_secrets",
    "rules_of_channel",
    "update_channel",
    "update_rule",
]

COUNTER = "notifications"


def notifications_version(connection: Connection) -> int:
    """Grows with each change of a channel or a rule."""
    return counter(connection, COUNTER)


# ---- channels


def list_channels(engine: Engine) -> list[Channel]:
    """All channels by name."""
    with engine.connect() as connection:
        return [_channel(row) for row in connection.execute(select(ChannelRow.__table__).order_by(ChannelRow.name))]


def get_channel(connection: Connection, channel_id: str) -> Channel:
    """Raises NotFound."""
    return _channel(_channel_row(connection, channel_id))


def find_channel(engine: Engine, name: str) -> Channel:
    """The channel of this name or id; raises NotFound."""
    for channel in list_channels(engine):
        if name in {channel.name, channel.id}:
            return channel
    raise NotFound(f"there is no channel {name[:80]!r}", "haetae notify channels shows those there are")


def create_channel(
    connection: Connection,
    box: SecretBox,
    *,
    name: str,
    settings: ChannelSettings,
    secrets: ChannelSecrets | None = None,
    enabled: bool = True,
) -> Channel:
    """Stores a new channel, its secrets sealed.

    Raises Conflict where the name is taken, ConfigError where settings and secrets do not go together.
    """
    now = utc_iso(datetime.now(UTC))
    channel_id = str(uuid7())
    _check_backup(connection, channel_id, settings)
    values = {
        "id": channel_id,
        "name": _checked_name(name),
        "kind": kind_of(settings),
        "enabled": enabled,
        "settings": msgspec.to_builtins(settings),
        **_sealed(box, _merged({}, settings, secrets)),
        "created_at": now,
        "updated_at": now,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(ChannelRow).values(**values))
    except IntegrityError as error:
        raise _taken("channel", name) from error
    take_numbers(connection, COUNTER, 1)
    return get_channel(connection, channel_id)


def update_channel(
    connection: Connection,
    box: SecretBox,
    channel_id: str,
    *,
    name: str | None = None,
    settings: ChannelSettings | None = None,
    secrets: ChannelSecrets | None = None,
    enabled: bool | None = None,
) -> Channel:
    """Changes what is given and keeps the rest; so it does with each secret, of which "" takes one away.

    A channel stays of its kind. Raises NotFound, Conflict or ConfigError.
    """
    row = _channel_row(connection, channel_id)
    known = _channel(row)
    settings = settings or known.settings
    if kind_of(settings) != known.kind:
        raise ConfigError(f"this channel is of the kind {known.kind}", "add another channel instead")
    _check_backup(connection, channel_id, settings)
    sealed: dict[str, Any] = {}
    if secrets is not None:
        sealed = _sealed(box, _merged(box.open_json(row.sealed), settings, secrets))
    values: dict[str, Any] = {
        "name": known.name if name is None else _checked_name(name),
        "enabled": known.enabled if enabled is None else enabled,
        "settings": msgspec.to_builtins(settings),
        **sealed,
        "updated_at": utc_iso(datetime.now(UTC)),
    }
    try:
        with connection.begin_nested():
            connection.execute(update(ChannelRow).where(ChannelRow.id == channel_id).values(**values))
    except IntegrityError as error:
        raise _taken("channel", values["name"]) from error
    take_numbers(connection, COUNTER, 1)
    return get_channel(connection, channel_id)


def delete_channel(connection: Connection, channel_id: str) -> None:
    """Removes a channel and what waits for it; its log stays. Raises NotFound, or Conflict where rules use it."""
    channel = get_channel(connection, channel_id)
    using = rules_of_channel(connection, channel_id)
    if using:
        names = ", ".join(rule.name for rule in using[:5])
        raise Conflict(f"{channel.name} is used by the rules {names}", "change these first")
    connection.execute(delete(ChannelRow).where(ChannelRow.id == channel_id))
    take_numbers(connection, COUNTER, 1)


def rules_of_channel(connection: Connection, channel_id: str) -> list[Rule]:
    """The rules that send to it, at once or when nobody takes note."""
    return [rule for rule in _rules(connection) if channel_id in _channels_of(rule.actions)]


def open_secrets(connection: Connection, box: SecretBox, channel_id: str) -> ChannelSecrets:
    """A channel's secrets in the clear, for whoever sends; raises NotFound or SecretError."""
    row = _channel_row(connection, channel_id)
    return msgspec.convert({**box.open_json(row.sealed), "kind": row.kind}, ChannelSecrets)


def _channel_row(connection: Connection, channel_id: str) -> Any:
    row = connection.execute(select(ChannelRow.__table__).where(ChannelRow.id == uuid_text(channel_id))).first()
    if row is None:
        raise NotFound("there is no such channel")
    return row


def _channel(row: Any) -> Channel:
    return Channel(
        id=row.id,
        name=row.name,
        enabled=row.enabled,
        settings=msgspec.convert(row.settings, ChannelSettings),
        secrets_set=tuple(row.secrets_set),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _merged(known: dict[str, str], settings: ChannelSettings, secrets: ChannelSecrets | None) -> dict[str, str]:
    """The known secrets with those that are given laid over them."""
    if secrets is None:
        return known
    if kind_of(secrets) != kind_of(settings):
        raise ConfigError(f"these are secrets of the kind {kind_of(secrets)}, not {kind_of(settings)}")
    given = {key: value for key, value in msgspec.structs.asdict(secrets).items() if value is not UNSET}
    return {key: value for key, value in {**known, **given}.items() if value}


def _sealed(box: SecretBox, secrets: dict[str, str]) -> dict[str, Any]:
    """The columns that hold them."""
    return {"sealed": box.seal_json(secrets) if secrets else "", "secrets_set": sorted(secrets)}


def _check_backup(connection: Connection, channel_id: str, settings: ChannelSettings) -> None:
    if settings.backup == channel_id:
        raise ConfigError("a channel cannot be its own backup")
    if settings.backup:
        get_channel(connection, settings.backup)


def _checked_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 200 or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ConfigError("a name has 1 to 200 letters, and no line breaks")
    return name


# ---- rules


def list_rules(engine: Engine) -> list[Rule]:
    """All rules in the order in which they are asked."""
    with engine.connect() as connection:
        return _rules(connection)


def get_rule(connection: Connection, rule_id: str) -> Rule:
    """Raises NotFound."""
    row = connection.execute(select(RuleRow.__table__).where(RuleRow.id == uuid_text(rule_id))).first()
    if row is None:
        raise NotFound("there is no such rule")
    return _rule(row)


def create_rule(connection: Connection, draft: RuleDraft) -> Rule:
    """Stores a new rule after all others.

    Raises Conflict where its name is taken, NotFound where a channel, camera or group of it is not there.
    """
    _check_named(connection, draft)
    now = utc_iso(datetime.now(UTC))
    last = connection.execute(select(func.max(RuleRow.position))).scalar()
    rule_id = str(uuid7())
    values = {
        "id": rule_id,
        "position": 0 if last is None else last + 1,
        **_rule_values(draft),
        "created_at": now,
        "updated_at": now,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(RuleRow).values(**values))
    except IntegrityError as error:
        raise _taken("rule", draft.name) from error
    take_numbers(connection, COUNTER, 1)
    return get_rule(connection, rule_id)


def update_rule(connection: Connection, rule_id: str, draft: RuleDraft) -> Rule:
    """Puts `draft` in its place; raises NotFound or Conflict as `create_rule` does."""
    get_rule(connection, rule_id)
    _check_named(connection, draft)
    values = {**_rule_values(draft), "updated_at": utc_iso(datetime.now(UTC))}
    try:
        with connection.begin_nested():
            connection.execute(update(RuleRow).where(RuleRow.id == rule_id).values(**values))
    except IntegrityError as error:
        raise _taken("rule", draft.name) from error
    take_numbers(connection, COUNTER, 1)
    return get_rule(connection, rule_id)


def move_rule(connection: Connection, rule_id: str, position: int) -> list[Rule]:
    """Lets it be asked as the so-manieth, from 0 on; returns all rules in their new order. Raises NotFound."""
    moved = get_rule(connection, rule_id)
    order = [rule.id for rule in _rules(connection) if rule.id != moved.id]
    order.insert(max(0, min(position, len(order))), moved.id)
    for number, one in enumerate(order):
        connection.execute(update(RuleRow).where(RuleRow.id == one, RuleRow.position != number).values(position=number))
    take_numbers(connection, COUNTER, 1)
    return _rules(connection)


def delete_rule(connection: Connection, rule_id: str) -> None:
    """Removes a rule; what it has queued is sent all the same. Raises NotFound."""
    get_rule(connection, rule_id)
    connection.execute(delete(RuleRow).where(RuleRow.id == rule_id))
    take_numbers(connection, COUNTER, 1)


def _rules(connection: Connection) -> list[Rule]:
    query = select(RuleRow.__table__).order_by(RuleRow.position, RuleRow.created_at, RuleRow.id)
    return [_rule(row) for row in connection.execute(query)]


def _rule(row: Any) -> Rule:
    return Rule(
        id=row.id,
        position=row.position,
        name=row.name,
        enabled=row.enabled,
        conditions=msgspec.convert(row.conditions, Conditions),
        actions=msgspec.convert(row.actions, Actions),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _rule_values(draft: RuleDraft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "enabled": draft.enabled,
        "conditions": msgspec.to_builtins(draft.conditions),
        "actions": msgspec.to_builtins(draft.actions),
    }


def _channels_of(actions: Actions) -> set[str]:
    return {*actions.channels, *(actions.escalation.channels if actions.escalation else ())}


def _check_named(connection: Connection, draft: RuleDraft) -> None:
    wanted: list[tuple[str, Any, set[str]]] = [
        ("channel", ChannelRow.id, _channels_of(draft.actions)),
        ("camera", CameraRow.camera_id, set(draft.conditions.cameras)),
        ("group", CameraGroupRow.id, set(draft.conditions.groups)),
    ]
    for what, column, names in wanted:
        if not names:
            continue
        missing = names - set(connection.execute(select(column).where(column.in_(names))).scalars())
        if missing:
            raise NotFound(f"there is no {what} {min(missing)}")


def _taken(what: str, name: str) -> Conflict:
    return Conflict(f"there is a {what} {name[:80]!r} already", "choose another name, or change that one")
