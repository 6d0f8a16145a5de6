"""The doorbell: a byte in a pipe that says "look at the rings"; a hint, never the truth."""

import contextlib
import errno
import mmap
import os
import select
import threading
from pathlib import Path

__all__ = ["Doorbell", "Ringer", "fence", "sweep_bells"]

_RESCAN_NS = 1_000_000_000
_BELL, _WORD = ".bell", ".word"

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
    of a reader that is busy pays a look at one word. A named pipe, which wakes in two thirds of the time that a
    datagram takes.
    """

    def __init__(self, run_dir: Path, name: str) -> None:
        folder = _folder(run_dir)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{name}{_BELL}"
        self._word_path = self._path.with_suffix(_WORD)
        self._word = _map_word(self._word_path, create=True)
        self._word[0] = 0
        aside = folder / f"{name}.{os.getpid()}.part"
        aside.unlink(missing_ok=True)
        os.mkfifo(aside, 0o600)
        # open at both ends, so that it does not end with the last writer
        self._fd = os.open(aside, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        aside.replace(self._path)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._rang = False

    def fileno(self) -> int:
        return self._fd

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s` (counted in milliseconds). Takes notice: what was published before is
        there to be seen now, what is published later rings again.
        """
        if self._rang:
            self.hush()  # only now: who was woken looks at the frame first
        # a word that is set after it was hushed has a ring on its way, which costs a second look, and no lost one
        self._rang = bool(self._word[0] or self._poll.poll(timeout_s * 1000))
        self._word[0] = 0
        fence()
        return self._rang

    def hush(self) -> None:
        """Takes the ringing without taking notice: it does not ring again before answer()."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 64)

    def answer(self) -> None:
        """Takes notice, as wait() does, for those that wait for fileno() themselves."""
        self.hush()
        self._word[0] = 0
        fence()

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        self._word_path.unlink(missing_ok=True)
        os.close(self._fd)


class _Bell:
    """A reader's bell, seen from a writer."""

    __slots__ = ("fd", "word")

    def __init__(self, path: str) -> None:
        """Raises OSError where nobody listens any more."""
        self.fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.word = _map_word(Path(path).with_suffix(_WORD), create=False)
        except OSError:
            os.close(self.fd)
            raise


class Ringer:
    """A writer's end: rings every bell there is, without ever waiting."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = _folder(run_dir)
        self._bells: dict[tuple[str, int], _Bell] = {}
        """By path and inode: a reader that starts again has a new one."""
        self._scan_at_ns = 0

    def ring(self, now_ns: int) -> None:
        """To be called after a full barrier: a reader that has taken notice before it sees what was published.

        `now_ns` is the monotonic time.
        """
        if now_ns >= self._scan_at_ns:
            self._scan_at_ns = now_ns + _RESCAN_NS
            self._scan()
        for bell in self._bells.values():
            if not bell.word[0]:
                bell.word[0] = 1
                try:
                    os.write(bell.fd, b"!")
                except OSError:  # full, dead or gone: the reader looks by itself
                    continue

    def _scan(self) -> None:
        try:
            found = {(entry.path, entry.inode()) for entry in os.scandir(self._folder) if entry.name.endswith(_BELL)}
        except FileNotFoundError:
            found = set[tuple[str, int]]()
        for key in self._bells.keys() - found:
            os.close(self._bells.pop(key).fd)
        for key in found - self._bells.keys():
            with contextlib.suppress(OSError):
                self._bells[key] = _Bell(key[0])

    def close(self) -> None:
        for bell in self._bells.values():
            os.close(bell.fd)
        self._bells.clear()


def sweep_bells(run_dir: Path) -> None:
    """Removes the bells of readers that are gone."""
    for path in _folder(run_dir).glob(f"*{_BELL}"):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody has it open to read
                path.unlink(missing_ok=True)
                path.with_suffix(_WORD).unlink(missing_ok=True)


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
