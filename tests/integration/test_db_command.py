"""`haetae db`, `haetae stats` and `haetae events` as a person uses them."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from core.clock import utc_iso
from core.db import make_engine, upgrade
from core.db.events import upsert_events
from core.events.journal import Journal
from tests.events import make_event
from tests.integration.test_logger import Logger, until


@pytest.fixture
def haetae(config):
    """Runs the command with this test's folders; returns (exit code, stdout, stderr)."""

    def run(*words: str, url: str = "", time_zone: str = "UTC") -> tuple[int, str, str]:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HAETAE_PATHS__DATA": str(config.data_dir),
            "HAETAE_PATHS__RUN": str(config.run_dir),
            "HAETAE_SITE__TIME_ZONE": time_zone,
            **({"HAETAE_DATABASE__URL": url} if url else {}),
        }
        command = [sys.executable, "-m", "workers.cli", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def fill(config, count: int = 20) -> list:
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    now = utc_iso(datetime.now(UTC))
    events = [make_event(n, began_at=now, description="사람이 쓰러짐" if n % 2 else "") for n in range(count)]
    with engine.begin() as connection:
        upsert_events(connection, events)
    engine.dispose()
    return events


def test_check_says_what_is_wrong(haetae, config):
    fill(config)
    code, said, _ = haetae("db", "check")
    assert (code, "WRONG" in said) == (0, False), said
    assert "20 events" in said
    (config.journal_dir / "rejected.jsonl").write_text('{"reason": "x"}\n')
    code, said, _ = haetae("db", "check")
    assert (code, "WRONG: 0 records wait to be committed, 0 lines are damaged, 1 were refused" in said) == (1, True)


def test_check_of_a_database_that_is_behind_or_broken(haetae, config):
    code, said, _ = haetae("db", "check")
    assert (code, "haetae db upgrade" in said) == (1, True)
    (config.data_dir / "haetae.db").write_text("this is no database" * 1000)
    code, said, error = haetae("db", "check")
    assert (code, "WRONG" in said, "Traceback" in error) == (1, True, False)


def test_a_database_of_a_newer_haetae_is_left_alone(haetae, config, database_url):
    upgrade(database_url)
    engine = make_engine(database_url, writer=True)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for words in (("events",), ("db", "upgrade"), ("db", "backup", str(config.data_dir / "b.db")), ("up",)):
        code, _, error = haetae(*words, url=database_url)
        assert (code, "newer Haetae" in error, "Traceback" in error) == (2, True, False), (words, error)
    code, said, _ = haetae("db", "check", url=database_url)
    assert (code, "does not know: a newer one upgraded it" in said) == (1, True)


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "oracle://a/b"])
def test_a_database_of_another_make_is_refused(haetae, url):
    for words, chosen in ((("events",), url), (("db", "move", url), "")):
        code, _, error = haetae(*words, url=chosen)
        assert (code, "not a database URL" in error, "Traceback" in error) == (2, True, False), (words, error)


def test_a_backup_is_put_back_and_the_journal_adds_what_came_after(haetae, config, tmp_path):
    fill(config)
    journal = Journal(config.journal_dir)
    late = make_event(500)
    code, said, error = haetae("db", "backup", str(tmp_path / "b.db"))
    assert (code, "read it back: good" in said) == (0, True), error
    journal.append([late])
    journal.save_committed(journal.read(journal.committed(), 100)[1])
    journal.close()
    code, said, error = haetae("db", "restore", str(tmp_path / "b.db"))
    assert (code, "--replace" in error) == (2, True)
    code, said, error = haetae("db", "restore", str(tmp_path / "b.db"), "--replace")
    assert code == 0, error
    logger = Logger(config)
    until("the late one is there again", lambda: late.id in haetae("events", "--json", "--limit", "99")[1])
    code, _, error = haetae("db", "restore", str(tmp_path / "b.db"), "--replace")
    assert (code, "stop it before you restore" in error) == (2, True)
    code, _, error = haetae("db", "move", f"sqlite:///{tmp_path / 'other.db'}")
    assert (code, "stop it before you move" in error) == (2, True)
    assert logger.stop() == 0


def test_a_move_to_postgresql(haetae, config, postgres):
    events = fill(config)
    url = postgres.create_database()
    code, said, error = haetae("db", "move", url)
    assert (code, "the same" in said) == (0, True), error
    code, said, _ = haetae("db", "check", url=url)
    assert (code, "20 events" in said) == (0, True)
    code, said, _ = haetae("events", "--json", "--text", "쓰러짐", url=url)
    assert {json.loads(line)["id"] for line in said.splitlines()} == {one.id for one in events[1::2]}
    code, _, error = haetae("db", "move", url)
    assert (code, "not empty" in error) == (2, True)
    code, _, error = haetae("db", "move", "postgresql://nobody@127.0.0.1:1/none")
    assert (code, "cannot open the database" in error, "Traceback" in error) == (2, True, False)
    code, _, error = haetae("db", "move", "rubbish")
    assert (code, "not a database URL" in error) == (2, True)


def test_statistics_and_filters_on_the_command_line(haetae, config):
    fill(config)
    code, said, error = haetae("stats", "--json", "--time-zone", "Asia/Seoul")
    assert code == 0, error
    assert json.loads(said)["total"]["events"] == 20
    code, said, _ = haetae("stats", "--by", "month")
    assert (code, "20 unusual_motion" in said) == (0, True)
    for words in (("--time-zone", "Nowhere"), ("--first", "2026-05-01", "--last", "2026-04-01")):
        code, _, error = haetae("stats", *words)
        assert (code, "Traceback" in error) == (2, False)
    assert len(haetae("events", "--json", "--text", "쓰러")[1].splitlines()) == 10
    assert len(haetae("events", "--json", "--severity", "critical")[1].splitlines()) == 0
    assert len(haetae("events", "--json", "--unacknowledged", "--min-score", "3")[1].splitlines()) == 20


def test_events_are_shown_and_asked_for_in_the_sites_time_zone(haetae, config):
    before = datetime.now(ZoneInfo("Asia/Seoul"))
    fill(config, 1)
    in_seoul = datetime.now(ZoneInfo("Asia/Seoul"))
    _, said, _ = haetae("events", time_zone="Asia/Seoul")
    assert said[:13] in {f"{at:%Y-%m-%d %H}" for at in (before, in_seoul)}, said
    _, said, _ = haetae(
        "events", "--since", f"{in_seoul - timedelta(minutes=5):%Y-%m-%dT%H:%M}", time_zone="Asia/Seoul"
    )
    assert "no events" not in said
    code, _, error = haetae("events", time_zone="Seoul")
    assert (code, "not a time zone" in error) == (2, True)
