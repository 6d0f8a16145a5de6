"""Heartbeats: a small shared row per process, written by its work loop and read by whoever watches it."""

import mmap
import os
import struct
import time
from pathlib import Path

import msgspec

__all__ = ["Beat", "Heartbeat", "list_heartbeats", "read_heartbeat", "remove_heartbeat"]

_REASON_BYTES = 216
_ROW = struct.Struct(f"=QQQQQQ24s{_REASON_BYTES}s")
"""sequence (odd while written), pid, started_ns, beat_ns, count, restarts, phase, reason."""


class Beat(msgspec.Struct, frozen=True):
    """What a process last said of itself; times are monotonic nanoseconds of this machine."""

    pid: int
    started_ns: int
    beat_ns: int
    count: int
    phase: str
    reason: str = ""
    """Why it is in that phase, for a person; "" where that needs no saying."""
    restarts: int = 0
    """How often it began again after an end that was not orderly, since the last that was."""

    @property
    def age_s(self) -> float:
        return (time.monotonic_ns() - self.beat_ns) / 1e9


def _path(run_dir: Path, name: str) -> Path:
    return run_dir / "beats" / name


class Heartbeat:
    """This process's row. The work loop beats it; a side thread never does, since it would hide a hang."""

    def __init__(self, run_dir: Path, name: str) -> None:
        path = _path(run_dir, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = read_heartbeat(run_dir, name)
        self._restarts = left.restarts + 1 if left else 0
        fresh = path.with_name(f".{name}.{os.getpid()}")
        fresh.write_bytes(bytes(_ROW.size))
        with fresh.open("r+b") as file:
            self._row = mmap.mmap(file.fileno(), _ROW.size)
        fresh.replace(path)
        self._path = path
        self._pid = os.getpid()
        self._sequence = 0
        self._started_ns = time.monotonic_ns()

    def beat(self, phase: str, count: int = 0, reason: str = "") -> None:
        """Says: alive now, in `phase` (24 bytes at most), having done `count` units of work; `reason` is cut at 216."""
        self._sequence += 2
        self._write(self._sequence - 1, phase, count, reason.encode()[:_REASON_BYTES])
        self._row[:8] = self._sequence.to_bytes(8, "little")

    def _write(self, sequence: int, phase: str, count: int, reason: bytes) -> None:
        now = time.monotonic_ns()
        row = (sequence, self._pid, self._started_ns, now, count, self._restarts, phase.encode()[:24], reason)
        self._row[:] = _ROW.pack(*row)

    def close(self) -> None:
        """Takes the row away: an orderly end."""
        self._row.close()
        self._path.unlink(missing_ok=True)


def read_heartbeat(run_dir: Path, name: str) -> Beat | None:
    """The last beat of process `name`; None if it never beat (or has ended orderly)."""
    try:
        with _path(run_dir, name).open("rb") as file:
            for _ in range(3):
                file.seek(0)
                sequence, pid, started, beat, count, restarts, phase, reason = _ROW.unpack(file.read(_ROW.size))
                if sequence and sequence % 2 == 0:
                    return Beat(pid, started, beat, count, _text(phase), _text(reason), restarts)
    except (OSError, struct.error):
        pass
    return None


def list_heartbeats(run_dir: Path) -> list[tuple[str, Beat]]:
    """All processes that have beaten, by name."""
    folder = run_dir / "beats"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    return [(name, beat) for name in names if (beat := read_heartbeat(run_dir, name))]


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="ignore")


def remove_heartbeat(run_dir: Path, name: str) -> None:
    """Takes away what a killed process left."""
    _path(run_dir, name).unlink(missing_ok=True)
