"""Feeds: one process tells, any number listen; a hint and a live view, never the only way to know."""

from collections.abc import Iterable
from typing import Any

import msgspec
import structlog
import zmq

from core.errors import WireError
from core.wire.messages import Message

__all__ = ["FeedPublisher", "FeedSubscriber"]

log = structlog.get_logger()

HIGH_WATER = 1000
"""Messages kept for a slow subscriber; what is beyond is dropped, and missing from its sequence numbers."""


class FeedPublisher:
    """The telling end (XPUB). One thread uses it; publishing never waits."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close(0)
            raise WireError(f"cannot publish on {endpoint}: {error}") from error

    def publish(self, topic: str, message: Message, sequence: int = 0) -> None:
        parts = [topic.encode(), sequence.to_bytes(8), msgspec.msgpack.encode(message)]
        self.socket.send_multipart(parts, zmq.NOBLOCK)

    def close(self) -> None:
        self.socket.close(200)


class FeedSubscriber:
    """The listening end (SUB); `topics` are prefixes. Gaps in `sequence` tell what was missed."""

    def __init__(
        self, context: zmq.Context[Any], endpoint: str, message_type: Any, topics: Iterable[str] = ("",)
    ) -> None:
        self._decoder = msgspec.msgpack.Decoder(message_type)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        for topic in topics:
            self.socket.subscribe(topic)
        self.socket.connect(endpoint)

    def receive(self, timeout_s: float) -> list[tuple[str, int, Any]]:
        """(topic, sequence, message) of all that is there, after waiting up to `timeout_s` for a first one."""
        if not self.socket.poll(round(timeout_s * 1000)):
            return []
        taken: list[tuple[str, int, Any]] = []
        while True:
            try:
                topic, sequence, body = self.socket.recv_multipart(zmq.NOBLOCK)
                taken.append((topic.decode(), int.from_bytes(sequence), self._decoder.decode(body)))
            except zmq.Again:
                return taken
            except (ValueError, msgspec.DecodeError) as error:
                log.warning("feed_message_dropped", reason=str(error))

    def close(self) -> None:
        self.socket.close(0)
