"""HistoryOutbox: the sender's side of camera history's way to the logger."""

import time
from collections import deque
from typing import Any

import structlog
import zmq

from core.cameras.history import HistoryRecord
from core.wire.messages import Done, LoggerReply, LogHistory
from core.wire.rpc import RequestClient

__all__ = ["HistoryOutbox"]

log = structlog.get_logger()

RESEND_S = 2.0
"""How long an answer is awaited, and how long after a refusal it is tried again."""
KEPT = 5_000
"""Records that wait for the logger, at most; the oldest go first."""
TOGETHER = 100


class HistoryOutbox:
    """Sends records until the logger has them in its journal; used by one thread.

    Unlike events they are kept in memory only: what a process that dies had not sent yet is lost.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._client = RequestClient(context, endpoint, LoggerReply)
        self._waiting: deque[HistoryRecord] = deque()
        self._in_flight = 0
        self._not_before = 0.0
        self.dropped = 0

    def add(self, record: HistoryRecord) -> None:
        self._waiting.append(record)
        if len(self._waiting) > KEPT and not self._in_flight:
            self._waiting.popleft()
            self.dropped += 1

    def pump(self, timeout_s: float = 0.0) -> None:
        """Sends what waits and takes the answer that is there, waiting up to `timeout_s` for it."""
        if self._waiting and not self._in_flight and time.monotonic() >= self._not_before:
            records = [self._waiting[n] for n in range(min(TOGETHER, len(self._waiting)))]
            self._in_flight = len(records)
            self._client.send(LogHistory(records=records), RESEND_S)
        for _, reply in self._client.receive(timeout_s):
            if not isinstance(reply, Done) and reply.code != "timeout":
                self._not_before = time.monotonic() + RESEND_S
            if isinstance(reply, Done):
                for _ in range(self._in_flight):
                    self._waiting.popleft()
            elif reply.code == "bad_request":
                log.error("history_refused", reason=reply.message, records=self._in_flight)
                for _ in range(self._in_flight):
                    self._waiting.popleft()
                self.dropped += self._in_flight
            self._in_flight = 0

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self._client.close()
