"""What things usually are like at each place of a scene, learned in bounded memory, and how unusual one is there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from workers.inference.vad.background import BackgroundLearner, earlier_streams, median_of
from workers.inference.vad.base import NormalityState, Phase
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.motion_features import Geometry, Prepared
from workers.inference.vad.motion_learning import clusters
from workers.inference.vad.object_features import LOOK, Backdrop, Box, Memory, ObjectContext, Things, backdrop_of
from workers.inference.vad.state_files import join, split

__all__ = [
    "ATTRIBUTES",
    "Habits",
    "ObjectLearner",
    "ObjectState",
    "fit_objects",
    "grid",
    "thing_levels",
    "whole_levels",
    "with_stays_of",
]

ATTRIBUTES = ("speed", "way", "size", "shape", "place", "stay", "change", "look", "kind")
"""What is judged of a thing, each by itself, in the order of all arrays of them."""
_GAUSSIAN = ("speed", "size", "shape", "stay", "change")
_TWO_SIDED = ("shape", "change")
"""Slower, smaller and shorter than usual is a part of something, or somebody who has just come."""
_ABSOLUTE = np.array([name in _TWO_SIDED for name in ATTRIBUTES])
_LATELY = np.array([name != "stay" for name in ATTRIBUTES])
"""What is averaged along a thing's track."""
_PRIORS = {"speed": (0.05, 0.1), "size": (-2.3, 0.5), "shape": (-0.5, 0.5), "stay": (0.7, 0.7), "change": (0.5, 0.3)}
"""Mean and deviation of what is believed where nothing was seen: frame heights a second, logarithms, shares."""
_LEAST = {"speed": 0.01, "size": 0.1, "shape": 0.1, "stay": 0.2, "change": 0.05}
"""What the measurements themselves waver by."""
PLACES = 24
"""Rows of places in the picture; columns by its shape."""
WAYS = 8
MOVES = 0.02
"""Frame heights a second from which a thing goes somewhere."""
PLACE_SPREAD = 0.7
"""Places over which what is seen at one of them counts, as the deviation of a Gaussian."""
ROW_SPREAD = 1.0
PLACE_THINGS, ROW_THINGS, PRIOR_THINGS = 20.0, 50.0, 50.0
"""A place where so many were seen is half believed, against its row; the row against all; all against the prior. Things
are counted frame by frame: twenty are one that was there for two seconds."""
LOOK_RIDGE = 0.1
"""Of the look's covariance, in shares of its mean variance."""
COUNTS_FROM = 1.0
"""-log10 P of an attribute above which it counts: nine parts of noise do not make a thing unusual."""
LEAST_SCALE = 0.2
MOST_THINGS = 60_000
FOLDS = 5
INDEPENDENT_S = 1.0
MOST_CALIBRATED = 20_000


@dataclass(frozen=True)
class Habits:
    """What is usual, per place: (rows, columns) of the grid."""

    mean: np.ndarray
    """(5, rows, columns) of what is Gaussian: speed, size, shape, stay, change."""
    deviation: np.ndarray
    ways: np.ndarray
    """(8, rows, columns) share of each direction, clockwise from upwards."""
    place: np.ndarray
    """(rows, columns) how often something is there, against where it is most often."""
    look_mean: np.ndarray
    """(LOOK,)"""
    look_scale: np.ndarray
    """(LOOK, LOOK) that makes of a look's difference one of variance 1 each way."""
    kinds: np.ndarray
    """(80,) share of each kind that a detector tells."""


@dataclass(frozen=True, kw_only=True)
class ObjectState(NormalityState):
    """What object_attr knows of a scene."""

    backdrop: Backdrop
    habits: Habits
    tails: tuple[TailCalibration, ...]
    """One per attribute."""
    moment_tail: TailCalibration
    """Of the most unusual thing of a frame, as it is now."""
    lasting_tail: TailCalibration
    """Of the one that was most unusual for a while."""
    frame_tail: TailCalibration
    """Of the greater of both levels."""

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.width, self.height)


KINDS = 80


class _Frame(NamedTuple):
    stream: int
    media_s: float
    tracks: np.ndarray
    """(N,) numbers of the tracks."""
    values: np.ndarray
    """(N, 10 + LOOK) float16: x, foot, vx, vy, speed, size, shape, stay, change, kind; then the look."""


def _pack(things: Things) -> np.ndarray:
    columns = (
        things.x,
        things.foot,
        *things.velocity.T,
        things.speed,
        things.size,
        things.shape,
        things.stay_s,
        things.change,
        things.kind,
    )
    return np.concatenate([np.stack(columns, axis=1), things.look], axis=1).astype(np.float16)


_HEAD = 10


class ObjectLearner(BackgroundLearner):
    """The things of normal footage."""

    def __init__(self) -> None:
        super().__init__()
        self._backdrop: Backdrop | None = None

    @property
    def backdrop(self) -> Backdrop | None:
        """What things are told from while learning; None while too little was seen."""
        return self._backdrop

    def add(self, frame: Prepared, stream: int, media_s: float, boxes: list[Box] | None, things: Things | None) -> None:
        """Takes a frame in, with its `things` where the learner had a background; raises StateError for another size
        than the first one's.
        """
        with self._lock:
            self._admit(frame, stream, media_s)
            if not self.wants(stream, media_s):
                return
            self._taken_s[stream] = media_s
            if things is not None:
                self._take(_Frame(stream, media_s, things.track, _pack(things)))
            elif self._background is None:
                self._wait(_Waiting(frame, stream, media_s, boxes))
            self._renew_background()

    def unpack(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        super().unpack(head, arrays)
        if self._background is not None and self._geometry is not None:
            self._backdrop = backdrop_of(self._background, self._samples, self._geometry)

    def _picture(self, frame: Prepared) -> np.ndarray:
        return frame.flat()

    def _picture_shape(self, geometry: Geometry) -> tuple[int, ...]:
        return (geometry.flat,)

    def _take_waiting(self, waiting: list["_Waiting"], background: np.ndarray) -> None:
        assert self._geometry is not None
        self._backdrop = backdrop_of(background, self._samples, self._geometry)
        for frame in _look_at(waiting, self._backdrop):
            self._take(frame)

    def _weigh(self, taken: _Frame) -> int:
        return len(taken.values)

    def _pack_taken(self, taken: list[_Frame]) -> dict[str, np.ndarray]:
        return {
            **join("values", [one.values for one in taken], np.zeros((0, _HEAD + LOOK), np.float16)),
            "tracks": np.concatenate([np.zeros(0, np.int64), *(one.tracks for one in taken)]),
            "media_s": np.array([one.media_s for one in taken], np.float64),
            "streams": np.array([one.stream for one in taken], np.int64),
        }

    def _unpack_taken(self, arrays: Mapping[str, np.ndarray]) -> list[_Frame]:
        values = split("values", arrays)
        tracks = split("tracks", {"tracks": arrays["tracks"], "tracks.lengths": arrays["values.lengths"]})
        if arrays["values"].dtype != np.float16 or arrays["values"].shape[1:] != (_HEAD + LOOK,):
            raise ValueError("its things are of another kind")
        streams, times = earlier_streams(arrays["streams"]), arrays["media_s"].tolist()
        return [_Frame(*one) for one in zip(streams, times, tracks, values, strict=True)]

    def _bounds(self) -> tuple[int, int]:
        return MOST_THINGS, MOST_THINGS

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


class _Waiting(NamedTuple):
    frame: Prepared
    stream: int
    media_s: float
    boxes: list[Box] | None


class _Snapshot(NamedTuple):
    geometry: Geometry
    samples: list[np.ndarray]
    waiting: list[_Waiting]
    taken: list[_Frame]
    learned_s: float
    frames: int


def _look_at(waiting: Sequence[_Waiting], backdrop: Backdrop) -> Iterator[_Frame]:
    """What is seen in frames that waited for a background."""
    contexts: dict[int, ObjectContext] = {}
    for frame, stream, media_s, boxes in waiting:
        context = contexts.setdefault(stream, ObjectContext())
        things = context.look(backdrop, frame, context.motion.push(frame, media_s), media_s, boxes)
        if things is not None:
            yield _Frame(stream, media_s, things.track, _pack(things))


# ---- what is usual


def grid(geometry: Geometry) -> tuple[int, int]:
    """(rows, columns) of places."""
    return PLACES, max(1, round(PLACES * geometry.width / geometry.height))


def _places(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(N,) flat index of the place of each thing."""
    row = np.clip((values[:, 1] * shape[0]).astype(int), 0, shape[0] - 1)
    column = np.clip((values[:, 0] * shape[1]).astype(int), 0, shape[1] - 1)
    return row * shape[1] + column


def _gaussian_values(values: np.ndarray) -> np.ndarray:
    """(N, 5) of what is Gaussian; NaN where it is not known."""
    speed, size, shape, stay, change = values[:, 4:9].T
    return np.stack(
        [speed, np.log(np.maximum(size, 1e-3)), np.log(np.maximum(shape, 0.05)), np.log1p(stay), change], axis=1
    )


def _directions(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) in eighths of a turn, and which go anywhere: faster than MOVES, and mostly one way."""
    speed = np.hypot(values[:, 2], values[:, 3])
    return np.arctan2(values[:, 2], -values[:, 3]) / (2 * np.pi) * WAYS % WAYS, speed >= np.maximum(
        MOVES, 0.5 * values[:, 4]
    )


class _Sums(NamedTuple):
    """What adds up over frames; a fold's can be taken away from all."""

    moments: np.ndarray
    """(5, 3, places): how many, their sum, the sum of their squares."""
    ways: np.ndarray
    """(8, places)"""
    seen: np.ndarray
    """(places,)"""
    look: np.ndarray
    """(1 + LOOK, 1 + LOOK): of looks with a 1 before, all products."""
    kinds: np.ndarray

    def minus(self, other: "_Sums") -> "_Sums":
        return _Sums(*(a - b for a, b in zip(self, other, strict=True)))

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(*(a + b for a, b in zip(self, other, strict=True)))


def _sum_up(values: np.ndarray, shape: tuple[int, int]) -> _Sums:
    at, n = _places(values, shape), shape[0] * shape[1]
    gaussian = _gaussian_values(values)
    moments = np.zeros((len(_GAUSSIAN), 3, n))
    for index, column in enumerate(gaussian.T):
        known = np.isfinite(column)
        for power in range(3):
            moments[index, power] = np.bincount(at[known], column[known] ** power, n)
    way, goes = _directions(values)
    low = np.floor(way[goes]).astype(int) % WAYS
    part = way[goes] - np.floor(way[goes])
    ways = np.zeros(WAYS * n)
    np.add.at(ways, low * n + at[goes], 1.0 - part)
    np.add.at(ways, (low + 1) % WAYS * n + at[goes], part)
    looks = np.concatenate([np.ones((len(values), 1)), values[:, _HEAD:]], axis=1)
    kinds = values[:, 9].astype(int)
    return _Sums(
        moments,
        ways.reshape(WAYS, n),
        np.bincount(at, minlength=n).astype(float),
        looks.T @ looks,
        np.bincount(kinds[(kinds >= 0) & (kinds < KINDS)], minlength=KINDS).astype(float),
    )


def _habits(sums: _Sums, shape: tuple[int, int]) -> Habits:
    """Each place with those around it, drawn towards its row, rows towards all, all towards a prior."""
    rows, columns = shape
    down, across = _kernel(rows, PLACE_SPREAD), _kernel(columns, PLACE_SPREAD)
    band = _kernel(rows, ROW_SPREAD)

    def around(values: np.ndarray) -> np.ndarray:
        return np.einsum("...rc,ar,bc->...ab", values.reshape(*values.shape[:-1], rows, columns), down, across)

    def along(values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape[:-1], rows, columns).sum(axis=-1) @ band.T

    mean, deviation = np.zeros((2, len(_GAUSSIAN), rows, columns))
    for index, name in enumerate(_GAUSSIAN):
        usual, spread = _PRIORS[name]
        believed = PRIOR_THINGS * np.array([1.0, usual, usual * usual + spread * spread])
        everywhere = sums.moments[index].sum(axis=-1) + believed
        row = along(sums.moments[index]) + ROW_THINGS * (everywhere / everywhere[0])[:, None]
        place = around(sums.moments[index]) + PLACE_THINGS * (row / row[0])[:, :, None]
        mean[index] = place[1] / place[0]
        deviation[index] = np.sqrt(np.maximum(place[2] / place[0] - mean[index] ** 2, _LEAST[name] ** 2))
    everywhere = sums.ways.sum(axis=-1) + PRIOR_THINGS / WAYS
    row = along(sums.ways) + ROW_THINGS * (everywhere / everywhere.sum())[:, None]
    ways = around(sums.ways) + PLACE_THINGS * (row / row.sum(axis=0))[:, :, None]
    place = around(sums.seen) + 1.0
    n = max(sums.look[0, 0], 1.0)
    look_mean = sums.look[0, 1:] / n
    covariance = sums.look[1:, 1:] / n - np.outer(look_mean, look_mean)
    variance = max(float(np.trace(covariance)) / LOOK, 1e-6)
    covariance += LOOK_RIDGE * variance * np.eye(LOOK)
    kinds = sums.kinds + 1.0
    return Habits(
        mean.astype(np.float32),
        deviation.astype(np.float32),
        (ways / ways.sum(axis=0)).astype(np.float32),
        (place / place.max()).astype(np.float32),
        look_mean.astype(np.float32),
        np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32),
        (kinds / kinds.sum()).astype(np.float32),
    )


def _kernel(n: int, spread: float) -> np.ndarray:
    place = np.arange(n)
    return np.exp(-0.5 * ((place[:, None] - place[None, :]) / spread) ** 2)


def _deviations(habits: Habits, values: np.ndarray) -> np.ndarray:
    """(N, 9) how far each thing is from what is usual at its place, by attribute, signed; NaN where it is not known."""
    shape = habits.place.shape
    at = _places(values, (shape[0], shape[1]))
    found = np.zeros((len(values), len(ATTRIBUTES)))
    gaussian = _gaussian_values(values)
    for index, name in enumerate(_GAUSSIAN):
        z = (gaussian[:, index] - habits.mean[index].ravel()[at]) / habits.deviation[index].ravel()[at]
        found[:, ATTRIBUTES.index(name)] = z
    way, goes = _directions(values)
    low = np.floor(way).astype(int) % WAYS
    ways = habits.ways.reshape(WAYS, -1)
    share = ways[low, at] * (1.0 - way % 1.0) + ways[(low + 1) % WAYS, at] * (way % 1.0)
    against = np.maximum(np.log10(ways.max(axis=0)[at] / np.maximum(share, 1e-6)), 0.0)
    found[:, ATTRIBUTES.index("way")] = np.where(goes, against, 0.0)
    found[:, ATTRIBUTES.index("place")] = -np.log10(habits.place.ravel()[at])
    look = (values[:, _HEAD:] - habits.look_mean) @ habits.look_scale
    found[:, ATTRIBUTES.index("look")] = np.sqrt((look * look).sum(axis=1))
    kinds = values[:, 9].astype(int)
    told = (kinds >= 0) & (kinds < KINDS)
    found[:, ATTRIBUTES.index("kind")] = np.where(told, -np.log10(habits.kinds[np.where(told, kinds, 0)]), 0.0)
    return found


def _carried(memory: Memory, tracks: np.ndarray, media_s: float, deviations: np.ndarray) -> np.ndarray:
    """(N, 9) of what is found now and was found lately of the same things; how long one stays needs no average."""
    return np.where(_LATELY, memory.carry(tracks, media_s, deviations), np.nan_to_num(deviations))


def _one_sided(deviations: np.ndarray) -> np.ndarray:
    """(N, 9) >= 0, of signed ones."""
    return np.where(_ABSOLUTE, np.abs(deviations), np.maximum(deviations, 0.0))


def _levels(tails: Sequence[TailCalibration], unusual: np.ndarray) -> np.ndarray:
    return np.stack([tail.level(column) for tail, column in zip(tails, unusual.T, strict=True)], axis=1)


def thing_levels(state: ObjectState, things: Things, memory: Memory, media_s: float) -> np.ndarray:
    """(N, 9) -log10 P of each attribute of each thing."""
    deviations = _deviations(state.habits, _pack(things).astype(np.float32))
    return _levels(state.tails, _one_sided(_carried(memory, things.track, media_s, deviations)))


def _thing_value(levels: np.ndarray) -> np.ndarray:
    """(N,) what counts of each thing, from its attributes' levels."""
    return np.maximum(levels - COUNTS_FROM, 0.0).sum(axis=1)


def whole_levels(
    state: ObjectState, levels: np.ndarray, memory: Memory, tracks: np.ndarray, media_s: float
) -> np.ndarray:
    """(N,) -log10 P of each thing, now or for a while, from its attributes' levels."""
    values = _thing_value(levels)
    lasting = state.lasting_tail.level(memory.lasting(tracks, media_s, values))
    return state.frame_tail.level(np.maximum(state.moment_tail.level(values), lasting))


def with_stays_of(state: ObjectState, other: ObjectState) -> ObjectState:
    """How long things stay, and go on, as `other` knows it: footage in bursts of seconds does not show that."""
    stay, known = _GAUSSIAN.index("stay"), ATTRIBUTES.index("stay")
    mean, deviation = state.habits.mean.copy(), state.habits.deviation.copy()
    mean[stay], deviation[stay] = other.habits.mean[stay], other.habits.deviation[stay]
    tails = (*state.tails[:known], other.tails[known], *state.tails[known + 1 :])
    habits = replace(state.habits, mean=mean, deviation=deviation)
    return replace(state, habits=habits, tails=tails, lasting_tail=other.lasting_tail)


def fit_objects(name: str, seen: _Snapshot, version: int, armed_s: float) -> ObjectState:
    """Habits of all footage; tails on each block of time as the other blocks judge it."""
    backdrop = backdrop_of(median_of(seen.samples), seen.samples, seen.geometry)
    frames = seen.taken + list(_look_at(seen.waiting, backdrop))
    frames.sort(key=lambda frame: frame.stream)  # stable: each stream stays in the order of time
    shape = grid(seen.geometry)
    folds = np.arange(len(frames)) * FOLDS // len(frames)
    of_fold = [
        np.concatenate([frames[index].values for index in np.flatnonzero(folds == fold)]).astype(np.float32)
        for fold in range(FOLDS)
    ]
    sums = [_sum_up(values, shape) for values in of_fold]
    total = sums[0]
    for other in sums[1:]:
        total = total.plus(other)
    deviations = np.concatenate(
        [_deviations(_habits(total.minus(part), shape), values) for part, values in zip(sums, of_fold, strict=True)]
    )
    unusual = _as_scored(frames, deviations)
    independent = max(1.0, seen.learned_s / INDEPENDENT_S)
    step = -(-len(unusual) // MOST_CALIBRATED) if len(unusual) else 1
    tails = tuple(_tail(column[::step], independent) for column in unusual.T)
    lengths = [len(frame.values) for frame in frames]
    values = np.split(_thing_value(_levels(tails, unusual)), np.cumsum(lengths)[:-1])
    now = np.array([part.max(initial=0.0) for part in values])
    for_a_while = _lasting(frames, values)
    moment_tail, lasting_tail = _tail(now, independent), _tail(for_a_while, independent)
    phase: Phase = "armed" if seen.learned_s >= armed_s else "provisional"
    frame_tail = _tail(np.maximum(moment_tail.level(now), lasting_tail.level(for_a_while)), independent)
    if phase == "provisional":
        # in ten seconds all may go one way: whoever comes the other way then is new, and yet nothing unusual
        frame_tail = frame_tail.cautious(independent)
    return ObjectState(
        vad_type=name,
        version=version,
        width=seen.geometry.width,
        height=seen.geometry.height,
        learned_s=seen.learned_s,
        frames=seen.frames,
        phase=phase,
        backdrop=backdrop,
        habits=_habits(total, shape),
        tails=tails,
        moment_tail=moment_tail,
        lasting_tail=lasting_tail,
        frame_tail=frame_tail,
    )


def _as_scored(frames: Sequence[_Frame], deviations: np.ndarray) -> np.ndarray:
    """What scoring would make of them, stream by stream."""
    found, begin, stream, memory = np.empty_like(deviations), 0, -1, Memory()
    for frame in frames:
        if frame.stream != stream:
            stream, memory = frame.stream, Memory()
        rows = slice(begin, begin + len(frame.values))
        found[rows], begin = _carried(memory, frame.tracks, frame.media_s, deviations[rows]), rows.stop
    return _one_sided(found)


def _lasting(frames: Sequence[_Frame], values: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) of each frame the most that a thing was for a while, stream by stream."""
    found, stream, memory = np.zeros(len(frames)), -1, Memory()
    for index, (frame, now) in enumerate(zip(frames, values, strict=True)):
        if frame.stream != stream:
            stream, memory = frame.stream, Memory()
        found[index] = memory.lasting(frame.tracks, frame.media_s, now).max(initial=0.0)
    return found


def _tail(values: np.ndarray, independent: float) -> TailCalibration:
    if not len(values):
        values = np.zeros(1)
    return fit_tail(values, independent=independent, clusters=clusters(values), floor=LEAST_SCALE)
