"""The logger process: takes events, acknowledges them once they are in the journal, tells what was committed."""

import contextlib
import os
import sys
import time
from collections import deque
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
import zmq
from sqlalchemy.exc import DBAPIError

from core.clock import utc_iso
from core.config import Config
from core.db import make_engine, upgrade
from core.db.events import open_events
from core.errors import DatabaseError, WireError
from core.events import AnomalyEvent, EventState
from core.events.journal import Journal, LogRecord
from core.heartbeat import Heartbeat
from core.ids import uuid7
from core.metrics import MetricsFile, Sample, counter, gauge
from core.wire.feeds import FeedPublisher
from core.wire.messages import Committed, Done, InterruptOpen, LogEvents, LoggerRequest, LogHistory, Ping, Pong
from core.wire.rpc import Incoming, RequestServer
from workers.logger.event_logger import AsyncEventLogger
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["LoggerProcess", "main"]

log = structlog.get_logger()

PERIOD_S = 0.5
EXPIRE_EVERY_S = 3600.0
"""How often old journal files are looked for."""


class LoggerProcess:
    """The sockets around an AsyncEventLogger; all methods belong to one thread."""

    def __init__(self, context: zmq.Context[Any], config: Config) -> None:
        self._server = RequestServer(context, config.endpoint("logger"), LoggerRequest)
        self._feed = FeedPublisher(context, config.endpoint("logger-feed"))
        self._committed: deque[tuple[int, AnomalyEvent]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        self._poller.register(self._server.socket, zmq.POLLIN)
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._reader = make_engine(config.database_url)
        self._logger = AsyncEventLogger(
            Journal(config.journal_dir),
            make_engine(config.database_url, writer=True),
            config.logger,
            config.journal_dir / "rejected.jsonl",
            prepare=lambda: upgrade(config.database_url),
            on_commit=self._on_commit,
        )
        self._journal_days = config.logger.journal_days
        self._expire_at = 0.0
        self._interrupts: list[Incoming] = []
        self._pong = Pong(pid=0, instance=str(uuid7()))
        self.acknowledged = 0

    def _on_commit(self, stored: list[tuple[int, AnomalyEvent]]) -> None:
        """In the thread that commits."""
        self._committed.extend(stored)
        os.eventfd_write(self._wake_fd, 1)

    def step(self) -> None:
        """Answers what is there, waiting a moment for it, and tells what was committed."""
        self._poller.poll(round(PERIOD_S * 1000))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        taken = self._server.receive(0)
        self._journal([incoming for incoming in taken if isinstance(incoming.body, LogEvents | LogHistory)])
        for incoming in taken:
            if isinstance(incoming.body, Ping):
                incoming.reply(self._pong)
            elif isinstance(incoming.body, InterruptOpen):
                self._interrupts.append(incoming)
        if self._interrupts and self._logger.caught_up:
            self._interrupt()
        if time.monotonic() >= self._expire_at and self._logger.caught_up:
            self._expire_at = time.monotonic() + EXPIRE_EVERY_S
            self._logger.expire(self._journal_days)
        while self._committed:
            sequence, event = self._committed.popleft()
            self._feed.publish(event.camera_id, Committed(event=event), sequence)

    def _journal(self, requests: list[Incoming]) -> None:
        if not requests:
            return
        records: list[LogRecord] = []
        for incoming in requests:
            body: LogEvents | LogHistory = incoming.body
            records += body.events if isinstance(body, LogEvents) else body.records
        try:
            self._logger.log_records(records)
        except OSError as error:
            log.error("journal_not_written", reason=error.strerror, records=len(records))
            for incoming in requests:
                incoming.fail("journal_full", f"the journal cannot be written: {error.strerror}")
            return
        for incoming in requests:
            incoming.reply(Done())
        self.acknowledged += len(records)

    def _interrupt(self) -> None:
        """Ends what dead camera processes left open, through the journal like all else."""
        requests, self._interrupts = self._interrupts, []
        for incoming in requests:
            request: InterruptOpen = incoming.body
            try:
                left = [
                    event for event in open_events(self._reader, request.camera_id) if event.began_at < request.before
                ]
                if left:
                    self._logger.log_records([_interrupted(event) for event in left])
                    log.warning("events_interrupted", camera_id=request.camera_id, events=len(left))
                incoming.reply(Done())
            except (DBAPIError, OSError) as error:
                incoming.fail("unavailable", f"cannot end open events now: {error}")

    def samples(self) -> list[Sample]:
        """The logger in figures."""
        lag_s, behind = self._logger.lag_s, not self._logger.caught_up
        return [
            counter("journal_records", "Records acknowledged, events and history.", self.acknowledged),
            gauge("journal_behind", "1 while the journal holds what the database has not.", behind),
            gauge("journal_lag_seconds", "How long the oldest record waits for the database.", lag_s),
        ]

    def close(self) -> None:
        """Commits what is waiting and lets go of the addresses."""
        self._logger.close()
        self.step()
        self._feed.close()
        self._server.close()
        os.close(self._wake_fd)


def _interrupted(event: AnomalyEvent) -> AnomalyEvent:
    """The event ended at the last moment that is known of it."""
    ended_at = datetime.fromisoformat(event.began_at) + timedelta(seconds=event.end_s - event.begin_s)
    return msgspec.structs.replace(
        event, state=EventState.INTERRUPTED, revision=event.revision + 1, ended_at=utc_iso(ended_at)
    )


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM; exit code 78 where another logger serves this data folder."""
    stop = StopFlag()
    _, config = parse_role_args("logger", argv)
    context: zmq.Context[Any] = zmq.Context()
    try:
        process = LoggerProcess(context, config)
    except (DatabaseError, WireError) as error:
        return fail(error)
    heartbeat = Heartbeat(config.run_dir, "logger")
    metrics = MetricsFile(config.run_dir, "logger")
    log.info("logger_ready")
    begun = time.monotonic()
    while not stop.is_set():
        process.step()
        heartbeat.beat("running", process.acknowledged)
        if metrics.due:
            metrics.write(process.samples())
    process.close()
    metrics.close()
    heartbeat.close()
    context.term()
    log.info("logger_stopped", acknowledged=process.acknowledged, seconds=round(time.monotonic() - begun, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
