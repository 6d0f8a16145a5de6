"""The notifier process, from an event in the database to what a server receives."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, update

from core.alarms import Alarm, clear_alarm, raise_alarm
from core.cameras import CameraConfig, CameraPhase
from core.cameras.history import CameraStateChange
from core.clock import utc_iso
from core.config import Config, NetworksConfig
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.events import acknowledge, upsert_events
from core.db.history import upsert_states
from core.db.notifications import create_channel, create_rule
from core.db.outbox import list_deliveries, list_messages
from core.db.tables.notifications import OutboxRow
from core.events import Analysis, AnomalyEvent, ConfidenceKind, EventStep, Severity, Verdict, VlmType
from core.exposition import gather
from core.heartbeat import read_heartbeat
from core.ids import CameraId, NodeId, uuid7
from core.notifications.channels import Channel, ChannelSettings, WebhookSecrets, WebhookSettings
from core.notifications.model import (
    Actions,
    Conditions,
    Escalation,
    EventConditions,
    HealthConditions,
    Occasion,
    Rule,
    RuleDraft,
    State,
)
from core.security.secrets import SecretBox
from tests.events import make_event
from tests.servers import HookServer, until
from workers.notifier.channels.webhook import sign
from workers.process import spawn

GATE = CameraId("gate")


def now_event(seconds: float = 0.0, **changes: Any) -> AnomalyEvent:
    """An event that began so many seconds from now."""
    began_at = utc_iso(datetime.now(UTC) + timedelta(seconds=seconds))
    return make_event(**{"began_at": began_at, "ended_at": began_at, **changes})


class Site:
    """A database, and what is put into it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        upgrade(config.database_url)
        self.engine: Engine = make_engine(config.database_url, writer=True)
        self.box = SecretBox(config.secrets_dir)
        add_camera(self.engine, CameraConfig(camera_id=GATE, name="Main gate", url="demo://plaza"))

    def channel(self, settings: ChannelSettings, name: str = "hook", secrets: Any = None) -> Channel:
        with self.engine.begin() as connection:
            return create_channel(connection, self.box, name=name, settings=settings, secrets=secrets)

    def rule(self, *channels: Channel, name: str = "all", conditions: Conditions | None = None, **actions: Any) -> Rule:
        draft = RuleDraft(
            name=name,
            conditions=conditions or EventConditions(),
            actions=Actions(channels=tuple(one.id for one in channels), **actions),
        )
        with self.engine.begin() as connection:
            return create_rule(connection, draft)

    def happens(self, *events: AnomalyEvent) -> None:
        with self.engine.begin() as connection:
            upsert_events(connection, events)

    def phase(self, phase: CameraPhase, seconds: float = 0.0) -> None:
        change = CameraStateChange(
            id=str(uuid7()),
            camera_id=GATE,
            node_id=NodeId("local"),
            at=utc_iso(datetime.now(UTC) + timedelta(seconds=seconds)),
            phase=phase,
            reason="no route to host",
        )
        with self.engine.begin() as connection:
            upsert_states(connection, [change])

    @contextmanager
    def notifier(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The process, at work."""
        with (self.config.data_dir / "notifier.log").open("ab") as log:
            process = spawn("notifier", config=self.config, stderr=log)
        try:
            until(lambda: read_heartbeat(self.config.run_dir, "notifier") and self.works(process), "the notifier works")
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.log()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def works(self, process: "subprocess.Popen[bytes]") -> bool:
        assert process.poll() is None, self.log()
        beat = read_heartbeat(self.config.run_dir, "notifier")
        return beat is not None and beat.pid == process.pid and beat.phase == "running"

    def log(self) -> str:
        return (self.config.data_dir / "notifier.log").read_text()[-5000:]

    def haetae(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "workers.cli", "--config", str(self.config.file), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def site(config: Config, database_url: str) -> Iterator[Site]:
    """Runs on both databases; webhooks may go to loopback."""
    file = config.data_dir / "haetae.toml"
    file.write_text(
        f'[paths]\ndata = "{config.data_dir}"\nrun = "{config.run_dir}"\n[database]\nurl = "{database_url}"\n'
        '[networks]\nwebhooks = ["loopback"]\n[notifier]\npublic_url = "https://haetae.example"\nretry_s = 0.1\n'
        "window_s = 300\n"
        'language = "ko"\n'
    )
    from core.config import load_config

    made = Site(load_config(file, environ={}))
    assert isinstance(made.config.networks, NetworksConfig)
    yield made
    made.engine.dispose()


def test_an_event_is_told_once_signed_and_logged(site):
    with HookServer() as server:
        channel = site.channel(WebhookSettings(url=server.url()), secrets=WebhookSecrets(signing_key="key"))
        site.rule(channel, conditions=EventConditions(min_severity=Severity.HIGH))
        with site.notifier():
            said = Analysis(
                verdict=Verdict.CONFIRMED,
                vlm_type=VlmType.FALL,
                title="A fall",
                description="Somebody fell",
                description_ko="사람이 쓰러짐",
                confidence=0.5,
                confidence_kind=ConfidenceKind.MODEL,
                source="openai/x",
            )
            event = now_event(severity=Severity.HIGH, vlm_type="fall", description=said.description, analysis=said)
            site.happens(now_event(severity=Severity.LOW), event)
            until(lambda: server.requests, "the webhook is called")
            site.happens(msgspec.structs.replace(event, revision=2, peak_score=9.0))
            until(lambda: list_messages(site.engine, states=(State.SENT,)), "it is written down")
            until(lambda: b"haetae_notifications_sent_total 1.0" in gather(site.config), "it is counted")
    [request] = server.requests
    found = request.json
    assert found["event"]["id"] == event.id
    assert found["camera"] == {"id": "gate", "name": "Main gate"}
    assert found["subject"] == "[높음] Main gate: 쓰러짐"
    assert found["link"] == f"https://haetae.example/events/{event.id}"
    assert "설명: 사람이 쓰러짐" in found["text"]
    assert found["event"]["description"] == "Somebody fell"
    assert found["event"]["analysis"]["verdict"] == "confirmed"
    assert found["rule"]["name"] == "all"
    assert request.headers["idempotency-key"] == found["id"]
    timestamp = request.headers["x-haetae-timestamp"]
    assert request.headers["x-haetae-signature"] == sign("key", timestamp, request.body)
    [delivery] = list_deliveries(site.engine)
    assert (delivery.ok, delivery.outbox_id, delivery.event_id) == (True, found["id"], event.id)
    assert "key" not in site.log().replace("keyword", "")


def test_what_is_similar_is_held_back_and_counted_and_a_changed_verdict_is_amended(site):
    with HookServer() as server:
        channel = site.channel(WebhookSettings(url=server.url()))
        site.rule(channel)
        with site.notifier():
            first = now_event(severity=Severity.LOW)
            site.happens(first)
            until(lambda: server.requests, "the first is told")
            site.happens(now_event(severity=Severity.LOW), now_event(severity=Severity.LOW))
            until(lambda: len(list_messages(site.engine, states=(State.HELD,))) == 2, "two are held back")
            until(lambda: list_messages(site.engine, states=(State.SENT,)), "the first is written down")
            site.happens(msgspec.structs.replace(first, revision=2, severity=Severity.MEDIUM, vlm_type="fall"))
            until(lambda: len(server.requests) == 2, "the amendment is told")
            site.happens(now_event(severity=Severity.CRITICAL))
            until(lambda: len(server.requests) == 3, "what is more urgent passes")
    told, amended, urgent = (request.json for request in server.requests)
    assert (told["occasion"], amended["occasion"], urgent["occasion"]) == ("event", "update", "event")
    assert amended["event"]["id"] == first.id
    assert amended["event"]["vlm_type"] == "fall"
    assert urgent["similar"] == 2
    assert "비슷한 이벤트 2건 더" in urgent["subject"]


def test_a_camera_that_does_not_watch_is_told_and_so_is_its_return(site):
    with HookServer() as server:
        channel = site.channel(WebhookSettings(url=server.url()))
        site.rule(channel, conditions=HealthConditions(for_s=30), language="en")
        site.phase(CameraPhase.WATCHING, -600)
        site.phase(CameraPhase.DISCONNECTED, -100)
        with site.notifier():
            until(lambda: server.requests, "the outage is told")
        with site.notifier():  # which must not tell it again
            site.phase(CameraPhase.WATCHING)
            until(lambda: len(server.requests) == 2, "the return is told")
    down, up = (request.json for request in server.requests)
    assert (down["occasion"], up["occasion"]) == ("down", "up")
    assert down["subject"] == "Main gate does not watch"
    assert down["health"]["reason"] == "no route to host"


def test_a_process_of_our_own_in_trouble_is_told_once_and_so_is_its_end(site):
    run_dir = site.config.run_dir
    with HookServer() as server:
        channel = site.channel(WebhookSettings(url=server.url()))
        site.rule(channel, conditions=HealthConditions(for_s=0), language="en")
        site.rule(channel, conditions=HealthConditions(for_s=0, cameras=("gate",)), name="one camera")
        raise_alarm(run_dir, Alarm(process="logger", since=utc_iso(datetime.now(UTC)), reason="it ended 5 times"))
        with site.notifier():
            until(lambda: server.requests, "the alarm is told")
            clear_alarm(run_dir, "logger")
            until(lambda: len(server.requests) == 2, "its end is told")
    down, up = (request.json for request in server.requests)
    assert (down["occasion"], up["occasion"]) == ("process", "process_up")
    assert down["subject"] == "The process logger is in trouble"
    assert "it ended 5 times" in down["text"]


def test_an_escalation_is_sent_unless_somebody_took_note(site):
    with HookServer() as server:
        first = site.channel(WebhookSettings(url=server.url("/first")), "first")
        second = site.channel(WebhookSettings(url=server.url("/second")), "second")
        site.rule(first, escalation=Escalation(after_minutes=60, channels=(second.id,)))
        noted, unnoted = now_event(vlm_type="fall"), now_event(vlm_type="fire_smoke")
        with site.notifier():
            site.happens(noted, unnoted)
            until(lambda: len(list_messages(site.engine)) == 4, "both are queued")
            acknowledge(site.engine, [noted.id], actor="kim", at=utc_iso(datetime.now(UTC)))
            assert not any(one.path == "/second" for one in server.requests)
            with site.engine.begin() as connection:  # the hour is over
                later = update(OutboxRow).where(OutboxRow.occasion == str(Occasion.ESCALATION))
                connection.execute(later.values(due_at=OutboxRow.created_at))
            until(lambda: any(one.path == "/second" for one in server.requests), "the escalation is told")
            until(lambda: list_messages(site.engine, states=(State.DROPPED,)), "the other one is dropped")
    escalated = [request.json for request in server.requests if request.path == "/second"]
    assert [one["event"]["id"] for one in escalated] == [unnoted.id]


def test_a_flow_may_ask_for_a_message_under_the_same_policy(site):
    with HookServer() as server:
        site.channel(WebhookSettings(url=server.url()))
        step = EventStep(
            kind="action", at=utc_iso(datetime.now(UTC)), text="", data={"action": "notify", "channels": ["hook"]}
        )
        with site.notifier():
            site.happens(now_event(steps=(step,)), now_event(steps=(step,)))
            until(lambda: server.requests, "the webhook is called")
            until(lambda: list_messages(site.engine, states=(State.HELD,)), "the second is held back")
        assert len(server.requests) == 1


def test_a_second_notifier_for_the_same_folder_is_refused(site):
    with site.notifier():
        process = spawn("notifier", config=site.config, stderr=subprocess.DEVNULL)
        assert process.wait(60) == 78


def test_channels_and_rules_from_files_tests_logs_and_dry_runs_on_the_command_line(site, tmp_path: Path):
    channel, rule = tmp_path / "channel.toml", tmp_path / "rule.toml"
    with HookServer() as server:
        channel.write_text(
            f'name = "hook"\n[settings]\nkind = "webhook"\nurl = "{server.url()}"\n'
            '[secrets]\nsigning_key = "topsecret"\n'
        )
        rule.write_text('name = "nights"\n[conditions]\nmin_severity = "low"\n[actions]\nchannels = ["hook"]\n')
        assert site.haetae("notify", "channels", "--add", str(channel)).returncode == 0
        done = site.haetae("notify", "rules", "--add", str(rule))
        assert done.returncode == 0, done.stderr
        refused = site.haetae("notify", "test", "hook")
        assert refused.returncode == 2
        assert "haetae up" in refused.stderr
        with site.notifier():
            done = site.haetae("notify", "test", "hook")
            assert done.stdout.startswith("sent ("), done.stdout + done.stderr
            server.answer = 404
            done = site.haetae("notify", "test", "hook")
            assert done.returncode == 1
            assert "FAILED" in done.stdout
            assert "404" in done.stdout
            until(lambda: list_messages(site.engine, states=(State.DEAD,)), "it is given up")
            server.answer = 200
            done = site.haetae("notify", "replay", "--all")
            assert done.stdout == "1 to be tried again\n"
            until(lambda: not list_messages(site.engine, states=(State.DEAD, State.WAITING)), "it is sent")
    shown = json.loads(site.haetae("notify", "channels", "--json").stdout)
    assert shown[0]["secrets_set"] == ["signing_key"]
    assert "topsecret" not in json.dumps(shown)
    assert len(json.loads(site.haetae("notify", "log", "--json").stdout)) == 3
    site.happens(now_event(-100.0), now_event(-99.0))
    found = json.loads(site.haetae("notify", "dry-run", "nights", "--json").stdout)
    assert (found["sent"], found["suppressed"]) == (1, 1)
    assert site.haetae("notify", "rules", "--remove", "nights").returncode == 0
    assert site.haetae("notify", "channels", "--remove", "hook").returncode == 0
