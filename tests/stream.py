"""Clients of the sockets, and cameras made of rings alone, for tests."""

import asyncio
import contextlib
import json
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.cameras import CameraPhase
from core.cameras.live import LiveRow, LiveView
from core.config import Config
from core.frames import FrameFormat, RingWriter
from core.ids import CameraId

__all__ = ["FakeCamera", "Shown", "Socket", "open_socket", "ticket"]

HEADER = struct.Struct("<BBHBBHIIdffffHHBBH")


class FakeCamera:
    """A ring and a live row that a thread fills, without a source; `with` it, at `fps`."""

    def __init__(self, config: Config, camera_id: CameraId, *, fps: float = 10, size: tuple[int, int] = (320, 180)):
        self._config, self._camera_id, self._fps, self._size = config, camera_id, fps, size
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.published = 0
        self.began_at = time.time()
        self.view: dict[str, Any] = {"stage": "armed", "score": 1.5, "open_score": 4.0, "event_id": "e"}

    def _run(self) -> None:
        fmt = FrameFormat(*self._size, "i420")
        ring = RingWriter.create(self._config.run_dir, self._camera_id, "main", fmt, 6)
        row = LiveRow(self._config.run_dir, self._camera_id)
        noise = np.random.default_rng(1).integers(0, 255, fmt.shape, np.uint8)
        due = time.monotonic()
        while not self._stop.is_set():
            captured_ns = time.monotonic_ns()
            with ring.write(self.published / self._fps, captured_ns, time.time_ns()) as slot:
                slot.pixels[:] = noise
                slot.pixels[: self._size[1] // 2] = self.published % 255
            self.published += 1
            view = {"phase": CameraPhase.WATCHING, "scored_ns": captured_ns, "analysis_fps": self._fps, **self.view}
            row.write(LiveView(at_ns=captured_ns, map_rows=2, map_cols=3, map=bytes(range(6)), **view))
            due += 1 / self._fps
            self._stop.wait(max(0.0, due - time.monotonic()))
        row.close()
        ring.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


class Shown:
    """A frame message, taken apart."""

    NAMES = (
        *("version", "flags", "channel", "stage", "phase", "learned", "seq", "age_ms", "captured_at", "score"),
        *("open_score", "peak_x", "peak_y", "width", "height", "rows", "cols", "score_age_ms"),
    )

    def __init__(self, message: bytes) -> None:
        self.__dict__.update(zip(self.NAMES, HEADER.unpack_from(message), strict=True))
        begin = HEADER.size + self.rows * self.cols
        self.map, self.jpeg = message[HEADER.size : begin], message[begin:]


class Socket:
    """One open WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self, *kinds: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The next message, of one of these types where some are named."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.connection.recv()
                if isinstance(message, str) and (not kinds or json.loads(message)["type"] in kinds):
                    return json.loads(message)

    async def frame(self, timeout_s: float = 60.0) -> Shown:
        """The next frame; other messages are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.connection.recv()
                if isinstance(message, bytes):
                    return Shown(message)

    async def ended(self, timeout_s: float = 60.0) -> tuple[int, str]:
        """Reads on to the end; the close code, and why by the last message."""
        why = ""
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(timeout_s):
                async for message in self.connection:
                    if isinstance(message, str) and json.loads(message)["type"] == "goodbye":
                        why = json.loads(message)["code"]
        assert self.connection.close_code is not None
        return self.connection.close_code, why


def ticket(client: httpx.Client, token: str) -> str:
    answer = client.post("/api/v1/auth/ticket", headers={"authorization": f"Bearer {token}"})
    answer.raise_for_status()
    return answer.json()["ticket"]


@contextlib.asynccontextmanager
async def open_socket(client: httpx.Client, name: str, token: str = "", **hello: Any) -> AsyncIterator[Socket]:
    """A socket, let in with a ticket of `token` where one is given."""
    url = f"{str(client.base_url).replace('http', 'ws', 1).rstrip('/')}/api/v1/ws/{name}"
    headers = hello.pop("headers", {})
    async with connect(
        url,
        compression=None,
        additional_headers=headers,
        max_size=None,
        max_queue=4,
        open_timeout=60,
        ping_interval=None,  # a test that reads nothing for a while is not to be hung up on by its own library
        close_timeout=1,
    ) as connection:
        socket = Socket(connection)
        if token:
            await socket.say(type="hello", ticket=ticket(client, token), **hello)
            await socket.hear("ready")
        yield socket


@contextlib.contextmanager
def cameras(config: Config, *camera_ids: CameraId, **how: Any) -> Iterator[list[FakeCamera]]:
    """Several of them."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(FakeCamera(config, camera_id, **how)) for camera_id in camera_ids]
