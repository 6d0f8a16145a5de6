"""object_attr: is there a thing whose speed, way, size, shape, place, stay, gait or look is unusual where it is?"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from core.errors import StateError
from workers.inference.vad.base import MAP_LEVELS, NormalityState, Row, VadScore
from workers.inference.vad.calibration import TailCalibration
from workers.inference.vad.motion_features import Earlier, Geometry, Prepared, prepare_colour
from workers.inference.vad.motion_stats import MotionFinder, take_in
from workers.inference.vad.object_detector import Detector
from workers.inference.vad.object_features import Backdrop, Box, Memory, ObjectContext, Things
from workers.inference.vad.object_learning import (
    ATTRIBUTES,
    Habits,
    ObjectLearner,
    ObjectState,
    fit_objects,
    grid,
    thing_levels,
    whole_levels,
    with_stays_of,
)
from workers.inference.vad.state_files import Packed, read_npz, write_npz

__all__ = ["ObjectAttr", "ObjectFrame"]

FORMAT = 4
"""Version of what `save` writes."""
SAID_FROM = 1.0
"""-log10 P of an attribute from which it is named."""
SAID = 2
"""Attributes that are named at most."""
_PLAIN = ("vad_type", "version", "width", "height", "learned_s", "frames", "phase")
_BACKDROP = ("background", "above", "chroma", "chroma_above")
_HABITS = ("mean", "deviation", "ways", "place", "look_mean", "look_scale", "kinds")
_TAILS = (*ATTRIBUTES, "moment", "lasting", "frame")
_COMPASS = ("up", "up right", "right", "down right", "down", "down left", "left", "up left")


@dataclass(frozen=True)
class ObjectFrame:
    """A frame as motion_stats takes it; `image` (h, w, 3) BGR where a detector looks at it."""

    motion: Prepared
    image: np.ndarray | None


class _Taken(NamedTuple):
    things: Things | None
    boxes: list[Box] | None


_Outcome = tuple[VadScore | Exception | None, _Taken | None]


class ObjectAttr:
    """Things in front of the background, or what a detector finds, against densities per place; see docs/detection.md.

    Holds nothing of a camera. No smoothing over time happens here but along each thing's own track.
    """

    name = "object_attr"
    suffix = ".npz"
    trains = False
    parameters = 0

    def __init__(self, weights_file: Path | None = None, finder: MotionFinder | None = None) -> None:
        """`weights_file`: a detector as `object_detector` takes it; raises ModelError where it is none. `finder`: as
        MotionStats has it.
        """
        self._finder = finder
        self._detector = Detector(weights_file) if weights_file else None
        self._one_at_a_time = threading.Lock()

    @property
    def device(self) -> str:
        return self._finder.device if self._finder else "cpu"

    @property
    def needs_pixels(self) -> bool:
        return self._detector is not None

    def new_context(self) -> ObjectContext:
        return ObjectContext()

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> ObjectFrame:
        """Luma and colours at working size; raises StateError for frames too small or of another shape."""
        return self.prepare_from(prepare_colour(pixels, width, height), pixels)

    def prepare_from(self, motion: Prepared, pixels: np.ndarray | None) -> ObjectFrame:
        """Of a frame that another type looks at too."""
        if self._detector is None or pixels is None:
            return ObjectFrame(motion, None)
        return ObjectFrame(motion, cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420))

    def new_learner(self) -> ObjectLearner:
        return ObjectLearner()

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        """Contexts are spread over `executor` (which must not be the one this is called from), learning is not."""
        by_context: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_context.setdefault(id(row.context), []).append(index)
        groups = list(by_context.values())
        pushed = take_in([(row.context.motion, row.prepared.motion, row.media_s) for row in rows], self._finder)

        def look(group: list[int]) -> list[_Outcome]:
            return [self._look(rows[index], pushed[index]) for index in group]

        later = [executor.submit(look, group) for group in groups[1:]] if executor else []
        outcomes = [look(group) for group in (groups[:1] if executor else groups)]
        outcomes += [future.result() for future in later]
        results: list[VadScore | Exception | None] = [None] * len(rows)
        taken: list[_Taken | None] = [None] * len(rows)
        for group, outcome in zip(groups, outcomes, strict=True):
            for index, (result, one) in zip(group, outcome, strict=True):
                results[index], taken[index] = result, one
        for row, (index, one) in zip(rows, enumerate(taken), strict=True):
            if one is not None and row.learner is not None:
                try:
                    stream = row.context.motion.stream
                    row.learner.add(row.prepared.motion, stream, row.media_s, one.boxes, one.things)
                except Exception as error:
                    results[index] = error
        return results

    def _look(self, row: Row, earlier: Earlier | Exception | None) -> _Outcome:
        """What can be done without touching anything shared. Never raises."""
        if isinstance(earlier, Exception):
            return earlier, None
        try:
            frame: ObjectFrame = row.prepared
            context: ObjectContext = row.context
            boxes: list[Box] | None = None
            if self._detector is not None and frame.image is not None:
                with self._one_at_a_time:
                    boxes = self._detector.find(frame.image)
            result: VadScore | Exception | None = None
            if row.state is not None:
                try:
                    state = _check(row.state, frame.motion.geometry)
                    things = context.look(state.backdrop, frame.motion, earlier, row.media_s, boxes)
                    if things is not None:
                        memory = context.looker(state.backdrop).memory
                        result = _score(state, things, memory, row.media_s)
                except StateError as error:
                    result = error
            if row.learner is None:
                return result, None
            backdrop = row.learner.backdrop
            if backdrop is None or backdrop.background.shape != frame.motion.grey.shape:
                return result, _Taken(None, boxes)
            return result, _Taken(context.look(backdrop, frame.motion, earlier, row.media_s, boxes), boxes)
        except Exception as error:
            return error, None

    def pack_learner(self, learner: ObjectLearner) -> Packed:
        return learner.pack()

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> ObjectLearner:
        learner = self.new_learner()
        learner.unpack(head, arrays)
        return learner

    def fit(self, learner: ObjectLearner, version: int, armed_s: float) -> ObjectState:
        """Within seconds; raises StateError if too little was taken in."""
        return fit_objects(self.name, learner.snapshot(), version, armed_s)

    def fit_provisional(self, learner: ObjectLearner) -> ObjectState:
        return self.fit(learner, 0, float("inf"))

    def inherit(self, state: NormalityState, used: NormalityState) -> NormalityState:
        if isinstance(state, ObjectState) and isinstance(used, ObjectState) and state.geometry == used.geometry:
            return with_stays_of(state, used)
        return state

    def close(self) -> None:
        """Nothing goes on by itself here."""

    def save(self, state: NormalityState, path: Path) -> None:
        if not isinstance(state, ObjectState):
            raise StateError(f"a state of type {state.vad_type} is not one of {self.name}")
        arrays: dict[str, Any] = {name: getattr(state.backdrop, name) for name in _BACKDROP}
        arrays |= {f"habits.{name}": getattr(state.habits, name) for name in _HABITS}
        tails = (*state.tails, state.moment_tail, state.lasting_tail, state.frame_tail)
        for name, tail in zip(_TAILS, tails, strict=True):
            arrays |= {f"{name}.values": tail.values, f"{name}.levels": tail.levels, f"{name}.slope": tail.slope}
        write_npz(path, FORMAT, {name: getattr(state, name) for name in _PLAIN}, arrays)

    def load(self, path: Path) -> ObjectState:
        return read_npz(path, self.name, FORMAT, _unpack)


def _unpack(head: dict[str, Any], stored: dict[str, np.ndarray]) -> ObjectState:
    tails = [
        TailCalibration(stored[f"{name}.values"], stored[f"{name}.levels"], float(stored[f"{name}.slope"]))
        for name in _TAILS
    ]
    state = ObjectState(
        **{name: head[name] for name in _PLAIN},
        backdrop=Backdrop(**{name: stored[name] for name in _BACKDROP}),
        habits=Habits(**{name: stored[f"habits.{name}"] for name in _HABITS}),
        tails=tuple(tails[:-3]),
        moment_tail=tails[-3],
        lasting_tail=tails[-2],
        frame_tail=tails[-1],
    )
    width, height = state.geometry.working
    half = state.geometry.half[::-1]
    shapes = [*(getattr(state.backdrop, name).shape for name in _BACKDROP), state.habits.place.shape]
    if shapes != [(height, width), (height, width), (2, *half), half, grid(state.geometry)]:
        raise ValueError("its arrays do not fit its frame size")
    return state


def _check(state: NormalityState, geometry: Geometry) -> ObjectState:
    if not isinstance(state, ObjectState):
        raise StateError(f"a state of type {state.vad_type} cannot score for {ObjectAttr.name}")
    if state.geometry != geometry:
        raise StateError(
            f"the state was learned from frames of {state.width}x{state.height}, "
            f"this one is {geometry.width}x{geometry.height}",
            "let the camera learn again",
        )
    return state


def _score(state: ObjectState, things: Things, memory: Memory, media_s: float) -> VadScore:
    rows, columns = (-(-side // 2) for side in state.geometry.cells)
    levels = np.zeros((rows, columns), np.float32)
    if not len(things):
        return VadScore(float(state.frame_tail.level(0.0)), 0.5, 0.5, levels.astype(np.uint8), "")
    each = thing_levels(state, things, memory, media_s)
    whole = whole_levels(state, each, memory, things.track, media_s)
    for index in np.argsort(whole):
        x0, y0, x1, y1 = (int(side) for side in np.round(things.box[index] * (columns, rows, columns, rows)))
        levels[y0 : max(y0 + 1, y1), x0 : max(x0 + 1, x1)] = whole[index]
    peak = int(np.argmax(whole))
    left, top, right, bottom = (float(side) for side in things.box[peak])
    return VadScore(
        float(whole[peak]),
        (left + right) / 2,
        (top + bottom) / 2,
        np.clip(levels * (255.0 / MAP_LEVELS), 0.0, 255.0).astype(np.uint8),
        _reason(state.habits, things, peak, each[peak]),
    )


def _reason(habits: Habits, things: Things, index: int, levels: np.ndarray) -> str:
    """What is most unusual about a thing, and by how much; "" where nothing is."""
    named = [int(i) for i in np.argsort(-levels)[:SAID] if levels[i] >= SAID_FROM]
    row = min(int(things.foot[index] * habits.place.shape[0]), habits.place.shape[0] - 1)
    column = min(int(things.x[index] * habits.place.shape[1]), habits.place.shape[1] - 1)
    speed, size, shape, stay, change = (float(v) for v in habits.mean[:, row, column])
    said: list[str] = []
    for attribute in (ATTRIBUTES[i] for i in named):
        match attribute:
            case "speed":
                said.append(f"{float(things.speed[index]) / max(speed, 0.005):.1f} x the usual speed here")
            case "way":
                vx, vy = (float(v) for v in things.velocity[index])
                way = round(float(np.arctan2(vx, -vy)) / (2 * np.pi) * 8) % 8
                share = float(habits.ways[way, row, column])
                said.append(f"goes {_COMPASS[way]}, as {share:.1%} do here")
            case "size":
                said.append(f"{float(things.size[index]) / float(np.exp(size)):.1f} x the usual size here")
            case "shape":
                times = float(things.shape[index]) / float(np.exp(shape))
                said.append(f"{times:.1f} x as wide" if times >= 1 else f"{1 / times:.1f} x as slender")
                said[-1] += " for its height as what is usually here"
            case "place":
                said.append(f"a place where {1 / float(habits.place[row, column]):.0f} x less is seen than elsewhere")
            case "stay":
                said.append(
                    f"has stayed for {float(things.stay_s[index]):.0f} s, usually {float(np.expm1(stay)):.0f} s here"
                )
            case "change":
                times = float(things.change[index]) / max(change, 0.05)
                said.append(
                    f"moves its limbs {times:.1f} x as much as usual"
                    if times >= 1
                    else f"glides: moves its limbs only {times:.1f} x as much as usual"
                )
            case "look":
                said.append(f"looks unlike what is usually here (1 in {10 ** min(float(levels[7]), 9.0):,.0f})")
            case _:
                said.append(f"of a kind that is seldom here (kind {int(things.kind[index])})")
    return "; ".join(said)
