"""The sockets: a real server, real connections, real rings."""

import asyncio
import contextlib
import itertools
import json
import tempfile
import time

import cv2
import httpx
import msgspec
import numpy as np
import pytest
import websockets
import zmq
from websockets.exceptions import InvalidStatus

from core.config import load_config
from core.db.events import acknowledge, upsert_events
from core.events.model import EventState
from core.ids import CameraId, EventId
from core.security.permissions import Role, Scope
from core.wire.feeds import FeedPublisher
from core.wire.messages import Committed
from tests.api import OTHER, OWN, Site, run_api
from tests.events import make_event
from tests.stream import FakeCamera, Shown, open_socket, ticket

LIMIT = 6
"""Sockets that a user may have open in these tests."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        config = load_config(None, environ={}, paths={"data": str(tmp_path_factory.mktemp("ws")), "run": run})
        config.make_dirs()
        made = Site(config)
        made.ensure_cameras()
        made.add_user("viewer", Role.VIEWER, OWN)
        made.add_user("operator", Role.OPERATOR, OWN)
        made.add_user("admin", Role.ADMIN)
        context = zmq.Context()
        made.feed = FeedPublisher(context, config.endpoint("logger-feed"))
        yield made
        made.feed.close()
        context.term()
        made.close()


@pytest.fixture(scope="module")
def client(site):
    with run_api(site.config, HAETAE_API__SOCKETS_PER_USER=str(LIMIT)) as made:
        yield made


@pytest.fixture(scope="module")
def own(site):
    with FakeCamera(site.config, OWN, fps=20) as camera:
        yield camera


def stored(site: Site, **changes):
    """An event that the logger has just committed."""
    event = make_event(**{"camera_id": OWN, **changes})
    with site.engine.begin() as connection:
        ((sequence, _),) = upsert_events(connection, [event])
    site.feed.publish(event.camera_id, Committed(event=event), sequence)
    return event


def figures(client: httpx.Client, site: Site) -> dict[str, float]:
    """What the api process counts, by name."""
    headers = {"authorization": f"Bearer {site.key('admin', Scope.SYSTEM_READ)}"}
    lines = client.get("/metrics", headers=headers).text.splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("haetae_api_")}


async def settled(client: httpx.Client, site: Site) -> dict[str, float]:
    """What it counted up to now, at least: the figures are written every two seconds."""
    file = site.config.run_dir / "metrics" / "api.json"
    async with asyncio.timeout(60):
        for _ in range(2):  # the first may have been begun before
            written = file.stat().st_mtime_ns
            while file.stat().st_mtime_ns == written:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)
    return figures(client, site)


# ---- who is let in


@pytest.mark.parametrize("name", ["events", "frames"])
def test_a_ticket_opens_one_socket_and_no_second(client, site, name):
    async def run():
        one = ticket(client, site.token("viewer"))
        async with open_socket(client, name) as socket:
            await socket.say(type="hello", ticket=one)
            assert (await socket.hear())["type"] == "ready"
            async with open_socket(client, name) as second:
                await second.say(type="hello", ticket=one)
                assert await second.ended() == (4401, "ticket_refused")

    asyncio.run(run())


@pytest.mark.parametrize("name", ["events", "frames"])
def test_a_page_of_another_site_is_refused_and_our_own_is_not(client, site, name):
    async def run():
        for origin in ("https://evil.example", "null", f"https://{client.base_url.netloc.decode()}"):
            with pytest.raises(InvalidStatus) as refused:
                async with open_socket(client, name, site.token("viewer"), headers={"origin": origin}):
                    pass
            assert refused.value.response.status_code == 403
        mine = f"http://{client.base_url.netloc.decode()}"
        async with open_socket(client, name, site.token("viewer"), headers={"origin": mine}):
            pass

    asyncio.run(run())


def test_a_key_opens_what_its_scopes_allow(client, site):
    async def run():
        headers = {"authorization": f"Bearer {site.key('viewer', Scope.MEDIA_READ)}"}
        async with open_socket(client, "frames", headers=headers) as socket:
            await socket.say(type="hello")
            assert (await socket.hear())["type"] == "ready"
        async with open_socket(client, "events", headers=headers) as socket:
            await socket.say(type="hello")
            assert await socket.ended() == (4403, "forbidden")
        headers = {"authorization": f"Bearer {site.key('viewer', Scope.EVENTS_READ)}"}
        async with open_socket(client, "events", headers=headers) as socket:
            await socket.say(type="hello")
            await socket.hear("ready")
            event = stored(site)
            assert (await socket.hear("event"))["event"]["id"] == event.id
        with pytest.raises(InvalidStatus):
            async with open_socket(client, "events", headers={"authorization": "Bearer haetae_key_none"}):
                pass

    asyncio.run(run())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 4400),
        ('{"type": "hello"}', 4401),
        ('{"type": "hello", "ticket": "ticket_guessed"}', 4401),
        ('{"type": "hello", "after": -1}', 4400),
        ('{"type": "watch", "cameras": []}', 4400),
        ('{"type": "hello", "role": "admin"}', 4400),
        ("[" * 5000, 4400),
        (b"\x00\xff", 4400),
        ("x" * 70_000, 1009),
    ],
)
def test_hostile_first_messages_end_the_socket(client, message, code):
    async def run():
        async with open_socket(client, "frames") as socket:
            await socket.connection.send(message)
            assert (await socket.ended())[0] == code

    asyncio.run(run())


def test_hostile_messages_later_end_the_socket_that_sent_them_alone(client, site, own):
    many = [{"camera_id": f"c{n}"} for n in range(300)]
    hostile = [
        '{"type": "credit", "frames": 1e9}',
        '{"type": "credit", "frames": "x"}',
        '{"type": "watch", "cameras": [{"camera_id": "../../etc"}]}',
        '{"type": "watch", "cameras": [{"camera_id": "gate", "fps": -1}]}',
        '{"type": "watch", "cameras": [{"camera_id": "gate", "fps": NaN}]}',
        json.dumps({"type": "watch", "cameras": many}),
        "null",
    ]

    async def run():
        async with open_socket(client, "frames", site.token("viewer")) as well:
            await well.say(type="watch", cameras=[{"camera_id": OWN}])
            for message in hostile:
                async with open_socket(client, "frames", site.token("operator")) as socket:
                    await socket.connection.send(message)
                    assert await socket.ended() == (4400, "bad_message"), message
            async with open_socket(client, "frames", site.token("operator")) as socket:
                with contextlib.suppress(websockets.ConnectionClosed):
                    for _ in range(2000):
                        await socket.say(type="credit", frames=1)
                assert await socket.ended() == (4429, "too_many")
            await well.say(type="credit", frames=1)
            await well.frame()

    asyncio.run(run())


def test_a_user_has_so_many_sockets_and_the_next_when_one_is_closed(client, site):
    async def run():
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(LIMIT):
                await stack.enter_async_context(open_socket(client, "events", site.token("operator")))
            async with open_socket(client, "frames") as socket:
                await socket.say(type="hello", ticket=ticket(client, site.token("operator")))
                assert await socket.ended() == (4429, "too_many")
        deadline = time.monotonic() + 60
        while True:  # the server hears of the closing a moment later
            async with open_socket(client, "frames") as socket:
                await socket.say(type="hello", ticket=ticket(client, site.token("operator")))
                if (await socket.hear())["type"] == "ready":
                    return
            assert time.monotonic() < deadline

    asyncio.run(run())


# ---- whether they may stay


@pytest.mark.parametrize("name", ["events", "frames"])
def test_logging_out_ends_the_sockets_of_that_session_alone(client, site, name):
    async def run():
        token = site.token("viewer")
        async with open_socket(client, name, token) as mine, open_socket(client, name, site.token("viewer")) as other:
            answer = client.post("/api/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 204
            assert await mine.ended() == (4401, "session_over")
            with pytest.raises(TimeoutError):
                await other.hear("goodbye", timeout_s=0.5)

    asyncio.run(run())


def test_a_camera_that_is_no_longer_granted_is_shown_no_longer(client, site, own):
    """The change is made behind the server's back, as another machine would, and found all the same."""
    from core.db.accounts import Grants, set_grants

    def grant(*granted: CameraId) -> None:
        with site.engine.begin() as connection:
            set_grants(connection, site.users["leaver"], Grants(cameras=granted), at=site.now())

    site.add_user("leaver", Role.VIEWER, OWN)

    async def run():
        token = site.token("leaver")
        async with open_socket(client, "frames", token) as frames, open_socket(client, "events", token) as events:
            await frames.say(type="watch", cameras=[{"camera_id": OWN}])
            await frames.say(type="credit", frames=1000)
            assert (await frames.hear("watching"))["channels"][0]["channel"] > 0
            await frames.frame()
            grant()
            told = await frames.hear("watching")
            while told["channels"][0]["problem"] != "not_found":
                told = await frames.hear("watching")
            with pytest.raises(TimeoutError):
                await frames.frame(0.5)
            stored(site)
            with pytest.raises(TimeoutError):
                await events.hear("event", timeout_s=1.5)
            grant(OWN)
            await frames.frame()

    asyncio.run(run())


# ---- events


def test_viewers_hear_of_their_own_cameras_and_of_no_others(client, site):
    async def run():
        async with (
            open_socket(client, "events", site.token("viewer")) as viewer,
            open_socket(client, "events", site.token("admin")) as admin,
        ):
            foreign, mine = stored(site, camera_id=OTHER), stored(site)
            assert (await admin.hear("event"))["event"]["id"] == foreign.id
            assert (await admin.hear("event"))["event"]["id"] == mine.id
            heard = await viewer.hear("event")
            assert heard["event"]["id"] == mine.id
            assert heard["what"] == ["opened", "closed"]

    asyncio.run(run())


def test_a_viewer_that_does_not_read_is_told_and_let_go_never_thinned(client, site):
    """Everything up to where it was let go has arrived, and from there it goes on."""

    async def run():
        async with open_socket(client, "events", site.token("viewer")) as socket:
            socket.connection.transport.pause_reading()
            ids: list[str] = []
            name = "haetae_api_event_sockets_dropped_total"
            dropped = figures(client, site).get(name, 0.0)
            while figures(client, site).get(name, 0.0) == dropped:
                many = [make_event(camera_id=OWN, description="long " * 700) for _ in range(400)]
                with site.engine.begin() as connection:
                    upsert_events(connection, many)
                ids += [one.id for one in many]
                await asyncio.sleep(0.5)
            socket.connection.transport.resume_reading()
            heard, last = [], 0
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    message = await socket.hear("event")
                    heard.append(message["event"]["id"])
                    last = message["sequence"]
            assert closed.value.rcvd.code == 4408
            assert heard == ids[: len(heard)]
        async with open_socket(client, "events", site.token("viewer"), after=last) as socket:
            assert [(await socket.hear("event"))["event"]["id"] for _ in ids[len(heard) :]] == ids[len(heard) :]

    asyncio.run(run())


def test_what_becomes_of_an_event_is_told_step_by_step(client, site):
    async def run():
        async with open_socket(client, "events", site.token("operator")) as socket:
            event = stored(site, state=EventState.OPEN, ended_at=None)
            assert (await socket.hear("event"))["what"] == ["opened"]
            later = msgspec.structs.replace(event, revision=2, vlm_type="intrusion", source="rules/1")
            stored(site, **msgspec.structs.asdict(later))
            assert (await socket.hear("event"))["what"] == ["analysed"]
            stored(site, **msgspec.structs.asdict(later) | {"revision": 3, "state": EventState.CLOSED})
            assert (await socket.hear("event"))["what"] == ["closed"]
            headers = {"authorization": f"Bearer {site.token('operator')}"}
            client.post(f"/api/v1/events/{event.id}/ack", json={"reason": "delivery"}, headers=headers)
            heard = await socket.hear("event")
            assert heard["what"] == ["acknowledged"]
            assert (heard["acknowledgement"]["actor"], heard["acknowledgement"]["reason"]) == ("operator", "delivery")
            client.delete(f"/api/v1/events/{event.id}/ack", headers=headers)
            heard = await socket.hear("event")
            assert (heard["what"], heard["acknowledgement"]) == (["acknowledgement_undone"], None)

    asyncio.run(run())


def test_a_viewer_that_was_away_hears_of_everything_once(client, site):
    """While it comes back, more happens: between what is read again and what is live there is no gap and no double."""

    async def run():
        async with open_socket(client, "events", site.token("viewer")) as socket:
            first = stored(site)
            sequence = (await socket.hear("event"))["sequence"]
        missed = [make_event(camera_id=OWN) for _ in range(700)]
        with site.engine.begin() as connection:
            upsert_events(connection, missed)
        acknowledge(site.engine, [EventId(first.id)], actor="somebody", at=site.now())
        async with open_socket(client, "events", site.token("viewer"), after=sequence) as socket:
            more = [stored(site).id for _ in range(50)]
            wanted = [*(one.id for one in missed), first.id, *more]
            heard = [await socket.hear("event") for _ in wanted]
            assert [one["event"]["id"] for one in heard] == wanted
            sequences = [one["sequence"] for one in heard]
            assert sequences == sorted(set(sequences))
            with pytest.raises(TimeoutError):
                await socket.hear("event", timeout_s=1.2)

    asyncio.run(run())


def test_statistics_come_after_a_change_and_at_most_once_a_second(client, site):
    async def run():
        opened = time.monotonic()
        async with (
            open_socket(client, "events", site.token("viewer")) as viewer,
            open_socket(client, "events", site.token("admin")) as admin,
        ):
            before, all_before = await viewer.hear("statistics"), await admin.hear("statistics")
            began, heard = site.now(), [before]
            for _ in range(20):
                stored(site, began_at=began)
            while heard[-1]["today"]["events"] < before["today"]["events"] + 20:
                heard.append(await viewer.hear("statistics"))
            assert heard[-1]["today"]["events"] == before["today"]["events"] + 20
            assert (len(heard) - 1) * 0.9 < time.monotonic() - opened
            stored(site, camera_id=OTHER, began_at=began)
            while (await admin.hear("statistics"))["today"]["events"] != all_before["today"]["events"] + 21:
                pass
            assert OTHER not in (await viewer.hear("statistics"))["today"]["by_camera"]

    asyncio.run(run())


# ---- frames


def test_a_frame_brings_the_picture_and_what_the_camera_makes_of_it(client, site, own):
    async def run() -> Shown:
        async with open_socket(client, "frames", site.token("viewer")) as socket:
            await socket.say(type="watch", cameras=[{"camera_id": OWN, "heat": True}, {"camera_id": OTHER}])
            await socket.say(type="credit", frames=1)
            told = await socket.hear("watching")
            assert [one["problem"] for one in told["channels"]][1] == "not_found"
            shown = await socket.frame()
            assert shown.channel == told["channels"][0]["channel"]
            return shown

    began_at = time.time()
    shown = asyncio.run(run())
    picture = cv2.imdecode(np.frombuffer(shown.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (shown.height, shown.width, 3) == (180, 320, 3)
    assert (shown.version, shown.flags, shown.stage, shown.phase) == (1, 1, 3, 7)
    assert (shown.score, shown.open_score) == (1.5, 4.0)
    assert (shown.rows, shown.cols, shown.map) == (2, 3, bytes(range(6)))
    age_at_least_s, age_at_most_s = began_at - shown.captured_at, time.time() - shown.captured_at
    assert age_at_least_s - 0.01 < shown.age_ms / 1000 < age_at_most_s + 0.5
    assert own.began_at < shown.captured_at < time.time()


def test_nothing_is_sent_without_credit_and_then_the_newest(client, site, own):
    async def run():
        async with open_socket(client, "frames", site.token("viewer")) as socket:
            await socket.say(type="watch", cameras=[{"camera_id": OWN}])
            with pytest.raises(TimeoutError):
                await socket.frame(0.6)
            await socket.say(type="credit", frames=2)
            first, second = await socket.frame(), await socket.frame()
            assert second.seq > first.seq
            with pytest.raises(TimeoutError):
                await socket.frame(0.6)
            published = own.published
            await socket.say(type="credit", frames=1)
            assert (await socket.frame()).seq > published - 10

    asyncio.run(run())


def test_a_camera_is_encoded_once_however_many_watch_and_never_while_nobody_does(client, site, own):
    async def run():
        async with contextlib.AsyncExitStack() as stack:
            users = ["viewer"] * 5 + ["operator"] * 5
            sockets = [
                await stack.enter_async_context(open_socket(client, "frames", site.token(user))) for user in users
            ]
            before = await settled(client, site)
            for socket in sockets:
                await socket.say(type="watch", cameras=[{"camera_id": OWN, "fps": 10}])
                await socket.say(type="credit", frames=15)

            async def watch(socket) -> list[int]:
                return [(await socket.frame()).seq for _ in range(15)]

            seen = await asyncio.gather(*(watch(socket) for socket in sockets))
            for socket in sockets:  # without credit nobody is served, so nothing is encoded
                with pytest.raises(TimeoutError):
                    await socket.frame(0.05)
            after = await settled(client, site)
            different = len(set().union(*seen))
            encoded = after["haetae_api_frames_encoded_total"] - before["haetae_api_frames_encoded_total"]
            assert encoded <= different + 1
            assert after["haetae_api_frames_sent_total"] - before["haetae_api_frames_sent_total"] == 150

    asyncio.run(run())


def test_a_client_that_stalls_costs_the_others_nothing(client, site):
    """It has all the credit in the world, and reads nothing: large pictures fill its connection at once."""
    site.ensure_cameras()

    async def run():
        with FakeCamera(site.config, OTHER, fps=10, size=(1280, 720)):
            async with (
                open_socket(client, "frames", site.token("admin")) as stalled,
                open_socket(client, "frames", site.token("admin")) as well,
            ):
                for socket in (stalled, well):
                    await socket.say(type="watch", cameras=[{"camera_id": OTHER, "size": "full", "fps": 10}])
                    await socket.say(type="credit", frames=1000)
                stalled.connection.transport.pause_reading()
                for _ in range(30):  # they come, though nothing is read on the other
                    await well.frame()
                stalled.connection.transport.resume_reading()
                seqs = [(await stalled.frame()).seq for _ in range(25)]
                gaps = [after - before for before, after in itertools.pairwise(seqs)]
                assert max(gaps) > 5, "what it did not read in time was never sent"
                assert seqs == sorted(set(seqs))

    asyncio.run(run())


def test_a_camera_that_gives_nothing_is_told_so_and_shown_when_it_does(client, site):
    async def run():
        async with open_socket(client, "frames", site.token("admin")) as socket:
            await socket.say(type="watch", cameras=[{"camera_id": OTHER}])
            await socket.say(type="credit", frames=1000)
            assert (await socket.hear("watching"))["channels"][0]["problem"] == "no_picture"
            with FakeCamera(site.config, OTHER):
                await socket.frame()
                while (await socket.hear("watching"))["channels"][0]["problem"]:
                    pass
            while (await socket.hear("watching"))["channels"][0]["problem"] != "no_picture":
                pass

    asyncio.run(run())


def test_other_programs_read_pictures_over_http(client, site, own):
    headers = {"authorization": f"Bearer {site.key('viewer', Scope.MEDIA_READ)}"}
    with client.stream("GET", f"/api/v1/cameras/{OWN}/mjpeg?fps=10&size=tile", headers=headers) as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=haetae-frame"
        read = b""
        for part in answer.iter_bytes():
            read += part
            if read.count(b"--haetae-frame") >= 4:
                break
    first = read.split(b"--haetae-frame\r\n")[1]
    jpeg = first.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (180, 320, 3)
    assert client.get(f"/api/v1/cameras/{OTHER}/mjpeg", headers=headers).status_code == 404
