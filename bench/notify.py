"""Notifications: how soon somebody is told, in which order a backlog is told, and what a thousand rules cost.

    python -m bench.notify [--json] [--quick] [--database sqlite|postgresql|both]

`first_attempt_*`: real logger and notifier, 100 events a second; from the logger's word that an event is committed to
its webhook's arrival, and (`from_send`) from the moment at which its camera sent it, journal and batch included.
`drain_*`: 10,000 messages of five priorities wait when the notifier starts; `drain_out_of_order` counts those that came
while more messages than can be under way at once were more urgent and had not come.
`rules_*`: one event against 1,000 rules of many kinds, in this process.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import zmq
from sqlalchemy import Engine

from bench.events import databases
from bench.webhook import HookServer
from core.cameras.zones import Weekly
from core.clock import utc_iso
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.notifications import create_channel, create_rule
from core.db.outbox import queue, take_position
from core.events import AnomalyEvent, EventState, Severity
from core.heartbeat import read_heartbeat
from core.ids import CameraId, EventId, NodeId, uuid7
from core.notifications.channels import WebhookSettings
from core.notifications.model import Actions, EventConditions, Notice, Occasion, RuleDraft
from core.notifications.rules import RuleBook, Site, as_rule
from core.security.secrets import SecretBox
from core.wire.feeds import FeedSubscriber
from core.wire.messages import Committed, LogEvents, LoggerReply
from core.wire.rpc import RequestClient
from workers.process import spawn

__all__ = ["bench_site", "live_event", "main", "make_rule"]

RATE = 100
CAMERAS = 64
TYPES = ("unusual_motion", "loitering", "fall", "fire_smoke", "intrusion", "other")
RULES = 1_000
WAIT_S = 300.0


def live_event(number: int) -> AnomalyEvent:
    """An event that begins now."""
    now = utc_iso(datetime.now(UTC))
    return AnomalyEvent(
        id=EventId(str(uuid7())),
        revision=1,
        camera_id=CameraId(f"cam-{number % CAMERAS:02d}"),
        node_id=NodeId("local"),
        state=EventState.OPEN,
        began_at=now,
        ended_at=None,
        begin_s=0.0,
        end_s=1.0,
        peak_score=3.5,
        peak_at=now,
        peak_s=0.5,
        peak_x=320.0,
        peak_y=180.0,
        frame_width=640,
        frame_height=360,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        severity=list(Severity)[number % 5],
        vlm_type=TYPES[number % len(TYPES)],
        reason="3.1 x the usual speed here",
    )


# ---- a site


@contextmanager
def bench_site(url: str, folder: Path, notifier: dict[str, Any]) -> Generator[tuple[Config, Engine]]:
    """A configuration that lets webhooks go to loopback, with a migrated database at `url`."""
    with tempfile.TemporaryDirectory(prefix="h-") as run:
        file = folder / "haetae.toml"
        settings = "".join(f"{key} = {value}\n" for key, value in notifier.items())
        file.write_text(f'[networks]\nwebhooks = ["loopback"]\n[log]\nlevel = "error"\n[notifier]\n{settings}')
        paths = {"data": str(folder / "var"), "run": run}
        config = load_config(file, environ={}, paths=paths, database={"url": url})
        config.make_dirs()
        upgrade(url)
        engine = make_engine(url, writer=True)
        try:
            yield config, engine
        finally:
            engine.dispose()


def make_rule(engine: Engine, config: Config, url: str) -> str:
    """A webhook, and a rule that sends every event to it; returns the channel's id."""
    with engine.begin() as connection:
        take_position(connection, 0)
        box = SecretBox(config.secrets_dir)
        channel = create_channel(connection, box, name="hook", settings=WebhookSettings(url=url))
        create_rule(connection, RuleDraft(name="all", actions=Actions(channels=(channel.id,))))
    return channel.id


@contextmanager
def running(config: Config, *roles: str) -> Generator[None]:
    """These processes, at work."""
    processes: list[subprocess.Popen[bytes]] = []
    environment = {"HAETAE_DATABASE__URL": config.database_url}
    try:
        for role in roles:
            with (config.data_dir / f"{role}.log").open("ab") as log:
                processes.append(spawn(role, config=config, stderr=log, environment=environment))
        deadline = time.monotonic() + 30
        for role in roles:
            while not read_heartbeat(config.run_dir, role):
                if time.monotonic() > deadline:
                    raise RuntimeError((config.data_dir / f"{role}.log").read_text()[-2000:])
                time.sleep(0.02)
        yield
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


# ---- how soon


def measure_first_attempt(url: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Milliseconds from commit, and from sending, to the webhook."""
    with HookServer() as server, bench_site(url, folder, {"window_s": 0}) as (config, engine):
        make_rule(engine, config, server.url)
        with running(config, "logger", "notifier"), zmq.Context() as context:
            client = RequestClient(context, config.endpoint("logger"), LoggerReply)
            feed = FeedSubscriber(context, config.endpoint("logger-feed"), Committed)
            sent: dict[str, float] = {}
            committed: dict[str, float] = {}
            events = round(RATE * seconds)
            _warm_up(client, server)
            begun = time.monotonic()
            deadline = begun + seconds + WAIT_S
            while len(committed) < events or len(server.hooks) < events + 1:
                now = time.monotonic()
                while len(sent) < min(events, (now - begun) * RATE):
                    event = live_event(len(sent))
                    sent[event.id] = time.monotonic()
                    client.send(LogEvents(events=[event]), 30.0)
                client.receive(0.0)
                for _, _, message in feed.receive(0.001):
                    committed[message.event.id] = time.monotonic()
                if now > deadline:
                    raise RuntimeError(f"of {events} events {len(server.hooks)} were told")
            client.close()
            feed.close()
        told = {msgspec.json.decode(hook.body)["event"]["id"]: hook.at for hook in reversed(server.hooks)}
    from_commit = [max(0.0, told[one] - committed[one]) * 1e3 for one in sent]
    from_send = [(told[one] - sent[one]) * 1e3 for one in sent]
    return {
        "first_attempt_p50_ms": _at(from_commit, 0.5),
        "first_attempt_p99_ms": _at(from_commit, 0.99),
        "first_attempt_from_send_p50_ms": _at(from_send, 0.5),
        "first_attempt_from_send_p99_ms": _at(from_send, 0.99),
        "events": events,
        "told": len(told) - 1,
    }


def _warm_up(client: RequestClient, server: HookServer) -> None:
    """One event all the way, so that everything is connected."""
    client.send(LogEvents(events=[live_event(0)]), 30.0)
    deadline = time.monotonic() + 60
    while not server.hooks:
        client.receive(0.01)
        if time.monotonic() > deadline:
            raise RuntimeError("the first event was not told")


# ---- in which order


def measure_drain(url: str, folder: Path, count: int) -> dict[str, Any]:
    """A backlog of `count` messages, told in the order of their priorities."""
    luck = random.Random(1)
    with HookServer() as server, bench_site(url, folder, {}) as (config, engine):
        channel_id = make_rule(engine, config, server.url)
        priorities: dict[str, int] = {}
        now = datetime.now(UTC)
        with engine.begin() as connection:
            for number in range(count):
                priority = luck.randrange(5)
                message_id = queue(
                    connection,
                    dedup_key=f"bench|{number}",
                    channel_id=channel_id,
                    notice=Notice(occasion=Occasion.CHANNEL, channel_name="bench", error=str(number)),
                    priority=priority,
                    now=now,
                )
                priorities[message_id or ""] = priority
        with running(config, "notifier"):
            deadline = time.monotonic() + WAIT_S
            while len(server.hooks) < count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{len(server.hooks)} of {count} were drained")
                time.sleep(0.01)
        order = [priorities[hook.key] for hook in server.hooks]
        took_s = server.hooks[-1].at - server.hooks[0].at
    return {
        "drain_messages": count,
        "drain_per_s": round(count / took_s),
        "drain_out_of_order": _out_of_order(order, config.notifier.at_once),
        "drain_doubles": count - len({hook.key for hook in server.hooks}),
    }


def _out_of_order(order: list[int], at_once: int) -> int:
    left = [order.count(priority) for priority in range(5)]
    wrong = 0
    for priority in order:
        wrong += sum(left[:priority]) > at_once
        left[priority] -= 1
    return wrong


# ---- what rules cost


def measure_rules(turns: int) -> dict[str, float]:
    """Milliseconds for one event against 1,000 rules."""
    luck = random.Random(1)
    book = RuleBook(
        [as_rule(_some_rule(luck, number)) for number in range(RULES)], Site(time_zone=ZoneInfo("Asia/Seoul"))
    )
    took: list[float] = []
    met = 0
    for turn in range(turns):
        event = live_event(turn)
        begun = time.perf_counter()
        met += len(book.match(event, lambda *_: ()))
        took.append((time.perf_counter() - begun) * 1e3)
    return {
        "rules": RULES,
        "rules_met": round(met / turns, 1),
        "rules_p50_ms": _at(took, 0.5),
        "rules_p99_ms": _at(took, 0.99),
        "rules_mean_ms": round(sum(took) / len(took), 4),
    }


def _some_rule(luck: random.Random, number: int) -> RuleDraft:
    """Every third for some cameras, every other with hours of its own."""
    hours = f"{luck.randrange(24):02d}:{luck.randrange(60):02d}"
    cameras = tuple(CameraId(f"cam-{luck.randrange(CAMERAS):02d}") for _ in range(8)) if number % 3 == 0 else ()
    conditions = EventConditions(
        cameras=cameras,
        types=tuple(luck.sample(TYPES, 3)) if number % 5 else (),
        min_severity=luck.choice(list(Severity)),
        min_score=luck.uniform(0, 5),
        schedule=(Weekly(begin=hours, end="24:00"),) if number % 2 else (),
    )
    return RuleDraft(name=f"r{number}", conditions=conditions, actions=Actions(channels=(str(uuid7()),)))


def _at(values: list[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="2 s of events, 300 messages")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    args = parser.parse_args()
    found: dict[str, Any] = measure_rules(300 if args.quick else 5_000)
    with databases(args.database) as made:
        for name, database in made.items():
            print(f"{name}: first attempts, then a backlog", file=sys.stderr)
            one: dict[str, Any] = {}
            for measure, amount in (
                (measure_first_attempt, 2.0 if args.quick else 30.0),
                (measure_drain, 300 if args.quick else 10_000),
            ):
                with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder:
                    one |= measure(database(Path(folder)), Path(folder), amount)  # type: ignore[operator]
            found[name] = one
    if args.json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        if isinstance(value, dict):
            print(key)
            for inner, figure in value.items():
                print(f"  {inner:<34}{figure:>14}")
        else:
            print(f"{key:<36}{value:>14}")


if __name__ == "__main__":
    main()
