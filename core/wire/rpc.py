"""Request and reply over ZeroMQ: every request gets exactly one reply, and no wait is for ever.

A message is two frames, header and body, both msgpack. Sockets belong to the thread that made them.
"""

import itertools
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import zmq

from core.errors import RemoteError, RequestTimeout, WireError
from core.wire.messages import ErrorReply, Message

__all__ = ["PROTOCOL", "Incoming", "RequestClient", "RequestServer", "ServerStatistics", "serve"]

log = structlog.get_logger()

PROTOCOL = 1
"""Raised when a message changes its meaning; both ends refuse another one."""

MAX_MESSAGE_BYTES = 8 << 20
HIGH_WATER = 256
"""Messages queued per peer before a sender is told to wait."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    protocol: int
    request_id: int
    deadline_ns: int
    """Monotonic clock of this machine; 0 in replies."""


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_Header)


class ServerStatistics(msgspec.Struct, frozen=True):
    """Counters since the start of one RequestServer."""

    received: int
    replied: int
    malformed: int
    failed: int
    """Answered with an error."""
    undeliverable: int
    """Replies whose asker was gone or did not read."""


class Incoming:
    """One request that waits for its reply; reply() or fail() it exactly once, later calls are ignored."""

    __slots__ = ("_server", "_peer", "_request_id", "_answered", "body", "deadline_ns")  # noqa: RUF023

    def __init__(self, server: "RequestServer", peer: bytes, header: _Header, body: Any) -> None:
        self._server = server
        self._peer = peer
        self._request_id = header.request_id
        self._answered = False
        self.body = body
        self.deadline_ns = header.deadline_ns

    def expired(self, now_ns: int) -> bool:
        """Whether the asker has given up by `now_ns` (monotonic)."""
        return self.deadline_ns > 0 and now_ns > self.deadline_ns

    def reply(self, body: Message) -> None:
        if not self._answered:
            self._answered = True
            self._server.send(self._peer, self._request_id, body)

    def fail(self, code: str, message: str) -> None:
        self.reply(ErrorReply(code=code, message=message))


class RequestServer:
    """The answering end of a conversation (ROUTER). One thread uses it."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, request_type: Any) -> None:
        """Binds `endpoint`; raises WireError where another process answers there already."""
        self._decoder = msgspec.msgpack.Decoder(request_type)
        self._received = self._replied = self._malformed = self._failed = self._undeliverable = 0
        _refuse_second_server(context, endpoint)
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        _limit(self.socket)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.SNDTIMEO, 0)
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.socket.close(0)
            raise WireError(
                f"cannot listen on {endpoint}: {error}", "is Haetae already running with this data folder?"
            ) from error

    def receive(self, timeout_s: float) -> list[Incoming]:
        """Waits up to `timeout_s` for a first request, then takes all that are there (at most 256).

        What cannot be decoded is counted, and answered with "bad_request" where its id can be read.
        """
        if not self.socket.poll(round(timeout_s * 1000)):
            return []
        taken: list[Incoming] = []
        while len(taken) < HIGH_WATER:
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            if incoming := self._decode(parts):
                taken.append(incoming)
        return taken

    def _decode(self, parts: list[bytes]) -> Incoming | None:
        self._received += 1
        try:
            peer, head, body = parts
            header = _header_decoder.decode(head)
        except (ValueError, msgspec.DecodeError) as error:
            self._malformed += 1
            log.warning("message_dropped", reason=str(error), parts=len(parts))
            return None
        incoming = Incoming(self, peer, header, None)
        if header.protocol != PROTOCOL:
            self._malformed += 1
            incoming.fail("bad_request", f"protocol {header.protocol}: this process speaks {PROTOCOL}")
            return None
        try:
            incoming.body = self._decoder.decode(body)
        except msgspec.DecodeError as error:
            self._malformed += 1
            incoming.fail("bad_request", str(error))
            return None
        return incoming

    def send(self, peer: bytes, request_id: int, body: Message) -> None:
        if isinstance(body, ErrorReply):
            self._failed += 1
        try:
            self.socket.send_multipart([peer, _encoder.encode(_Header(PROTOCOL, request_id, 0)), _encoder.encode(body)])
            self._replied += 1
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self._undeliverable += 1

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(self._received, self._replied, self._malformed, self._failed, self._undeliverable)

    def close(self) -> None:
        """Sends what is queued for up to half a second, then lets go of the address."""
        self.socket.close(500)


def serve(
    server: RequestServer,
    handler: Callable[[Any], Message],
    stop: Callable[[], bool],
    idle: Callable[[], None] = lambda: None,
    period_s: float = 0.2,
) -> None:
    """Answers requests with what `handler` returns until `stop()`; calls `idle` at least each `period_s`.

    A handler that raises answers with "internal" and never ends the loop.
    """
    while not stop():
        for incoming in server.receive(period_s):
            if incoming.expired(time.monotonic_ns()):
                incoming.fail("deadline", "the time allowed was over before work began")
                continue
            try:
                incoming.reply(handler(incoming.body))
            except Exception as error:
                log.exception("request_failed", request=type(incoming.body).__name__)
                incoming.fail("internal", f"{type(error).__name__}: {error}")
        idle()


class RequestClient:
    """The asking end of a conversation (DEALER). One thread uses it; connecting never waits."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, reply_type: Any) -> None:
        self._endpoint = endpoint
        self._decoder = msgspec.msgpack.Decoder(reply_type)
        self._ids = itertools.count(1)
        self._waiting: dict[int, int] = {}
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        _limit(self.socket)
        self.socket.setsockopt(zmq.SNDTIMEO, 0)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self.socket.connect(endpoint)

    def send(self, body: Message, timeout_s: float = 5.0) -> int:
        """Sends a request and returns its id; its reply, or its time-out, comes from receive().

        A request that does not fit into the queue is dropped here and reported as timed out.
        """
        request_id = next(self._ids)
        deadline_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        header = _Header(PROTOCOL, request_id, deadline_ns)
        try:
            self.socket.send_multipart([_encoder.encode(header), _encoder.encode(body)])
        except zmq.Again:
            deadline_ns = 0
        self._waiting[request_id] = deadline_ns
        return request_id

    def receive(self, timeout_s: float = 0.0) -> list[tuple[int, Any]]:
        """Replies that are there, after waiting up to `timeout_s` for a first one; time-outs as ErrorReply("timeout").

        Replies to requests that timed out earlier are dropped.
        """
        replies: list[tuple[int, Any]] = []
        give_up = time.monotonic() + timeout_s
        while True:
            replies += self._drain()
            replies += self._overdue()
            left = give_up - time.monotonic()
            if replies or left <= 0:
                return replies
            nearest = min(self._waiting.values(), default=0)
            until_deadline = (nearest - time.monotonic_ns()) / 1e9 if nearest else left
            self.socket.poll(max(1, round(min(left, until_deadline) * 1000)))

    def _drain(self) -> list[tuple[int, Any]]:
        replies: list[tuple[int, Any]] = []
        while True:
            try:
                head, body = self.socket.recv_multipart(zmq.NOBLOCK)
                header = _header_decoder.decode(head)
                if self._waiting.pop(header.request_id, None) is not None:
                    replies.append((header.request_id, self._decoder.decode(body)))
            except zmq.Again:
                return replies
            except (ValueError, msgspec.DecodeError) as error:
                log.warning("reply_dropped", endpoint=self._endpoint, reason=str(error))

    def _overdue(self) -> list[tuple[int, Any]]:
        now = time.monotonic_ns()
        over = [request_id for request_id, deadline in self._waiting.items() if deadline <= now]
        for request_id in over:
            del self._waiting[request_id]
        return [
            (request_id, ErrorReply(code="timeout", message=f"no reply from {self._endpoint}")) for request_id in over
        ]

    def call(self, body: Message, timeout_s: float = 5.0) -> Any:
        """Sends a request and waits for its reply; raises RequestTimeout or RemoteError.

        Not to be mixed with outstanding send()s: their replies would be dropped.
        """
        request_id = self.send(body, timeout_s)
        while True:
            for answered, reply in self.receive(timeout_s + 1):
                if answered != request_id:
                    continue
                if isinstance(reply, ErrorReply):
                    if reply.code == "timeout":
                        raise RequestTimeout(f"no answer within {timeout_s:g} s from {self._endpoint}")
                    raise RemoteError(reply.code, reply.message)
                return reply

    @property
    def waiting(self) -> int:
        """Requests without a reply so far."""
        return len(self._waiting)

    def close(self) -> None:
        self.socket.close(0)


def _limit(socket: "zmq.Socket[bytes]") -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)


def _refuse_second_server(context: zmq.Context[Any], endpoint: str) -> None:
    """An ipc path in use is unlinked and taken over by libzmq: find out first whether somebody listens."""
    if not endpoint.startswith("ipc://"):
        return
    path = Path(endpoint.removeprefix("ipc://"))
    if len(bytes(path)) > 107:
        raise WireError(f"the socket path is too long: {path}", "set paths.run to a folder with a short path")
    if not path.exists() or not stat.S_ISSOCK(path.lstat().st_mode):
        return
    with context.socket(zmq.DEALER) as probe:
        monitor = probe.get_monitor_socket(zmq.EVENT_CONNECTED)
        probe.setsockopt(zmq.LINGER, 0)
        probe.connect(endpoint)
        in_use = bool(monitor.poll(200))
        probe.disable_monitor()
    if in_use:
        raise WireError(f"{path} is in use", "is Haetae already running with this data folder?")
