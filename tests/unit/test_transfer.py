"""Whole databases: a backup, a restore and a move carry every row; a damaged one is found out."""

import random
import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, insert, select

from core.cameras import CameraConfig, CameraPhase
from core.cameras.history import CameraStateChange, ScoreMinute, pack_scores
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import acknowledge, add_feedback, get_detail, set_locked, upsert_events
from core.db.history import upsert_scores, upsert_states
from core.db.rollup import roll_up_changes
from core.db.tables import ApiKeyRow, Base, UserRow
from core.db.transfer import backup, check_backup, copy_database, restore
from core.errors import DatabaseError
from core.events import EventMedia, EventStep
from core.ids import CameraId, NodeId, uuid7
from tests.events import make_event, random_event

AT = "2026-03-01T12:00:00.000000Z"


def fill(engine: Engine) -> None:
    """Something in most tables, and what is hard to carry: letters of two scripts, bytes, JSON, nothing, times."""
    rnd = random.Random(3)
    add_camera(engine, CameraConfig(camera_id=CameraId("gate"), name="정문", url="demo://plaza"))
    media = (EventMedia(kind="snapshot", file="gate/x.jpg", sha256="0" * 64, size_bytes=2**40),)
    steps = (EventStep(kind="analyse", at=AT, text="규칙", data={"나": [1, 2.5, None, {"b": True, "a": "x"}]}),)
    rich = make_event(1, media=media, steps=steps, peak_score=0.1 + 0.2)
    with engine.begin() as connection:
        upsert_events(connection, [rich, *(random_event(rnd, 500) for _ in range(1500))])
        upsert_states(
            connection,
            [
                CameraStateChange(
                    id=str(uuid7()), camera_id=CameraId("gate"), node_id=NodeId("n"), at=AT, phase=CameraPhase.FAILED
                )
            ],
        )
        upsert_scores(
            connection,
            [
                ScoreMinute(
                    camera_id=CameraId("gate"),
                    node_id=NodeId("n"),
                    minute=9,
                    up=(1 << 60) - 1,
                    seconds=pack_scores([0.1] * 30 + [float("nan")] * 30),
                )
            ],
        )
        user = str(uuid7())
        connection.execute(
            insert(UserRow).values(
                id=user,
                name="김",
                password_hash="x",
                role="admin",
                enabled=True,
                token_version=1,
                language="ko",
                time_zone="Asia/Seoul",
                failed_logins=0,
                created_at=AT,
                updated_at=AT,
            )
        )
        connection.execute(
            insert(ApiKeyRow).values(
                id=str(uuid7()), user_id=user, name="k", secret_hash="s", scopes=["a"], camera_ids=None, created_at=AT
            )
        )
    acknowledge(engine, [rich.id], actor="김", at=AT, reason="seen")
    add_feedback(engine, rich.id, verdict="real", actor="김", at=AT)
    set_locked(engine, rich.id, locked=True)
    roll_up_changes(engine)


def everything(engine: Engine) -> dict[str, list[tuple]]:
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


@pytest.fixture
def filled(database: Engine) -> Engine:
    fill(database)
    return database


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request, tmp_path) -> Iterator[Engine]:
    """Another database, empty."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'other.db'}"
    else:
        url = request.getfixturevalue("postgres").create_database()
    upgrade(url)
    engine = make_engine(url, writer=True)
    yield engine
    engine.dispose()


def test_a_copy_is_the_same_in_every_row_of_every_table(filled, other):
    seen = []
    sums = copy_database(filled, other, progress=lambda *step: seen.append(step))
    assert everything(other) == everything(filled)
    assert sums["events"].rows == 1501
    assert ("events", 1501, 1501) in seen
    wanted = EventFilter(text="쓰러")
    assert [one.event.id for one in iterate_events(other, wanted)] == [
        one.event.id for one in iterate_events(filled, wanted)
    ]


def test_a_target_that_is_not_empty_is_refused_unless_it_is_to_be_replaced(filled, other):
    add_camera(other, CameraConfig(camera_id=CameraId("old"), name="old", url="demo://plaza"))
    before = everything(other)
    with pytest.raises(DatabaseError, match="not empty: cameras"):
        copy_database(filled, other)
    assert everything(other) == before
    copy_database(filled, other, replace=True)
    assert everything(other) == everything(filled)


def test_what_the_target_cannot_hold_stops_the_move_and_leaves_it_empty(tmp_path, postgres):
    source_url, target_url = f"sqlite:///{tmp_path / 'source.db'}", postgres.create_database()
    for url in (source_url, target_url):
        upgrade(url)
    source, target = make_engine(source_url, writer=True), make_engine(target_url, writer=True)
    with source.begin() as connection:
        upsert_events(connection, [make_event(1), make_event(2, reason="\0")])
    with pytest.raises(DatabaseError, match="copy failed"):
        copy_database(source, target)
    assert all(not rows for name, rows in everything(target).items() if name != "counters")
    source.dispose()
    target.dispose()


def test_a_backup_can_be_put_back_on_either_database(filled, other, tmp_path):
    file = tmp_path / "backups" / "one.db"
    url = filled.url.render_as_string(hide_password=False)
    sums = backup(url, file)
    assert sums["events"].rows == 1501
    assert [path.name for path in file.parent.iterdir()] == ["one.db"]
    before = everything(filled)
    other_url = other.url.render_as_string(hide_password=False)
    other.dispose()
    assert restore(file, other_url, replace=True) == sums
    again = make_engine(other_url)
    assert everything(again) == before
    again.dispose()


def test_restoring_over_an_sqlite_database_keeps_the_old_one_beside(tmp_path):
    url = f"sqlite:///{tmp_path / 'haetae.db'}"
    upgrade(url)
    engine = make_engine(url, writer=True)
    fill(engine)
    backup(url, tmp_path / "b.db")
    late = make_event(999)
    with engine.begin() as connection:
        upsert_events(connection, [late])
    engine.dispose()
    with pytest.raises(DatabaseError, match="already"):
        restore(tmp_path / "b.db", url)
    restore(tmp_path / "b.db", url, replace=True)
    engine = make_engine(url)
    assert get_detail(engine, late.id) is None
    engine.dispose()
    old = make_engine(f"sqlite:///{tmp_path / 'haetae.db.before-restore'}")
    assert get_detail(old, late.id) is not None
    old.dispose()


def test_a_backup_is_taken_while_events_are_written(database_url, tmp_path):
    import threading

    upgrade(database_url)
    engine = make_engine(database_url, writer=True)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            with engine.begin() as connection:
                upsert_events(connection, [make_event(n + k) for k in range(10)])
            n += 10

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            rows = backup(database_url, tmp_path / f"{n}.db")["events"].rows
            assert rows % 10 == 0  # whole transactions only
    finally:
        stop.set()
        writer.join()
    engine.dispose()


def test_damage_is_found_out(tmp_path):
    url = f"sqlite:///{tmp_path / 'haetae.db'}"
    upgrade(url)
    engine = make_engine(url, writer=True)
    fill(engine)
    engine.dispose()
    file = tmp_path / "b.db"
    backup(url, file)
    data = bytearray(file.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 20_000):
        data[at] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(DatabaseError, match=r"damaged|cannot be read"):
        check_backup(file)
    with pytest.raises(DatabaseError):
        restore(file, url, replace=True)
    assert not list(tmp_path.glob("*.before-restore"))


def test_a_file_that_is_no_backup_is_refused(tmp_path):
    (tmp_path / "text.db").write_text("not a database at all, but long enough to look like one" * 100)
    with sqlite3.connect(tmp_path / "other.db") as raw:
        raw.execute("CREATE TABLE songs (name TEXT)")
    for name, message in (("text.db", "cannot be read"), ("other.db", "no backup of Haetae"), ("none.db", "no file")):
        with pytest.raises(DatabaseError, match=message):
            check_backup(tmp_path / name)
