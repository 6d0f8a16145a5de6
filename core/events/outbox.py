"""EventOutbox: the sender's side of an event's way to the logger; what is not acknowledged stays on disk."""

import errno
import os
import time
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog
import zmq

from core.clock import utc_iso
from core.config import Config
from core.events.model import AnomalyEvent
from core.ids import CameraId
from core.wire.messages import Done, ErrorReply, InterruptOpen, LogEvents, LoggerReply
from core.wire.rpc import RequestClient

__all__ = ["EventOutbox"]

log = structlog.get_logger()

RESEND_S = 1.0
"""How long an answer is awaited, and how long after a refusal it is tried again."""
TOGETHER = 64
"""Events in one message at most."""
SPARE_LINES = 1_000
"""Lines of the spool beyond those that are needed, at which it is written anew."""


class EventOutbox:
    """Sends a camera's events, in their order, until the logger acknowledges them; used by one thread.

    An event is in the spool file before log_event() returns, so it survives this process's death: the next one for
    the same camera sends it. Of an event that is not acknowledged yet only the newest revision is kept.
    One message is under way at a time. With several, one that is lost with its receiver would come after those that
    were sent later.
    """

    def __init__(self, context: zmq.Context[Any], config: Config, camera_id: CameraId) -> None:
        self._camera_id = camera_id
        self._limit = config.logger.spool_events
        self._client = RequestClient(context, config.endpoint("logger"), LoggerReply)
        self._waiting: OrderedDict[str, AnomalyEvent] = OrderedDict()
        self._flight: list[AnomalyEvent] = []
        self._interrupt: InterruptOpen | None = None
        self._request = 0
        """Of the message under way; 0 where there is none."""
        self._not_before = 0.0
        self._together = TOGETHER
        self._rejected = config.spool_dir / f"{camera_id}.rejected"
        self.dropped = 0
        """Events given up because the spool was full: the logger was away for very long."""
        self._spool = _Spool(config.spool_dir / f"{camera_id}.jsonl")
        for event in self._spool.read():
            self._waiting[event.id] = event
        if self._waiting:
            log.info("spool_found", events=len(self._waiting))

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        return self._client.socket

    @property
    def pending(self) -> int:
        """Events that are not acknowledged yet."""
        return len(self._waiting)

    def log_event(self, event: AnomalyEvent) -> None:
        """Takes an event to be sent; never waits for the logger."""
        self._waiting[event.id] = event
        while len(self._waiting) > self._limit:
            lost, _ = self._waiting.popitem(last=False)
            self.dropped += 1
            log.error("event_dropped", event_id=lost, reason="the spool is full", limit=self._limit)
        try:
            self._spool.add(event)
            if self._spool.lines > 2 * len(self._waiting) + SPARE_LINES:
                self._spool.rewrite(list(self._waiting.values()))
        except OSError as error:
            log.error("spool_not_written", event_id=event.id, reason=error.strerror)
        self.pump()

    def interrupt_open(self) -> None:
        """Has the logger close what a predecessor left open, after what its spool held."""
        self._interrupt = InterruptOpen(camera_id=self._camera_id, before=utc_iso(datetime.now(UTC)))

    def pump(self, timeout_s: float = 0.0) -> None:
        """Sends what can be sent and takes the answer that is there, waiting up to `timeout_s` for it."""
        self._send()
        for request_id, reply in self._client.receive(timeout_s):
            if request_id == self._request:
                self._request = 0
                self._answered(reply)
        self._send()

    def _send(self) -> None:
        if self._request or time.monotonic() < self._not_before:
            return
        if self._interrupt and not any(event.began_at < self._interrupt.before for event in self._waiting.values()):
            self._flight = []
            self._request = self._client.send(self._interrupt, RESEND_S)
        elif self._waiting:
            events = iter(self._waiting.values())
            self._flight = [event for event, _ in zip(events, range(self._together), strict=False)]
            self._request = self._client.send(LogEvents(events=self._flight), RESEND_S)

    def _answered(self, reply: Done | ErrorReply) -> None:
        flight, self._flight = self._flight, []
        if isinstance(reply, Done):
            self._together = TOGETHER
            if not flight:
                self._interrupt = None
            for event in flight:
                self._acknowledged(event.id, event.revision)
            return
        if reply.code != "timeout":
            self._not_before = time.monotonic() + RESEND_S
            log.warning("events_refused", code=reply.code, reason=reply.message, events=len(flight))
        if reply.code == "bad_request" and flight:
            self._not_before = 0.0
            self._together = max(1, len(flight) // 2)  # until the one that cannot be sent is by itself
            if len(flight) == 1:
                self._set_aside(flight[0], reply.message)

    def _acknowledged(self, key: str, revision: int) -> None:
        event = self._waiting.get(key)
        if event and event.revision <= revision:
            del self._waiting[key]
        if not self._waiting:
            self._spool.clear()

    def _set_aside(self, event: AnomalyEvent, reason: str) -> None:
        """What the logger cannot read it never will: it must not keep the others waiting."""
        log.error("event_rejected", event_id=event.id, reason=reason)
        try:
            with self._rejected.open("ab") as file:
                file.write(msgspec.json.encode({"reason": reason, "record": event}) + b"\n")
        except OSError as error:
            log.error("rejected_not_written", event_id=event.id, reason=error.strerror)
        self._acknowledged(event.id, event.revision)

    def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is not acknowledged; the rest stays in the spool."""
        give_up = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < give_up:
            self.pump(0.1)
        if self._waiting:
            log.warning("spool_left", events=len(self._waiting))
        self._spool.close()
        self._client.close()


class _Spool:
    """A file of JSON lines; whatever is torn is cut off, so that it cannot spoil what comes after it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = self._open()
        self.lines = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read(self) -> list[AnomalyEvent]:
        """What is in it, in order; a last line torn by the death of its writer was not announced either."""
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.ftruncate(self._fd, whole)
        events: list[AnomalyEvent] = []
        for line in data[:whole].splitlines():
            self.lines += 1
            try:
                events.append(msgspec.json.decode(line, type=AnomalyEvent))
            except msgspec.DecodeError as error:
                log.warning("spool_line_damaged", reason=str(error))
        return events

    def add(self, event: AnomalyEvent) -> None:
        """Appends one; raises OSError, with nothing added, where the disk does not take it."""
        line = msgspec.json.encode(event) + b"\n"
        size = os.fstat(self._fd).st_size
        if os.write(self._fd, line) != len(line):
            os.ftruncate(self._fd, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.lines += 1

    def rewrite(self, events: list[AnomalyEvent]) -> None:
        """Only these from now on; raises OSError, with the old file in place, where the disk does not take them."""
        aside = self._path.with_suffix(".part")
        try:
            aside.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
            aside.replace(self._path)
        finally:
            aside.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = self._open()
        self.lines = len(events)

    def clear(self) -> None:
        os.ftruncate(self._fd, 0)
        self.lines = 0

    def close(self) -> None:
        os.close(self._fd)
