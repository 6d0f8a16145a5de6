"""The housekeeper process: counts, backs up and tidies by itself, once, however many there are."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from core.clock import SystemClock, utc_iso
from core.db import make_engine, upgrade
from core.db.events import upsert_events
from core.db.statistics import StatisticsQuery, StatisticsReader
from core.db.tables import JobRunRow
from core.heartbeat import read_heartbeat
from tests.events import make_event
from tests.integration.test_logger import until
from workers.process import spawn


@pytest.fixture
def site(config, database_url):
    """A configuration with this database, and an engine to write with."""
    file = config.data_dir / "haetae.toml"
    file.write_text(f'[database]\nurl = "{database_url}"\n')
    made = msgspec.structs.replace(
        config, file=file, database=msgspec.structs.replace(config.database, url=database_url)
    )
    upgrade(database_url)
    engine = make_engine(database_url, writer=True)
    yield made, engine
    engine.dispose()


def start(config, log: Path):
    with log.open("ab") as file:
        return spawn("housekeeper", config=config, stderr=file)


def done(log: Path) -> list[dict]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "job_done"]


def test_two_housekeepers_do_everything_once_and_count_what_was_written_before(site, tmp_path):
    config, engine = site
    began_at = utc_iso(datetime.now(UTC) - timedelta(days=5))
    with engine.begin() as connection:
        upsert_events(connection, [make_event(began_at=began_at) for _ in range(7)])
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    processes = [start(config, log) for log in logs]
    try:
        jobs = {"count", "recount", "retention@local", "history", "orphans@local", "checkpoint", "backup"}
        until("all jobs are done", lambda: {one["job"] for log in logs for one in done(log)} >= jobs)
        until("both work", lambda: all("housekeeper_ready" in log.read_text() for log in logs))
        until("one beats", lambda: read_heartbeat(config.run_dir, "housekeeper"))
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(60) for process in processes] == [0, 0]
    told = Counter(one["job"] for log in logs for one in done(log))
    with engine.connect() as connection:
        runs = connection.execute(select(JobRunRow.job, func.count()).group_by(JobRunRow.job)).all()
        assert set(connection.execute(select(JobRunRow.state)).scalars()) == {"done"}
    assert Counter({row[0]: row[1] for row in runs}) == told
    day = datetime.fromisoformat(began_at).date()
    found = StatisticsReader(engine, SystemClock()).read(StatisticsQuery(first=day, last=day))
    assert found.total.events == 7
    assert len(list(config.backups_dir.glob("haetae-*.db"))) == told["backup"]


def test_a_housekeeper_that_is_killed_is_followed_by_one_that_goes_on(site, tmp_path):
    config, engine = site
    first = start(config, tmp_path / "a.log")
    until("it has counted", lambda: (tmp_path / "a.log").exists() and done(tmp_path / "a.log"))
    first.kill()
    first.wait(60)
    with engine.begin() as connection:
        upsert_events(connection, [make_event(began_at=utc_iso(datetime.now(UTC)))])
        connection.execute(JobRunRow.__table__.delete())  # as if the next period had come
    second = start(config, tmp_path / "b.log")
    try:
        until("the other has counted", lambda: (tmp_path / "b.log").exists() and done(tmp_path / "b.log"))
    finally:
        second.terminate()
        assert second.wait(60) == 0
    today = datetime.now(UTC).date()
    query = StatisticsQuery(first=today - timedelta(days=1), last=today)
    assert StatisticsReader(engine, SystemClock()).read(query).total.events == 1


def test_a_database_that_is_not_there_yet_is_waited_for(config, tmp_path):
    process = start(config, tmp_path / "a.log")
    try:
        until("it beats", lambda: read_heartbeat(config.run_dir, "housekeeper"))
        upgrade(config.database_url)
        until("it works", lambda: done(tmp_path / "a.log"))
    finally:
        process.terminate()
        assert process.wait(60) == 0
