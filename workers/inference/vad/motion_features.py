"""What moves in a frame, and how fast and how much of it there is in windows of a person's size.

Lengths are fractions of the frame's height and times are seconds, so neither the size nor the rate of the
frames matters. Three grids: the working frame (at most 86,400 pixels, never scaled up), its half, and the
cells: every other pixel of the half, each the middle of a window.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import cv2
import numpy as np

from core.errors import StateError

__all__ = [
    "Earlier",
    "Geometry",
    "MotionContext",
    "Prepared",
    "Windows",
    "find_windows",
    "flow_speed",
    "foreground_share",
    "prepare_grey",
]

WORKING_PIXELS = 360 * 240
"""The scale that the constants below were measured at, and that DIS flow takes 1.8 ms for."""
SMALLEST_SIDE = 32
"""Below it there is nothing for optical flow to hold on to."""

BASELINE_S = 0.3
"""Time between the two frames of a flow field. Measured on 10 frames/s (micro AUROC of speed alone): 0.1 s
0.892, 0.3 s 0.925, 0.4 s 0.908, 0.5 s 0.894: a walker moves a pixel a frame, so a longer way lifts it over the
noise, until correspondence breaks."""
BASELINE_LEAST_S = 0.25
NEAR_S, NEAR_LEAST_S = 0.1, 0.05
"""A second, shorter baseline for what is fast: a figure 18 px wide is lost by flow once it moves 24 px between
two frames (it then reads 4 to 60 px/s instead of 80), which is what a runner does in 0.3 s."""
NEAR_FROM = 0.75
"""The near flow is believed where it sees more than so many window widths go by in the long baseline; up to a whole
one both read alike. Slower than that, it is only noisier."""
FLOW_MARGIN, FLOW_LEAST_SIDE = 32, 160
"""Pixels around what changed that flow looks at, a patch at its finest scale, and the least side of that area."""
FLOW_GAP_S = 1.2
"""Frames further apart can show that nothing moved, but not how fast something did."""
RESET_GAP_S = 2.5
"""Frames further apart have nothing to do with each other; a closed motion gate lets one by every 2 s."""
HISTORY_STEP_S = 0.02
"""Frames closer together are not kept: bounds the history to about 20 frames at any rate."""

FOREGROUND_DIFFERENCE = 18
"""Grey levels off the background, after a 5x5 mean."""
STILL_DIFFERENCE = 8
"""Grey levels, after a 5x5 mean, under which nothing has moved between two frames: far above the noise of a
compressed video, below the edge of anything that is foreground."""
WINDOW_WIDTH, WINDOW_HEIGHT = 18 / 240, 34 / 240
"""A walking person, as fractions of the frame's height."""
AROUND = 54 / 240
"""Side of the square in which the amount of foreground is compared: wide enough for a cart."""
COUNTS_FROM = 0.25
"""A window counts where so much of it is foreground."""
GAIN_LIMITS = (0.5, 2.0)
"""How much brighter or darker than the background the whole frame may be and still be compared with it."""

_local = threading.local()


def _flow_engine(shape: tuple[int, ...]) -> cv2.DISOpticalFlow:
    """One per thread: an engine keeps buffers and must not be shared.

    Where an image has no room for its scales it sets itself to other ones and never back, hence a new one there.
    """
    if max(shape) < 128 or min(shape) < 48:
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    engine = getattr(_local, "flow", None)
    if engine is None:
        engine = _local.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return engine


@dataclass(frozen=True)
class Geometry:
    """The grids of an analysed frame of `width` x `height` pixels."""

    width: int
    height: int

    @property
    def working(self) -> tuple[int, int]:
        """(width, height) of the working frame."""
        scale = min(1.0, (WORKING_PIXELS / (self.width * self.height)) ** 0.5)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def half(self) -> tuple[int, int]:
        """(width, height) of the half grid."""
        width, height = self.working
        return (width + 1) // 2, (height + 1) // 2

    def middle(self, cell: int) -> tuple[float, float]:
        """Where a cell is, (x, y) as fractions of the frame."""
        row, column = divmod(cell, self.cells[1])
        width, height = self.working
        return min(1.0, (4 * column + 1) / width), min(1.0, (4 * row + 1) / height)

    @property
    def cells(self) -> tuple[int, int]:
        """(rows, columns) of the windows' middles."""
        width, height = self.half
        return (height + 1) // 2, (width + 1) // 2

    def window(self, width: float, height: float) -> tuple[int, int]:
        """(width, height) in pixels of the half grid, odd, of a window given in frame heights."""
        unit = self.half[1]
        return 2 * max(0, round((width * unit - 1) / 2)) + 1, 2 * max(0, round((height * unit - 1) / 2)) + 1


@dataclass(frozen=True)
class Prepared:
    """A frame reduced to what is looked at: the working frame, (h, w) uint8 grey."""

    grey: np.ndarray
    geometry: Geometry


def prepare_grey(pixels: np.ndarray, width: int, height: int) -> Prepared:
    """Copies the luma of an I420 frame, (height * 3 // 2, width) uint8, at working size; raises StateError."""
    if min(width, height) < SMALLEST_SIDE:
        raise StateError(
            f"a frame of {width}x{height} is too small to see motion in: at least {SMALLEST_SIDE} pixels a side"
        )
    if pixels.ndim != 2 or pixels.shape[0] < height or pixels.shape[1] != width or pixels.dtype != np.uint8:
        raise StateError(f"pixels of shape {pixels.shape} are no I420 frame of {width}x{height}")
    geometry = Geometry(width, height)
    luma = pixels[:height]
    if geometry.working == (width, height):
        return Prepared(luma.copy(), geometry)
    return Prepared(cv2.resize(luma, geometry.working, interpolation=cv2.INTER_AREA), geometry)


_streams = count()


class MotionContext:
    """The last half second of one stream."""

    __slots__ = ("_history", "_last_s", "stream")

    def __init__(self) -> None:
        self.stream = next(_streams)
        """A number that no other context of this process has."""
        self._last_s = -np.inf
        self._history: deque[tuple[float, Prepared]] = deque()

    def push(self, frame: Prepared, media_s: float) -> "Earlier | None":
        """Takes the next frame in; returns what to compare it with.

        None where there is nothing about BASELINE_S old: at the start, after a gap, a jump back or another size.
        """
        if not np.isfinite(media_s):
            raise StateError(f"a frame's time must be a finite number, not {media_s}")
        history = self._history
        if history and (not 0.0 < media_s - self._last_s <= RESET_GAP_S or history[-1][1].geometry != frame.geometry):
            history.clear()
        self._last_s = media_s
        while len(history) > 1 and media_s - history[1][0] >= BASELINE_S:
            history.popleft()
        far = self._nearest(media_s, BASELINE_S, BASELINE_LEAST_S)
        near = self._nearest(media_s, NEAR_S, NEAR_LEAST_S)
        if not history or media_s - history[-1][0] >= HISTORY_STEP_S:
            history.append((media_s, frame))
        if far is None or near is None:
            return None
        return Earlier(far[1].grey, media_s - far[0], near[1].grey, media_s - near[0])

    def _nearest(self, media_s: float, age_s: float, least_s: float) -> tuple[float, Prepared] | None:
        old = [item for item in self._history if media_s - item[0] >= least_s - 1e-6]
        return min(old, key=lambda item: abs(media_s - item[0] - age_s), default=None)


class Earlier(NamedTuple):
    """Working frames about BASELINE_S and NEAR_S ago (one and the same where frames are rare), and how long ago."""

    far: np.ndarray
    far_s: float
    near: np.ndarray
    near_s: float


def flow_speed(earlier: Earlier, grey: np.ndarray, geometry: Geometry) -> np.ndarray | None:
    """Squared speed on the half grid, (h, w) float32, in (frame heights a second) squared.

    All 0 where nothing moved, which is found out without flow; None where something did, but over FLOW_GAP_S ago.
    """
    width, height = geometry.half
    _, moved = cv2.threshold(cv2.blur(cv2.absdiff(grey, earlier.far), (5, 5)), STILL_DIFFERENCE, 255, cv2.THRESH_BINARY)
    area = cv2.boundingRect(moved)
    if not area[2]:
        return np.zeros((height, width), np.float32)
    if earlier.far_s > FLOW_GAP_S:
        return None
    window = _flow_area(area, geometry.working)
    squared = _squared_flow(earlier.far, grey, window, earlier.far_s)
    if earlier.near_s < earlier.far_s:
        near = _squared_flow(earlier.near, grey, window, earlier.near_s)
        fast = (NEAR_FROM * WINDOW_WIDTH * geometry.working[1] / earlier.far_s) ** 2
        np.copyto(squared, near, where=near > fast)
    full = np.zeros(grey.shape, np.float32)
    full[window] = squared
    return cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA) * (1.0 / geometry.working[1] ** 2)


def _flow_area(changed: Sequence[int], working: tuple[int, int]) -> tuple[slice, slice]:
    """(rows, columns) of the working frame around the (x, y, width, height) that changed."""

    def side(begin: int, length: int, whole: int) -> slice:
        margin = max(FLOW_MARGIN, (FLOW_LEAST_SIDE - length + 1) // 2)
        first, last = begin - margin, begin + length + margin
        first, last = max(0, first - max(0, last - whole)), min(whole, last - min(0, first))
        return slice(first, last)

    x, y, width, height = changed
    return side(y, height, working[1]), side(x, width, working[0])


def _squared_flow(earlier: np.ndarray, grey: np.ndarray, area: tuple[slice, slice], elapsed_s: float) -> np.ndarray:
    """Within `area`, (h, w) float32, in (working pixels a second) squared."""
    no_guess: Any = None
    before, now = np.ascontiguousarray(earlier[area]), np.ascontiguousarray(grey[area])
    flow = _flow_engine(now.shape).calc(before, now, no_guess)
    return cv2.transform(cv2.multiply(flow, flow, scale=1.0 / elapsed_s**2), np.ones((1, 2), np.float32))


def foreground_share(grey: np.ndarray, background: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Share of foreground on the half grid, (h, w) float32 0..1.

    Follows light that changes over the whole frame: the background is first brightened by the median ratio.
    """
    sample, usual = grey[::8, ::8].astype(np.float32), background[::8, ::8].astype(np.float32)
    gain = float(np.clip(np.median((sample + 1.0) / (usual + 1.0)), *GAIN_LIMITS))
    if abs(gain - 1.0) > 0.02:
        background = cv2.convertScaleAbs(background, alpha=gain)
    difference = cv2.blur(cv2.absdiff(grey, background), (5, 5))
    _, mask = cv2.threshold(difference, FOREGROUND_DIFFERENCE, 255, cv2.THRESH_BINARY)
    return cv2.resize(mask, geometry.half, interpolation=cv2.INTER_AREA).astype(np.float32) * (1.0 / 255.0)


@dataclass(frozen=True)
class Windows:
    """The windows of a frame that count, N of them."""

    cells: np.ndarray
    """(N,) integer index of the window's cell, row by row."""
    speed: np.ndarray
    """(N,) float32 RMS speed over the window's foreground, in frame heights a second."""
    amount: np.ndarray
    """(N,) float32 share of foreground in the square around it."""


def find_windows(share: np.ndarray, speed: Callable[[], np.ndarray | None], geometry: Geometry) -> Windows | None:
    """The windows that count, given `foreground_share`; `speed` is only asked where there are any.

    `speed` gives `flow_speed` or None where it cannot be known yet: then, with something in sight, there is no
    telling, and the answer is None too.
    """
    filled = _box_mean(share, WINDOW_WIDTH, WINDOW_HEIGHT, geometry)
    cells = np.flatnonzero(filled >= COUNTS_FROM)
    if not len(cells):
        nothing = np.zeros(0, np.float32)
        return Windows(cells, nothing, nothing)
    squared = speed()
    if squared is None:
        return None
    moving = _box_mean(squared * share, WINDOW_WIDTH, WINDOW_HEIGHT, geometry)[cells] / filled[cells]
    return Windows(cells, np.sqrt(np.maximum(moving, 0.0)), _box_mean(share, AROUND, AROUND, geometry)[cells])


def _box_mean(image: np.ndarray, width: float, height: float, geometry: Geometry) -> np.ndarray:
    """The mean over a window around each cell, flat; what lies outside the frame counts as 0."""
    window = geometry.window(width, height)
    return np.ascontiguousarray(cv2.blur(image, window, borderType=cv2.BORDER_CONSTANT)[::2, ::2]).ravel()
