"""CommittedEvents: every change of an event, in the order of the commits, from where a subscriber left off."""

import time
from typing import Any

import structlog
import zmq
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from core.db.events import StoredEvent, events_after
from core.wire.feeds import FeedSubscriber
from core.wire.messages import Committed

__all__ = ["CommittedEvents"]

log = structlog.get_logger()

POLL_S = 1.0
"""How long a change can go unseen that the logger did not tell of: another machine's, or a person's."""
PAGE = 500


class CommittedEvents:
    """Reads the database whenever the logger's feed says that there is something new, and now and then by itself.

    Used by one thread. Whoever keeps `sequence` and begins with it again misses nothing, however long it was away;
    an event that changed several times meanwhile comes once, as it is now.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str, engine: Engine, after: int) -> None:
        self._feed = FeedSubscriber(context, endpoint, Committed)
        self._engine = engine
        self._read_at = 0.0
        self._more = True
        self.sequence = after
        """Of the last change that was handed out."""

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """To be polled with others; readable where there is something to receive."""
        return self._feed.socket

    def receive(self, timeout_s: float) -> list[StoredEvent]:
        """What changed, at most 500 events at a time, after waiting up to `timeout_s` for a first change.

        A database that is away is logged, and asked again at the next call.
        """
        give_up = time.monotonic() + timeout_s
        while True:
            left = max(0.0, give_up - time.monotonic())
            until_poll = max(0.0, self._read_at + POLL_S - time.monotonic())
            told = self._feed.receive(0.0 if self._more else min(left, until_poll))
            if told or self._more or time.monotonic() >= self._read_at + POLL_S:
                found = self._read()
                if found:
                    return found
            if time.monotonic() >= give_up:
                return []

    def _read(self) -> list[StoredEvent]:
        self._read_at = time.monotonic()
        try:
            found = events_after(self._engine, self.sequence, PAGE)
        except DBAPIError as error:
            log.warning("events_not_read", reason=str(error.orig))
            self._more = False
            return []
        self._more = len(found) == PAGE
        if found:
            self.sequence = found[-1].sequence
        return found

    def close(self) -> None:
        self._feed.close()
