"""Job runs: each period of a periodic job is done once, however many housekeepers there are."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, delete, func, or_, select, update

from core.clock import Clock, utc_iso
from core.db.engine import upsert
from core.db.tables import JobRunRow
from core.ids import NodeId

__all__ = ["claimed", "forget_runs", "last_done"]

RETRY_S = 60.0
"""A run that failed is tried again after so long."""


@contextmanager
def claimed(
    engine: Engine, job: str, period_s: int, *, node_id: NodeId, clock: Clock, lease_s: float
) -> Generator[dict[str, Any] | None]:
    """Claims the job's present period; None where it is done, or somebody else is at it.

    What is put into the given dictionary is kept with the run. An exception marks the run as failed, to be tried again
    by anyone after `RETRY_S`; the run of a process that died may be taken over after `lease_s`.
    """
    now = clock.now()
    period = int(now.timestamp()) // period_s
    if not _claim(engine, job, period, node_id, now, lease_s):
        yield None
        return
    detail: dict[str, Any] = {}
    try:
        yield detail
    except BaseException as error:
        _end(engine, job, period, "failed", clock.now(), RETRY_S, {"error": str(error)[:500]})
        raise
    _end(engine, job, period, "done", clock.now(), 0.0, detail)


def _claim(engine: Engine, job: str, period: int, node_id: NodeId, now: datetime, lease_s: float) -> bool:
    row = JobRunRow
    with engine.connect() as connection:
        known = connection.execute(select(row.state, row.lease_until).where(row.job == job, row.period == period))
        run = known.first()
    if run and (run.state == "done" or run.lease_until > utc_iso(now)):
        return False  # without having waited for any lock
    with engine.begin() as connection:
        statement = upsert(connection, row)
        names = ("node_id", "state", "started_at", "ended_at", "lease_until", "detail")
        statement = statement.on_conflict_do_update(
            index_elements=[row.job, row.period],
            set_={name: statement.excluded[name] for name in names},
            where=(row.state != "done") & (row.lease_until <= statement.excluded.started_at),
        ).returning(row.job)
        values: dict[str, Any] = {
            "job": job,
            "period": period,
            "node_id": node_id,
            "state": "running",
            "started_at": utc_iso(now),
            "ended_at": None,
            "lease_until": utc_iso(now + timedelta(seconds=lease_s)),
            "detail": {},
        }
        return connection.execute(statement, values).first() is not None


def _end(
    engine: Engine, job: str, period: int, state: str, now: datetime, hold_s: float, detail: dict[str, Any]
) -> None:
    ended = {"state": state, "ended_at": utc_iso(now), "detail": detail}
    with engine.begin() as connection:
        connection.execute(
            update(JobRunRow)
            .where(JobRunRow.job == job, JobRunRow.period == period)
            .values(**ended, lease_until=utc_iso(now + timedelta(seconds=hold_s)))
        )


def last_done(engine: Engine, job: str) -> str | None:
    """When the job was last begun that was done; RFC 3339 UTC."""
    query = select(func.max(JobRunRow.started_at)).where(JobRunRow.job == job, JobRunRow.state == "done")
    with engine.connect() as connection:
        return connection.execute(query).scalar()


def forget_runs(engine: Engine, before: datetime) -> int:
    """Deletes runs that began before; returns how many."""
    old = or_(JobRunRow.ended_at.is_not(None), JobRunRow.lease_until < utc_iso(before))
    with engine.begin() as connection:
        return connection.execute(delete(JobRunRow).where(JobRunRow.started_at < utc_iso(before), old)).rowcount
