"""How normal motion is taken in, in bounded memory, and what a state is made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workers.inference.vad.background import BackgroundLearner, earlier_streams, median_of
from workers.inference.vad.base import NormalityState, Phase
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.motion_features import (
    Geometry,
    Motion,
    Prepared,
    Trail,
    Windows,
    find_windows,
    foreground_share,
)
from workers.inference.vad.state_files import join, split

__all__ = ["Evidence", "MotionLearner", "MotionState", "Usual", "clusters", "fit_state", "top_cells", "top_mean"]

MOST_FRAMES = 4096
MOST_WINDOWS = 4_000_000
"""8 bytes each. Beyond either, every other frame is dropped, and from then on every other one taken in."""

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
    """What a frame offers a learner: `windows` where the learner had a background, else the `motion`."""

    frame: Prepared
    stream: int
    media_s: float
    windows: Windows | None
    motion: Motion | None


class _Waiting(NamedTuple):
    grey: np.ndarray
    motion: Motion
    """In float16."""
    stream: int
    media_s: float


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


class MotionLearner(BackgroundLearner):
    """The windows of normal footage."""

    def add(self, seen: Evidence) -> None:
        """Takes a frame in; raises StateError for another size than the first one's."""
        with self._lock:
            self._admit(seen.frame, seen.stream, seen.media_s)
            if seen.windows is None and seen.motion is None:
                return
            self._taken_s[seen.stream] = seen.media_s
            if seen.windows is not None:
                self._take(_taken(seen.windows, seen.stream))
            elif seen.motion is not None:
                motion = Motion(*(part.astype(np.float16) for part in seen.motion))
                self._wait(_Waiting(seen.frame.grey, motion, seen.stream, seen.media_s))
            self._renew_background()

    def _take_waiting(self, waiting: list[_Waiting], background: np.ndarray) -> None:
        if self._geometry is not None:
            for windows, stream in _reduce(waiting, background, self._geometry):
                self._take(_taken(windows, stream))

    def _weigh(self, taken: _Taken) -> int:
        return len(taken.cells)

    def _pack_taken(self, taken: list[_Taken]) -> dict[str, np.ndarray]:
        return {
            **join("cells", [one.cells for one in taken], np.zeros(0, np.uint16)),
            "speed": np.concatenate([np.zeros(0, np.float16), *(one.speed for one in taken)]),
            "amount": np.concatenate([np.zeros(0, np.float16), *(one.amount for one in taken)]),
            "streams": np.array([one.stream for one in taken], np.int64),
        }

    def _unpack_taken(self, arrays: Mapping[str, np.ndarray]) -> list[_Taken]:
        lengths = {"cells.lengths": arrays["cells.lengths"]}
        parts = [split("cells", {"cells": arrays[name]} | lengths) for name in ("cells", "speed", "amount")]
        kinds = [arrays[name].dtype for name in ("cells", "speed", "amount")]
        if kinds != [np.uint16, np.float16, np.float16]:
            raise ValueError("its windows are of another kind")
        return [_Taken(*one) for one in zip(*parts, earlier_streams(arrays["streams"]), strict=True)]

    def _bounds(self) -> tuple[int, int]:
        return MOST_FRAMES, MOST_WINDOWS

    def snapshot(self) -> "_Snapshot":
        """All that was taken in, as it is now; raises StateError where that is too little to say anything."""
        with self._lock:
            return _Snapshot(
                self._seen_enough(),
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


def _reduce(waiting: list[_Waiting], background: np.ndarray, geometry: Geometry) -> Iterator[tuple[Windows, int]]:
    """The windows of frames that waited for a background, and the stream of each."""
    trails: dict[int, Trail] = {}
    for frame in waiting:
        share = foreground_share(frame.grey, background, geometry)
        trail = trails.setdefault(frame.stream, Trail(background))
        motion = Motion(*(part.astype(np.float32) for part in frame.motion))
        windows = find_windows(share, lambda motion=motion: motion, geometry, trail, frame.media_s)
        assert windows is not None
        yield windows, frame.stream


def fit_state(name: str, seen: _Snapshot, version: int, armed_s: float) -> MotionState:
    """Row-banded Gaussians on all footage; tails on each block of time as the other blocks judge it."""
    background = median_of(seen.samples)
    frames = seen.taken + [_taken(*one) for one in _reduce(seen.waiting, background, seen.geometry)]
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
