"""Outlet: a WebSocket connection that takes bytes which are ready for the wire, and tells when it is full.

ASGI has no word for either: a message waits until the connection has room, and is framed for each connection anew.
Here one message is framed once for all who get it, and whoever sends never waits: a connection that has no room says
so, and again when it has.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from api.problems import Refused

__all__ = ["Outlet", "framed", "outlet_of"]

EXTENSION = "haetae.outlet"


def framed(*parts: bytes, text: bool = False) -> bytes:
    """A whole message as a server sends it (RFC 6455, section 5.2): not masked, binary unless it is `text`."""
    size = sum(map(len, parts))
    if size < 126:
        head = size.to_bytes(1)
    elif size < 65_536:
        head = b"\x7e" + size.to_bytes(2)
    else:
        head = b"\x7f" + size.to_bytes(8)
    return b"".join((b"\x81" if text else b"\x82", head, *parts))


class Outlet(WebSocketsSansIOProtocol):
    """Uvicorn's connection with another way out; of one event loop."""

    on_room: Callable[[], None] | None = None
    """Called when there is room again after there was none."""
    on_text: Callable[[bytes], None] | None = None
    """Where it is set, it is called with whole text messages as they come, past ASGI: a credit for each frame or two
    is most of what many viewers say, and four fifths of its cost were queues and pausing.
    """

    def handle_text(self, event: Frame) -> None:
        if self.on_text and event.fin:
            if not self.close_sent:
                self.on_text(bytes(event.data))
        else:
            super().handle_text(event)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"] = {**(self.scope["extensions"] or {}), EXTENSION: self}  # type: ignore[dict-item]

    @property
    def is_open(self) -> bool:
        return self.handshake_complete and not self.close_sent and self.conn.state is State.OPEN

    @property
    def has_room(self) -> bool:
        """False while more than the transport's high-water mark waits to be read by the other side."""
        return self.writable.is_set()

    @property
    def waiting_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def push(self, message: bytes) -> None:
        """Writes what `framed` made; without room it waits in memory, so that it is the caller who looks first."""
        if self.is_open and not self.transport.is_closing():
            self.transport.write(message)

    def end(self, code: int, reason: str, grace_s: float) -> None:
        """Says good-bye after what was pushed; whoever does not answer within `grace_s` is cut off."""
        if self.is_open and not self.transport.is_closing():
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            if self.read_paused:
                self.read_paused = False
                self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(grace_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_room:
            self.on_room()


def outlet_of(scope: Any) -> Outlet:
    """The connection of a WebSocket's scope; raises Refused under another server than ours."""
    outlet = scope["extensions"].get(EXTENSION)
    if not isinstance(outlet, Outlet):
        raise Refused(503, "unavailable", "streams need the server that haetae api starts")
    return outlet
