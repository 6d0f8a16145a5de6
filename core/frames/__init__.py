"""The frame bus: rings in shared memory, one write per frame, readers in place."""

from core.frames.doorbell import Doorbell, Ringer
from core.frames.ring import (
    Frame,
    FrameFormat,
    ReaderStatistics,
    RingInfo,
    RingReader,
    RingSet,
    RingWriter,
    WriterStatistics,
    list_rings,
    mappers,
    sweep,
)

__all__ = [
    "Doorbell",
    "Frame",
    "FrameFormat",
    "ReaderStatistics",
    "RingInfo",
    "RingReader",
    "RingSet",
    "RingWriter",
    "Ringer",
    "WriterStatistics",
    "list_rings",
    "mappers",
    "sweep",
]
