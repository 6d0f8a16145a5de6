"""`haetae notify`: channels and rules, tests, dry runs, and the log of what was sent to whom."""

import argparse
import json
import re
import sys
import time
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from core.clock import local_text, normal_utc, time_zone, utc_iso
from core.config import Config
from core.db import make_engine, upgrade
from core.db.cameras import list_groups
from core.db.notifications import (
    create_channel,
    create_rule,
    delete_channel,
    delete_rule,
    find_channel,
    list_channels,
    list_rules,
    update_channel,
    update_rule,
)
from core.db.outbox import get_message, list_deliveries, list_messages, outbox_statistics, queue_test, replay
from core.errors import ConfigError, NotFound
from core.heartbeat import read_heartbeat
from core.notifications.channels import Channel, ChannelSecrets, ChannelSettings
from core.notifications.dry_run import dry_run
from core.notifications.model import HealthConditions, Rule, RuleDraft, State
from core.security.secrets import SecretBox
from workers.commands.camera import configure

__all__ = ["add_parser"]

EXIT_FAILED = 1
WAIT_S = 30.0
"""How long the result of a test is awaited."""
FRESH_S = 10.0
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("notify", help="channels, rules, and what was sent to whom")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    test = actions.add_parser("test", help="send a test message, and tell what came of it")
    test.add_argument("channel", help="its name")
    test.set_defaults(run=_test)
    for name, text, show, add, remove in (
        ("channels", "show, add, change and remove channels", _channels, _add_channel, _remove_channel),
        ("rules", "show, add, change and remove rules", _rules, _add_rule, _remove_rule),
    ):
        one = actions.add_parser(name, help=text)
        one.add_argument("--json", action="store_true", help="for programs")
        what = one.add_mutually_exclusive_group()
        what.add_argument("--add", metavar="FILE", help="TOML or JSON; - is standard input")
        what.add_argument("--change", metavar="FILE", help="the same; the one of this name is changed")
        what.add_argument("--remove", metavar="NAME")
        one.set_defaults(run=_either(show, add, remove))
    log = actions.add_parser("log", help="what was sent, newest first")
    log.add_argument("--channel", metavar="NAME", help="through this channel only")
    log.add_argument("--event", metavar="ID", help="about this event only")
    log.add_argument("--limit", type=int, default=50, metavar="N")
    log.add_argument("--json", action="store_true", help="for programs")
    log.set_defaults(run=_log)
    dead = actions.add_parser("dead", help="messages that were given up, newest first")
    dead.add_argument("--limit", type=int, default=50, metavar="N")
    dead.add_argument("--json", action="store_true", help="for programs")
    dead.set_defaults(run=_dead)
    again = actions.add_parser("replay", help="try messages again that were given up")
    again.add_argument("ids", nargs="*", metavar="ID")
    again.add_argument("--all", action="store_true")
    again.set_defaults(run=_replay)
    dry = actions.add_parser("dry-run", help="what a rule would have sent")
    dry.add_argument("rule", help="the name of a rule, or a file with one")
    dry.add_argument("--since", default="7d", metavar="TIME", help="12h, 7d (the default) or 2026-03-01T00:00Z")
    dry.add_argument("--json", action="store_true", help="for programs")
    dry.set_defaults(run=_dry_run)


def _either(
    show: Callable[[argparse.Namespace], int],
    add: Callable[[argparse.Namespace], int],
    remove: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        if args.remove:
            return remove(args)
        return add(args) if args.add or args.change else show(args)

    return run


def _engine(config: Config, *, writer: bool = False) -> Engine:
    upgrade(config.database_url)
    return make_engine(config.database_url, writer=writer)


def _read(file: str) -> dict[str, Any]:
    """What a file says; raises ConfigError."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    try:
        found: Any = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file} is neither TOML nor JSON", "see docs/notifications.md for examples") from error
    return cast("dict[str, Any]", found)


# ---- channels


def _channels(args: argparse.Namespace) -> int:
    engine = _engine(configure(args))
    channels = list_channels(engine)
    statistics = {one.channel_id: one for one in outbox_statistics(engine)}
    if args.json:
        rows = [
            {
                **msgspec.to_builtins(one),
                "waiting": _count(statistics, one, "waiting"),
                "dead": _count(statistics, one, "dead"),
            }
            for one in channels
        ]
        print(json.dumps(rows))
        return 0
    table = Table("channel", "kind", "on", "to", "waiting", "given up", "secrets")
    for one in channels:
        table.add_row(
            one.name,
            one.kind,
            "yes" if one.enabled else "no",
            _where(one),
            str(_count(statistics, one, "waiting")),
            str(_count(statistics, one, "dead")),
            ", ".join(one.secrets_set),
        )
    Console().print(table if channels else "no channels yet: haetae notify channels --add FILE")
    return 0


def _count(statistics: dict[str, Any], channel: Channel, name: str) -> int:
    return getattr(statistics[channel.id], name) if channel.id in statistics else 0


def _where(channel: Channel) -> str:
    settings = channel.settings
    for name in ("url", "host"):
        if hasattr(settings, name):
            return str(getattr(settings, name))
    return ""


def _add_channel(args: argparse.Namespace) -> int:
    written = _read(args.add or args.change)
    kind = written.get("settings", {}).get("kind")
    try:
        settings: Any = msgspec.convert(written["settings"], ChannelSettings) if "settings" in written else None
        secrets: Any = None
        if "secrets" in written:
            secrets = msgspec.convert({"kind": kind, **written["secrets"]}, ChannelSecrets)
        name = msgspec.convert(written.get("name"), str)
        enabled = msgspec.convert(written.get("enabled", True), bool)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(f"the channel cannot be so: {error}", "see docs/notifications.md for examples") from error
    config = configure(args)
    engine = _engine(config, writer=True)
    box = SecretBox(config.secrets_dir)
    if args.change:
        known = find_channel(engine, name)
        with engine.begin() as connection:
            update_channel(connection, box, known.id, settings=settings, secrets=secrets, enabled=enabled)
        print(f"changed {name}")
        return 0
    if settings is None:
        raise ConfigError("a channel has settings", "see docs/notifications.md for examples")
    with engine.begin() as connection:
        create_channel(connection, box, name=name, settings=settings, secrets=secrets, enabled=enabled)
    print(f"added {name}; try it: haetae notify test {json.dumps(name)}")
    return 0


def _remove_channel(args: argparse.Namespace) -> int:
    engine = _engine(configure(args), writer=True)
    channel = find_channel(engine, args.remove)
    with engine.begin() as connection:
        delete_channel(connection, channel.id)
    print(f"removed {channel.name}")
    return 0


# ---- rules


def _rules(args: argparse.Namespace) -> int:
    engine = _engine(configure(args))
    rules = list_rules(engine)
    if args.json:
        print(json.dumps(msgspec.to_builtins(rules)))
        return 0
    names = {one.id: one.name for one in list_channels(engine)}
    table = Table("rule", "on", "about", "to", "priority")
    for rule in rules:
        table.add_row(
            rule.name,
            "yes" if rule.enabled else "no",
            "cameras in trouble" if isinstance(rule.conditions, HealthConditions) else "events",
            ", ".join(names.get(one, one) for one in rule.actions.channels),
            rule.actions.priority or "",
        )
    Console().print(table if rules else "no rules yet: haetae notify rules --add FILE")
    return 0


def _draft(engine: Engine, written: dict[str, Any]) -> RuleDraft:
    """A rule as a file has it, where channels and groups may stand with their names."""
    channels = {one.name: one.id for one in list_channels(engine)}
    groups = {one.name: one.id for one in list_groups(engine)}
    actions = dict(written.get("actions", {}))
    actions["channels"] = _ids(actions.get("channels", []), channels)
    if "escalation" in actions:
        escalation = dict(actions["escalation"])
        actions["escalation"] = {**escalation, "channels": _ids(escalation.get("channels", []), channels)}
    conditions = {"about": "events", **written.get("conditions", {})}
    if "groups" in conditions:
        conditions["groups"] = _ids(conditions["groups"], groups)
    try:
        return msgspec.convert({**written, "conditions": conditions, "actions": actions}, RuleDraft)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the rule cannot be so: {error}", "see docs/notifications.md for examples") from error


def _ids(names: list[Any], known: dict[str, str]) -> list[Any]:
    return [known.get(name, name) for name in names]


def _add_rule(args: argparse.Namespace) -> int:
    engine = _engine(configure(args), writer=True)
    draft = _draft(engine, _read(args.add or args.change))
    if args.change:
        known = _rule_named(engine, draft.name)
        with engine.begin() as connection:
            update_rule(connection, known.id, draft)
        print(f"changed {draft.name}")
        return 0
    with engine.begin() as connection:
        create_rule(connection, draft)
    print(f"added {draft.name}; try it: haetae notify dry-run {json.dumps(draft.name)}")
    return 0


def _remove_rule(args: argparse.Namespace) -> int:
    engine = _engine(configure(args), writer=True)
    rule = _rule_named(engine, args.remove)
    with engine.begin() as connection:
        delete_rule(connection, rule.id)
    print(f"removed {rule.name}")
    return 0


def _rule_named(engine: Engine, name: str) -> Rule:
    for rule in list_rules(engine):
        if name in {rule.name, rule.id}:
            return rule
    raise NotFound(f"there is no rule {name[:80]!r}", "haetae notify rules shows those there are")


def _since(text: str) -> str:
    found = re.fullmatch(r"(\d+)([mhd])", text)
    if found:
        return utc_iso(datetime.now(UTC) - timedelta(seconds=int(found[1]) * _UNITS[found[2]]))
    return normal_utc(text)


def _dry_run(args: argparse.Namespace) -> int:
    config = configure(args)
    engine = _engine(config)
    if Path(args.rule).is_file():
        draft = _draft(engine, _read(args.rule))
    else:
        rule = _rule_named(engine, args.rule)
        draft = RuleDraft(name=rule.name, conditions=rule.conditions, actions=rule.actions)
    found = dry_run(engine, config, draft, since=_since(args.since), until=utc_iso(datetime.now(UTC)))
    if args.json:
        print(msgspec.json.encode(found).decode())
        return 0
    limited = f", and {found.limited} would have been over its limit" if found.limited else ""
    print(f"{draft.name} would have sent {found.sent} and held back {found.suppressed} since {args.since}{limited}")
    for day in found.days:
        print(f"  {day.day}  {day.sent:>6} sent  {day.suppressed:>6} held back")
    if not found.complete:
        print("there is more than was looked at")
    return 0


# ---- what was sent


def _test(args: argparse.Namespace) -> int:
    """Has the notifier send a message, and waits for what comes of the first attempt."""
    config = configure(args)
    engine = _engine(config, writer=True)
    channel = find_channel(engine, args.channel)
    if not channel.enabled:
        raise ConfigError(f"{channel.name} is switched off")
    beat = read_heartbeat(config.run_dir, "notifier")
    if beat is None or beat.age_s > FRESH_S:
        raise ConfigError("the notifier does not run here", "haetae up")
    with engine.begin() as connection:
        outbox_id = queue_test(connection, channel.id, now=datetime.now(UTC))
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        tried = list_deliveries(engine, outbox_id=outbox_id, limit=1)
        if tried:
            print(f"{'sent' if tried[0].ok else 'FAILED'} ({tried[0].took_ms} ms): {tried[0].detail}")
            with engine.connect() as connection:
                message = get_message(connection, outbox_id)
            if message and message.state is State.WAITING:
                print("it will be tried again")
            return 0 if tried[0].ok else EXIT_FAILED
        time.sleep(0.1)
    print(f"no attempt was made within {WAIT_S:g} s: see {config.logs_dir / 'notifier.log'}")
    return EXIT_FAILED


def _log(args: argparse.Namespace) -> int:
    config = configure(args)
    engine, zone = _engine(config), time_zone(config.site.time_zone)
    channels = {one.id: one.name for one in list_channels(engine)}
    wanted = find_channel(engine, args.channel).id if args.channel else None
    found = list_deliveries(engine, channel_id=wanted, event_id=args.event, limit=args.limit)
    if args.json:
        print(msgspec.json.encode(found).decode())
        return 0
    table = Table("at", "channel", "result", "ms", "what was answered", "message")
    for one in found:
        name = channels.get(one.channel_id, one.channel_id)
        table.add_row(
            local_text(one.at, zone),
            name,
            "sent" if one.ok else "failed",
            str(one.took_ms),
            one.detail,
            one.outbox_id,
        )
    Console().print(table if found else "nothing was sent yet")
    return 0


def _dead(args: argparse.Namespace) -> int:
    config = configure(args)
    engine, zone = _engine(config), time_zone(config.site.time_zone)
    channels = {one.id: one.name for one in list_channels(engine)}
    found = list_messages(engine, states=(State.DEAD,), limit=args.limit)
    if args.json:
        print(msgspec.json.encode(found).decode())
        return 0
    table = Table("given up", "channel", "occasion", "event", "attempts", "message")
    for one in found:
        table.add_row(
            local_text(one.ended_at, zone) if one.ended_at else "",
            channels.get(one.channel_id, one.channel_id),
            one.occasion,
            one.event_id or "",
            str(one.attempts),
            one.id,
        )
    Console().print(table if found else "nothing was given up")
    return 0


def _replay(args: argparse.Namespace) -> int:
    if bool(args.ids) == args.all:
        raise ConfigError("say which messages, or --all", "haetae notify dead shows them")
    engine = _engine(configure(args), writer=True)
    with engine.begin() as connection:
        count = replay(connection, None if args.all else args.ids, now=datetime.now(UTC))
    print(f"{count} to be tried again")
    return 0 if count or args.all else EXIT_FAILED
