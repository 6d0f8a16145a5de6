"""The events socket: what happens, in the order of the commits, to everybody who may see it, without a gap.

One thread follows the committed events for all viewers, while there are any; cameras and statistics are looked at
beside it. A viewer that was away first gets what changed meanwhile, from the database.
"""

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from typing import Any

import msgspec
import structlog
import zmq
from anyio import to_thread
from sqlalchemy.exc import DBAPIError

from api.services import Services
from api.stream.outlet import Outlet, framed
from api.stream.viewers import HEARTBEAT_S, Ended, SocketViewer
from core.cameras.live import read_live
from core.clock import time_zone
from core.db.counters import counter
from core.db.events import StoredEvent, events_after, find_acknowledgements, last_sequence
from core.db.rollup import roll_up_changes
from core.db.statistics import StatisticsQuery
from core.errors import HaetaeError
from core.events.committed import CommittedEvents
from core.events.model import EventState
from core.ids import CameraId, EventId
from core.metrics import Sample, gauge
from core.metrics import counter as count
from core.rest.cameras import Observed
from core.rest.events import EventOut
from core.rest.statistics import PeriodOut
from core.rest.stream import AckNews, CameraNews, EventNews, Heartbeat, Hello, Ready, Reset, StatisticsNews, What
from core.security.permissions import Need, Principal, Role, Scope
from core.wire.messages import GetCameras

__all__ = ["EventHub", "EventViewer"]

log = structlog.get_logger()

FOLLOW_S = 0.5
"""How soon the thread that follows notices that nobody watches any more."""
BEGIN_S = 10.0
"""How long a viewer waits for the newest change to be known."""
CAMERAS_S = 0.5
STATISTICS_S = 1.0
PAGE = 500
FARTHEST = 10_000
"""Changes that a viewer may be behind; whoever was away for longer reads the list anew."""
QUEUED_BYTES = 1_000_000
"""What waits for a slow viewer at most, before it is told and let go."""
CAMERAS, STATISTICS = Need(Role.VIEWER, Scope.CAMERAS_READ), Need(Role.VIEWER, Scope.STATS_READ)
"""What a key must have to be told of these beside events."""
REMEMBERED = 5_000
"""Events of which it is known how they were, to tell what became of them."""

Cameras = frozenset[CameraId] | None


class News(msgspec.Struct, frozen=True):
    """One change, framed once for all."""

    sequence: int
    camera_id: CameraId
    message: bytes


class EventViewer(SocketViewer):
    """One events socket."""

    def __init__(self, connection: Any, outlet: Outlet, principal: Principal, hub: "EventHub") -> None:
        super().__init__(connection, outlet, principal)
        self._hub = hub
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self.sequence = 0
        """Of the last change that was looked at for this viewer, sent or not."""
        self.live = False
        self._catching: asyncio.Task[None] | None = None
        self._cameras: set[str] = set()
        self.statistics_version = -1

    async def opened(self, hello: Hello) -> None:
        newest = await self._hub.join(self)
        self.send(Ready(sequence=newest, heartbeat_s=HEARTBEAT_S))
        self.sequence = newest if hello.after is None else min(hello.after, newest)
        if newest - self.sequence > FARTHEST:
            self.sequence = newest
            self.send(Reset(sequence=newest))
        self._catching = asyncio.create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """What changed since `sequence`, then live: nothing is left out between the two, and nothing comes twice."""
        try:
            while True:
                newest = self._hub.sequence
                if self.sequence >= newest:
                    break
                found = await to_thread.run_sync(self._hub.read, self.sequence)
                for news in found:
                    self.tell(news)
                    if self._queued_bytes > QUEUED_BYTES // 2:
                        await self._drained.wait()
                self.sequence = max(self.sequence, newest) if len(found) < PAGE else self.sequence
                await self._drained.wait()  # as fast as the other side reads
        except DBAPIError as error:
            log.warning("viewer_not_caught_up", reason=str(error.orig))
            self.end("unavailable", "the database does not answer: come again")
            return
        except Exception:
            log.exception("viewer_not_caught_up")
            self.end("unavailable", "what changed cannot be read; the log says why")
            return
        self.live = True
        self.cameras(self._hub.cameras)
        self._hub.statistics_due.set()

    def tell(self, news: News) -> None:
        """Sends a change that may be seen and was not sent before."""
        if news.sequence <= self.sequence:
            return
        self.sequence = news.sequence
        if self.principal.sees(news.camera_id):
            self.put(news.message)

    def put(self, message: bytes) -> None:
        """Sends it when there is room, in order; a viewer for which too much waits is told, and let go."""
        if self._ended:
            return
        if not self._queue and self.outlet.has_room:
            self.outlet.push(message)
            return
        self._drained.clear()
        self._queue.append(message)
        self._queued_bytes += len(message)
        if self._queued_bytes > QUEUED_BYTES:
            self._hub.dropped += 1
            self._queue.clear()
            self.end("too_slow", "too much waited to be read; go on after the last change that you got")

    def room(self) -> None:
        while self._queue and self.outlet.has_room and not self._ended:
            message = self._queue.popleft()
            self._queued_bytes -= len(message)
            self.outlet.push(message)
        if not self._queue:
            self._drained.set()

    def cameras(self, observed: "dict[CameraId, Observed | None]") -> None:
        """Tells of all that may be seen and was not told of, and of those that may not be seen any more."""
        told = observed if self.principal.may(CAMERAS) else {}
        visible = {camera_id for camera_id in told if self.principal.sees(camera_id)}
        for camera_id in sorted(visible - self._cameras):
            self.put(_framed(CameraNews(camera_id=camera_id, observed=observed[CameraId(camera_id)])))
        for camera_id in sorted(self._cameras - visible):
            self.put(_framed(CameraNews(camera_id=camera_id, observed=None, gone=True)))
        self._cameras = set(visible)

    def camera(self, camera_id: CameraId, message: bytes) -> None:
        if camera_id in self._cameras:
            self.put(message)

    def changed(self) -> None:
        if self.live:
            self.cameras(self._hub.cameras)
            self.statistics_version = -1
            self._hub.statistics_due.set()

    def heartbeat(self) -> Heartbeat:
        return msgspec.structs.replace(super().heartbeat(), sequence=self.sequence)

    def beat(self) -> None:
        """Behind the changes that wait: whoever goes on after its sequence has got them all."""
        self.put(_framed(self.heartbeat()))

    def closed(self) -> None:
        if self._catching:
            self._catching.cancel()
        self._hub.leave(self)


def _framed(message: msgspec.Struct) -> bytes:
    return framed(msgspec.json.encode(message), text=True)


class _Known(msgspec.Struct, frozen=True):
    """What is remembered of an event, to tell what became of it."""

    state: EventState
    judged: tuple[str, ...]
    acknowledged: bool
    locked: bool


def _what(before: _Known | None, now: _Known, revision: int) -> list[What]:
    if before is None:
        if revision > 1:
            return ["changed"]
        return ["opened"] if now.state is EventState.OPEN else ["opened", "closed"]
    found: list[What] = []
    if now.state is not before.state:
        found.append("closed" if now.state is not EventState.OPEN else "updated")
    if now.judged != before.judged:
        found.append("analysed")
    if now.acknowledged is not before.acknowledged:
        found.append("acknowledged" if now.acknowledged else "acknowledgement_undone")
    if now.locked is not before.locked:
        found.append("locked" if now.locked else "unlocked")
    return found or ["updated"]


class _Memory:
    """How the events of late were; of one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def what(self, stored: StoredEvent) -> list[What]:
        """What became of an event since it was last seen here."""
        event = stored.event
        now = _Known(
            event.state,
            (event.source, event.vlm_type, event.severity, event.description),
            stored.acknowledged_at is not None,
            stored.locked,
        )
        found = _what(self._known.pop(event.id, None), now, event.revision)
        self._known[event.id] = now
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found


class EventHub:
    """Follows events, cameras and statistics for all events sockets; of one event loop, with one thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._config = services.config
        self._joined: set[EventViewer] = set()
        self.sequence = -1
        """Of the newest change that was handed out; -1 while nobody follows."""
        self.cameras: dict[CameraId, Observed | None] = {}
        self.statistics_due = asyncio.Event()
        self.dropped = self.told = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ready: asyncio.Future[int] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dirty = False

    # ---- coming and going

    async def join(self, viewer: EventViewer) -> int:
        """From now on it is told of what it has not seen; returns the sequence of the newest change.

        Raises Ended where that is not known within `BEGIN_S`.
        """
        self._joined.add(viewer)
        if self._ready is None:
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._follow, args=(loop, self._ready, self._stop), name="events", daemon=True
            )
            self._thread.start()
            self._tasks = [asyncio.create_task(self._watch_cameras()), asyncio.create_task(self._watch_statistics())]
        try:
            async with asyncio.timeout(BEGIN_S):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            raise Ended("unavailable", "the database does not answer: come again") from error
        return self.sequence

    def leave(self, viewer: EventViewer) -> None:
        self._joined.discard(viewer)
        if not self._joined:
            self._end()

    def _end(self) -> None:
        """Nobody watches: nothing is followed."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        self._tasks, self._ready, self.sequence = [], None, -1
        self.cameras = {}

    async def close(self) -> None:
        thread = self._thread
        self._end()
        if thread:
            await to_thread.run_sync(thread.join, 2 * FOLLOW_S + 1)

    # ---- events, in a thread of their own

    def _follow(self, loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[int]", stop: threading.Event) -> None:
        context: zmq.Context[Any] = zmq.Context()
        known = _Memory()
        try:
            after = self._newest(stop)
            committed = CommittedEvents(context, self._config.endpoint("logger-feed"), self._services.reader, after)
            self._call(loop, self._begun, ready, after)
            while not stop.is_set():
                found = committed.receive(FOLLOW_S)
                if found:
                    self._call(loop, self._hand_out, stop, self._news(found, known), committed.sequence)
            committed.close()
        except Exception:
            log.exception("events_not_followed")
            self._call(loop, self._failed, stop)
        finally:
            context.destroy(linger=0)

    def _newest(self, stop: threading.Event) -> int:
        while True:
            try:
                return last_sequence(self._services.reader)
            except DBAPIError as error:
                log.warning("events_not_read", reason=str(error.orig))
                if stop.wait(1.0):
                    return 0

    @staticmethod
    def _call(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(*call)

    def _begun(self, ready: "asyncio.Future[int]", sequence: int) -> None:
        if ready is self._ready:
            self.sequence = sequence
        if not ready.done():
            ready.set_result(sequence)

    def _failed(self, stop: threading.Event) -> None:
        if stop is not self._stop:
            return
        gone, ready = list(self._joined), self._ready
        self._joined.clear()
        self._end()  # whoever comes next is followed for anew, before the last of these has hung up
        why = "events cannot be followed; the log says why"
        if ready and not ready.done():
            ready.set_exception(Ended("unavailable", why))
        for viewer in gone:
            viewer.end("unavailable", why)

    def _news(self, found: list[StoredEvent], known: "_Memory | None") -> list[News]:
        """Messages of changes, the same for all who may see them; without a memory, each is "changed"."""
        taken = [one.event.id for one in found if one.acknowledged_at]
        noted: dict[EventId, Any] = {}
        if taken:
            with self._services.reader.connect() as connection:
                noted = find_acknowledgements(connection, taken)
        return [self._one(stored, noted.get(stored.event.id), known) for stored in found]

    @staticmethod
    def _one(stored: StoredEvent, noted: Any, known: "_Memory | None") -> News:
        event = stored.event
        what: list[What] = known.what(stored) if known else ["changed"]
        told = AckNews(**{name: getattr(noted, name) for name in AckNews.__struct_fields__}) if noted else None
        message = EventNews(sequence=stored.sequence, what=what, event=EventOut.of(stored), acknowledgement=told)
        return News(stored.sequence, event.camera_id, _framed(message))

    def _hand_out(self, stop: threading.Event, found: list[News], sequence: int) -> None:
        if stop is not self._stop:
            return  # of a thread that was given up
        self.sequence = sequence
        self.told += len(found)
        for viewer in list(self._joined):
            if viewer.live:
                for news in found:
                    viewer.tell(news)
        self._dirty = True
        self.statistics_due.set()

    def read(self, after: int) -> list[News]:
        """For a viewer that was away; blocks."""
        return self._news(events_after(self._services.reader, after, PAGE), None)

    # ---- cameras

    async def _watch_cameras(self) -> None:
        while True:
            try:
                self._take_cameras(await to_thread.run_sync(self._look))
            except Exception:
                log.exception("cameras_not_watched")
            await asyncio.sleep(CAMERAS_S)

    def _look(self) -> "dict[CameraId, Observed | None]":
        try:
            reply = self._services.peers["manager"].call(GetCameras(), 1.0)
        except HaetaeError:
            return dict.fromkeys(self.cameras)
        run_dir = self._config.run_dir
        return {one.camera_id: Observed.of(one, read_live(run_dir, one.camera_id)) for one in reply.cameras}

    def _take_cameras(self, found: "dict[CameraId, Observed | None]") -> None:
        before, self.cameras = self.cameras, found
        changed = {
            camera_id: _framed(CameraNews(camera_id=camera_id, observed=observed))
            for camera_id, observed in found.items()
            if camera_id in before and _lasting(observed) != _lasting(before[camera_id])
        }
        for viewer in list(self._joined):
            if viewer.live:
                for camera_id, message in changed.items():
                    viewer.camera(camera_id, message)
                if before.keys() != found.keys():
                    viewer.cameras(found)

    # ---- statistics

    async def _watch_statistics(self) -> None:
        """Counts what changed, and tells, once a second at most."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STATISTICS_S):
                    await self.statistics_due.wait()
            self.statistics_due.clear()
            dirty, self._dirty = self._dirty, False
            waiting = [viewer for viewer in self._joined if viewer.live and viewer.principal.may(STATISTICS)]
            try:
                version = await to_thread.run_sync(self._count, dirty)
                behind = [viewer for viewer in waiting if viewer.statistics_version != version]
                for cameras in {viewer.principal.cameras for viewer in behind}:
                    message = await to_thread.run_sync(self._today, cameras)
                    for viewer in behind:
                        if viewer.principal.cameras == cameras and viewer in self._joined:
                            viewer.statistics_version = version
                            viewer.put(message)
            except DBAPIError as error:
                self._dirty = self._dirty or dirty
                log.warning("statistics_not_told", reason=str(error.orig))
            except Exception:
                log.exception("statistics_not_told")
            await asyncio.sleep(STATISTICS_S)

    def _count(self, dirty: bool) -> int:
        """Rolls up what changed, as the housekeeper would within a minute; returns the data's version."""
        if dirty:
            roll_up_changes(self._services.writer)
        with self._services.reader.connect() as connection:
            return counter(connection, "statistics")

    def _today(self, cameras: Cameras) -> bytes:
        zone = self._config.site.time_zone
        day = self._services.clock.now().astimezone(time_zone(zone)).date()
        wanted = tuple(sorted(cameras)) if cameras is not None else None
        found = self._services.statistics.read(StatisticsQuery(first=day, last=day, time_zone=zone, cameras=wanted))
        return _framed(StatisticsNews(version=found.version, time_zone=zone, today=PeriodOut.of(found.total)))

    def samples(self) -> list[Sample]:
        return [
            gauge("api_event_sockets", "Open sockets for events.", len(self._joined)),
            count("api_event_sockets_dropped", "Sockets that were too slow, and let go.", self.dropped),
            count("api_event_changes", "Changes of events told.", self.told),
        ]


def _lasting(observed: Observed | None) -> Any:
    """What is worth telling: not what changes with each frame."""
    if observed is None:
        return None
    learning = round(observed.learning.percent) if observed.learning else None
    open_score = round(observed.open_score, 1) if observed.open_score is not None else None
    alive = observed.age_s is not None and observed.age_s < 3
    return (
        *(observed.phase, observed.stage, observed.fault, observed.reason, observed.restarts, observed.event_id),
        *(learning, open_score, alive, observed.night),
    )
