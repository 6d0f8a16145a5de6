"""AsyncEventLogger: journal first, then the database in batches, by a thread that never loses and never gives up."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from core.config import LoggerConfig
from core.db.events import upsert_events
from core.db.history import upsert_history
from core.errors import DatabaseError
from core.events.journal import EventLogger, Journal, LogRecord
from core.events.model import AnomalyEvent

__all__ = ["AsyncEventLogger"]

log = structlog.get_logger()

BACKLOG_BATCH = 500
"""Rows per transaction while there is a backlog."""
RETRY_MAX_S = 10.0
_POISON = (DataError, IntegrityError, ValueError, OverflowError, TypeError)
"""What a database, its driver or a column says of a value that it never will take."""


class AsyncEventLogger(EventLogger):
    """An EventLogger whose lines are the journal's, and which commits them to a database behind the caller's back.

    A batch is committed as soon as `flush_events` are waiting or the last commit is `flush_s` ago: after a pause, at
    once. The thread reads what it commits from the journal, so memory is bounded and a restart is no special case.
    `prepare` (migrations) runs there first, until it succeeds. A database that is down, locked or full delays; a record
    that it refuses for what is in it is set aside in `rejected`, a JSON line with the reason.
    """

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        config: LoggerConfig,
        rejected: Path,
        prepare: Callable[[], None],
        on_commit: Callable[[list[tuple[int, AnomalyEvent]]], None] = lambda _: None,
    ) -> None:
        self._journal, self._engine, self._config, self._rejected = journal, engine, config, rejected
        self._prepare, self._on_commit = prepare, on_commit
        self._changed = threading.Condition()
        self._waiting = 0
        self._oldest = 0.0
        self._flushed = 0.0
        self._stopping = False
        self._position = journal.committed()
        self._caught_up = False
        self.committed = 0
        """Revisions committed since the start."""
        self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
        self._thread.start()

    def log_event(self, event: AnomalyEvent) -> None:
        """Returns once the event is safe on disk; raises OSError where it is not."""
        self.log_records([event])

    def log_records(self, records: Sequence[LogRecord]) -> None:
        """The same for several, of any kind, with one sync for all."""
        with self._changed:
            self._journal.append(records)
            if not self._waiting:
                self._oldest = time.monotonic()
            self._waiting += len(records)
            self._caught_up = False
            self._changed.notify_all()

    @property
    def lag_s(self) -> float:
        """How long the oldest record waits, or so; 0 where none does."""
        with self._changed:
            return time.monotonic() - self._oldest if self._waiting else 0.0

    @property
    def caught_up(self) -> bool:
        """Whether all that is in the journal is in the database."""
        return self._caught_up

    def expire(self, days: int) -> None:
        """Deletes journal files older than that, all of which is committed."""
        gone = self._journal.expire(days)
        if gone:
            log.info("journal_expired", files=gone)

    def close(self, timeout_s: float = 10.0) -> None:
        """Commits what is waiting, for up to `timeout_s`; the rest is read from the journal at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    # ---- the thread

    def _run(self) -> None:
        failures = 0
        prepared = False
        while not (self._stopping and self._caught_up):
            self._wait_for_batch()
            try:
                if not prepared:
                    self._prepare()
                    prepared = True
                self._flush()
                failures = 0
            except (DBAPIError, DatabaseError, OSError) as error:
                failures += 1
                log.error("flush_failed", failures=failures, reason=str(getattr(error, "orig", None) or error))
                if self._stopping:
                    return
                with self._changed:
                    self._changed.wait(min(RETRY_MAX_S, 0.1 * 2 ** min(failures, 20)))
            except Exception:
                log.exception("flush_failed")
                time.sleep(1)

    def _wait_for_batch(self) -> None:
        with self._changed:
            while not self._stopping and self._caught_up:
                self._changed.wait()
            while not self._stopping and 0 < self._waiting < self._config.flush_events:
                left = self._flushed + self._config.flush_s - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)

    def _flush(self) -> None:
        """Commits the next batch and remembers how far it got."""
        with self._changed:
            waiting = self._waiting
        limit = BACKLOG_BATCH if waiting == 0 or waiting > self._config.flush_events else self._config.flush_events
        records, position = self._journal.read(self._position, limit)
        if records:
            self._commit(records)
        if position != self._position:
            self._position = position
            self._journal.save_committed(position)
        with self._changed:
            self._waiting = max(0, self._waiting - len(records))
            self._oldest = self._flushed = time.monotonic()
            if not records:
                self._waiting = 0
                self._caught_up = self._journal.read(position, 1)[0] == []

    def _commit(self, records: Sequence[LogRecord]) -> None:
        try:
            with self._engine.begin() as connection:
                stored = upsert_events(connection, [one for one in records if isinstance(one, AnomalyEvent)])
                upsert_history(connection, [one for one in records if not isinstance(one, AnomalyEvent)])
        except (*_POISON, StatementError) as error:
            if not _is_poison(error):
                raise
            if len(records) == 1:
                self._set_aside(records[0], str(getattr(error, "orig", None) or error))
                return
            half = len(records) // 2
            self._commit(records[:half])
            self._commit(records[half:])
            return
        self.committed += len(stored)
        self._on_commit(stored)

    def _set_aside(self, record: LogRecord, reason: str) -> None:
        log.error("record_rejected", kind=type(record).__name__, id=getattr(record, "id", ""), reason=reason)
        line = msgspec.json.encode({"reason": reason, "record": record})
        with self._rejected.open("ab") as file:
            file.write(line + b"\n")
            os.fsync(file.fileno())


def _is_poison(error: Exception) -> bool:
    return isinstance(error, _POISON) or isinstance(
        getattr(error, "orig", None), (ValueError, OverflowError, TypeError)
    )
