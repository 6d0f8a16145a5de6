"""Viewers of the live sockets: what they are told when rights change, when they read slowly, and when things fail."""

import asyncio
import json
import threading
from types import SimpleNamespace

import msgspec
import pytest

from api.stream import events as events_module
from api.stream.events import PAGE, QUEUED_BYTES, EventHub, EventViewer, News
from api.stream.frames import FrameHub, FrameViewer, StreamKey, _Subscription
from api.stream.outlet import framed
from api.stream.viewers import UNREAD_BYTES, Ended, SocketViewer, Viewers, _of_ticket
from core.clock import SystemClock
from core.ids import CameraId
from core.rest.stream import CameraView, Hello, Ready, Watch
from core.security.permissions import Principal, Role, Scope
from core.security.tokens import Tickets
from tests.stream import FakeCamera

YARD, GATE = CameraId("yard"), CameraId("gate")


def somebody(*cameras: CameraId) -> Principal:
    return Principal(user_id="u", name="kim", role=Role.VIEWER, cameras=frozenset(cameras), session_id="s")


class Wire:
    """An outlet with as much room as the test says."""

    def __init__(self) -> None:
        self.has_room = True
        self.waiting_bytes = 0
        self.pushed: list[bytes] = []
        self.ended = ""
        self.told = asyncio.Event()

    def push(self, message: bytes) -> None:
        self.pushed.append(message)
        self.told.set()

    def end(self, code: int, reason: str, grace_s: float) -> None:
        self.ended = reason

    def heard(self) -> list[dict]:
        return [json.loads(message[message.index(b"{") :]) for message in self.pushed]


def connection(**services):
    config = SimpleNamespace(api=SimpleNamespace(frames_per_s=5.0, frames_per_s_max=30.0, sockets_per_user=8))
    held = SimpleNamespace(clock=SystemClock(), config=config, **{"knows_lately": lambda *_: True, **services})
    return SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(services=held)))


def news(sequence: int, size: int = 100) -> News:
    text = json.dumps({"type": "event", "sequence": sequence, "pad": "x" * size}).encode()
    return News(sequence, YARD, framed(text, text=True))


class Streams:
    """The hub's part that a viewer of pictures works with."""

    def __init__(self) -> None:
        self.watched: set[StreamKey] = set()
        self.database_is_there = True

    def exists(self, camera_id: str) -> bool:
        if not self.database_is_there:
            raise OSError("the database does not answer")
        return True

    def join(self, key, one) -> bool:
        self.watched.add(key)
        return True

    def leave(self, key, one) -> None:
        self.watched.discard(key)

    def audit(self, connection, camera_id) -> None: ...

    def state(self, key):
        return 1, None, True


def test_a_camera_that_is_granted_no_longer_is_not_shown_on_because_the_database_is_away():
    async def run():
        hub, wire = Streams(), Wire()
        asks = connection()
        viewer = FrameViewer(asks, wire, somebody(YARD, GATE), hub)
        viewers = Viewers(asks.app.state.services, SimpleNamespace())
        viewers.add(viewer, lambda: somebody(GATE))
        viewer.received(Watch(cameras=[CameraView(camera_id=YARD), CameraView(camera_id=GATE)]))
        assert {key.camera_id for key in hub.watched} == {YARD, GATE}
        hub.database_is_there = False
        await viewers._check_all()
        assert wire.ended or {key.camera_id for key in hub.watched} == {GATE}
        await viewers.close()

    asyncio.run(run())


def test_one_viewer_that_cannot_be_told_of_its_rights_keeps_nobody_elses():
    async def run():
        hub, first, second = Streams(), Wire(), Wire()
        asks = connection()
        viewers = Viewers(asks.app.state.services, SimpleNamespace())
        one = FrameViewer(asks, first, somebody(YARD, GATE), hub)
        other = SocketViewer(asks, second, Principal(user_id="o", name="lee", role=Role.VIEWER, cameras=None))
        viewers.add(one, lambda: somebody(GATE))
        viewers.add(other, lambda: None)
        one.received(Watch(cameras=[CameraView(camera_id=YARD)]))
        hub.database_is_there = False
        await viewers._check_all()
        assert second.ended == "session_over"
        await viewers.close()

    asyncio.run(run())


def test_a_database_that_does_not_answer_holds_up_no_socket():
    async def run():
        hub, wire, answers = Streams(), Wire(), threading.Event()
        asks = connection(knows_lately=lambda *_: False, read_cameras=lambda *_: answers.wait(60))
        viewer, gone = FrameViewer(asks, wire, somebody(YARD), hub), FrameViewer(asks, Wire(), somebody(GATE), hub)
        viewer.received(Watch(cameras=[CameraView(camera_id=YARD)]))
        gone.received(Watch(cameras=[CameraView(camera_id=GATE)]))
        gone.closed()
        assert hub.watched == set()
        answers.set()
        async with asyncio.timeout(60):
            await wire.told.wait()
        assert {key.camera_id for key in hub.watched} == {YARD}
        assert wire.heard()[0]["channels"][0]["camera_id"] == YARD

    asyncio.run(run())


def test_cameras_known_before_are_shown_on_while_the_database_is_away():
    def refuse(*_):
        raise OSError("no route")

    async def run():
        hub, wire = Streams(), Wire()
        viewer = FrameViewer(connection(knows_lately=lambda *_: False, read_cameras=refuse), wire, somebody(YARD), hub)
        viewer.received(Watch(cameras=[CameraView(camera_id=YARD)]))
        async with asyncio.timeout(60):
            await wire.told.wait()
        assert {key.camera_id for key in hub.watched} == {YARD}

    asyncio.run(run())


class Taker:
    """Takes whatever comes."""

    ready = True

    def __init__(self) -> None:
        self.pictures = 0
        self.ended = ""
        self.told = asyncio.Event()

    def take(self, one, stream) -> bool:
        self.pictures += 1
        self.told.set()
        return True

    def end(self, code: str, message: str) -> None:
        self.ended = code
        self.told.set()


def test_pictures_of_one_camera_that_cannot_be_served_end_nobody_elses(config, monkeypatch):
    config.make_dirs()
    newest = FrameHub._newest

    def broken(hub, stream, now):
        if stream.key.camera_id == GATE:
            raise ValueError("an unforeseen thing")
        return newest(hub, stream, now)

    monkeypatch.setattr(FrameHub, "_newest", broken)

    async def run():
        hub = FrameHub(SimpleNamespace(config=config), SimpleNamespace())
        good, bad = Taker(), Taker()
        with FakeCamera(config, YARD, fps=20):
            hub.join(StreamKey(YARD, "tile"), _Subscription(good, 10.0, heat=False))
            hub.join(StreamKey(GATE, "tile"), _Subscription(bad, 10.0, heat=False))
            async with asyncio.timeout(60):
                await bad.told.wait()
                while good.pictures < 3:
                    good.told.clear()
                    await good.told.wait()
        assert (bad.ended, good.ended) == ("unavailable", "")
        assert hub.failed > 0
        await hub.close()

    asyncio.run(run())


@pytest.mark.parametrize("now", [None, somebody(GATE)], ids=["logged out", "granted less"])
def test_a_ticket_lets_in_whoever_holds_it_as_they_are_now(now):
    tickets = Tickets(SystemClock().monotonic)
    ticket = tickets.issue(somebody(YARD, GATE))
    services, principals = SimpleNamespace(tickets=tickets), SimpleNamespace(of_session=lambda _: now)
    if now is None:
        with pytest.raises(Ended) as ended:
            asyncio.run(_of_ticket(services, principals, ticket))
        assert ended.value.code == "session_over"
    else:
        assert asyncio.run(_of_ticket(services, principals, ticket)) == now


def test_a_heartbeat_does_not_overtake_the_changes_that_wait():
    """Whoever loses the connection goes on after the last sequence that it heard of: it must have got all up to it."""

    async def run():
        wire = Wire()
        viewer = EventViewer(connection(), wire, somebody(YARD), SimpleNamespace())
        wire.has_room = False
        viewer.tell(news(7))
        viewer.beat()
        assert not wire.pushed
        wire.has_room = True
        viewer.room()
        assert [(one["type"], one["sequence"]) for one in wire.heard()] == [("event", 7), ("heartbeat", 7)]

    asyncio.run(run())


def test_whoever_was_away_gets_a_page_of_large_changes_as_fast_as_it_reads_them():
    async def run():
        wire = Wire()
        every = [news(number, 2 * QUEUED_BYTES // PAGE) for number in range(1, PAGE + 1)]

        async def join(viewer):
            return PAGE

        hub = SimpleNamespace(
            join=join,
            read=lambda after: every[after:][:PAGE],
            sequence=PAGE,
            cameras={},
            statistics_due=asyncio.Event(),
            dropped=0,
            leave=lambda _: None,
        )
        viewer = EventViewer(connection(), wire, somebody(YARD), hub)
        await viewer.opened(Hello(after=0))
        wire.has_room = False
        assert viewer._catching
        async with asyncio.timeout(60):
            while not viewer.live and not wire.ended:
                await asyncio.sleep(0)
                wire.has_room = True
                viewer.room()  # it reads on
                wire.has_room = False
        assert not wire.ended
        assert [one["sequence"] for one in wire.heard() if one["type"] == "event"] == list(range(1, PAGE + 1))
        viewer.closed()

    asyncio.run(run())


def test_whoever_asks_and_never_reads_is_let_go():
    async def run():
        wire = Wire()
        viewer = SocketViewer(connection(), wire, somebody(YARD))
        wire.waiting_bytes = UNREAD_BYTES + 1
        viewer.send(Ready(sequence=0, heartbeat_s=10.0))
        assert wire.ended == "too_slow"
        assert [one["type"] for one in wire.heard()] == ["goodbye"]

    asyncio.run(run())


@pytest.mark.parametrize("scopes", [None, {Scope.EVENTS_READ}, {Scope.EVENTS_READ, Scope.CAMERAS_READ}])
def test_a_key_hears_of_cameras_where_it_may_read_them(scopes):
    async def run():
        wire = Wire()
        who = msgspec.structs.replace(somebody(YARD), scopes=frozenset(scopes) if scopes else None)
        EventViewer(connection(), wire, who, SimpleNamespace()).cameras({YARD: None, GATE: None})
        told = [one["camera_id"] for one in wire.heard()]
        assert told == ([YARD] if scopes is None or Scope.CAMERAS_READ in scopes else [])

    asyncio.run(run())


@pytest.mark.parametrize("scopes", [{Scope.EVENTS_READ}, {Scope.EVENTS_READ, Scope.STATS_READ}])
def test_a_key_hears_of_statistics_where_it_may_read_them(scopes, monkeypatch):
    monkeypatch.setattr(EventHub, "_count", lambda *_: 7)
    monkeypatch.setattr(EventHub, "_today", lambda *_: framed(b'{"type":"statistics"}', text=True))

    async def run():
        hub, wire, other = EventHub(SimpleNamespace(config=None)), Wire(), Wire()
        one = EventViewer(connection(), wire, msgspec.structs.replace(somebody(), scopes=frozenset(scopes)), hub)
        person = EventViewer(connection(), other, somebody(), hub)
        one.live = person.live = True
        hub._joined = {one, person}
        hub.statistics_due.set()
        task = asyncio.create_task(hub._watch_statistics())
        async with asyncio.timeout(60):
            await other.told.wait()
        task.cancel()
        assert [len(wire.pushed), len(other.pushed)] == [int(Scope.STATS_READ in scopes), 1]

    asyncio.run(run())


def hub_that(monkeypatch, follow) -> EventHub:
    monkeypatch.setattr(EventHub, "_follow", follow)

    async def nothing(self):
        await asyncio.sleep(3600)

    monkeypatch.setattr(EventHub, "_watch_cameras", nothing)
    monkeypatch.setattr(EventHub, "_watch_statistics", nothing)
    return EventHub(SimpleNamespace(config=None))


def test_a_viewer_is_told_when_events_cannot_be_followed_and_the_next_is_followed_for_anew(monkeypatch):
    begun: list[int] = []

    def follow(self, loop, ready, stop):
        begun.append(1)
        if len(begun) == 1:
            self._call(loop, self._failed, stop)
        else:
            self._call(loop, self._begun, ready, 5)

    async def run():
        hub = hub_that(monkeypatch, follow)
        wire = Wire()
        first = EventViewer(connection(), wire, somebody(YARD), hub)
        async with asyncio.timeout(60):
            with pytest.raises(Ended):
                await hub.join(first)
            assert wire.ended == "unavailable"
            # the first has not hung up yet
            assert await hub.join(EventViewer(connection(), Wire(), somebody(YARD), hub)) == 5
        await hub.close()

    asyncio.run(run())


def test_a_viewer_does_not_wait_for_a_database_for_ever(monkeypatch):
    monkeypatch.setattr(events_module, "BEGIN_S", 0.05, raising=False)

    async def run():
        hub = hub_that(monkeypatch, lambda *_: None)
        async with asyncio.timeout(60):
            with pytest.raises(Ended):
                await hub.join(EventViewer(connection(), Wire(), somebody(YARD), hub))
        await hub.close()

    asyncio.run(run())
