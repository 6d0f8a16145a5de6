"""Live pictures to many: how old they arrive, and what sending costs over a bare asyncio server that writes as much.

    python -m bench.stream [--json] [--quick]

Cameras are rings that a process of their own fills at 10 frames a second; the api process, as it is shipped, sends
5 a second of about 60 kB to sockets that each watch one of them. The clients are a process too, and give credit as the
web page does. A bare server (uvloop, a protocol that writes) then sends the same bytes to the same clients, in turns.
All of that shares this machine, so that ages hold for it and not for the network.
"""

import argparse
import asyncio
import base64
import json
import math
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import httpx
import msgspec
import numpy as np
import uvloop
import zmq

from bench.api import free_port, server
from bench.events import make_events
from core.cameras import CameraConfig, CameraPhase
from core.cameras.live import LiveRow, LiveView
from core.clock import utc_iso
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.accounts import add_user
from core.db.cameras import add_camera
from core.db.keys import create_key
from core.frames import FrameFormat, RingWriter
from core.ids import CameraId
from core.security.permissions import Role, Scope
from core.security.tokens import hash_token, new_token
from core.wire.messages import LogEvents, LoggerReply
from core.wire.rpc import RequestClient
from workers.process import spawn

__all__ = ["main"]

CAMERAS = 4
CAMERA_FPS = 10.0
FPS = 5.0
SIZE = (1280, 720)
WANTED_BYTES = 60_000
QUALITY = 75
WARM_S = 2.0
CREDIT = 10
PAYLOAD = struct.Struct("<BBHBBHIIdffffHHBBH")
START_S = 120.0


# ---- cameras


def _picture() -> np.ndarray:
    """(h * 3 / 2, w) uint8: smooth shapes with so much noise that its JPEG takes about `WANTED_BYTES`."""
    width, height = SIZE
    random = np.random.default_rng(7)
    smooth = cv2.resize(random.integers(40, 200, (9, 16), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 1, (height, width)).astype(np.float32)
    made = np.full((height * 3 // 2, width), 128, np.uint8)
    low, high = 0.0, 40.0
    for _ in range(12):
        middle = (low + high) / 2
        made[:height] = np.clip(smooth + noise * middle, 0, 255).astype(np.uint8)
        _, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(made, cv2.COLOR_YUV2BGR_I420), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        low, high = (middle, high) if encoded.size < WANTED_BYTES else (low, middle)
    return made


def _cameras(run_dir: Path, names: list[CameraId], ready: Any, stop: Any) -> None:
    """Fills a ring and a live row each, out of step with each other, until told to stop."""
    picture = _picture()
    rings = [RingWriter.create(run_dir, name, "main", FrameFormat(*SIZE, "i420"), 6) for name in names]
    rows = [LiveRow(run_dir, name) for name in names]
    ready.set()
    begun, turn = time.monotonic(), 0
    while not stop.is_set():
        which = turn % len(names)
        time.sleep(max(0.0, begun + turn / (CAMERA_FPS * len(names)) - time.monotonic()))
        captured_ns = time.monotonic_ns()
        with rings[which].write(turn / CAMERA_FPS, captured_ns, time.time_ns()) as slot:
            np.copyto(slot.pixels, picture)
        rows[which].write(
            LiveView(
                at_ns=captured_ns,
                phase=CameraPhase.WATCHING,
                stage="armed",
                score=0.5,
                scored_ns=captured_ns,
                analysis_fps=CAMERA_FPS,
            )
        )
        turn += 1
    for one in (*rows, *rings):
        one.close()


# ---- clients


def _masked(text: str) -> bytes:
    """A text message as a client sends it, with a mask of zeros."""
    body = text.encode()
    size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2)
    return b"\x81" + size + bytes(4) + body


class _Client(asyncio.Protocol):
    """One socket, read as cheaply as Python can: its messages are measured, not taken apart."""

    def __init__(self, key: str, camera_id: str, ages: list[float], seen: set[tuple[int, int]]) -> None:
        self._key, self._camera_id, self._ages, self._seen = key, camera_id, ages, seen
        self._head = b""
        self._left = 0
        self._upgraded = False
        self._captured_at = 0.0
        self.frames = 0
        self.lost = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            (
                f"GET /api/v1/ws/frames HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Authorization: Bearer {self._key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n"
            ).encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.lost = True

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head:
                raise RuntimeError(head.decode())
            self._upgraded, self._head = True, b""
            watch = {"type": "watch", "cameras": [{"camera_id": self._camera_id, "size": "full", "fps": FPS}]}
            for message in ({"type": "hello"}, watch, {"type": "credit", "frames": CREDIT}):
                self.transport.write(_masked(json.dumps(message)))
        at, end = 0, len(data)
        while at < end:
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                at += taken
                if not self._left and self._captured_at:
                    self._whole()
                continue
            needed = self._needed()
            taken = min(needed - len(self._head), end - at)
            self._head += data[at : at + taken]
            at += taken
            if len(self._head) >= self._needed():
                self._begin()

    def _needed(self) -> int:
        """Bytes to read before it is known what comes: the frame's header, and of a picture also its own."""
        if len(self._head) < 2:
            return 2
        length = self._head[1]
        extended = 2 if length == 126 else 8 if length == 127 else 0
        return 2 + extended + (PAYLOAD.size if self._head[0] & 15 == 2 else 0)

    def _begin(self) -> None:
        length, extended = self._head[1], 0
        if length >= 126:
            extended = 2 if length == 126 else 8
            length = int.from_bytes(self._head[2 : 2 + extended])
        self._captured_at = 0.0
        if self._head[0] & 15 == 2:
            fields = PAYLOAD.unpack_from(self._head, 2 + extended)
            self._captured_at = fields[8]
            self._seen.add((fields[2], fields[6]))
            length -= PAYLOAD.size
        self._left, self._head = length, b""

    def _whole(self) -> None:
        self._ages.append(time.time() - self._captured_at)
        self.frames += 1
        if self.frames % (CREDIT // 2) == 0:
            self.transport.write(_masked(json.dumps({"type": "credit", "frames": CREDIT // 2})))


def _watch(
    port: int, key: str, cameras: list[str], sockets: int, seconds: float, stalled: int, pid: int
) -> dict[str, Any]:
    """Opens sockets, waits until all get pictures, and measures for so long; `pid` is the server's."""
    ages: list[float] = []
    seen: set[tuple[int, int]] = set()

    async def run() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        clients: list[_Client] = []
        for number in range(sockets + stalled):
            own: list[float] = ages if number < sockets else []
            client = _Client(key, cameras[number % len(cameras)], own, seen if number < sockets else set())
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
            clients.append(client)
        give_up = time.monotonic() + START_S
        while any(not client.frames for client in clients):
            if time.monotonic() > give_up:
                raise RuntimeError(f"{sum(not client.frames for client in clients)} sockets got no picture")
            await asyncio.sleep(0.05)
        for client in clients[sockets:]:
            client.transport.pause_reading()
        await asyncio.sleep(WARM_S)
        ages.clear()
        before, cpu, begun = sum(client.frames for client in clients[:sockets]), _cpu_s(pid), time.monotonic()
        await asyncio.sleep(seconds)
        took_s = time.monotonic() - begun
        found = {
            "frames_s": (sum(client.frames for client in clients[:sockets]) - before) / took_s,
            "cpu_share": (_cpu_s(pid) - cpu) / took_s,
            "age_p50_ms": _share(ages, 0.5) * 1e3,
            "age_p99_ms": _share(ages, 0.99) * 1e3,
            "lost": sum(client.lost for client in clients[:sockets]),
        }
        for client in clients[:sockets]:
            client.transport.write(_masked('{"type": "watch", "cameras": []}'))
        await asyncio.sleep(0.3)
        for client in clients:
            client.transport.abort()
        return found | {"ticks": len(seen)}

    return uvloop.run(run())


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else math.nan


def _cpu_s(pid: int) -> float:
    """CPU time of a process, all threads, to the nanosecond."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


# ---- the bare server


def _bare(port: int, message_bytes: int, ready: Any, stop: Any) -> None:
    """Writes a message to each of its sockets at the same rate, each camera's at once; reads and drops what comes."""
    body = bytearray(PAYLOAD.pack(1, 0, 1, 3, 7, 1000, 0, 0, 0.0, 0, 0, 0, 0, *SIZE, 0, 0, 0))
    body += os.urandom(message_bytes - PAYLOAD.size)
    start = b"\x82\x7f" + len(body).to_bytes(8)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        groups: list[list[asyncio.Transport]] = [[] for _ in range(CAMERAS)]
        arrived = 0

        class Server(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                nonlocal arrived
                transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                groups[arrived % CAMERAS].append(transport)
                arrived += 1

            def data_received(self, data: bytes) -> None:
                pass

        listener = await loop.create_server(Server, "127.0.0.1", port)
        ready.set()
        begun, turn = time.monotonic(), 0
        while not stop.is_set():
            turn += 1
            await asyncio.sleep(max(0.0, begun + turn / (FPS * CAMERAS) - time.monotonic()))
            struct.pack_into("<I", body, 8, turn)
            struct.pack_into("<d", body, 16, time.time())
            message = start + body
            group = groups[turn % CAMERAS]
            group[:] = [transport for transport in group if not transport.is_closing()]
            for transport in group:
                transport.write(message)
        listener.close()

    uvloop.run(run())


# ---- events


def _events(port: int, key: str, endpoint: str, camera_id: str, count: int, pause_s: float) -> list[float]:
    """Seconds from giving an event to the logger until a socket hears of it, one by one."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - in a process of its own

    async def run() -> list[float]:
        waits: list[float] = []
        context: zmq.Context[Any] = zmq.Context()
        logger = RequestClient(context, endpoint, LoggerReply)
        url = f"ws://127.0.0.1:{port}/api/v1/ws/events"
        async with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            await socket.send('{"type": "hello"}')
            async with asyncio.timeout(START_S):
                while json.loads(await socket.recv())["type"] != "statistics":
                    pass
            random = np.random.default_rng(3)
            for number in range(count):
                now = datetime.now(UTC)
                made = make_events(1, number, now, now)[0]
                event = msgspec.structs.replace(made, camera_id=CameraId(camera_id))
                begun = time.perf_counter()
                logger.send(LogEvents(events=[event]), 5.0)
                while True:
                    message = json.loads(await socket.recv())
                    if message["type"] == "event" and message["event"]["id"] == event.id:
                        break
                waits.append(time.perf_counter() - begun)
                logger.receive(1.0)
                await asyncio.sleep(random.uniform(0.2, 1.8) * pause_s)
        logger.close()
        context.term()
        return waits

    return asyncio.run(run())


# ---- all of it


@contextmanager
def _child(target: Any, *args: Any) -> Iterator[Any]:
    """A process that says when it is ready, and ends when it is told to."""
    context = get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(target=target, args=(*args, ready, stop), daemon=True)
    process.start()
    if not ready.wait(START_S):
        raise SystemExit(f"{target.__name__} did not start")
    try:
        yield process
    finally:
        stop.set()
        process.join(10)


@contextmanager
def _logger(config: Config) -> Iterator[None]:
    with (config.logs_dir / "logger.log").open("ab") as log:
        process = spawn("logger", config=config, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def _key(config: Config) -> str:
    engine = make_engine(config.database_url, writer=True)
    now, secret = utc_iso(datetime.now(UTC)), new_token("haetae_key")
    with engine.begin() as connection:
        user = add_user(connection, name="bench", password_hash="-", role=Role.ADMIN, at=now)
        scopes = (Scope.MEDIA_READ, Scope.EVENTS_READ, Scope.CAMERAS_READ, Scope.STATS_READ, Scope.SYSTEM_READ)
        create_key(
            connection,
            user.id,
            name="bench",
            secret_hash=hash_token(secret),
            scopes=scopes,
            camera_ids=None,
            now=now,
            expires_at=None,
        )
    for number in range(CAMERAS):
        name = CameraId(f"cam{number}")
        add_camera(engine, CameraConfig(camera_id=name, name=name, url="demo://plaza?seed=1", enabled=False))
    engine.dispose()
    return secret


def _figures(port: int, key: str) -> dict[str, float]:
    time.sleep(2.2)  # they are written every two seconds
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {key}"}).text
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line.startswith("haetae_api_")}


def measure(folder: Path, *, sockets: int, more: int, seconds: float, rounds: int, events: int) -> dict[str, Any]:
    """Starts everything and measures in turns; `more` sockets are only reported, 0 for none."""
    config = load_config(None, environ={}, paths={"data": str(folder / "data"), "run": str(folder / "run")})
    config.make_dirs()
    upgrade(config.database_url)
    key = _key(config)
    names = [CameraId(f"cam{number}") for number in range(CAMERAS)]
    port, bare_port = free_port(), free_port()
    places = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "HAETAE_PATHS__DATA": str(config.data_dir),
        "HAETAE_PATHS__RUN": str(config.run_dir),
        "HAETAE_API__PORT": str(port),
        "HAETAE_API__REQUESTS_PER_S": "10000",
        "HAETAE_API__SOCKETS_PER_USER": "2000",
        "HAETAE_API__JPEG_QUALITY": str(QUALITY),
    }
    found: dict[str, Any] = {"sockets": sockets, "cameras": CAMERAS, "frames_s_wanted": sockets * FPS}
    with ExitStack() as stack:
        stack.enter_context(_child(_cameras, config.run_dir, names))
        stack.enter_context(_logger(config))
        api = stack.enter_context(server(sys.executable, "-m", "api", environment=environment, port=port))
        clients = stack.enter_context(get_context("spawn").Pool(2))
        _, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(_picture(), cv2.COLOR_YUV2BGR_I420), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        message_bytes = PAYLOAD.size + encoded.size
        found["message_bytes"] = message_bytes
        bare = stack.enter_context(_child(_bare, bare_port, message_bytes))
        mine: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        before = _figures(port, key)
        for _ in range(rounds):
            mine.append(clients.apply(_watch, (port, key, names, sockets, seconds, 0, api.pid)))
            theirs.append(clients.apply(_watch, (bare_port, key, names, sockets, seconds, 0, bare.pid)))
        after = _figures(port, key)
        stalled = clients.apply(_watch, (port, key, names, sockets, seconds, 1, api.pid))
        alone = clients.apply(_watch, (port, key, names, sockets, seconds, 0, api.pid))
        watching = clients.apply_async(_watch, (port, key, names, sockets, events * 0.5 + 2, 0, api.pid))
        time.sleep(WARM_S)
        waits = clients.apply(_events, (port, key, config.endpoint("logger"), names[0], events, 0.5))
        watching.get()
        if more:
            many = clients.apply(_watch, (port, key, names, more, seconds, 0, api.pid))
            found |= {f"{more}_sockets_{name}": round(value, 2) for name, value in many.items()}
    counted = {name: after[name] - before.get(name, 0.0) for name in after}
    encode_share = counted["haetae_api_frames_encode_seconds_total"] / counted["haetae_api_frames_encoded_total"]
    encode_share *= FPS * CAMERAS
    cpu, base = (statistics.median(one["cpu_share"] for one in many) for many in (mine, theirs))
    ratios = [a["cpu_share"] / b["cpu_share"] for a, b in zip(mine, theirs, strict=True)]
    found |= {
        "age_p50_ms": round(statistics.median(one["age_p50_ms"] for one in mine), 1),
        "age_p99_ms": round(statistics.median(one["age_p99_ms"] for one in mine), 1),
        "bare_age_p99_ms": round(statistics.median(one["age_p99_ms"] for one in theirs), 1),
        "frames_s": round(statistics.median(one["frames_s"] for one in mine), 1),
        "bare_frames_s": round(statistics.median(one["frames_s"] for one in theirs), 1),
        "lost_sockets": sum(one["lost"] for one in mine),
        "encodes_per_tick": round(counted["haetae_api_frames_encoded_total"] / sum(one["ticks"] for one in mine), 3),
        "server_cpu": round(cpu, 4),
        "bare_cpu": round(base, 4),
        "encode_cpu": round(encode_share, 4),
        "server_cpu_over_send": round(statistics.median(ratios), 3),
        "server_cpu_over_send_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "server_cpu_over_send_without_encoding": round((cpu - encode_share) / base, 3),
        "stalled_age_p99_ms": round(stalled["age_p99_ms"], 1),
        "unstalled_age_p99_ms": round(alone["age_p99_ms"], 1),
        "stalled_frames_s": round(stalled["frames_s"], 1),
        "event_p50_ms": round(_share(waits, 0.5) * 1e3, 1),
        "event_p99_ms": round(_share(waits, 0.99) * 1e3, 1),
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="16 sockets, one short round")
    args = parser.parse_args()
    how: dict[str, Any] = {"sockets": 160, "more": 640, "seconds": 8.0, "rounds": 3, "events": 60}
    if args.quick:
        how = {"sockets": 16, "more": 0, "seconds": 1.5, "rounds": 1, "events": 5}
    with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder:
        found = measure(Path(folder), **how)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<40}{value!s:>24}")


if __name__ == "__main__":
    main()
