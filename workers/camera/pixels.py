"""What is done to I420 pixels in the camera process: views, scaling, the motion gate's look."""

import cv2
import numpy as np

from workers.camera.sources.base import Planes

__all__ = ["MotionGate", "planes", "scale_i420", "shrink", "to_bgr"]

_GATE_WIDTH = 80
_GATE_ROWS = 4
"""Of so many rows the gate looks at one: enough to average noise away, and a quarter of the memory to read."""
_GATE_NOISE = 6.0
"""Grey levels; the mean of a gate cell moves less than that by sensor noise alone."""
_GATE_CELLS = 2
"""Cells that must change for motion: one may be a flickering lamp or compression."""


def planes(pixels: np.ndarray) -> Planes:
    """Views (h, w), (h/2, w/2), (h/2, w/2) of the Y, U and V planes of (h*3/2, w) uint8."""
    rows, width = pixels.shape
    height = rows * 2 // 3
    chroma = pixels[height:].reshape(2, height // 2, width // 2)
    return pixels[:height], chroma[0], chroma[1]


def shrink(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) uint8, each pixel the mean of what it covers: halved as often as that goes, which OpenCV does
    many times as fast as anything else, then the rest.
    """
    while plane.shape[1] >= 2 * width and plane.shape[0] >= 2 * height:
        half = plane.shape[1] // 2, plane.shape[0] // 2
        plane = cv2.resize(plane, half, interpolation=cv2.INTER_AREA)
    if plane.shape == (height, width):
        return plane
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)


def scale_i420(source: Planes, out: np.ndarray) -> None:
    """Writes `source` into `out`, (h*3/2, w) uint8, plane by plane and without other memory."""
    for plane, target in zip(source, planes(out), strict=True):
        if plane.shape == target.shape:
            np.copyto(target, plane)
        else:
            cv2.resize(plane, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_AREA)


def to_bgr(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 from I420."""
    return cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420)


class MotionGate:
    """Whether a frame is worth scoring: cheap, and open when in doubt.

    It compares small grey pictures with the last one that went through, so slow change adds up and opens it too.
    """

    def __init__(self, max_closed_s: float) -> None:
        self._max_closed_s = max_closed_s
        self._last: np.ndarray | None = None
        self._last_s = 0.0
        self.changed = False
        """Whether the last frame differed from the one before that went through."""
        self.held = 0
        """Frames held back so far."""

    def passes(self, luma: np.ndarray, media_s: float, *, hold_open: bool) -> bool:
        """`luma` (h, w) uint8 at `media_s`; `hold_open` while something is going on."""
        height = max(2, round(luma.shape[0] * _GATE_WIDTH / luma.shape[1]))
        rows = luma[:: _GATE_ROWS if luma.shape[0] >= _GATE_ROWS * height else 1]
        small = shrink(rows, _GATE_WIDTH, height)
        last = self._last
        self.changed = (
            last is None
            or last.shape != small.shape
            or int(np.count_nonzero(cv2.absdiff(small, last) > _GATE_NOISE)) >= _GATE_CELLS
        )
        if self.changed or hold_open or not 0 <= media_s - self._last_s < self._max_closed_s:
            self._last, self._last_s = small, media_s
            return True
        self.held += 1
        return False
