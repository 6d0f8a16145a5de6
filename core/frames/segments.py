"""Shared-memory segments that the resource tracker never hears of, with all their memory reserved at once."""

import contextlib
import os
import sys
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any, cast

from core.errors import BusError, SegmentTooLarge

__all__ = ["SHM_DIR", "attach", "create", "free_bytes", "unlink"]

SHM_DIR = Path("/dev/shm")
_lock = threading.Lock()


def _ignore(_name: str, _kind: str) -> None:
    pass


@contextlib.contextmanager
def _untracked() -> Generator[None]:
    """The tracker would unlink a live segment when any one of its users ends (CPython issue 82300).

    Unregistering afterwards would start a tracker in each process, so registering itself is left out.
    """
    with _lock:
        tracker = cast("Any", resource_tracker)
        register, unregister = tracker.register, tracker.unregister
        tracker.register = tracker.unregister = _ignore
        try:
            yield
        finally:
            tracker.register, tracker.unregister = register, unregister


class _Segment(shared_memory.SharedMemory):
    def __del__(self) -> None:
        """Views of the pixels may outlive it: then the mapping goes with the last of them."""
        with contextlib.suppress(BufferError, OSError):
            self.close()


def free_bytes() -> int:
    """What is left in /dev/shm."""
    found = os.statvfs(SHM_DIR)
    return found.f_bavail * found.f_frsize


def create(name: str, size: int, share: float) -> shared_memory.SharedMemory:
    """A new segment of `size` bytes, mode 0600, reserved and touched.

    Raises SegmentTooLarge where it needs more than `share` of what is free, BusError where the name is taken.
    """
    free = free_bytes()
    if size > free * share:
        raise SegmentTooLarge(
            f"the ring needs {size / 1e6:.0f} MB of shared memory, {free / 1e6:.0f} MB are free",
            "enlarge /dev/shm (docker: --shm-size), or lower bus.main_slots or the camera's resolution",
        )
    try:
        with _untracked():
            segment = _Segment(name, create=True, size=4096)
    except FileExistsError as error:
        raise BusError(f"the segment {name} exists") from error
    segment.close()
    path = SHM_DIR / name
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise SegmentTooLarge(
            f"cannot reserve {size / 1e6:.0f} MB of shared memory: {error.strerror}", "enlarge /dev/shm"
        ) from error
    return attach(name)


def attach(name: str) -> shared_memory.SharedMemory:
    """Maps an existing segment; raises BusError where there is none."""
    try:
        with _untracked():
            return _Segment(name) if sys.version_info < (3, 13) else _Segment(name, track=False)
    except (FileNotFoundError, ValueError) as error:
        raise BusError(f"there is no segment {name}") from error


def unlink(name: str) -> None:
    """Removes the name; who has it mapped keeps the memory."""
    (SHM_DIR / name).unlink(missing_ok=True)
