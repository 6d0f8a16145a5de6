"""Migrations: from nothing and from every revision with data in it, down and up again, without drift, on both."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from core.db import make_engine, upgrade
from core.db.cameras import list_cameras
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event, last_sequence
from core.db.migrations import alembic_config
from core.db.tables import Base

REVISIONS = [one.revision for one in ScriptDirectory.from_config(alembic_config("")).walk_revisions()][::-1]
EVENT_ID = "0198f0a0-0000-7000-8000-0000000000{:02x}"


def write_old_data(engine: Engine) -> None:
    """Rows as the first revision had them; what came later must be able to go without."""
    camera = {
        "camera_id": "gate",
        "name": "Gate",
        "url": "/videos/gate.mp4",
        "enabled": True,
        "autostart": True,
        "vad_type": "motion_stats",
        "learn_s": 600.0,
        "analysis_fps": 10.0,
        "loop": True,
        "created_at": "2026-03-01T00:00:00.000000Z",
        "updated_at": "2026-03-01T00:00:00.000000Z",
    }
    event = {
        "revision": 3,
        "camera_id": "gate",
        "node_id": "local",
        "state": "closed",
        "ended_at": "2026-03-01T00:00:09.500000Z",
        "begin_s": 1.0,
        "end_s": 2.0,
        "peak_score": 3.25,
        "peak_at": "2026-03-01T00:00:01.000001Z",
        "peak_s": 1.5,
        "peak_x": 10.0,
        "peak_y": 20.0,
        "frame_width": 640,
        "frame_height": 360,
        "vad_type": "motion_stats",
        "state_version": 1,
        "provisional": False,
        "severity": "low",
        "reason": "3.1 x the usual speed here",
        "vlm_type": "unusual_motion",
        "description": "사람이 뛰어감",
        "source": "rules/1",
        "snapshot": "gate/x.jpg",
    }
    with engine.begin() as connection:
        insert(connection, "cameras", camera)
        for n in range(3):
            began_at = f"2026-03-01T00:00:0{n}.123456Z"
            insert(connection, "events", {**event, "id": EVENT_ID.format(n), "sequence": 10 + n, "began_at": began_at})


def insert(connection, table: str, row: dict[str, object]) -> None:
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)


def migrate(url: str, to: str) -> None:
    config = alembic_config(url)
    if to == "base":
        command.downgrade(config, to)
    else:
        command.upgrade(config, to)


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_with_data_in_it_comes_to_the_newest(database_url, revision):
    migrate(database_url, REVISIONS[0])
    engine = make_engine(database_url, writer=True)
    write_old_data(engine)
    migrate(database_url, revision)
    upgrade(database_url)

    [camera] = list_cameras(engine)
    assert (camera.camera_id, camera.url) == ("gate", "/videos/gate.mp4")
    found = list(iterate_events(engine, EventFilter()))
    assert [one.event.id for one in found] == [EVENT_ID.format(n) for n in (2, 1, 0)]
    assert found[0].event.began_at == "2026-03-01T00:00:02.123456Z"
    assert found[0].event.peak_at == "2026-03-01T00:00:01.000001Z"
    assert found[0].acknowledged_at is None
    assert last_sequence(engine) == 12
    assert [one.event.id for one in iterate_events(engine, EventFilter(text="뛰어"))] == [
        EVENT_ID.format(n) for n in (2, 1, 0)
    ]
    engine.dispose()


def test_down_and_up_again_keeps_the_events(database_url):
    upgrade(database_url)
    migrate(database_url, "base")
    engine = make_engine(database_url, writer=True)
    assert set(inspect(engine).get_table_names()) <= {"alembic_version"}
    migrate(database_url, REVISIONS[0])
    write_old_data(engine)
    for _ in range(2):
        upgrade(database_url)
        assert get_event(engine, EVENT_ID.format(1)).began_at == "2026-03-01T00:00:01.123456Z"
        command.downgrade(alembic_config(database_url), REVISIONS[0])
        with engine.connect() as connection:
            [began_at] = connection.execute(text("SELECT began_at FROM events WHERE sequence = 11")).scalars()
        assert began_at == "2026-03-01T00:00:01.123456Z"
    engine.dispose()


def test_models_and_migrations_agree(database_url):
    upgrade(database_url)
    command.check(alembic_config(database_url))  # raises where autogenerate would change anything


def test_there_is_one_newest_revision_and_a_table_for_every_model(database):
    assert len(ScriptDirectory.from_config(alembic_config("")).get_heads()) == 1
    assert set(Base.metadata.tables) <= set(inspect(database).get_table_names())


def test_two_that_upgrade_at_once_both_succeed(database_url):
    code = f"from core.db import upgrade; upgrade({database_url!r})"
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(
            lambda _: subprocess.run([sys.executable, "-c", code], capture_output=True, check=False), range(4)
        )
    assert [(one.returncode, one.stderr.decode()[-300:]) for one in done] == [(0, "")] * 4
