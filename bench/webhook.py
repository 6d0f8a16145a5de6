"""A webhook server for benchmarks: notes what came when, and answers as it is told."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

__all__ = ["Hook", "HookServer"]


class Hook(msgspec.Struct, frozen=True):
    """One request: when it came (monotonic seconds), its idempotency key and body, and what was answered."""

    at: float
    key: str
    body: bytes
    status: int


class HookServer(AbstractContextManager["HookServer"]):
    """On loopback, in a thread of its own; `answer` gives the status of each request, or 0 to hang up instead."""

    def __init__(self, answer: Callable[[str], int] = lambda _key: 204) -> None:
        self.hooks: list[Hook] = []
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="webhook", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512), self._loop
        )
        self._server = starting.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            at = time.monotonic()
            headers = {
                name.lower(): value.strip()
                for line in head.split("\r\n")[1:]
                for name, _, value in [line.partition(":")]
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            key = headers.get("idempotency-key", "")
            status = self._answer(key)
            self.hooks.append(Hook(at, key, body, status))
            if status:
                writer.write(f"HTTP/1.1 {status} Answer\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever called was killed
        finally:
            writer.close()

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
