"""The doorbell: a datagram that says "look at the rings"; a hint, never the truth."""

import contextlib
import mmap
import os
import select
import socket
import threading
import time
from pathlib import Path

__all__ = ["Doorbell", "Ringer", "fence"]

_RESCAN_S = 1.0

_barrier = threading.Lock()


def fence() -> None:
    """Orders loads and stores around it; a lock taken and given back is a full barrier where the machine needs one."""
    with _barrier:
        pass


def _folder(run_dir: Path) -> Path:
    return run_dir / "bells"


class Doorbell:
    """A reader process's bell; one file descriptor for all cameras.

    It has rung from the first frame on until its reader has taken notice, and does not ring again meanwhile: a writer
    of a reader that is busy pays a look at one word.
    """

    def __init__(self, run_dir: Path, name: str) -> None:
        folder = _folder(run_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{name}.sock"
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._word_path = folder / f"{name}.word"
        self._word = _map_word(self._word_path, create=True)
        self._word[0] = 0
        self._socket.bind(str(self._path))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s` (counted in milliseconds). Takes notice: what was published before is
        there to be seen now, what is published later rings again.
        """
        rang = bool(self._poll.poll(timeout_s * 1000))
        self.answer()
        return rang

    def hush(self) -> None:
        """Takes the ringing without taking notice: it does not ring again before answer()."""
        with contextlib.suppress(BlockingIOError):
            self._socket.recv(16)

    def answer(self) -> None:
        """Takes notice, as wait() does, for those that wait for fileno() themselves."""
        self.hush()  # one: writers that rang at the same moment cost a second look, and no lost one
        self._word[0] = 0
        fence()

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
        self._word_path.unlink(missing_ok=True)


class _Bell:
    """A reader's bell, seen from a writer; connected, since looking an address up costs as much as ringing."""

    def __init__(self, address: str) -> None:
        """Raises OSError where it was closed just now."""
        self.word = _map_word(Path(address).with_suffix(".word"), create=False)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise


class Ringer:
    """A writer's end: rings every bell there is, without ever waiting."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = _folder(run_dir)
        self._bells: dict[tuple[str, int], _Bell] = {}
        """By path and inode: a reader that starts again has a new one."""
        self._scanned = -_RESCAN_S

    def ring(self) -> None:
        """To be called after a full barrier: a reader that has taken notice before it sees what was published."""
        now = time.monotonic()
        if now - self._scanned >= _RESCAN_S:
            self._scanned = now
            self._scan()
        for bell in self._bells.values():
            if not bell.word[0]:
                bell.word[0] = 1
                with contextlib.suppress(OSError):  # full, dead or gone: the reader looks by itself
                    bell.socket.send(b"!")

    def _scan(self) -> None:
        try:
            found = {(entry.path, entry.inode()) for entry in os.scandir(self._folder) if entry.name.endswith(".sock")}
        except FileNotFoundError:
            found = set[tuple[str, int]]()
        for key in self._bells.keys() - found:
            self._bells.pop(key).socket.close()
        for key in found - self._bells.keys():
            with contextlib.suppress(OSError):
                self._bells[key] = _Bell(key[0])

    def close(self) -> None:
        for bell in self._bells.values():
            bell.socket.close()
        self._bells.clear()


def _map_word(path: Path, *, create: bool) -> memoryview:
    """The word of a bell in shared memory: 1 from the first ring until the reader has taken notice."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        if create:
            os.ftruncate(fd, 8)
        elif os.fstat(fd).st_size < 8:
            raise OSError(f"{path} is no bell's word")
        return memoryview(mmap.mmap(fd, 8)).cast("Q")
    finally:
        os.close(fd)
