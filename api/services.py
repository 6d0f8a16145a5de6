"""What handlers work with: databases, keys, the other processes; made once, closed once."""

import asyncio
import contextvars
import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog
import zmq
from litestar import Request
from sqlalchemy import Connection, select

from api.limits import RateLimiter
from api.problems import request_id
from core.clock import Clock, utc_iso
from core.config import Config
from core.db import make_engine
from core.db.audit import write_audit
from core.db.statistics import StatisticsReader
from core.db.tables import CameraRow
from core.errors import RequestTimeout
from core.frames import RingSet
from core.heartbeat import read_heartbeat
from core.ids import NodeId
from core.metrics import Sample, counter
from core.security.passwords import Passwords
from core.security.permissions import Principal
from core.security.secrets import SecretBox
from core.security.tokens import KeyRing, Tickets
from core.wire.rpc import RequestClient

__all__ = ["Call", "Peer", "Services", "address_of", "caller", "network_of"]

log = structlog.get_logger()

DEAD_S = 5.0
"""A process that has not beaten for so long is not waited for."""
KNOWN_S = 1.0
VIEWED_S = 600.0
KEPT_VIEWS = 5_000
PAGES = 4
"""Threads that read pages of events from PostgreSQL."""
PROBES = 2
"""Sources that are looked at at the same time."""
REPLAYS = 2
"""Weeks of scores that are replayed at the same time, each for about a second of a core."""
T = TypeVar("T")
Call = Request[Principal | None, Any, Any]


def address_of(request: Any) -> str:
    """The caller's address; behind a trusted proxy, the one that it names."""
    return request.client.host if request.client else ""


def caller(request: Call) -> Principal:
    """Who is asking, on a route that is not public."""
    principal = request.scope["user"]
    if principal is None:
        raise RuntimeError("a public route asked who is calling")
    return principal


def network_of(address: str) -> str:
    """The network that failed logins are counted for: /24 of IPv4, /64 of IPv6."""
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network(f"{address}/{24 if one.version == 4 else 64}", strict=False))


class Peer:
    """Requests to another process, from any thread, one at a time."""

    def __init__(self, context: "zmq.Context[Any]", config: Config, role: str, reply_type: Any) -> None:
        self._client = RequestClient(context, config.endpoint(role), reply_type)
        self._lock = threading.Lock()
        self._run_dir, self._role = config.run_dir, role

    def call(self, message: Any, timeout_s: float = 2.0) -> Any:
        """The reply; raises RequestTimeout, at once where the process does not beat, or RemoteError."""
        beat = read_heartbeat(self._run_dir, self._role)
        if beat is None or beat.age_s > DEAD_S:
            raise RequestTimeout(f"the {self._role} is not running")
        with self._lock:
            return self._client.call(message, timeout_s)

    def close(self) -> None:
        self._client.close()


class Services:
    """Shared by all handlers; safe from several threads."""

    def __init__(self, config: Config, clock: Clock, peers: dict[str, Any]) -> None:
        """`peers`: role -> type of its replies. Raises HaetaeError where keys or the database URL cannot be used."""
        self.config, self.clock = config, clock
        self.reader = make_engine(config.database_url)
        self.writer = make_engine(config.database_url, writer=True)
        sqlite = self.reader.dialect.name == "sqlite"
        self._pages = ThreadPoolExecutor(1 if sqlite else PAGES, thread_name_prefix="pages")
        self.passwords = Passwords()
        self.box = SecretBox(config.secrets_dir)
        self.keys = KeyRing(config.secrets_dir)
        self.tickets = Tickets(clock.monotonic)
        self.statistics = StatisticsReader(self.reader, clock)
        self.rings = RingSet(config.run_dir)
        self.rings_lock = threading.Lock()
        rate = config.api.requests_per_s
        self.limiter = RateLimiter(rate, rate * 10, clock.monotonic)
        self.strangers = RateLimiter(rate / 4, rate * 2.5, clock.monotonic)
        self._context = zmq.Context()
        self.peers = {role: Peer(self._context, config, role, kind) for role, kind in peers.items()}
        self.pending_factors: dict[str, str] = {}
        """Secrets of second factors that wait for their first code, by user."""
        self.answered: Counter[int] = Counter()
        """Answers by the first digit of their status."""
        self.probing = threading.BoundedSemaphore(PROBES)
        self.turning = threading.BoundedSemaphore(PROBES)
        self.replaying = threading.BoundedSemaphore(REPLAYS)
        self._viewed: dict[tuple[str, str, str], float] = {}
        self._viewed_lock = threading.Lock()
        self.closing = threading.Event()
        self._cameras: frozenset[str] = frozenset()
        self._cameras_at = -KNOWN_S
        self.measures: list[Callable[[], list[Sample]]] = []
        """Of parts that measure something of their own."""
        self.ending: list[Callable[[], None]] = []
        """To be called when the process is about to end: what lasts longer than an answer ends with them."""

    def now(self) -> str:
        return utc_iso(self.clock.now())

    async def page(self, read: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Reads something short that is asked for again and again, in a thread kept for that.

        Of SQLite one thread reads more pages a second than two, which take the interpreter's lock from each other.
        """
        work = partial(contextvars.copy_context().run, read, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pages, work)

    def knows_camera(self, camera_id: str) -> bool:
        """Whether there is such a camera; as of a second ago at most, and of now where it was not there.

        May have to ask the database; not for an event loop.
        """
        self.read_cameras(camera_id)
        return self.remembers_camera(camera_id)

    def remembers_camera(self, camera_id: str) -> bool:
        """Whether there was such a camera when this was looked up last; never waits."""
        return camera_id in self._cameras

    def knows_lately(self, *camera_ids: str) -> bool:
        """Whether all of these were there a moment ago; never waits."""
        return self.clock.monotonic() - self._cameras_at <= KNOWN_S and self._cameras.issuperset(camera_ids)

    def read_cameras(self, *camera_ids: str) -> None:
        """Looks up which cameras there are, unless that was done a moment ago and these were among them."""
        now = self.clock.monotonic()
        if self.knows_lately(*camera_ids) or now - self._cameras_at <= KNOWN_S / 10:
            return
        with self.reader.connect() as connection:
            self._cameras = frozenset(connection.execute(select(CameraRow.camera_id)).scalars())
        self._cameras_at = now

    def samples(self) -> list[Sample]:
        """What this process measures."""
        help_text = "Answers to HTTP requests, by the class of their status."
        own = [sample for measure in self.measures for sample in measure()]
        return own + [
            counter("api_answers", help_text, self.answered[digit], status=f"{digit}xx") for digit in range(2, 6)
        ]

    def audit(
        self,
        connection: Connection,
        request: Any,
        action: str,
        target: str = "",
        detail: dict[str, Any] | None = None,
        *,
        actor: str = "",
    ) -> None:
        """Adds to the audit log in the caller's transaction."""
        principal = request.scope.get("user")
        write_audit(
            connection,
            at=self.now(),
            node_id=NodeId(self.config.node_id),
            actor=actor or (principal.actor if principal else ""),
            action=action,
            target=target,
            detail=detail,
            address=address_of(request),
            request_id=request_id(request.scope),
        )

    def audit_now(
        self, request: Any, action: str, target: str = "", detail: dict[str, Any] | None = None, *, actor: str = ""
    ) -> None:
        """The same in a transaction of its own: for what was refused, and for what was only looked at."""
        with self.writer.begin() as connection:
            self.audit(connection, request, action, target, detail, actor=actor)

    def audit_view(self, request: Any, target: str, what: str) -> None:
        """Who looked at footage; the same person at the same thing once in `VIEWED_S`."""
        mark = (caller(request).actor, target, what)
        now = self.clock.monotonic()
        with self._viewed_lock:
            if now - self._viewed.get(mark, -VIEWED_S) < VIEWED_S:
                return
            if len(self._viewed) >= KEPT_VIEWS:
                self._viewed.clear()
            self._viewed[mark] = now
        self.audit_now(request, "footage.viewed", target, {"what": what})

    def close(self) -> None:
        self.closing.set()
        for peer in self.peers.values():
            peer.close()
        self._context.destroy(linger=0)
        self.rings.close()
        self._pages.shutdown()
        self.reader.dispose()
        self.writer.dispose()
