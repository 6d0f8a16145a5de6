"""The journal: whatever was synced is read again, whole lines only, from any position, in order."""

import os
import random
import resource
import signal
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.cameras import CameraPhase, Light
from core.cameras.history import CameraStateChange, NormalityVersion, ScoreMinute, pack_scores
from core.clock import FakeClock
from core.db import make_engine, upgrade
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event, upsert_events
from core.db.history import camera_states, normality_versions, score_minutes, upsert_history
from core.events import EventMedia, EventStep
from core.events.journal import EventLogger, Journal, Position
from core.ids import CameraId, NodeId
from tests.events import make_event, random_event

STATE = CameraStateChange(
    id="0198f0a0-0000-7000-8000-000000000001",
    camera_id=CameraId("gate"),
    node_id=NodeId("n"),
    at="2026-03-01T00:00:00.000000Z",
    phase=CameraPhase.WATCHING,
    reason="다시 연결됨",
)
MINUTE = ScoreMinute(
    camera_id=CameraId("gate"), node_id=NodeId("n"), minute=7, up=5, seconds=pack_scores([1.5] + [float("nan")] * 59)
)


VERSION = NormalityVersion(
    camera_id=CameraId("gate"),
    vad_type="motion_stats",
    version=2,
    node_id=NodeId("n"),
    created_at="2026-03-01T00:00:00.000000Z",
    learned_s=600.5,
    frames=6000,
    reason="learned",
    file="motion_stats/gate/2.npz",
    sha256="0" * 64,
)
BY_NIGHT = msgspec.structs.replace(
    VERSION, light=Light.NIGHT, created_at="2026-03-01T09:00:00.000000Z", file="motion_stats/gate--night/2.npz"
)


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path, FakeClock())
    yield made
    made.close()


def test_all_kinds_of_records_come_back_as_they_were(journal):
    event = make_event(
        media=(EventMedia(kind="snapshot", file="gate/x.jpg", sha256="0" * 64, size_bytes=5),),
        steps=(EventStep(kind="analyse", at="2026-03-01T00:00:00.000000Z", text="규칙", data={"score": 1.5}),),
    )
    journal.append([event, STATE, MINUTE, VERSION])
    assert journal.read(Position(), 10)[0] == [event, STATE, MINUTE, VERSION]


def test_an_event_is_the_plain_json_line_of_the_plain_logger(journal, tmp_path):
    event = make_event()
    journal.append([event])
    plain = EventLogger(tmp_path / "plain.txt")
    plain.log_event(event)
    plain.close()
    [file] = tmp_path.glob("*.jsonl")
    assert file.read_bytes()[9:] == (tmp_path / "plain.txt").read_bytes()


@pytest.mark.parametrize("cut", [1, 5, 9, 12, 100])
def test_a_torn_last_line_is_left_out_and_what_follows_is_not(tmp_path, cut):
    first, second, third = make_event(1), make_event(2), make_event(3)
    journal = Journal(tmp_path, FakeClock())
    journal.append([first])
    journal.append([second])
    journal.close()
    [file] = tmp_path.glob("*.jsonl")
    os.truncate(file, file.stat().st_size - cut)
    again = Journal(tmp_path, FakeClock())
    assert again.read(Position(), 10)[0] == [first]
    again.append([third])
    whole = [second] if cut == 1 else []  # all but its newline: not acknowledged, and as good as any
    assert again.read(Position(), 10)[0] == [first, *whole, third]
    assert again.damaged == 1 - len(whole)
    again.close()


def test_a_line_that_was_tampered_with_is_left_out(journal, tmp_path):
    journal.append([make_event(1), make_event(2)])
    [file] = tmp_path.glob("*.jsonl")
    text = file.read_bytes()
    file.write_bytes(text.replace(b'"peak_score":3.5', b'"peak_score":9.5', 1))
    assert len(journal.read(Position(), 10)[0]) == 1
    assert journal.damaged == 1


def test_files_go_by_days_and_a_clock_that_steps_back_goes_on_in_the_newest(tmp_path):
    clock = FakeClock()
    journal = Journal(tmp_path, clock)
    events = [make_event(n) for n in range(4)]
    for event, step in zip(events, (86_400, -86_400, 2 * 86_400, 0), strict=True):
        journal.append([event])
        clock.advance(step)
    assert journal.read(Position(), 10)[0] == events
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    journal.close()


def test_old_files_go_only_when_all_in_them_is_committed(tmp_path):
    clock = FakeClock()
    journal = Journal(tmp_path, clock)
    journal.append([make_event(1)])
    clock.advance(timedelta(days=40).total_seconds())
    journal.append([make_event(2)])
    assert journal.expire(30) == []
    _, position = journal.read(Position(), 10)
    journal.save_committed(position)
    assert journal.expire(30) == ["2026-01-01.jsonl"]
    assert len(journal.read(Position(), 10)[0]) == 1
    journal.close()


def test_a_disk_that_is_full_refuses_and_leaves_nothing_half_written(journal, tmp_path):
    journal.append([make_event(1)])
    [file] = tmp_path.glob("*.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 100, hard))
    try:
        with pytest.raises(OSError):
            journal.append([make_event(2), make_event(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    last = make_event(4)
    journal.append([last])
    found = journal.read(Position(), 10)[0]
    assert len(found) == 2
    assert found[-1] == last
    assert journal.damaged == 0


@pytest.mark.parametrize("cut_fails", [False, True])
def test_what_could_not_be_synced_is_seen_by_no_reader_and_harms_nothing_later(journal, monkeypatch, cut_fails):
    first, lost, last = make_event(1), make_event(2), make_event(3)
    journal.append([first])
    seen = []

    def fail(_fd, *_args) -> None:
        seen.extend(journal.read(Position(), 10)[0])
        raise OSError(5, "the disk is failing")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        if cut_fails:
            broken.setattr(os, "ftruncate", fail)
        with pytest.raises(OSError):
            journal.append([lost])
    assert seen
    assert all(one == first for one in seen)
    journal.append([last])
    assert journal.read(Position(), 10)[0] == [first, last]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 10**6),
    prefixes=st.lists(st.integers(0, 40), max_size=6),
    batch=st.integers(1, 12),
)
def test_replay_after_any_prefix_any_number_of_times_gives_the_same_database(tmp_path_factory, seed, prefixes, batch):
    folder = tmp_path_factory.mktemp("replay")
    rnd = random.Random(seed)
    journal = Journal(folder, FakeClock())
    events = [random_event(rnd, 100) for _ in range(12)]
    revisions = {event.id: 0 for event in events}
    written = []
    for _ in range(40):
        event = rnd.choice(events)
        revisions[event.id] += 1
        written.append(msgspec.structs.replace(event, revision=revisions[event.id], peak_score=rnd.uniform(1, 9)))
    journal.append(written)

    url = f"sqlite:///{folder / 'test.db'}"
    upgrade(url)
    engine = make_engine(url, writer=True)
    for prefix in (*prefixes, 40):  # each ends somewhere, as a crash would have it, and begins again
        position, left = Position(), prefix
        while left:
            found, position = journal.read(position, min(batch, left))
            left -= len(found)
            with engine.begin() as connection:
                upsert_events(connection, found)
    newest = {event.id: event for event in written}
    stored = list(iterate_events(engine, EventFilter()))
    assert {one.event.id: one.event for one in stored} == newest
    assert len({one.sequence for one in stored}) == len(stored)
    engine.dispose()
    journal.close()


def test_an_older_revision_never_takes_the_place_of_a_newer(database):
    step = EventStep(kind="analyse", at="2026-03-01T00:00:00.000000Z", text="first")
    media = EventMedia(kind="snapshot", file="gate/x.jpg", sha256="0" * 64, size_bytes=5)
    old = make_event(steps=(step,))
    new = msgspec.structs.replace(old, revision=2, steps=(step, step), media=(media,), description="x")
    for batch in ([new], [old], [old, new]):
        with database.begin() as connection:
            upsert_events(connection, batch)
    assert get_event(database, old.id) == new


def test_history_is_stored_once_however_often_it_is_replayed(database):
    for _ in range(2):
        with database.begin() as connection:
            upsert_history(connection, [STATE, MINUTE, VERSION, VERSION, BY_NIGHT])
    gate = CameraId("gate")
    assert camera_states(database, gate) == [STATE]
    assert normality_versions(database, gate) == [BY_NIGHT, VERSION]
    assert score_minutes(database, gate, 0, 100) == [(7, 1.5, 1.5)]
