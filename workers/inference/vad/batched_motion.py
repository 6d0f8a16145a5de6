"""The motion of many cameras' frames, found in one pass on a CUDA device instead of one by one on the CPU."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import structlog
import torch
from torch import Tensor
from torch.nn import functional

from workers.inference.memory import empty_device_cache, is_out_of_memory
from workers.inference.vad.dense_flow import dense_flow
from workers.inference.vad.motion_features import (
    BASELINE_S,
    Area,
    Earlier,
    Geometry,
    Motion,
    Prepared,
    motion_in,
    near_counts_from,
    where_moving,
)

__all__ = ["BatchedMotion", "make_finder"]

PASS = 64
"""Frames in a pass at most: some hundreds of MB of the device's memory at working size."""

GOLDEN = (320, 240)
"""Width and height of the pictures by which it is tried."""
SHIFTS = ((6, 0), (-4, 3), (0, -7), (3, 3))
"""Pixels that the golden thing moves in BASELINE_S, one for each picture of the golden batch."""
MISSED = 1.0
"""Pixels by which its motion may be missed, in the median over the thing: on a CPU it is 0.6 at most."""

log = structlog.get_logger()


class _Job(NamedTuple):
    earlier: Earlier
    frame: Prepared
    area: Area


class BatchedMotion:
    """Finds what `find_motion` would, for many frames at a time, and leaves it with them, where that looks first.

    Holds nothing of a camera. What the device has no memory for, or fails at, is left for the CPU to find; the first
    such failure is logged.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._failed = False

    def find(self, asked: Iterable[tuple[Earlier, Prepared]]) -> None:
        """Never raises for what the device cannot do."""
        by_geometry: dict[Geometry, list[_Job]] = {}
        for earlier, frame in asked:
            if any(known.same_as(earlier) for known, _ in frame.found):
                continue
            found = where_moving(earlier, frame)
            if isinstance(found, Area):
                by_geometry.setdefault(frame.geometry, []).append(_Job(earlier, frame, found))
            else:
                frame.found[:] = [(earlier, found)]
        for jobs in by_geometry.values():
            for begin in range(0, len(jobs), PASS):
                self._find(jobs[begin : begin + PASS])

    @property
    def device(self) -> str:
        return str(self._device)

    def miss(self) -> float:
        """Pixels by which the motion of a thing that moves as SHIFTS say is missed, the most of them; raises
        RuntimeError for what the device cannot do.
        """
        random = np.random.default_rng(0)
        width, height = GOLDEN
        ground, thing = (cv2.blur(random.integers(0, 255, (side, side), np.uint8), (9, 9)) for side in (width, 64))
        jobs: list[_Job] = []
        for x, y in SHIFTS:
            before, now = ground[:height].copy(), ground[:height].copy()
            before[80:144, 120:184] = thing
            now[80 + y : 144 + y, 120 + x : 184 + x] = thing
            earlier = Earlier(before, BASELINE_S, before, BASELINE_S)
            whole = Area(slice(0, height), slice(0, width))
            jobs.append(_Job(earlier, Prepared(now, Geometry(width, height)), whole))
        worst = 0.0
        for (x, y), motion in zip(SHIFTS, self._motions(jobs), strict=True):
            inside = motion.velocity[44:68, 64:88] * (BASELINE_S * height)
            worst = max(worst, float(np.median(np.hypot(inside[..., 0] - x, inside[..., 1] - y))))
        return worst

    def _find(self, jobs: Sequence[_Job]) -> None:
        try:
            motions = self._motions(jobs)
        except RuntimeError as error:  # torch's own, of no memory as well
            empty_device_cache()
            if is_out_of_memory(error) and len(jobs) > 1:
                self._find(jobs[: len(jobs) // 2])
                self._find(jobs[len(jobs) // 2 :])
                return
            if not self._failed:
                self._failed = True
                _warn(str(error).partition("\n")[0])
            return
        for job, motion in zip(jobs, motions, strict=True):
            job.frame.found[:] = [(job.earlier, motion)]

    def _motions(self, jobs: Sequence[_Job]) -> list[Motion]:
        """Of frames of one geometry."""
        count = len(jobs)
        far, near = [job.earlier.far for job in jobs], [job.earlier.near for job in jobs]
        nearer = any(job.earlier.near_s < job.earlier.far_s for job in jobs)
        with torch.inference_mode():
            sent = self._send([*far, *(job.frame.grey for job in jobs), *(near if nearer else ())])
            now, geometry = sent[count : 2 * count], jobs[0].frame.geometry
            velocity = dense_flow(sent[:count], now, refined=True)
            velocity = _velocity(velocity, geometry) / self._column([job.earlier.far_s for job in jobs])
            if nearer:
                fast = dense_flow(sent[2 * count :], now, refined=False)
                fast = _velocity(fast, geometry) / self._column([job.earlier.near_s for job in jobs])
                counts = [
                    near_counts_from(job.earlier.far_s) if job.earlier.near_s < job.earlier.far_s else np.inf
                    for job in jobs
                ]
                is_fast = fast.square().sum(1, keepdim=True) > self._column(counts).square()
                velocity = torch.where(is_fast, fast, velocity)
            squared = velocity.square().sum(1, keepdim=True)
            found = torch.cat([velocity, squared], dim=1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [
            motion_in(job.area, one[job.area.half][..., :2], one[job.area.half][..., 2], job.frame.geometry)
            for job, one in zip(jobs, found, strict=True)
        ]

    def _send(self, frames: Sequence[np.ndarray]) -> Tensor:
        """(N, h, w) float grey levels on the device."""
        together = torch.from_numpy(np.stack(frames))
        if self._device.type == "cuda":
            together = together.pin_memory()
        return together.to(self._device, non_blocking=True).float()

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)[:, None, None, None]


def _velocity(flow: Tensor, geometry: Geometry) -> Tensor:
    """On the half grid, in frame heights."""
    width, height = geometry.half
    whole = functional.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    return whole / geometry.working[1]


def _warn(error: str) -> None:
    log.warning("flow_left_to_the_cpu", error=error)


@functools.cache
def make_finder(device: str = "cuda") -> BatchedMotion | None:
    """One for this process, if it finds the motion of a golden batch on that device; else None, which is logged."""
    finder = BatchedMotion(torch.device(device))
    try:
        missed = finder.miss()
    except RuntimeError as error:
        _warn(str(error).partition("\n")[0])
        return None
    if missed <= MISSED:
        return finder
    _warn(f"it misses what moves in the golden batch by {missed:.1f} pixels")
    return None
