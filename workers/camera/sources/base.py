"""What a camera asks of a video source, wherever the pictures come from."""

import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import certifi
import msgspec
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from core.cameras import CameraSettings
from core.cameras.urls import CameraUrl
from core.config import HardwareDecoding

__all__ = [
    "Activity",
    "PacketSink",
    "SimulatedSource",
    "Source",
    "SourceFrame",
    "SourceInfo",
    "SourceOptions",
    "Wanted",
    "check_i420",
    "trusted_authorities",
]


class Activity:
    """What the capturing thread does now, for a watchdog in another thread."""

    def __init__(self) -> None:
        self._now: tuple[str, float] = ("", time.monotonic())

    def begin(self, what: str) -> None:
        """`what` is "open", "read" or "decode"; "" where nothing can hang."""
        self._now = (what, time.monotonic())

    def for_s(self) -> tuple[str, float]:
        """What it does, and for how many seconds."""
        what, since = self._now
        return what, time.monotonic() - since


class PacketSink(Protocol):
    """Takes what a source reads before it is decoded; called by the source's thread."""

    def begin(self, stream: VideoStream, rotation: int) -> None:
        """Packets of this stream follow; those of another cannot be joined to them."""
        ...

    def add(self, packet: Packet) -> None: ...


class Wanted:
    """Which pictures a camera has a use for, told to its source while it decodes; used by one thread."""

    def __init__(self) -> None:
        self.due_s = -math.inf
        """The source's own time from which on the next one is; -inf where all are."""
        self.few = False
        """Whether so few are that those may be left out from which no other follows."""
        self.left_out = 0
        """Pictures so far that the source did not give for that."""


class SourceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a source is opened and read."""

    settings: CameraSettings = CameraSettings()
    open_s: float = 8.0
    read_s: float = 6.0
    addresses: Callable[[CameraUrl], list[str]] = lambda url: [url.host]
    """The addresses of a host that may be called; raises AddressRefused."""
    activity: Activity = Activity()
    hardware: HardwareDecoding = "off"
    packets: PacketSink | None = None
    wanted: Wanted | None = None
    """None: all pictures are."""
    stopped: threading.Event = threading.Event()
    """Ends waiting early."""


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
    live: bool = False
    """Pictures come when they come, and nobody can ask for an earlier one."""
    codec: str = ""
    """As FFmpeg names it; "" where there is none."""
    speed: float = 1.0
    """Seconds of its time in one of the clock's, where it is paced."""


Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Y (height, width), U and V (height / 2, width / 2) of a picture, uint8; lines may lie apart."""


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

    def planes(self) -> Planes | None:
        """The picture where it lies, to be read only; None where it has to be converted, turned or drawn first."""
        ...


class Source(Protocol):
    """An open source; belongs to one thread."""

    @property
    def info(self) -> SourceInfo:
        """Fixed from opening to closing, but for the size of a live picture or of the next file of a folder: it is
        that of the frame given last.
        """
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


def trusted_authorities() -> str:
    """The file of certificates that this machine trusts; SSL_CERT_FILE names another."""
    return ssl.get_default_verify_paths().cafile or certifi.where()


def check_i420(out: np.ndarray, width: int, height: int) -> None:
    """Raises ValueError unless `out` can take an I420 picture of this size in place."""
    wanted = (height * 3 // 2, width)
    if out.shape != wanted or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"the frame needs contiguous {wanted} uint8, not {out.shape} {out.dtype}")
