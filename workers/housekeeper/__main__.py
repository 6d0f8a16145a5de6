"""The housekeeper process: does each job once a period, alone or among several housekeepers."""

import sys
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from core.clock import Clock, SystemClock
from core.config import Config
from core.db import make_engine
from core.db.jobs import claimed
from core.db.transfer import known_revisions, revision_of
from core.errors import DatabaseError, HaetaeError
from core.heartbeat import Heartbeat
from core.ids import NodeId
from core.metrics import MetricsFile, Sample, counter
from workers.housekeeper.jobs import Job, Work, jobs
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["Housekeeper", "main"]

log = structlog.get_logger()

TURN_S = 1.0
LEASE_S = 600.0
"""A job that a dead housekeeper left may be taken over after so long."""
PAUSE_S = 0.02
"""Between two slices of a job: the logger's turn."""


class Stopped(Exception):
    """SIGTERM came in the middle of a job: it is tried again by whoever is next."""


class Housekeeper:
    """Tries each job whose period has begun; a database that is away is tried again later."""

    def __init__(self, config: Config, clock: Clock, pause: Callable[[], None]) -> None:
        self._config, self._clock = config, clock
        self._writer = make_engine(config.database_url, writer=True)
        self._jobs = jobs(config)
        self._done: dict[str, int] = {}
        """The period that is known to be settled, by job."""
        self._not_before = 0.0
        self._ready = False
        self._work = Work(config, self._writer, clock, pause)
        self.runs = 0
        self.failures = 0

    def turn(self) -> None:
        """Does what is due."""
        if self._clock.monotonic() < self._not_before:
            return
        try:
            if not self._ready:
                self._ready = revision_of(self._writer) == known_revisions()[0]
                if not self._ready:
                    self._not_before = self._clock.monotonic() + TURN_S
                    return
            for job in self._jobs:
                self._try(job)
        except (DBAPIError, DatabaseError) as error:
            self.failures += 1
            self._not_before = self._clock.monotonic() + 5.0
            log.error("housekeeping_delayed", reason=str(getattr(error, "orig", None) or error))

    def _try(self, job: Job) -> None:
        period = int(self._clock.now().timestamp()) // job.period_s
        if self._done.get(job.name) == period:
            return
        name = f"{job.name}@{self._config.node_id}" if job.everywhere else job.name
        node_id = NodeId(self._config.node_id)
        begun = time.monotonic()
        try:
            with claimed(
                self._writer, name, job.period_s, node_id=node_id, clock=self._clock, lease_s=LEASE_S
            ) as detail:
                if detail is None:
                    return
                detail.update(job.run(self._work))
                self.runs += 1
                took_s = round(time.monotonic() - begun, 3)
                detail["took_s"] = took_s
            self._done[job.name] = period
            log.info("job_done", job=name, **detail)
        except (DBAPIError, Stopped):
            raise
        except (HaetaeError, OSError) as error:
            self.failures += 1
            log.error("job_failed", job=name, reason=str(error))
        except Exception:
            self.failures += 1
            log.exception("job_failed", job=name)

    def samples(self) -> list[Sample]:
        return [
            counter("jobs_done", "Jobs of the housekeeper that were done.", self.runs),
            counter("jobs_failed", "Jobs of the housekeeper that failed, and are tried again.", self.failures),
        ]

    def close(self) -> None:
        self._writer.dispose()


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM."""
    stop = StopFlag()
    _, config = parse_role_args("housekeeper", argv)
    heartbeat = Heartbeat(config.run_dir, "housekeeper")
    metrics = MetricsFile(config.run_dir, "housekeeper")

    def pause() -> None:
        heartbeat.beat("working")
        if stop.wait(PAUSE_S):
            raise Stopped

    try:
        housekeeper = Housekeeper(config, SystemClock(), pause)
    except DatabaseError as error:
        return fail(error)
    log.info("housekeeper_ready")
    while not stop.is_set():
        try:
            housekeeper.turn()
        except Stopped:
            break
        heartbeat.beat("running", housekeeper.runs)
        if metrics.due:
            metrics.write(housekeeper.samples())
        stop.wait(TURN_S)
    housekeeper.close()
    metrics.close()
    heartbeat.close()
    log.info("housekeeper_stopped", runs=housekeeper.runs, failures=housekeeper.failures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
