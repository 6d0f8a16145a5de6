"""EventOutbox: the sender's side of an event's way to the logger; what is not acknowledged stays on disk."""

import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
import zmq

from core.clock import utc_iso
from core.config import Config
from core.events.model import AnomalyEvent
from core.ids import CameraId
from core.wire.messages import Done, EventAck, InterruptOpen, LogEvent, LoggerReply
from core.wire.rpc import RequestClient

__all__ = ["EventOutbox"]

log = structlog.get_logger()

RESEND_S = 1.0
IN_FLIGHT = 64
"""Messages sent and not acknowledged at most; the others wait their turn."""


class EventOutbox:
    """Sends a camera's events until the logger acknowledges them; used by one thread.

    An event is in the spool file before log_event() returns, so it survives this process's death: the next one for
    the same camera sends it. Of an event that is not acknowledged yet only the newest revision is kept.
    """

    def __init__(self, context: zmq.Context[Any], config: Config, camera_id: CameraId) -> None:
        self._camera_id = camera_id
        self._limit = config.logger.spool_events
        self._client = RequestClient(context, config.endpoint("logger"), LoggerReply)
        self._sent: dict[int, tuple[str, int]] = {}
        self._waiting: OrderedDict[str, AnomalyEvent] = OrderedDict()
        self._interrupt: InterruptOpen | None = None
        self._path = config.spool_dir / f"{camera_id}.jsonl"
        self.dropped = 0
        """Events given up because the spool was full: the logger was away for very long."""
        self._load()
        self._file = self._path.open("ab", buffering=0)

    def _load(self) -> None:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                event = msgspec.json.decode(line, type=AnomalyEvent)
            except msgspec.DecodeError:
                continue  # torn by the death of its writer: it was not announced either
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
        try:
            self._file.write(msgspec.json.encode(event) + b"\n")
        except OSError as error:
            log.error("spool_not_written", event_id=event.id, reason=str(error))
        self._waiting[event.id] = event
        while len(self._waiting) > self._limit:
            lost, _ = self._waiting.popitem(last=False)
            self.dropped += 1
            log.error("event_dropped", event_id=lost, reason="the spool is full", limit=self._limit)
        self.pump()

    def interrupt_open(self) -> None:
        """Has the logger close what a predecessor left open, after what its spool held."""
        self._interrupt = InterruptOpen(camera_id=self._camera_id, before=utc_iso(datetime.now(UTC)))

    def pump(self, timeout_s: float = 0.0) -> None:
        """Sends what can be sent and takes the acknowledgements that are there, waiting up to `timeout_s` for one."""
        self._send()
        for request_id, reply in self._client.receive(timeout_s):
            key, revision = self._sent.pop(request_id, ("", 0))
            if isinstance(reply, EventAck):
                self._acknowledged(key, revision)
            elif isinstance(reply, Done):
                self._interrupt = None
            elif reply.code != "timeout":
                log.warning("event_refused", code=reply.code, reason=reply.message)
        self._send()

    def _send(self) -> None:
        flying = {key for key, _ in self._sent.values()}
        for key, event in self._waiting.items():
            if len(flying) >= IN_FLIGHT:
                return
            if key not in flying:
                flying.add(key)
                self._sent[self._client.send(LogEvent(event=event), RESEND_S)] = (key, event.revision)
        if self._interrupt and "" not in flying and not any(self._is_old(event) for event in self._waiting.values()):
            self._sent[self._client.send(self._interrupt, RESEND_S)] = ("", 0)

    def _is_old(self, event: AnomalyEvent) -> bool:
        return self._interrupt is not None and event.began_at < self._interrupt.before

    def _acknowledged(self, key: str, revision: int) -> None:
        event = self._waiting.get(key)
        if event and event.revision <= revision:
            del self._waiting[key]
        if not self._waiting:
            self._file.truncate(0)

    def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is not acknowledged; the rest stays in the spool."""
        give_up = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < give_up:
            self.pump(0.1)
        if self._waiting:
            log.warning("spool_left", events=len(self._waiting))
        self._file.close()
        self._client.close()
