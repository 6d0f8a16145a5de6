"""The live row of a camera: what it makes of the newest picture, in a small shared file that anybody may look at.

Written by the camera's process with each turn of its loop and read by whoever shows the camera, without a message.
"""

import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from core.cameras.model import CameraPhase, Fault

__all__ = ["LearningPace", "LiveRow", "LiveView", "Stage", "read_live"]

Stage = Literal["learning", "provisional", "armed"]
"""What a camera's judgement is worth: none yet, some, or what was promised."""

_HEAD = struct.Struct("=QQ")
"""sequence (odd while written), bytes that follow."""
_ROW_BYTES = 8192
STALE_S = 3.0
"""A row that was not written for so long is one of a process that is gone or hangs."""
WINDOW_S = 20.0
LEAST_WINDOW_S = 1.0


class LiveView(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One look at a camera. Times are monotonic nanoseconds of this machine; scores are -log10 P, not clipped."""

    at_ns: int
    phase: CameraPhase
    stage: Stage | None
    """None before it is known."""
    analysis_fps: float = 0.0
    """Frames per second that are in its rings at most, unless somebody watches."""
    fault: Fault | None = None
    learned_s: float = 0.0
    wanted_s: float = 0.0
    """Seconds of footage that it is to learn from."""
    left_s: float | None = None
    """Until it has learned, by the pace of late; None where that cannot be told, or nothing is being learned."""
    score: float | None = None
    """Of the newest picture that was judged; None before the first."""
    scored_ns: int = 0
    """When that picture was captured."""
    open_score: float = 0.0
    """From this score on an event begins."""
    event_id: str = ""
    """Of the event that goes on; "" where none does."""
    peak_x: float = 0.5
    peak_y: float = 0.5
    """Where the score is highest, fractions 0..1 of the frame."""
    map_rows: int = 0
    map_cols: int = 0
    map: bytes = b""
    """The location map as in ScoreReply: 0..255 for -log10 P of 0..6, row by row."""
    night: bool = False
    """Whether it sees by infra-red: then it judges by what it learned of that light alone."""

    @property
    def learned_share(self) -> float:
        """0..1 of what it is to learn from; 1 where it learned."""
        if self.stage != "learning":
            return 1.0
        return min(1.0, self.learned_s / self.wanted_s) if self.wanted_s > 0 else 0.0


def _path(run_dir: Path, camera_id: str) -> Path:
    return run_dir / "live" / camera_id


class LiveRow:
    """The writing end; of one process."""

    def __init__(self, run_dir: Path, camera_id: str) -> None:
        self._path = _path(run_dir, camera_id)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{camera_id}.{os.getpid()}")
        fresh.write_bytes(bytes(_ROW_BYTES))
        with fresh.open("r+b") as file:
            self._row = mmap.mmap(file.fileno(), _ROW_BYTES)
        fresh.replace(self._path)
        self._sequence = 0

    def write(self, view: LiveView) -> None:
        """A location map that has no room is left out."""
        body = msgspec.msgpack.encode(view)
        if _HEAD.size + len(body) > _ROW_BYTES:
            body = msgspec.msgpack.encode(msgspec.structs.replace(view, map=b"", map_rows=0, map_cols=0))
        self._sequence += 2
        self._row[: _HEAD.size] = _HEAD.pack(self._sequence - 1, len(body))
        self._row[_HEAD.size : _HEAD.size + len(body)] = body
        self._row[:8] = self._sequence.to_bytes(8, "little")

    def close(self) -> None:
        """Takes the row away."""
        self._row.close()
        self._path.unlink(missing_ok=True)


_decoder = msgspec.msgpack.Decoder(LiveView)


def read_live(run_dir: Path, camera_id: str) -> LiveView | None:
    """What the camera last wrote; None where its process does not run, or hangs."""
    try:
        with _path(run_dir, camera_id).open("rb", buffering=0) as file:
            for _ in range(3):
                row = os.pread(file.fileno(), _ROW_BYTES, 0)
                sequence, size = _HEAD.unpack_from(row)
                again = os.pread(file.fileno(), 8, 0)
                if sequence and sequence % 2 == 0 and again == row[:8]:
                    view = _decoder.decode(row[_HEAD.size : _HEAD.size + size])
                    # a row of before the machine was restarted may lie in the future
                    return view if 0 <= time.monotonic_ns() - view.at_ns < STALE_S * 1e9 else None
    except (OSError, struct.error, msgspec.DecodeError):
        pass
    return None


class LearningPace:
    """How long learning still takes, from how fast it went of late."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: deque[tuple[float, float]] = deque()
        """(monotonic, learned seconds), one for each quarter of a second."""

    def left_s(self, learned_s: float, wanted_s: float) -> float | None:
        """Seconds until `wanted_s` are learned; None before there is a pace."""
        now = self._monotonic()
        if self._seen and learned_s < self._seen[-1][1]:
            self._seen.clear()  # it began anew
        if not self._seen or now - self._seen[-1][0] >= LEAST_WINDOW_S / 4:
            self._seen.append((now, learned_s))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        since, learned_then = self._seen[0]
        if now - since < LEAST_WINDOW_S or learned_s <= learned_then:
            return None
        return max(0.0, wanted_s - learned_s) * (now - since) / (learned_s - learned_then)
