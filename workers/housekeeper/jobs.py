"""The jobs, as a table: what is done how often."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import Engine

from core.clock import Clock
from core.config import Config
from core.db.jobs import forget_runs
from core.db.retention import delete_old_events, delete_old_history, delete_old_media, delete_orphans, delete_removed
from core.db.rollup import QUARTER_S, quarter_at, roll_up_changes, roll_up_range
from core.db.transfer import backup
from core.ids import NodeId

__all__ = ["Job", "Work", "jobs"]

log = structlog.get_logger()

RECOUNTED_DAYS = 2
RUNS_DAYS = 90


class Work(msgspec.Struct, frozen=True):
    """What every job is given. `pause` is called between small pieces: it shows life, and raises to stop."""

    config: Config
    writer: Engine
    clock: Clock
    pause: Callable[[], None]


class Job(msgspec.Struct, frozen=True):
    """`everywhere`: each machine does its own; otherwise one does it for all."""

    name: str
    period_s: int
    run: Callable[[Work], dict[str, Any]]
    everywhere: bool = False


def jobs(config: Config) -> list[Job]:
    """All jobs, the most urgent first."""
    found = [
        Job("count", 60, _count),
        Job("recount", 86_400, _recount),
        Job("retention", 3_600, _retention, everywhere=True),
        Job("history", 3_600, _history),
        Job("orphans", 86_400, _orphans, everywhere=True),
        Job("checkpoint", 3_600, _checkpoint),
    ]
    if config.backup.every_h:
        found.append(Job("backup", config.backup.every_h * 3_600, _backup))
    return found


def _count(work: Work) -> dict[str, Any]:
    return {"quarters": roll_up_changes(work.writer)}


def _recount(work: Work) -> dict[str, Any]:
    """The last two days and today anew: whatever was missed is mended."""
    now = work.clock.now()
    first, end = quarter_at(now - timedelta(days=RECOUNTED_DAYS)), quarter_at(now) + 1
    for begin in range(first, end, 86_400 // QUARTER_S):
        roll_up_range(work.writer, begin, min(end, begin + 86_400 // QUARTER_S))
        work.pause()
    return {"quarters": end - first}


def _retention(work: Work) -> dict[str, Any]:
    config, now = work.config, work.clock.now()
    common: dict[str, Any] = {"node_id": NodeId(config.node_id), "now": now, "pause": work.pause}
    return {
        "events": delete_old_events(work.writer, config.retention, config.media_dir, **common),
        "files": delete_old_media(work.writer, config.retention, config.media_dir, **common),
    }


def _history(work: Work) -> dict[str, Any]:
    now = work.clock.now()
    gone = delete_old_history(work.writer, work.config.retention, now=now, pause=work.pause)
    return {**gone, "runs": forget_runs(work.writer, now - timedelta(days=RUNS_DAYS))}


def _orphans(work: Work) -> dict[str, Any]:
    return {
        "files": delete_orphans(work.writer, work.config.media_dir, now=work.clock.now(), pause=work.pause),
        "cameras": delete_removed(work.writer, work.config, now=work.clock.now(), pause=work.pause),
    }


def _checkpoint(work: Work) -> dict[str, Any]:
    """Empties SQLite's write-ahead log into the file; one that a reader holds is emptied the next time."""
    if work.writer.dialect.name != "sqlite":
        return {}
    path = work.writer.url.database or ""
    with closing(sqlite3.connect(path, timeout=1.0)) as raw:
        busy, pages, moved = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        raw.execute("PRAGMA optimize")
    return {"busy": busy, "pages": pages, "moved": moved}


def _backup(work: Work) -> dict[str, Any]:
    """A verified copy of everything, and the oldest beyond those that are kept deleted."""
    folder = work.config.backups_dir
    file = folder / f"haetae-{work.clock.now():%Y-%m-%dT%H%M%SZ}.db"
    sums = backup(work.config.database_url, file, lambda *_: work.pause())
    made = sorted(path for path in folder.glob("haetae-*.db") if re.fullmatch(r"haetae-[\dT-]+Z\.db", path.name))
    for old in made[: -work.config.backup.keep]:
        old.unlink(missing_ok=True)
        log.info("backup_deleted", file=old.name)
    return {"file": file.name, "bytes": file.stat().st_size, "events": sums["events"].rows}
