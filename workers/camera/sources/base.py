"""What a camera asks of a video source, wherever the pictures come from."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np

__all__ = ["SimulatedSource", "Source", "SourceFrame", "SourceInfo", "SparingSource", "check_i420"]


class SourceInfo(msgspec.Struct, frozen=True):
    """What is known of a source once it is open."""

    name: str
    width: int
    """Pixels, even."""
    height: int
    """Pixels, even."""
    fps: float
    frames: int | None
    """As the container claims; None where unknown or endless."""
    duration_s: float | None
    simulated: bool
    """True where pictures are made up, so that nothing needs to wait for real time."""


class SourceFrame(Protocol):
    """One picture; valid until the next one is asked for."""

    @property
    def index(self) -> int:
        """Counts from 0 the frames that this iteration gave."""
        ...

    @property
    def media_s(self) -> float:
        """Seconds of video time, strictly increasing within one iteration."""
        ...

    def write_i420(self, out: np.ndarray) -> None:
        """Fill `out`, contiguous (height * 3 // 2, width) uint8: the Y plane, then U, then V."""
        ...


class Source(Protocol):
    """An open source; belongs to one thread."""

    @property
    def info(self) -> SourceInfo:
        """Fixed from opening to closing."""
        ...

    def frames(self) -> Iterator[SourceFrame]:
        """Give the frames as fast as they are asked for, from the beginning; ends at the end of a file.

        A new call begins anew and ends the iteration that was going on. Raises SourceError where the source
        cannot be read on.
        """
        ...

    def close(self) -> None:
        """Let go of files and memory; harmless when repeated."""
        ...


@runtime_checkable
class SimulatedSource(Source, Protocol):
    """A source whose pictures are made up, ordinary ones on demand."""

    def normal_frames(self, seconds: float) -> Iterator[SourceFrame]:
        """Give `seconds` of simulated time in which nothing unusual happens, as fast as they are asked for."""
        ...


@runtime_checkable
class SparingSource(Source, Protocol):
    """A source that can leave out what its codec needs for no other frame."""

    sparing: bool
    """While True, such frames are not decoded; to be set at any time, by any thread."""


def check_i420(out: np.ndarray, width: int, height: int) -> None:
    """Raises ValueError unless `out` can take an I420 picture of this size in place."""
    wanted = (height * 3 // 2, width)
    if out.shape != wanted or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"the frame needs contiguous {wanted} uint8, not {out.shape} {out.dtype}")
