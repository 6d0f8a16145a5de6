"""EventOutbox against a logger that the test plays: order, refusals, torn spools."""

import os
import time
from pathlib import Path

import msgspec
import pytest
import zmq

from core.events import outbox as outbox_module
from core.events.journal import Journal
from core.events.outbox import EventOutbox
from core.ids import CameraId
from core.wire.messages import Done, InterruptOpen, LogEvents, LoggerRequest
from core.wire.rpc import RequestServer
from tests.events import make_event

GATE = CameraId("gate")


@pytest.fixture
def context():
    with zmq.Context() as made:
        yield made


@pytest.fixture
def server(context, config):
    made = RequestServer(context, config.endpoint("logger"), LoggerRequest)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """An outbox sends again after a minute, which no machine is late by; `impatient` does sooner."""
    monkeypatch.setattr(outbox_module, "RESEND_S", 60.0)


@pytest.fixture
def outbox(context, config):
    made = EventOutbox(context, config, GATE)
    yield made
    made.close(0)


@pytest.fixture
def impatient(outbox, monkeypatch):
    monkeypatch.setattr(outbox_module, "RESEND_S", 0.2)
    return outbox


def take(server, outbox, timeout_s: float = 60.0):
    """The next message that the outbox sends."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        outbox.pump(0.01)
        for incoming in server.receive(0.01):
            return incoming
    raise AssertionError("nothing was sent")


def settle(outbox, condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        outbox.pump(0.01)


def test_what_was_lost_on_the_way_comes_before_what_was_sent_later(server, impatient):
    outbox = impatient
    first, second = make_event(1), make_event(2)
    outbox.log_event(first)
    lost = take(server, outbox)
    assert lost.body == LogEvents(events=[first])  # and its receiver dies
    outbox.log_event(second)
    again = take(server, outbox)
    assert again.body == LogEvents(events=[first, second])
    again.reply(Done())
    settle(outbox, lambda: not outbox.pending)


def test_one_message_is_under_way_at_a_time_and_takes_all_that_waits(server, outbox):
    events = [make_event(n) for n in range(100)]
    for event in events:
        outbox.log_event(event)
    first = take(server, outbox)
    assert [*server.receive(0.05)] == []
    assert first.body.events == events[:1]
    first.reply(Done())
    second = take(server, outbox)
    assert second.body.events == events[1:65]
    second.reply(Done())
    third = take(server, outbox)
    assert third.body.events == events[65:]
    third.reply(Done())
    settle(outbox, lambda: not outbox.pending)


def test_a_newer_revision_is_not_forgotten_by_the_acknowledgement_of_an_older(server, outbox):
    old = make_event(1)
    new = msgspec.structs.replace(old, revision=2)
    outbox.log_event(old)
    message = take(server, outbox)
    outbox.log_event(new)
    message.reply(Done())
    again = take(server, outbox)
    assert again.body.events == [new]
    again.reply(Done())
    settle(outbox, lambda: not outbox.pending)


def test_a_refusal_is_not_answered_by_a_flood(server, impatient):
    outbox = impatient
    outbox.log_event(make_event(1))
    refused = 0
    begun = time.monotonic()
    while refused < 4:
        assert time.monotonic() - begun < 60
        outbox.pump(0.005)
        for incoming in server.receive(0.005):
            incoming.fail("journal_full", "no space left on device")
            refused += 1
    assert time.monotonic() - begun > 3 * 0.2 * 0.9
    assert outbox.pending == 1


def test_what_the_logger_cannot_read_is_set_aside_and_the_others_go_on(server, outbox, config):
    events = [make_event(n) for n in range(9)]
    for event in events:
        outbox.log_event(event)
    bad = events[4].id
    stored: list[str] = []
    deadline = time.monotonic() + 60
    while outbox.pending:
        assert time.monotonic() < deadline
        outbox.pump(0.01)
        for incoming in server.receive(0.01):
            ids = [event.id for event in incoming.body.events]
            if bad in ids:
                incoming.fail("bad_request", "not an event")
            else:
                stored += ids
                incoming.reply(Done())
    assert stored == [event.id for event in events if event.id != bad]
    [line] = (config.spool_dir / "gate.rejected").read_bytes().splitlines()
    assert msgspec.json.decode(line)["record"]["id"] == bad


def test_old_events_are_ended_after_the_spool_is_empty_and_new_ones_do_not_wait_for_that(context, config, server):
    old = make_event(1)
    first = EventOutbox(context, config, GATE)
    first.log_event(old)
    first.close(0)
    server.receive(0.1)
    second = EventOutbox(context, config, GATE)
    second.interrupt_open()
    message = take(server, second)
    assert message.body == LogEvents(events=[old])
    message.reply(Done())
    message = take(server, second)
    assert isinstance(message.body, InterruptOpen)
    message.reply(Done())
    settle(second, lambda: second._interrupt is None)
    second.close(0)


@pytest.mark.parametrize("torn", [b'{"id":"half', b"\xff\xfe", b"x\n"])
def test_a_torn_spool_spoils_nothing_that_is_added_to_it(context, config, torn):
    spool = config.spool_dir / "gate.jsonl"
    before, after = make_event(1), make_event(2)
    spool.write_bytes(msgspec.json.encode(before) + b"\n" + torn)
    first = EventOutbox(context, config, GATE)
    assert first.pending == 1
    first.log_event(after)
    first.close(0)
    second = EventOutbox(context, config, GATE)
    assert list(second._waiting.values()) == [before, after]
    second.close(0)


def test_a_short_write_to_the_spool_is_taken_back(context, config, monkeypatch):
    real = os.write
    made = EventOutbox(context, config, GATE)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
        made.log_event(make_event(1))
    assert made.pending == 1  # kept in memory, though not on disk
    last = make_event(2)
    made.log_event(last)
    made.close(0)
    again = EventOutbox(context, config, GATE)
    assert list(again._waiting.values()) == [last]
    again.close(0)


def test_the_spool_does_not_grow_with_the_revisions_of_one_event(context, config, monkeypatch):
    monkeypatch.setattr(outbox_module, "SPARE_LINES", 10)
    made = EventOutbox(context, config, GATE)
    event = make_event(1)
    for revision in range(1, 200):
        made.log_event(msgspec.structs.replace(event, revision=revision))
    made.close(0)
    assert len((config.spool_dir / "gate.jsonl").read_bytes().splitlines()) < 20
    again = EventOutbox(context, config, GATE)
    assert [one.revision for one in again._waiting.values()] == [199]
    again.close(0)


def test_a_spool_that_is_full_gives_up_the_oldest_and_counts_it(context, config):
    tight = msgspec.structs.replace(config, logger=msgspec.structs.replace(config.logger, spool_events=3))
    made = EventOutbox(context, tight, GATE)
    events = [make_event(n) for n in range(5)]
    for event in events:
        made.log_event(event)
    assert (made.pending, made.dropped) == (3, 2)
    assert list(made._waiting) == [event.id for event in events[2:]]
    made.close(0)


def test_a_journal_that_cannot_be_opened_leaks_no_descriptor(tmp_path, monkeypatch):
    journal = Journal(tmp_path)

    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            with pytest.raises(OSError, match="No space"):
                journal.append([make_event(1)])
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    journal.append([make_event(1)])
    journal.close()
