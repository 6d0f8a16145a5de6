"""The logger process and the outbox before it: what is acknowledged is stored once, whoever is killed."""

import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from sqlalchemy import Engine

from core.db import make_engine
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import count_events, get_event
from core.db.migrations import known_revisions
from core.events import AnomalyEvent, EventState
from core.events.outbox import EventOutbox
from core.heartbeat import read_heartbeat
from core.ids import CameraId, EventId, NodeId, uuid7
from core.wire.feeds import FeedSubscriber
from core.wire.messages import Committed
from workers.process import spawn


def make_event(number: int = 0, **changes: object) -> AnomalyEvent:
    event = AnomalyEvent(
        id=EventId(str(uuid7())),
        revision=1,
        camera_id=CameraId("gate"),
        node_id=NodeId("n"),
        state=EventState.OPEN,
        began_at=f"2026-03-01T00:{number // 60 % 60:02d}:{number % 60:02d}.000000Z",
        ended_at=None,
        begin_s=float(number),
        end_s=number + 1.0,
        peak_score=3.5,
        peak_at="2026-03-01T00:00:00.500000Z",
        peak_s=number + 0.5,
        peak_x=1,
        peak_y=2,
        frame_width=640,
        frame_height=360,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        reason="3.1 x the usual speed here; 여기서 평소의 3.1배",
    )
    return msgspec.structs.replace(event, **changes)


def until(what: str, condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


class Logger:
    """The logger process under test, which can be killed and started again."""

    def __init__(self, config) -> None:
        self.config = config
        self.start()

    def start(self) -> None:
        with (self.config.logs_dir / "logger.log").open("ab") as log:
            self.process = spawn("logger", config=self.config, stderr=log)
        until(
            "the logger beats",
            lambda: (beat := read_heartbeat(self.config.run_dir, "logger")) and beat.pid == self.process.pid,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def logger(config) -> Iterator[Logger]:
    made = Logger(config)
    yield made
    if made.process.poll() is None:
        made.kill()


@pytest.fixture
def outbox(config) -> Iterator[EventOutbox]:
    with zmq.Context() as context:
        made = EventOutbox(context, config, CameraId("gate"))
        yield made
        made.close(0)


def open_reader(config) -> Engine:
    """Of the database, once it is migrated: the logger acknowledges what its journal has before that."""
    path, newest = config.data_dir / "haetae.db", known_revisions()[0]
    until("the database is migrated", lambda: path.exists() and revision(path) == newest)
    return make_engine(config.database_url)


def drain(outbox: EventOutbox, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while outbox.pending and time.monotonic() < deadline:
        outbox.pump(0.05)
    assert outbox.pending == 0


def test_an_event_goes_from_the_outbox_to_database_and_feed(config, logger, outbox):
    with zmq.Context() as context:
        feed = FeedSubscriber(context, config.endpoint("logger-feed"), Committed, topics=["gate"])
        heard = []

        def hears() -> bool:
            heard.extend(feed.receive(0.2))
            return bool(heard)

        warm = make_event()

        def subscribed() -> bool:
            """A feed tells what happens from when the subscription has arrived."""
            nonlocal warm
            warm = msgspec.structs.replace(warm, revision=warm.revision + 1)
            outbox.log_event(warm)
            drain(outbox)
            return hears()

        until("the feed is heard", subscribed)
        event = make_event()
        closed = msgspec.structs.replace(event, revision=2, state=EventState.CLOSED, ended_at=event.peak_at)
        outbox.log_event(event)
        drain(outbox)
        outbox.log_event(closed)
        drain(outbox)
        reader = open_reader(config)
        until("the event is stored", lambda: get_event(reader, event.id) == closed)
        until("it is told", lambda: hears() and heard[-1][2].event == closed)
        topic, sequence, _ = heard[-1]
        assert topic == "gate"
        assert sequence >= 1
        feed.close()
    assert logger.stop() == 0
    assert count_events(reader) == 2
    reader.dispose()


def test_no_acknowledged_event_is_lost_when_the_logger_is_killed_at_random(config, logger, outbox):
    luck = random.Random(7)
    sent = []
    for number in range(300):
        event = make_event(number)
        sent.append(event)
        outbox.log_event(event)
        outbox.pump(0.001)
        if luck.random() < 0.03:
            logger.kill()
            logger.start()
    drain(outbox)
    assert logger.stop() == 0
    reader = open_reader(config)
    assert {stored.event.id for stored in iterate_events(reader, EventFilter())} == {event.id for event in sent}
    assert count_events(reader) == len(sent)
    reader.dispose()


def test_what_a_killed_sender_left_in_its_spool_is_sent_by_the_next(config):
    event = make_event()
    with zmq.Context() as context:
        first = EventOutbox(context, config, CameraId("gate"))
        first.log_event(event)
        first.close(0)
    logger = Logger(config)
    with zmq.Context() as context:
        second = EventOutbox(context, config, CameraId("gate"))
        assert second.pending == 1
        drain(second)
        second.close(1)
    assert logger.stop() == 0
    reader = open_reader(config)
    assert get_event(reader, event.id) == event
    reader.dispose()


def test_what_a_dead_camera_left_open_is_interrupted_at_its_last_update(config, logger, outbox):
    event = make_event(5)
    outbox.log_event(event)
    drain(outbox)
    outbox.interrupt_open()
    newer = make_event(6, began_at="2099-01-01T00:00:00.000000Z")
    outbox.log_event(newer)
    reader = open_reader(config)

    def interrupted() -> bool:
        outbox.pump(0.05)
        found = get_event(reader, event.id)
        return found is not None and found.state is EventState.INTERRUPTED

    until("the open event is interrupted", interrupted)
    found = get_event(reader, event.id)
    assert found.ended_at == "2026-03-01T00:00:06.000000Z"
    drain(outbox)
    until("the newer one is stored", lambda: get_event(reader, newer.id))
    assert get_event(reader, newer.id).state is EventState.OPEN
    reader.dispose()


def test_a_locked_database_delays_and_loses_nothing(config, logger, outbox):
    event = make_event()
    reader = open_reader(config)
    with sqlite3.connect(config.data_dir / "haetae.db", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        outbox.log_event(event)
        drain(outbox)  # acknowledged, though nothing can be committed
        blocker.execute("ROLLBACK")
    until("it is stored after all", lambda: get_event(reader, event.id))
    reader.dispose()


def revision(path) -> str | None:
    """The last migration that was made, of whole ones."""
    with sqlite3.connect(path) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return next((number for (number,) in connection.execute("SELECT version_num FROM alembic_version")), None)
    return None


def test_a_second_logger_for_the_same_folder_is_refused(config, logger):
    second = spawn("logger", config=config, stderr=subprocess.PIPE)
    assert second.wait(60) == 78
    assert b"in use" in second.stderr.read()
    assert logger.process.poll() is None


def test_the_logger_ends_with_its_parent(config):
    code = (
        "import sys, time; from core.config import load_config; from workers.process import spawn; "
        f"c = load_config(environ={{}}, paths={{'data': {str(config.data_dir)!r}, 'run': {str(config.run_dir)!r}}}); "
        "print(spawn('logger', config=c).pid, flush=True); time.sleep(60)"
    )
    import sys

    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    until("the logger beats", lambda: read_heartbeat(config.run_dir, "logger"))
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    until("it ended", lambda: not Path(f"/proc/{pid}").exists())
