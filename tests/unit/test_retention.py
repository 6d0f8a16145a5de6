"""Retention: what is past its time goes with its files, what is locked or unread stays, and counts remain."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.cameras import CameraConfig
from core.cameras.history import ScoreMinute, pack_scores
from core.config import RetentionConfig
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import acknowledge, add_feedback, get_detail, set_locked, upsert_events
from core.db.history import score_curve, score_minutes, upsert_scores
from core.db.retention import delete_old_events, delete_old_history, delete_old_media, delete_orphans, delete_removed
from core.db.rollup import roll_up_changes, roll_up_range
from core.db.tables import AcknowledgementRow, EventMediaRow, EventStatisticsRow, EventStepRow, FeedbackRow
from core.events import EventMedia, EventStep, Severity
from core.ids import CameraId, NodeId, night_id
from tests.events import BEGIN, make_event

NOW = BEGIN + timedelta(days=100)
DAY = 86_400.0
HERE = {"node_id": NodeId("local"), "now": NOW, "pause": lambda: None}


def days_ago(days: float, media=None, size: int = 1000, **changes):
    """An event so old, with a snapshot in the media folder."""
    event = make_event((100 - days) * DAY, **changes)
    if media is None:
        return event
    name = f"{event.camera_id}/{event.id}.jpg"
    (media / event.camera_id).mkdir(exist_ok=True)
    (media / name).write_bytes(b"x" * size)
    part = EventMedia(kind="snapshot", file=name, sha256="0" * 64, size_bytes=size)
    step = EventStep(kind="analyse", at=event.began_at, text="x")
    return make_event(
        (100 - days) * DAY, **{**changes, "id": event.id, "snapshot": name, "media": (part,), "steps": (step,)}
    )


def store(engine, *events):
    with engine.begin() as connection:
        upsert_events(connection, events)


def kept(engine) -> set[str]:
    return {one.event.id for one in iterate_events(engine, EventFilter())}


def read(engine, *events):
    acknowledge(engine, [one.id for one in events], actor="kim", at="2026-06-01T00:00:00.000000Z")


def test_events_go_by_camera_severity_and_whether_anybody_took_note(database, tmp_path):
    config = RetentionConfig(
        days=30, severity_days={Severity.CRITICAL: 90}, camera_days={"vault": 80}, unacknowledged_days=60
    )
    gone = [days_ago(31), days_ago(61), days_ago(91, severity=Severity.CRITICAL), days_ago(81, camera_id="vault")]
    stays = [
        days_ago(29),
        days_ago(89, severity=Severity.CRITICAL),
        days_ago(79, camera_id="vault"),
        days_ago(79, camera_id="vault", severity=Severity.INFO),
    ]
    unread_stays, unread_gone = days_ago(59), days_ago(61)
    elsewhere = days_ago(99, node_id=NodeId("other"))
    store(database, *gone, *stays, unread_stays, unread_gone, elsewhere)
    read(database, *gone, *stays, elsewhere)
    assert delete_old_events(database, config, tmp_path, **HERE) == 5
    assert kept(database) == {one.id for one in (*stays, unread_stays, elsewhere)}


def test_a_locked_event_stays_with_its_file_and_the_other_goes_with_all_that_hangs_on_it(database, tmp_path):
    evidence, other = days_ago(99, tmp_path), days_ago(99, tmp_path)
    store(database, evidence, other)
    for one in (evidence, other):
        read(database, one)
        add_feedback(database, one.id, verdict="real", actor="kim", at="2026-06-01T00:00:00.000000Z")
    set_locked(database, evidence.id, locked=True)
    config = RetentionConfig(days=30, unacknowledged_days=30, media_days=10)
    assert delete_old_events(database, config, tmp_path, **HERE) == 1
    assert delete_old_media(database, config, tmp_path, **HERE) == 0
    assert [path.name for path in tmp_path.rglob("*.jpg")] == [f"{evidence.id}.jpg"]
    with database.connect() as connection:
        for row in (EventMediaRow, EventStepRow, AcknowledgementRow, FeedbackRow):
            assert connection.execute(select(func.count()).select_from(row)).scalar_one() == 1
    assert get_detail(database, evidence.id).feedback[0].verdict == "real"


def test_statistics_outlive_the_events(database, tmp_path):
    store(database, days_ago(50), days_ago(50, vlm_type="fall"))
    roll_up_changes(database)
    delete_old_events(database, RetentionConfig(days=30, unacknowledged_days=30), tmp_path, **HERE)
    assert kept(database) == set()
    roll_up_range(database, 0, 1)
    roll_up_range(database, 1_900_000 + 70_000, 1_990_000)
    roll_up_changes(database)
    with database.connect() as connection:
        assert connection.execute(select(func.sum(EventStatisticsRow.events))).scalar_one() == 2


def test_files_past_their_time_go_and_their_events_stay(database, tmp_path):
    old, new = days_ago(20, tmp_path), days_ago(5, tmp_path)
    store(database, old, new)
    assert delete_old_media(database, RetentionConfig(media_days=10), tmp_path, **HERE) == 1
    assert kept(database) == {old.id, new.id}
    assert get_detail(database, old.id).stored.event.snapshot == ""
    assert [path.name for path in tmp_path.rglob("*.jpg")] == [f"{new.id}.jpg"]


def test_of_too_many_files_the_least_severe_and_oldest_go_first(database, tmp_path):
    sizes = {"size": 400_000}
    low = [days_ago(n, tmp_path, severity=Severity.LOW, **sizes) for n in (9, 8, 7)]
    high = [days_ago(n, tmp_path, severity=Severity.HIGH, **sizes) for n in (30, 20)]
    yard = [days_ago(9, tmp_path, camera_id=CameraId("yard"), **sizes)]
    store(database, *low, *high, *yard)
    config = RetentionConfig(camera_media_gb=0.0013)
    assert delete_old_media(database, config, tmp_path, **HERE) == 2
    left = {path.stem for path in tmp_path.rglob("*.jpg")}
    assert left == {one.id for one in (low[2], *high, *yard)}


def test_a_file_name_that_leads_out_of_the_media_folder_is_left_alone(database, tmp_path):
    media, outside = tmp_path / "media", tmp_path / "precious.txt"
    media.mkdir()
    outside.write_text("x")
    part = EventMedia(kind="snapshot", file="../precious.txt", sha256="0" * 64, size_bytes=1)
    store(database, make_event(0.0, media=(part,)))
    delete_old_events(database, RetentionConfig(days=30, unacknowledged_days=30), media, **HERE)
    assert kept(database) == set()
    assert outside.read_text() == "x"


def test_files_that_no_event_knows_go_when_they_are_a_day_old(database, tmp_path):
    known = days_ago(1, tmp_path)
    store(database, known)
    (tmp_path / "gate" / "lost.jpg").write_bytes(b"x")
    (tmp_path / "gate" / "fresh.jpg").write_bytes(b"x")
    for name in ("lost.jpg", f"{known.id}.jpg"):
        os.utime(tmp_path / "gate" / name, ((NOW - timedelta(days=2)).timestamp(),) * 2)
    os.utime(tmp_path / "gate" / "fresh.jpg", (NOW.timestamp(),) * 2)
    assert delete_orphans(database, tmp_path, now=NOW, pause=lambda: None) == 1
    assert {path.name for path in (tmp_path / "gate").iterdir()} == {"fresh.jpg", f"{known.id}.jpg"}


def test_what_a_removed_camera_had_learned_goes_once_it_is_old(database, config):
    add_camera(database, CameraConfig(camera_id=CameraId("gate"), name="gate", url="demo://plaza?seed=1"))
    now = datetime.now(UTC)
    paths: dict[str, list[Path]] = {}
    for name, days in (("gate", 99), (night_id(CameraId("gate")), 99), ("gone", 99), ("lately-gone", 2)):
        state = config.states_dir / "motion_stats" / name
        state.mkdir(parents=True)
        inside = [
            state / "1.npz",
            config.logs_dir / f"camera-{name}.log",
            config.data_dir / "promises" / f"{name}.json",
            config.data_dir / "promises" / f"{name}.colour",
        ]
        inside[2].parent.mkdir(exist_ok=True)
        then = now.timestamp() - days * DAY
        for path in inside:
            path.write_bytes(b"x")
        for path in [*inside, state]:
            os.utime(path, (then, then))
        paths[name] = inside
    spool = config.spool_dir / "gone.jsonl"
    spool.write_bytes(b"x")
    assert delete_removed(database, config, now=now, pause=lambda: None) == 1
    assert {name: [path.exists() for path in inside] for name, inside in paths.items()} == {
        "gate": [True] * 4,
        "gate--night": [True] * 4,
        "gone": [False] * 4,
        "lately-gone": [True] * 4,
    }
    assert not (config.states_dir / "motion_stats" / "gone").exists()
    assert spool.exists()


def test_scores_are_thinned_after_days_and_deleted_after_months(database):
    ages = (1, 6, 8, 80, 99)
    numbers = [int((NOW - timedelta(days=age)).timestamp()) // 60 for age in ages]
    minutes = [
        ScoreMinute(camera_id=CameraId("gate"), node_id=NodeId("n"), minute=n, up=1, seconds=pack_scores([2.0] * 60))
        for n in numbers
    ]
    with database.begin() as connection:
        upsert_scores(connection, minutes)
    gone = delete_old_history(database, RetentionConfig(), now=NOW, pause=lambda: None)
    assert (gone["thinned"], gone["scores"]) == (3, 1)
    assert [n for n, _, _ in score_minutes(database, CameraId("gate"), 0, 10**9)] == sorted(numbers[:4])
    curve = score_curve(database, CameraId("gate"), "2026-01-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert {second // 60 for second, _ in curve} == set(numbers[:2])


def test_retention_gives_way_between_small_slices(database, tmp_path):
    store(database, *(days_ago(99 - n / 1000) for n in range(450)))
    pauses = []
    config = RetentionConfig(days=30, unacknowledged_days=30)
    where = {**HERE, "pause": lambda: pauses.append(1)}
    assert delete_old_events(database, config, tmp_path, **where) == 450
    assert len(pauses) == 3


def test_a_stop_in_the_middle_leaves_what_is_whole(database, tmp_path):
    store(database, *(days_ago(99 - n / 1000) for n in range(450)))

    def stop() -> None:
        raise KeyboardInterrupt

    config = RetentionConfig(days=30, unacknowledged_days=30)
    with pytest.raises(KeyboardInterrupt):
        delete_old_events(database, config, tmp_path, **{**HERE, "pause": stop})
    assert len(kept(database)) == 250
    assert delete_old_events(database, config, tmp_path, **HERE) == 250


def test_events_are_taken_in_while_old_ones_are_deleted(database_url, tmp_path):
    upgrade(database_url)
    deleter, writer = make_engine(database_url, writer=True), make_engine(database_url, writer=True)
    for begin in range(0, 4000, 500):
        store(deleter, *(days_ago(99 - n / 1000) for n in range(begin, begin + 500)))
    stop, written = threading.Event(), threading.Semaphore(0)

    def write() -> None:
        while not stop.is_set():
            store(writer, days_ago(1))
            written.release()

    def pause() -> None:
        """Between two slices: an event that comes is stored before the next."""
        assert written.acquire(timeout=60), "the database was not let go of"
        while written.acquire(blocking=False):
            pass
        assert written.acquire(timeout=60), "the database was not let go of"

    thread = threading.Thread(target=write)
    thread.start()
    config = RetentionConfig(days=30, unacknowledged_days=30)
    try:
        where = {**HERE, "pause": pause}
        assert delete_old_events(deleter, config, tmp_path, **where) == 4000
    finally:
        stop.set()
        thread.join()
        deleter.dispose()
        writer.dispose()
