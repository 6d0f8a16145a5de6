"""What moves in a frame, and how fast and how much of it there is in windows of a person's size.

Lengths are fractions of the frame's height and times are seconds, so neither the size nor the rate of the
frames matters. Three grids: the working frame (at most 86,400 pixels, never scaled up), its half, and the
cells: every other pixel of the half, each the middle of a window.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import cv2
import numpy as np

from core.errors import StateError

__all__ = [
    "Area",
    "Earlier",
    "Geometry",
    "Motion",
    "MotionContext",
    "Prepared",
    "Trail",
    "Windows",
    "background_difference",
    "find_motion",
    "find_windows",
    "foreground_share",
    "half_share",
    "motion_in",
    "near_counts_from",
    "prepare_colour",
    "prepare_grey",
    "where_moving",
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
CARRIED_S = 0.7
"""Time constant of what is carried along with what moves: half a gait cycle, so that a stride or an arm says little;
longer would be surer still, and notice later that a walker begins to run. Chosen on synthetic anomalies."""
CARRIED_GAP_S = 0.6
"""After a longer gap nothing is carried: what was there may be anywhere."""
NEUTRAL = 128
"""U and V of what has no colour."""
GAIN_LIMITS = (0.5, 2.0)
"""How much brighter or darker than the background the whole frame may be and still be compared with it."""

_local = threading.local()


FAR_PRESET, NEAR_PRESET = cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST
"""Where what is fast is all that counts, parts of a pixel say nothing: without the variational refinement flow takes
half as long."""


def _flow_engine(shape: tuple[int, ...], preset: int) -> cv2.DISOpticalFlow:
    """One per thread and preset: an engine keeps buffers and must not be shared.

    Where an image has no room for its scales it sets itself to other ones and never back, hence a new one there.
    """
    if max(shape) < 128 or min(shape) < 48:
        return cv2.DISOpticalFlow.create(preset)
    engines: dict[int, cv2.DISOpticalFlow] = _local.__dict__.setdefault("engines", {})
    if preset not in engines:
        engines[preset] = cv2.DISOpticalFlow.create(preset)
    return engines[preset]


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
    def flat(self) -> int:
        """Bytes of a frame with its colours."""
        return math.prod(self.working) + 2 * math.prod(self.half)

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
    chroma: np.ndarray | None = None
    """U and V on the half grid, (2, h, w) uint8, where a type looks at colours."""
    found: "list[tuple[Earlier, Motion | None]]" = field(default_factory=list, compare=False, repr=False)
    """The last motion that was found in it: types that look at one frame side by side find it once."""

    def flat(self) -> np.ndarray:
        """Grey and colours in one array to be kept, (geometry.flat,) uint8; without colours it is as a grey one."""
        chroma = np.full(2 * math.prod(self.geometry.half), NEUTRAL, np.uint8) if self.chroma is None else self.chroma
        return np.concatenate([self.grey.ravel(), chroma.ravel()])

    @staticmethod
    def of_flat(flat: np.ndarray, geometry: Geometry) -> "Prepared":
        """What `flat` made one of; shares its memory."""
        width, height = geometry.working
        half_width, half_height = geometry.half
        grey, chroma = flat[: width * height], flat[width * height :]
        return Prepared(grey.reshape(height, width), geometry, chroma.reshape(2, half_height, half_width))


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


def prepare_colour(pixels: np.ndarray, width: int, height: int) -> Prepared:
    """As `prepare_grey`, with the colours; a frame that is luma alone has none."""
    frame = prepare_grey(pixels, width, height)
    size, rest = (width // 2) * (height // 2), pixels[height:].reshape(-1)
    if rest.size < 2 * size:
        return frame
    planes = [rest[begin : begin + size].reshape(height // 2, width // 2) for begin in (0, size)]
    half = frame.geometry.half
    return replace(frame, chroma=np.stack([cv2.resize(one, half, interpolation=cv2.INTER_AREA) for one in planes]))


_streams = count()


class MotionContext:
    """The last half second of one stream, and what is carried along with what moves in it."""

    __slots__ = ("_history", "_last_s", "_trails", "stream")

    def __init__(self) -> None:
        self.stream = next(_streams)
        """A number that no other context of this process has."""
        self._last_s = -np.inf
        self._history: deque[tuple[float, Prepared]] = deque()
        self._trails: deque[Trail] = deque(maxlen=2)

    def trail(self, background: np.ndarray) -> "Trail":
        """Of what is in front of that background: scoring and learning may look at different ones."""
        for trail in self._trails:
            if trail.background is background:
                return trail
        self._trails.append(Trail(background))
        return self._trails[-1]

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
        for _, old in history:
            old.found.clear()
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

    def same_as(self, other: "Earlier") -> bool:
        return self.far is other.far and self.near is other.near and self[1::2] == other[1::2]


class Motion(NamedTuple):
    """Flow on the half grid."""

    squared: np.ndarray
    """(h, w) float32, in (frame heights a second) squared."""
    velocity: np.ndarray
    """(h, w, 2) float32, x and y, in frame heights a second."""


class Area(NamedTuple):
    """A part of the working frame, of whole pixels of the half grid."""

    rows: slice
    columns: slice

    @property
    def half(self) -> tuple[slice, slice]:
        """The same on the half grid."""
        rows, columns = (slice(side.start // 2, (side.stop + 1) // 2) for side in self)
        return rows, columns


def find_motion(earlier: Earlier, frame: Prepared) -> Motion | None:
    """As it was found before where that was of the same frames."""
    for known, motion in frame.found:
        if known.same_as(earlier):
            return motion
    found = where_moving(earlier, frame)
    motion = _in_area(earlier, frame, found) if isinstance(found, Area) else found
    frame.found[:] = [(earlier, motion)]
    return motion


def where_moving(earlier: Earlier, frame: Prepared) -> "Area | Motion | None":
    """Where flow is to be looked for. All 0 where nothing moved, which is found out without; None where something did,
    but over FLOW_GAP_S ago.
    """
    difference = cv2.blur(cv2.absdiff(frame.grey, earlier.far), (5, 5))
    changed = cv2.boundingRect(cv2.threshold(difference, STILL_DIFFERENCE, 255, cv2.THRESH_BINARY)[1])
    if not changed[2]:
        return _still(frame.geometry)
    return None if earlier.far_s > FLOW_GAP_S else _flow_area(changed, frame.geometry.working)


def motion_in(area: Area, velocity: np.ndarray, squared: np.ndarray, geometry: Geometry) -> Motion:
    """Of the whole frame, of what was found in one area of it."""
    motion = _still(geometry)
    motion.squared[area.half] = squared
    motion.velocity[area.half] = velocity
    return motion


def near_counts_from(far_s: float) -> float:
    """Speed, in frame heights a second, from which the near flow is believed."""
    return NEAR_FROM * WINDOW_WIDTH / far_s


def _still(geometry: Geometry) -> Motion:
    width, height = geometry.half
    return Motion(np.zeros((height, width), np.float32), np.zeros((height, width, 2), np.float32))


def _in_area(earlier: Earlier, frame: Prepared, area: Area) -> Motion:
    flow, squared = _flow(earlier.far, frame.grey, area, earlier.far_s, FAR_PRESET)
    if earlier.near_s < earlier.far_s:
        near, near_squared = _flow(earlier.near, frame.grey, area, earlier.near_s, NEAR_PRESET)
        fast = (near_squared > near_counts_from(earlier.far_s) ** 2).astype(np.uint8)
        cv2.copyTo(near, fast, flow)
        cv2.copyTo(near_squared, fast, squared)
    return motion_in(area, flow, squared, frame.geometry)


def _flow_area(changed: Sequence[int], working: tuple[int, int]) -> Area:
    """Around the (x, y, width, height) of the working frame that changed."""

    def side(begin: int, length: int, whole: int) -> slice:
        margin = max(FLOW_MARGIN, (FLOW_LEAST_SIDE - length + 1) // 2)
        first, last = begin - margin, begin + length + margin
        first, last = max(0, first - max(0, last - whole)), min(whole, last - min(0, first))
        return slice(first - first % 2, min(whole, last + last % 2))  # whole pixels of the half grid

    x, y, width, height = changed
    return Area(side(y, height, working[1]), side(x, width, working[0]))


def _flow(
    earlier: np.ndarray, grey: np.ndarray, area: Area, elapsed_s: float, preset: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of `area` on the half grid: (h, w, 2) float32, in frame heights a second, and (h, w), its length squared."""
    no_guess: Any = None
    before, now = np.ascontiguousarray(earlier[area]), np.ascontiguousarray(grey[area])
    flow = _flow_engine(now.shape, preset).calc(before, now, no_guess)
    half = cv2.resize(flow, ((now.shape[1] + 1) // 2, (now.shape[0] + 1) // 2), interpolation=cv2.INTER_AREA)
    half *= np.float32(1.0 / (elapsed_s * grey.shape[0]))
    x, y = cv2.split(half)
    return half, cv2.multiply(x, x) + cv2.multiply(y, y)


def foreground_share(grey: np.ndarray, background: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Share of foreground on the half grid, (h, w) float32 0..1; see `background_difference`."""
    _, mask = cv2.threshold(background_difference(grey, background), FOREGROUND_DIFFERENCE, 255, cv2.THRESH_BINARY)
    return half_share(mask, geometry)


def half_share(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Of a working frame's (h, w) uint8, 0 or 255: the share on the half grid, float32 0..1."""
    return cv2.resize(mask, geometry.half, interpolation=cv2.INTER_AREA).astype(np.float32) * (1.0 / 255.0)


def background_difference(grey: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Grey levels off the background, after a 5x5 mean, (h, w) uint8.

    Follows light that changes over the whole frame: the background is first brightened by the median ratio.
    """
    sample, usual = grey[::8, ::8].astype(np.float32), background[::8, ::8].astype(np.float32)
    gain = float(np.clip(np.median((sample + 1.0) / (usual + 1.0)), *GAIN_LIMITS))
    if abs(gain - 1.0) > 0.02:
        background = cv2.convertScaleAbs(background, alpha=gain)
    return cv2.blur(cv2.absdiff(grey, background), (5, 5))


@dataclass(frozen=True)
class Windows:
    """The windows of a frame that count, N of them."""

    cells: np.ndarray
    """(N,) integer index of the window's cell, row by row."""
    speed: np.ndarray
    """(N,) float32 RMS speed over the window's foreground, in frame heights a second, as it was lately on what is
    there now."""
    amount: np.ndarray
    """(N,) float32 share of foreground in the square around it, likewise."""


class Trail:
    """Speed and amount of one stream's windows, averaged along the way of what moves: one frame's flow wavers more
    than a walker does.
    """

    __slots__ = ("_at_s", "_sums", "background")

    def __init__(self, background: np.ndarray) -> None:
        self.background = background
        """What its foreground is told from."""
        self._at_s = -np.inf
        self._sums: np.ndarray | None = None

    def forget(self) -> None:
        self._sums = None

    def carry(self, now: np.ndarray, counts: np.ndarray, velocity: np.ndarray, media_s: float) -> np.ndarray:
        """(rows, columns, 2) means of CARRIED_S from `now`, alike: what was where each cell came from, and what is.

        `counts` (rows, columns) bool; `velocity` (rows, columns, 2) in cells a second.
        """
        passed_s, self._at_s = media_s - self._at_s, media_s
        weighted = cv2.merge([np.ones(counts.shape, np.float32), now])
        if self._sums is not None and self._sums.shape[:2] == counts.shape and 0.0 < passed_s <= CARRIED_GAP_S:
            kept = float(np.exp(-passed_s / CARRIED_S))
            came_from = _places(counts.shape) - velocity * np.float32(passed_s)
            x, y = cv2.split(came_from)
            before = cv2.remap(self._sums, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            weighted = cv2.addWeighted(before, kept, weighted, 1.0 - kept, 0.0)
        self._sums = weighted * counts[..., None]
        return weighted[..., 1:] / weighted[..., :1]


@lru_cache(maxsize=64)
def _places(shape: tuple[int, int]) -> np.ndarray:
    """(rows, columns, 2) float32: x and y of each cell."""
    y, x = np.indices(shape, np.float32)
    return np.dstack([x, y])


def find_windows(
    share: np.ndarray, motion: Callable[[], Motion | None], geometry: Geometry, trail: Trail, media_s: float
) -> Windows | None:
    """The windows that count, given `foreground_share`; `motion` is only asked where there are any.

    `motion` gives `find_motion`, or None where it cannot be known yet: then, with something in sight, there is no
    telling, and the answer is None too.
    """
    filled = _box_mean(share, WINDOW_WIDTH, WINDOW_HEIGHT, geometry)
    counts = filled >= COUNTS_FROM
    cells = np.flatnonzero(counts)
    if not len(cells):
        trail.forget()
        nothing = np.zeros(0, np.float32)
        return Windows(cells, nothing, nothing)
    seen = motion()
    if seen is None:
        trail.forget()
        return None
    parts = cv2.merge([seen.squared, seen.velocity]) * share[..., None]
    inside = _box_mean(parts, WINDOW_WIDTH, WINDOW_HEIGHT, geometry)
    inside /= np.maximum(filled, COUNTS_FROM)[..., None]
    speed = cv2.sqrt(np.maximum(inside[..., 0], 0.0))
    now = cv2.merge([speed, _box_mean(share, AROUND, AROUND, geometry)])
    velocity = inside[..., 1:3] * np.float32(geometry.cells[0])
    lately = trail.carry(now, counts, velocity, media_s).reshape(-1, 2)[cells]
    return Windows(cells, lately[:, 0], lately[:, 1])


def _box_mean(image: np.ndarray, width: float, height: float, geometry: Geometry) -> np.ndarray:
    """The mean over a window around each cell, (rows, columns[, n]); what lies outside the frame counts as 0."""
    window = geometry.window(width, height)
    return np.ascontiguousarray(cv2.blur(image, window, borderType=cv2.BORDER_CONSTANT)[::2, ::2])
