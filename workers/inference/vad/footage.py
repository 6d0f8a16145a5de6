"""Footage at the size that small nets look at: a stream's last seconds, and what is kept of it to learn from."""

import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np

from core.errors import StateError
from workers.inference.vad.motion_features import RESET_GAP_S
from workers.inference.vad.state_files import Packed, join, split

__all__ = ["CELL", "FRAME_S", "Chunks", "History", "find_background", "net_size"]

CELL = 8
"""Pixels that the sides of a net's frame are multiples of."""
NET_PIXELS = 180 * 120
"""About so many are looked at, never more than there are."""
FRAME_S = 0.1
"""Footage is kept at 10 frames a second."""
HISTORY_STEP_S = 0.02
CHUNK = 48
"""Frames that are kept together."""
MOST_CHUNKS = 64
"""66 MB at most while learning, five minutes; of more, chunks in which more happens are likelier to stay."""
LEAST_CHUNK = 20
LEAST_S = 3.0
MOVED = 18
"""Grey levels between a chunk's first and last frame that count as movement."""


@lru_cache(maxsize=256)
def net_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of what a net sees of a working frame: multiples of a cell."""
    scale = min(1.0, (NET_PIXELS / (width * height)) ** 0.5)
    return max(2, -(-round(width * scale) // CELL)) * CELL, max(2, -(-round(height * scale) // CELL)) * CELL


def find_background(chunks: Sequence[np.ndarray]) -> np.ndarray:
    """The median of frames all over what was kept, (h, w) uint8."""
    shape = chunks[0].shape[1:]
    frames = [frame for chunk in chunks if chunk.shape[1:] == shape for frame in chunk[:: CHUNK // 3]]
    picked = frames[:: -(-len(frames) // 96)]
    return np.median(np.stack(picked), axis=0).astype(np.uint8)


class Sized(Protocol):
    """A frame at the net's size, wherever it lies."""

    @property
    def shape(self) -> tuple[int, ...]: ...


AnyFrame = TypeVar("AnyFrame", bound=Sized)


class History(Generic[AnyFrame]):
    """A stream's last frames at the net's size, as far back as a net looks."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Sequence[tuple[float, AnyFrame]] = ()) -> None:
        self._frames = deque(frames)

    def copy(self) -> "History[AnyFrame]":
        return History(self._frames)

    def push(self, small: AnyFrame, media_s: float, *, frames: int, step_s: float) -> list[AnyFrame]:
        """Takes a frame in; so many, `step_s` apart, the last one now; where history is short, the oldest there is.
        A gap, a jump back or another size empties it first. Raises StateError.
        """
        if not np.isfinite(media_s):
            raise StateError(f"a frame's time must be a finite number, not {media_s}")
        kept = self._frames
        if kept and (not 0.0 < media_s - kept[-1][0] <= RESET_GAP_S or kept[-1][1].shape != small.shape):
            kept.clear()
        while len(kept) > 1 and media_s - kept[1][0] >= step_s * (frames - 1):
            kept.popleft()
        earlier = list(kept)
        window = [
            min(earlier, key=lambda one: abs(media_s - one[0] - step_s * back))[1] if earlier else small
            for back in range(frames - 1, 0, -1)
        ]
        if not kept or media_s - kept[-1][0] >= HISTORY_STEP_S:
            kept.append((media_s, small))
        return [*window, small]


class Chunks:
    """Pieces of footage of one scene, of one or several streams, in bounded memory; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self._open: dict[int, tuple[float, list[np.ndarray]]] = {}
        self._kept: list[tuple[float, int, np.ndarray]] = []
        self._order = 0

    def add(self, stream: int, media_s: float, small: np.ndarray) -> None:
        """Takes a frame in: into every slot of 0.1 s since the last one, at most until RESET_GAP_S."""
        with self._lock:
            begun, chunk = self._open.get(stream, (media_s, []))
            late = media_s - (begun + len(chunk) * FRAME_S)
            if chunk and (late > RESET_GAP_S or late < -RESET_GAP_S or chunk[0].shape != small.shape):
                self._close(chunk)
                begun, chunk, late = media_s, [], 0.0
            while late > -FRAME_S / 2:
                chunk.append(small)
                late -= FRAME_S
                if len(chunk) == CHUNK:
                    self._close(chunk)
                    begun, chunk = begun + CHUNK * FRAME_S, []
            self._open[stream] = begun, chunk

    def _close(self, chunk: list[np.ndarray]) -> None:
        """Keeps a chunk by weighted choice (A-ES, Efraimidis and Spirakis 2006): what moves weighs more."""
        if len(chunk) < LEAST_CHUNK:
            return
        frames = np.stack(chunk)
        moved = float((cv2.absdiff(frames[0], frames[-1]) > MOVED).mean())
        self._order += 1
        self._kept.append((self._choice.random() ** (1.0 / (0.01 + moved)), self._order, frames))
        if len(self._kept) > MOST_CHUNKS:
            self._kept.remove(min(self._kept, key=lambda one: one[0]))

    def merge(self, others: Sequence["Chunks"]) -> None:
        """Takes in what `others` keep: the likeliest to stay of all."""
        for other in others:
            kept, running = other._copied()  # noqa: SLF001 - of the same class
            with self._lock:
                self._kept += [(key, self._order + order, frames) for key, order, frames in kept]
                self._order += max((order for _, order, _ in kept), default=0)
                for chunk in running:
                    self._close(chunk)
                self._kept = sorted(self._kept, key=lambda one: one[0])[-MOST_CHUNKS:]

    def _copied(self) -> tuple[list[tuple[float, int, np.ndarray]], list[list[np.ndarray]]]:
        with self._lock:
            return list(self._kept), [list(chunk) for _, chunk in self._open.values()]

    def pack(self) -> Packed:
        """What is kept, but for chunks that go on."""
        with self._lock:
            kept, order = list(self._kept), self._order
        shape = kept[-1][2].shape[1:] if kept else (0, 0)
        kept = [one for one in kept if one[2].shape[1:] == shape]
        arrays = join("frames", [frames for _, _, frames in kept], np.zeros((0, *shape), np.uint8))
        arrays["keys"] = np.array([key for key, _, _ in kept], np.float64)
        arrays["orders"] = np.array([number for _, number, _ in kept], np.int64)
        return {"order": order}, arrays

    def unpack(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on, empty ones, from what was packed; raises KeyError, ValueError, TypeError where that is not whole."""
        frames = split("frames", arrays)
        if arrays["frames"].dtype != np.uint8 or arrays["frames"].ndim != 3 or len(frames) > MOST_CHUNKS:
            raise ValueError("its footage is of another kind")
        self._kept = list(zip(arrays["keys"].tolist(), arrays["orders"].tolist(), frames, strict=True))
        self._order = int(head["order"])
        self._choice = random.Random(self._order)

    def snapshot(self) -> list[np.ndarray]:
        """The chunks in the order they came, (n, h, w) uint8 each; raises StateError where there is too little."""
        with self._lock:
            chunks = [frames for _, _, frames in sorted(self._kept, key=lambda one: one[1])]
            chunks += [np.stack(chunk) for _, chunk in self._open.values() if len(chunk) >= LEAST_CHUNK]
        seconds = sum(len(chunk) for chunk in chunks) * FRAME_S
        if seconds < LEAST_S:
            raise StateError(
                f"{seconds:.1f} s of footage were taken in: at least {LEAST_S:g} s without a gap are needed",
                "let it learn for longer, or from a longer file",
            )
        return chunks
