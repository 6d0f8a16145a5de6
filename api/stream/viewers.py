"""Viewers: who holds a socket open, whether they still may, and how many there are."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
from anyio import to_thread
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect
from sqlalchemy.exc import DBAPIError

from api.guard import Principals, identify
from api.limits import RateLimiter
from api.problems import Refused
from api.services import Services
from api.stream.outlet import Outlet, framed, outlet_of
from core.clock import utc_iso
from core.errors import TokenRefused
from core.rest.stream import Goodbye, Heartbeat, Hello
from core.security.permissions import Need, Principal

__all__ = ["CODES", "HEARTBEAT_S", "Ended", "Viewer", "Viewers", "serve"]

log = structlog.get_logger()

HELLO_S = 5.0
RECHECK_S = 2.0
UNCHECKED_S = 60.0
"""While the database does not answer, nobody can be checked again; after so long nobody is trusted any more."""
HEARTBEAT_S = 10.0
UNREAD_BYTES = 4_000_000
"""What waits in a connection at most: several pictures, and answers to a client that asks and does not read."""
GRACE_S = 5.0
"""Whoever is told that a socket ends has so long to take note of it."""
MESSAGES_PER_S, MESSAGES_BURST = 50.0, 250.0
CODES = {
    "bad_message": 4400,
    "ticket_refused": 4401,
    "session_over": 4401,
    "forbidden": 4403,
    "too_slow": 4408,
    "too_many": 4429,
    "restarting": 1012,
    "unavailable": 1013,
}
"""Why a socket ends -> its close code."""


class Ended(Exception):
    """The socket ends, for this reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Viewer(Protocol):
    """Whoever watches: a socket, or a stream of pictures for another program."""

    principal: Principal

    def end(self, code: str, message: str) -> None:
        """It is over, for this reason."""
        ...

    def changed(self) -> None:
        """What `principal` may do or see is another than before."""
        ...


class Viewers:
    """All that is open; of one event loop. Whoever may no longer watch is ended within `RECHECK_S`."""

    def __init__(self, services: Services, principals: Principals) -> None:
        self._services, self._principals = services, principals
        self._open: dict[Viewer, tuple[str, Callable[[], Principal | None]]] = {}
        """Viewer -> (whose session or key, how to ask again)."""
        self._by_user: Counter[str] = Counter()
        self._due = asyncio.Event()
        self._checked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def add(self, viewer: Viewer, again: Callable[[], Principal | None]) -> None:
        """Raises Ended where this user has enough open."""
        principal = viewer.principal
        if not self.admits(principal):
            raise Ended("too_many", f"{principal.name} has {self._by_user[principal.user_id]} sockets open already")
        self._by_user[principal.user_id] += 1
        self._open[viewer] = f"{principal.user_id} {principal.session_id} {principal.key_id}", again
        if self._task is None:
            self._checked_at = time.monotonic()
            self._task = asyncio.create_task(self._recheck())
            self._principals.on_forget = partial(asyncio.get_running_loop().call_soon_threadsafe, self._due.set)

    def admits(self, principal: Principal) -> bool:
        """Whether this user may open one more."""
        return self._by_user[principal.user_id] < self._services.config.api.sockets_per_user

    def remove(self, viewer: Viewer) -> None:
        if self._open.pop(viewer, None):
            self._by_user[viewer.principal.user_id] -= 1

    async def _recheck(self) -> None:
        """Asks again for everybody, every so often and whenever accounts change."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK_S):
                    await self._due.wait()
            self._due.clear()
            try:
                await self._check_all()
                self._checked_at = time.monotonic()
            except DBAPIError as error:
                log.warning("viewers_not_checked", reason=str(error.orig))
                if time.monotonic() - self._checked_at > UNCHECKED_S:
                    for viewer in list(self._open):
                        viewer.end("unavailable", "the database does not answer: nobody's rights can be checked")
            except Exception:
                log.exception("viewers_not_checked")

    async def _check_all(self) -> None:
        asked: dict[str, Principal | None] = {}
        for mark, again in list(self._open.values()):
            if mark not in asked:
                asked[mark] = await to_thread.run_sync(again)
        for viewer, (mark, _) in list(self._open.items()):
            if mark not in asked or viewer not in self._open:
                continue  # it came, or went, meanwhile
            principal = asked[mark]
            if principal is None:
                viewer.end("session_over", "you are logged out")
            elif principal != viewer.principal:
                viewer.principal = principal
                try:
                    viewer.changed()
                except Exception:  # it might go on with what was granted before
                    log.exception("viewer_not_changed", user=principal.name)
                    viewer.end("unavailable", "what you may see now cannot be found out: come again")

    def end_all(self, code: str, message: str) -> None:
        for viewer in list(self._open):
            viewer.end(code, message)

    async def close(self) -> None:
        self.end_all("restarting", "the server stops")
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None


class SocketViewer:
    """One WebSocket: base of those for events and for frames."""

    def __init__(self, connection: Any, outlet: Outlet, principal: Principal) -> None:
        self.connection, self.outlet, self.principal = connection, outlet, principal
        self.services: Services = connection.app.state.services
        self.skipped = 0
        self._ended = False

    def send(self, message: msgspec.Struct) -> None:
        """Pushes it out, room or not: for what is small and seldom. Whoever never reads it is told, and let go."""
        if self.outlet.waiting_bytes > UNREAD_BYTES and not self._ended:
            self.end("too_slow", "too much waited to be read")
            return
        self.outlet.push(framed(msgspec.json.encode(message), text=True))

    def end(self, code: str, message: str) -> None:
        """Tells, says good-bye and, where nobody listens, hangs up."""
        if not self._ended:
            self._ended = True
            self.send(Goodbye(code=code, message=message))
            self.outlet.end(CODES[code], code, GRACE_S)

    def changed(self) -> None:
        """What may be seen is another."""

    def heartbeat(self) -> Heartbeat:
        skipped, self.skipped = self.skipped, 0
        return Heartbeat(at=utc_iso(self.services.clock.now()), skipped=skipped)

    def beat(self) -> None:
        self.send(self.heartbeat())

    def room(self) -> None:
        """The outlet has room again."""

    async def opened(self, hello: Hello) -> None:
        """After it was let in."""

    def received(self, message: Any) -> None:
        """A message of the client's, not the first."""

    def closed(self) -> None:
        """It is gone."""


def _same_site(socket: WebSocket[Any, Any, Any], origins: tuple[str, ...]) -> bool:
    """Browsers say which page asks; other programs do not, and cannot be lured by one."""
    origin = socket.headers.get("origin")
    if origin is None or origin in origins:
        return True
    page = urlsplit(origin)
    secure = socket.scope["scheme"] in {"wss", "https"}
    return page.scheme == ("https" if secure else "http") and page.netloc == socket.headers.get("host", "")


async def serve(
    socket: WebSocket[Any, Any, Any],
    viewers: Viewers,
    principals: Principals,
    need: Need,
    make: Callable[[Any, Outlet, Principal], SocketViewer],
    messages: Any,
) -> None:
    """Lets a client in, hears what it says until it is gone, and tells it why where it may not stay.

    `messages` is the union of what it may say after its Hello.
    """
    services: Services = socket.app.state.services
    if not _same_site(socket, services.config.api.origins):
        await socket.close(CODES["forbidden"], "this page may not")
        return
    outlet = outlet_of(socket.scope)
    try:
        by_header = await identify(socket, media=False)
    except Refused:
        await socket.close(CODES["ticket_refused"])
        return
    await socket.accept()
    viewer: SocketViewer | None = None
    beating: asyncio.Task[None] | None = None
    try:
        hello = await _hello(socket)
        principal = by_header or await _of_ticket(services, principals, hello.ticket)
        if not principal.may(need):
            raise Ended("forbidden", "this role or key may not")
        socket.scope["user"] = principal
        viewer = make(socket, outlet, principal)
        header = socket.headers.get("authorization", "")
        secret = header.partition(" ")[2].strip() if principal.key_id else ""
        again = partial(principals.of_key, secret) if secret else partial(principals.of_session, principal)
        viewers.add(viewer, again)
        outlet.on_room = viewer.room
        await viewer.opened(hello)
        beating = asyncio.create_task(_beat(viewer))
        hear = partial(_hear, viewer, RateLimiter(MESSAGES_PER_S, MESSAGES_BURST, time.monotonic), _decoder(messages))
        while True:
            if outlet.queue.empty():
                outlet.on_text = hear  # what waited in the queue was heard first
            hear(await _receive(socket))
    except WebSocketDisconnect:
        pass
    except Ended as ended:
        (viewer or SocketViewer(socket, outlet, _NOBODY)).end(ended.code, ended.message)
    finally:
        outlet.on_room = outlet.on_text = None
        if beating:
            beating.cancel()
        if viewer:
            viewers.remove(viewer)
            viewer.closed()


_NOBODY: Any = None


@cache
def _decoder(messages: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(messages)


def _hear(viewer: SocketViewer, limiter: RateLimiter, decoder: msgspec.json.Decoder[Any], text: str | bytes) -> None:
    """One message; whoever says what is not understood, or too much, is ended."""
    if limiter.take("") > 0:
        viewer.end("too_many", "too many messages at once")
        return
    try:
        viewer.received(decoder.decode(text))
    except msgspec.DecodeError as error:
        viewer.end("bad_message", str(error))


async def _beat(viewer: SocketViewer) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        viewer.beat()


async def _receive(socket: WebSocket[Any, Any, Any]) -> str:
    event: Any = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(detail="gone", code=event.get("code", 1000))
    text = event.get("text")
    if text is None:
        raise Ended("bad_message", "messages are JSON, as text")
    return text


async def _hello(socket: WebSocket[Any, Any, Any]) -> Hello:
    try:
        async with asyncio.timeout(HELLO_S):
            text = await _receive(socket)
        return msgspec.json.decode(text, type=Hello)
    except TimeoutError as error:
        raise Ended("ticket_refused", f"the first message did not come within {HELLO_S:g} s") from error
    except msgspec.DecodeError as error:
        raise Ended("bad_message", f"the first message is hello: {error}") from error


async def _of_ticket(services: Services, principals: Principals, ticket: str) -> Principal:
    """Whoever it was given to, as they are now: grants may have gone since, and the session with them."""
    try:
        given = services.tickets.use(ticket)
        principal = await to_thread.run_sync(principals.of_session, given)
    except TokenRefused as error:
        raise Ended("ticket_refused", str(error)) from error
    except DBAPIError as error:
        log.warning("ticket_not_checked", reason=str(error.orig))
        raise Ended("unavailable", "the database does not answer: come again") from error
    if principal is None:
        raise Ended("session_over", "you are logged out")
    return principal
