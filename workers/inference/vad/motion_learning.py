"""How normal motion is taken in, in bounded memory, and what a state is made of."""

import random
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from core.errors import StateError
from workers.inference.vad.base import NormalityState, Phase
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.motion_features import (
    RESET_GAP_S,
    Geometry,
    Prepared,
    Windows,
    find_windows,
    foreground_share,
)

__all__ = ["Evidence", "MotionLearner", "MotionState", "Usual", "clusters", "fit_state", "top_cells", "top_mean"]

BACKGROUND_SAMPLES = 64
"""Frames whose median is the background: a random choice of all that was seen."""
BACKGROUND_STEP_S = 0.25
"""Samples of one stream lie at least so far apart."""
FIRST_BACKGROUND = 40
"""Samples before frames are reduced to windows; until then they wait as they are, at most WAITING_FRAMES."""
WAITING_FRAMES = 200
LEARN_STEP_S = 0.06
"""Of a faster stream, not every frame is taken in."""
MOST_FRAMES = 4096
MOST_WINDOWS = 4_000_000
"""8 bytes each. Beyond either, every other frame is dropped, and from then on every other one taken in."""

LEAST_S = 3.0
LEAST_FRAMES = 20
FOLDS = 5
"""Blocks of time: each is judged by what the other four say, as footage never seen will be."""
TOP_SHARE = 10 / 5400
"""The cells that make a frame's value: a patch of 12x12 pixels at 360x240, smaller than a person, larger than noise."""
BAND = 0.05
"""Standard deviation of a row's band, in frame heights: a third of a person."""
ROW_WINDOWS = 500.0
"""A row with so many windows is half believed, against all rows together: one person seen for about 5 s."""
PRIOR_WINDOWS = 200.0
"""Weight of the belief about a scene in which nothing was seen to move."""
PRIOR_SPEED, PRIOR_AMOUNT = (0.0, 0.05), (0.0, 0.1)
"""That belief: mean and standard deviation, in frame heights a second and in shares."""
LEAST_SPEED_DEVIATION, LEAST_AMOUNT_DEVIATION = 0.005, 0.01
"""What flow and foreground themselves waver by."""
LEAST_Z_SCALE, LEAST_LEVEL_SCALE = 0.25, 0.2
"""Least tail scales of an attribute, in standard deviations, and of their sum, in -log10 P."""
INDEPENDENT_S = 1.0
"""Frames within so many seconds count as one observation."""


class Evidence(NamedTuple):
    """What a frame offers a learner: `windows` where the learner had a background, else the raw `squared_speed`."""

    frame: Prepared
    stream: int
    media_s: float
    windows: Windows | None
    squared_speed: np.ndarray | None


class _Waiting(NamedTuple):
    grey: np.ndarray
    squared_speed: np.ndarray
    stream: int


class _Taken(NamedTuple):
    cells: np.ndarray
    speed: np.ndarray
    amount: np.ndarray
    stream: int


@dataclass(frozen=True)
class Usual:
    """Mean and standard deviation of an attribute per row of cells, (rows,) float32 each."""

    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True, kw_only=True)
class MotionState(NormalityState):
    """What motion_stats knows of a scene: `background` is (h, w) uint8 at working size."""

    background: np.ndarray
    speed: Usual
    amount: Usual
    speed_tail: TailCalibration
    amount_tail: TailCalibration
    frame_tail: TailCalibration

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.width, self.height)


class MotionLearner:
    """Normal footage of one scene, of one or several streams, interleaved as it comes; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self._geometry: Geometry | None = None
        self._samples: list[np.ndarray] = []
        self._offered = 0
        self._background: np.ndarray | None = None
        self._background_at_s = 0.0
        self._waiting: list[_Waiting] = []
        self._taken: list[_Taken] = []
        self._windows = 0
        self._stride = 1
        self._turn = 0
        self._last_s: dict[int, float] = {}
        self._taken_s: dict[int, float] = {}
        self._sampled_s: dict[int, float] = {}
        self._learned_s = 0.0
        self._frames = 0

    @property
    def learned_s(self) -> float:
        """Seconds of footage, added over the streams."""
        return self._learned_s

    @property
    def frames(self) -> int:
        """Frames offered, whether or not each was kept."""
        return self._frames

    @property
    def background(self) -> np.ndarray | None:
        """What foreground is told from while learning; None while too little was seen."""
        return self._background

    def wants(self, stream: int, media_s: float) -> bool:
        """Whether a frame at that time is more than footage to count."""
        since = media_s - self._taken_s.get(stream, -np.inf)
        return not 0.0 <= since < LEARN_STEP_S

    def add(self, seen: Evidence) -> None:
        """Takes a frame in; raises StateError for another size than the first one's."""
        with self._lock:
            if self._geometry is None:
                self._geometry = seen.frame.geometry
            elif seen.frame.geometry != self._geometry:
                raise StateError(
                    f"a frame of {seen.frame.geometry.width}x{seen.frame.geometry.height} among footage of "
                    f"{self._geometry.width}x{self._geometry.height}: cameras that share a state need one size"
                )
            self._count(seen)
            self._sample(seen)
            if seen.windows is None and seen.squared_speed is None:
                return
            self._taken_s[seen.stream] = seen.media_s
            if seen.windows is not None:
                self._take(seen.windows, seen.stream)
            elif seen.squared_speed is not None:
                waiting = _Waiting(seen.frame.grey, seen.squared_speed.astype(np.float16), seen.stream)
                if self._background is None:
                    self._waiting.append(waiting)
                else:
                    self._take(_reduce(waiting, self._background, self._geometry), seen.stream)
            self._renew_background()

    def _count(self, seen: Evidence) -> None:
        since = seen.media_s - self._last_s.get(seen.stream, seen.media_s)
        if 0.0 < since <= RESET_GAP_S:
            self._learned_s += since
        self._last_s[seen.stream] = seen.media_s
        self._frames += 1

    def _sample(self, seen: Evidence) -> None:
        """Algorithm R (Vitter 1985) over frames that lie BACKGROUND_STEP_S apart."""
        if 0.0 <= seen.media_s - self._sampled_s.get(seen.stream, -np.inf) < BACKGROUND_STEP_S - 1e-6:
            return
        self._sampled_s[seen.stream] = seen.media_s
        self._offered += 1
        if len(self._samples) < BACKGROUND_SAMPLES:
            self._samples.append(seen.frame.grey)
        elif (place := self._choice.randrange(self._offered)) < BACKGROUND_SAMPLES:
            self._samples[place] = seen.frame.grey

    def _take(self, windows: Windows, stream: int) -> None:
        self._turn += 1
        if self._turn % self._stride:
            return
        self._taken.append(_taken(windows, stream))
        self._windows += len(windows.cells)
        if len(self._taken) > MOST_FRAMES or self._windows > MOST_WINDOWS:
            self._taken = self._taken[::2]
            self._windows = sum(len(taken.cells) for taken in self._taken)
            self._stride *= 2

    def _renew_background(self) -> None:
        """The first once enough was seen, then a better one each time the footage has doubled."""
        if self._background is None:
            due = len(self._samples) >= FIRST_BACKGROUND and len(self._waiting) >= WAITING_FRAMES
        else:
            due = self._learned_s >= 2.0 * self._background_at_s
        if not due:
            return
        self._background = _median(self._samples)
        self._background_at_s = self._learned_s
        waiting, self._waiting = self._waiting, []
        if self._geometry is not None:
            for frame in waiting:
                self._take(_reduce(frame, self._background, self._geometry), frame.stream)

    def snapshot(self) -> "_Snapshot":
        """All that was taken in, as it is now; raises StateError where that is too little to say anything."""
        with self._lock:
            kept = len(self._taken) + len(self._waiting)
            if self._geometry is None or self._learned_s < LEAST_S or kept < LEAST_FRAMES:
                raise StateError(
                    f"learned from {self._learned_s:.1f} s and {kept} frames of footage: "
                    f"at least {LEAST_S:g} s and {LEAST_FRAMES} frames are needed",
                    "let it learn for longer, or from a longer file",
                )
            return _Snapshot(
                self._geometry,
                list(self._samples),
                list(self._waiting),
                list(self._taken),
                self._learned_s,
                self._frames,
            )


class _Snapshot(NamedTuple):
    geometry: Geometry
    samples: list[np.ndarray]
    waiting: list[_Waiting]
    taken: list[_Taken]
    learned_s: float
    frames: int


def _taken(windows: Windows, stream: int) -> _Taken:
    return _Taken(
        windows.cells.astype(np.uint16), windows.speed.astype(np.float16), windows.amount.astype(np.float16), stream
    )


def _median(samples: list[np.ndarray]) -> np.ndarray:
    middle = len(samples) // 2
    return np.partition(np.stack(samples), middle, axis=0)[middle]


def _reduce(frame: _Waiting, background: np.ndarray, geometry: Geometry) -> Windows:
    share = foreground_share(frame.grey, background, geometry)
    windows = find_windows(share, lambda: frame.squared_speed.astype(np.float32), geometry)
    assert windows is not None
    return windows


def fit_state(name: str, seen: _Snapshot, version: int, armed_s: float) -> MotionState:
    """Row-banded Gaussians on all footage; tails on each block of time as the other blocks judge it."""
    background = _median(seen.samples)
    frames = seen.taken + [_taken(_reduce(f, background, seen.geometry), f.stream) for f in seen.waiting]
    frames.sort(key=lambda frame: frame.stream)  # stable: each stream stays in the order of time
    folds = np.arange(len(frames)) * FOLDS // len(frames)
    lengths = np.array([len(frame.cells) for frame in frames])
    cells = np.concatenate([frame.cells for frame in frames]).astype(np.int64)
    n_rows, n_columns = seen.geometry.cells
    rows, fold_of = cells // n_columns, np.repeat(folds, lengths)
    top = top_cells(seen.geometry)
    independent = max(1.0, seen.learned_s / INDEPENDENT_S)

    def learn(
        values: np.ndarray, prior: tuple[float, float], least: float
    ) -> tuple[Usual, TailCalibration, np.ndarray]:
        moments = [_moments(rows[fold_of == k], values[fold_of == k], n_rows) for k in range(FOLDS)]
        usual = _usual(np.sum(moments, axis=0), prior, least)
        others = [_usual(np.sum(moments, axis=0) - moments[k], prior, least) for k in range(FOLDS)]
        mean = np.stack([other.mean for other in others])[fold_of, rows]
        deviation = np.stack([other.deviation for other in others])[fold_of, rows]
        z = np.maximum((values - mean) / deviation, 0.0)
        raw = np.array([top_mean(part, top) for part in np.split(z, np.cumsum(lengths)[:-1])])
        tail = fit_tail(raw, independent=independent, clusters=clusters(raw), floor=LEAST_Z_SCALE)
        return usual, tail, raw

    speed, speed_tail, speeds = learn(
        np.concatenate([frame.speed for frame in frames]).astype(np.float64), PRIOR_SPEED, LEAST_SPEED_DEVIATION
    )
    amount, amount_tail, amounts = learn(
        np.concatenate([frame.amount for frame in frames]).astype(np.float64), PRIOR_AMOUNT, LEAST_AMOUNT_DEVIATION
    )
    sums = speed_tail.level(speeds) + amount_tail.level(amounts)
    phase: Phase = "armed" if seen.learned_s >= armed_s else "provisional"
    return MotionState(
        vad_type=name,
        version=version,
        width=seen.geometry.width,
        height=seen.geometry.height,
        learned_s=seen.learned_s,
        frames=seen.frames,
        phase=phase,
        background=background,
        speed=speed,
        amount=amount,
        speed_tail=speed_tail,
        amount_tail=amount_tail,
        frame_tail=fit_tail(sums, independent=independent, clusters=clusters(sums), floor=LEAST_LEVEL_SCALE),
    )


def top_cells(geometry: Geometry) -> int:
    """How many cells make a frame's value."""
    rows, columns = geometry.cells
    return max(1, round(TOP_SHARE * rows * columns))


def top_mean(values: np.ndarray, top: int) -> float:
    """The mean of the `top` largest of (N,) values >= 0, missing ones counted as 0."""
    if len(values) > top:
        values = np.partition(values, len(values) - top)[-top:]
    return float(values.sum()) / top


def _moments(rows: np.ndarray, values: np.ndarray, n_rows: int) -> np.ndarray:
    """Per row: how many, their sum, the sum of their squares: (3, n_rows)."""
    return np.stack(
        [
            np.bincount(rows, minlength=n_rows).astype(np.float64),
            np.bincount(rows, weights=values, minlength=n_rows),
            np.bincount(rows, weights=values * values, minlength=n_rows),
        ]
    )


def _usual(moments: np.ndarray, prior: tuple[float, float], least_deviation: float) -> Usual:
    """Each row's band, drawn towards all rows together, and those towards the prior where little was seen."""
    mean, deviation = prior
    believed = PRIOR_WINDOWS * np.array([1.0, mean, mean * mean + deviation * deviation])
    everywhere = moments.sum(axis=1) + believed
    banded = _smooth_rows(np.maximum(moments, 0.0)) + ROW_WINDOWS * (everywhere / everywhere[0])[:, None]
    means = banded[1] / banded[0]
    deviations = np.sqrt(np.maximum(banded[2] / banded[0] - means * means, least_deviation**2))
    return Usual(means.astype(np.float32), deviations.astype(np.float32))


def _smooth_rows(moments: np.ndarray) -> np.ndarray:
    n_rows = moments.shape[1]
    place = np.arange(n_rows)
    kernel = np.exp(-0.5 * ((place[:, None] - place[None, :]) / max(0.5, BAND * n_rows)) ** 2)
    return moments @ (kernel / kernel.sum(axis=1, keepdims=True)).T


def clusters(values: np.ndarray) -> int:
    """Runs of frames above the quantile that tails begin at; a pause of a few frames does not end a run."""
    high = np.flatnonzero(values > np.quantile(values, 0.9))
    return int(np.count_nonzero(np.diff(high) > 10)) + 1 if len(high) else 1
