"""Whether the frame rings of all cameras fit into shared memory, found out before any of them is made."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from core.config import BusConfig
from core.errors import SegmentTooLarge
from core.frames.ring import FrameFormat, list_rings, ring_bytes
from core.frames.segments import SHM_DIR, free_bytes
from core.ids import CameraId

__all__ = ["ASSUMED", "RingBudget", "camera_bytes", "fit_size", "ring_budget"]

ASSUMED = (1920, 1080)
"""Width and height that a camera is believed to have until it has been seen."""


class RingBudget(msgspec.Struct, frozen=True):
    """Bytes: what the rings need, those that are there included, and what they may take."""

    cameras: int
    needed: int
    allowed: int
    assumed: int
    """Cameras of which no ring was there to measure."""

    def check(self) -> None:
        """Raises SegmentTooLarge where it does not fit."""
        if self.needed > self.allowed:
            raise SegmentTooLarge(self.describe(), self.hint())

    def describe(self) -> str:
        guess = f" ({self.assumed} of them taken for {ASSUMED[0]}x{ASSUMED[1]})" if self.assumed else ""
        return (
            f"the frames of {self.cameras} cameras{guess} need {self.needed / 1e6:.0f} MB of shared memory, "
            f"{self.allowed / 1e6:.0f} MB may be used"
        )

    def hint(self) -> str:
        size = max(64, -(-self.needed * 5 // 4 // (1 << 20)))
        return (
            f"enlarge {SHM_DIR} (mount -o remount,size={size}M {SHM_DIR}; docker: --shm-size={size}m), "
            "or lower bus.main_slots, or stop a camera"
        )


def fit_size(width: int, height: int, max_width: int, max_height: int) -> tuple[int, int]:
    """The largest even size of the same shape within the maximum, never larger than the source."""
    scale = min(1.0, max_width / width, max_height / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def camera_bytes(bus: BusConfig, width: int, height: int) -> int:
    """What the two rings of a camera of this size take."""
    small = fit_size(width, height, bus.analysis_width, bus.analysis_height)
    return ring_bytes(FrameFormat(width, height), bus.main_slots) + ring_bytes(FrameFormat(*small), bus.analysis_slots)


def ring_budget(bus: BusConfig, run_dir: Path, cameras: Iterable[CameraId]) -> RingBudget:
    """The budget of these cameras when all of them run: those that have rings count what these take."""
    there: dict[str, int] = {}
    for ring in list_rings(run_dir):
        there[ring.camera_id] = there.get(ring.camera_id, 0) + ring_bytes(ring.format, ring.n_slots)
    wanted = set(cameras)
    unseen = len(wanted - there.keys())
    needed = sum(there[name] for name in wanted & there.keys()) + unseen * camera_bytes(bus, *ASSUMED)
    ours = sum(there.values())
    return RingBudget(len(wanted), needed, ours + int(free_bytes() * bus.shm_share), unseen)
