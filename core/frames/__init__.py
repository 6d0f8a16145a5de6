"""The frame bus: rings in shared memory, one write per frame, readers in place."""

from core.frames.budget import RingBudget, camera_bytes, fit_size, ring_budget
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
    segment_prefix,
    sweep,
)

__all__ = [
    "Doorbell",
    "Frame",
    "FrameFormat",
    "ReaderStatistics",
    "RingBudget",
    "RingInfo",
    "RingReader",
    "RingSet",
    "RingWriter",
    "Ringer",
    "WriterStatistics",
    "camera_bytes",
    "fit_size",
    "list_rings",
    "mappers",
    "ring_budget",
    "segment_prefix",
    "sweep",
]
