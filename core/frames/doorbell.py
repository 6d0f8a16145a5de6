"""The doorbell: a datagram that says "look at the rings"; a hint, never the truth."""

import contextlib
import os
import select
import socket
import time
from pathlib import Path

__all__ = ["Doorbell", "Ringer"]

_RESCAN_S = 1.0


def _folder(run_dir: Path) -> Path:
    return run_dir / "bells"


class Doorbell:
    """A reader process's bell; one file descriptor for all cameras."""

    def __init__(self, run_dir: Path, name: str) -> None:
        folder = _folder(run_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{name}.sock"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._path))

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s`; takes all rings that were there."""
        ready, _, _ = select.select([self._socket], [], [], timeout_s)
        if ready:
            self.drain()
        return bool(ready)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


class Ringer:
    """A writer's end: rings every bell there is, without ever waiting."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = _folder(run_dir)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._bells: list[str] = []
        self._scanned = -_RESCAN_S

    def ring(self) -> None:
        now = time.monotonic()
        if now - self._scanned >= _RESCAN_S:
            self._scanned = now
            self._bells = self._scan()
        for bell in self._bells:
            with contextlib.suppress(OSError):  # full, dead or gone: the reader looks by itself
                self._socket.sendto(b"!", bell)

    def _scan(self) -> list[str]:
        try:
            return [entry.path for entry in os.scandir(self._folder) if entry.name.endswith(".sock")]
        except FileNotFoundError:
            return []

    def close(self) -> None:
        self._socket.close()
