"""motion_stats: is something faster, or larger, than what usually moves at that height of the picture?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from core.errors import StateError
from workers.inference.vad.base import MAP_LEVELS, NormalityState, Row, VadScore
from workers.inference.vad.calibration import TailCalibration
from workers.inference.vad.motion_features import (
    Earlier,
    Geometry,
    Motion,
    MotionContext,
    Prepared,
    Windows,
    find_motion,
    find_windows,
    foreground_share,
    prepare_grey,
)
from workers.inference.vad.motion_learning import (
    Evidence,
    MotionLearner,
    MotionState,
    Usual,
    fit_state,
    top_cells,
    top_mean,
)
from workers.inference.vad.state_files import Packed, read_npz, write_npz

__all__ = ["MotionFinder", "MotionStats", "pack", "take_in", "unpack"]

FORMAT = 2
"""Version of what `save` writes."""
STILL_SPEED = 0.005
"""Frame heights a second; where the usual speed is below it, a ratio to it would say nothing."""
_TAILS = ("speed_tail", "amount_tail", "frame_tail")
_USUALS = ("speed", "amount")
_PLAIN = ("vad_type", "version", "width", "height", "learned_s", "frames", "phase")

Outcome = tuple[VadScore | Exception | None, Evidence | None]


class MotionFinder(Protocol):
    """Finds the motion of many frames at once and leaves it with them, for `find_motion` to give."""

    @property
    def device(self) -> str: ...

    def find(self, asked: Iterable[tuple[Earlier, Prepared]]) -> None:
        """What it does not find is left to the CPU; never raises."""
        ...


def take_in(
    frames: Sequence[tuple[MotionContext, Prepared, float]], finder: MotionFinder | None
) -> list[Earlier | Exception | None]:
    """Pushes frames (context, frame, media_s), in order: what each is to be compared with, or what is wrong with it."""
    pushed: list[Earlier | Exception | None] = []
    for context, frame, media_s in frames:
        try:
            pushed.append(context.push(frame, media_s))
        except Exception as error:
            pushed.append(error)
    if finder is not None:
        asked = zip(pushed, frames, strict=True)
        finder.find((earlier, frame) for earlier, (_, frame, _) in asked if isinstance(earlier, Earlier))
    return pushed


class MotionStats:
    """Optical flow and foreground in windows of a person's size, against Gaussians per row; see docs/detection.md.

    Holds nothing: states, learners and contexts carry all there is. No smoothing over time happens here.
    """

    name = "motion_stats"
    suffix = ".npz"
    trains = False
    parameters = 0
    needs_pixels = False

    def __init__(self, finder: MotionFinder | None = None) -> None:
        """`finder` looks for the motion of a whole batch; without one, each frame's is found on the CPU."""
        self._finder = finder

    @property
    def device(self) -> str:
        return self._finder.device if self._finder else "cpu"

    def new_context(self) -> MotionContext:
        return MotionContext()

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> Prepared:
        """The luma at working size; raises StateError for frames too small or of another shape."""
        return prepare_grey(pixels, width, height)

    def prepare_from(self, motion: Prepared, pixels: np.ndarray | None) -> Prepared:  # noqa: ARG002 - what others need of it
        """Of a frame that another type looks at too."""
        return motion

    def new_learner(self) -> MotionLearner:
        return MotionLearner()

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        """Contexts are spread over `executor` (which must not be the one this is called from), learning is not.

        Learners take frames in by the order of `rows`, so that the same footage makes the same state.
        """
        by_context: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            by_context.setdefault(id(row.context), []).append(index)
        groups = list(by_context.values())
        pushed = take_in([(row.context, row.prepared, row.media_s) for row in rows], self._finder)

        def look(group: list[int]) -> list[Outcome]:
            return [_look(rows[index], pushed[index]) for index in group]

        later = [executor.submit(look, group) for group in groups[1:]] if executor else []
        outcomes = [look(group) for group in (groups[:1] if executor else groups)]
        outcomes += [future.result() for future in later]
        results: list[VadScore | Exception | None] = [None] * len(rows)
        evidence: list[Evidence | None] = [None] * len(rows)
        for group, outcome in zip(groups, outcomes, strict=True):
            for index, (result, seen) in zip(group, outcome, strict=True):
                results[index], evidence[index] = result, seen
        for index, seen in enumerate(evidence):
            if seen is not None:
                try:
                    rows[index].learner.add(seen)
                except Exception as error:
                    results[index] = error
        return results

    def pack_learner(self, learner: MotionLearner) -> Packed:
        return learner.pack()

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> MotionLearner:
        learner = self.new_learner()
        learner.unpack(head, arrays)
        return learner

    def fit(self, learner: MotionLearner, version: int, armed_s: float) -> MotionState:
        """Under 2 s for 2,550 frames; raises StateError if too little was taken in."""
        return fit_state(self.name, learner.snapshot(), version, armed_s)

    def fit_provisional(self, learner: MotionLearner) -> MotionState:
        return self.fit(learner, 0, float("inf"))

    def close(self) -> None:
        """Nothing goes on by itself here."""

    def save(self, state: NormalityState, path: Path) -> None:
        if not isinstance(state, MotionState):
            raise StateError(f"a state of type {state.vad_type} is not one of {self.name}")
        write_npz(path, FORMAT, *pack(state))

    def load(self, path: Path) -> MotionState:
        return read_npz(path, self.name, FORMAT, unpack)


def pack(state: MotionState) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a state is made of: plain values for JSON, and arrays."""
    arrays: dict[str, Any] = {"background": state.background}
    for name in _USUALS:
        usual: Usual = getattr(state, name)
        arrays[f"{name}.mean"], arrays[f"{name}.deviation"] = usual.mean, usual.deviation
    for name in _TAILS:
        tail: TailCalibration = getattr(state, name)
        arrays[f"{name}.values"], arrays[f"{name}.levels"] = tail.values, tail.levels
        arrays[f"{name}.slope"] = np.array(tail.slope)
    return {name: getattr(state, name) for name in _PLAIN}, arrays


def unpack(head: dict[str, Any], stored: dict[str, np.ndarray]) -> MotionState:
    """The state of what `pack` gave; raises KeyError or ValueError where that is not whole."""
    fields: dict[str, Any] = {name: head[name] for name in _PLAIN} | {"background": stored["background"]}
    for name in _USUALS:
        fields[name] = Usual(stored[f"{name}.mean"], stored[f"{name}.deviation"])
    for name in _TAILS:
        fields[name] = TailCalibration(
            stored[f"{name}.values"], stored[f"{name}.levels"], float(stored[f"{name}.slope"])
        )
    state = MotionState(**fields)
    width, height = state.geometry.working
    rows = state.geometry.cells[0]
    if state.background.shape != (height, width) or any(len(getattr(state, n).mean) != rows for n in _USUALS):
        raise ValueError("its arrays do not fit its frame size")
    return state


def _look(row: Row, earlier: Earlier | Exception | None) -> Outcome:
    """What can be done without touching anything shared: flow, windows, the score. Never raises."""
    if isinstance(earlier, Exception):
        return earlier, None
    try:
        frame: Prepared = row.prepared
        motion = _once(lambda: None if earlier is None else find_motion(earlier, frame))
        result: VadScore | Exception | None = None
        if row.state is not None:
            try:
                result = _score_frame(row, row.state, motion)
            except StateError as error:
                result = error
        return result, None if row.learner is None else _evidence(row, frame, motion)
    except Exception as error:
        return error, None


def _once(compute: Callable[[], Motion | None]) -> Callable[[], Motion | None]:
    kept: list[Motion | None] = []

    def get() -> Motion | None:
        if not kept:
            kept.append(compute())
        return kept[0]

    return get


def _evidence(row: Row, frame: Prepared, motion: Callable[[], Motion | None]) -> Evidence:
    learner: MotionLearner = row.learner
    stream, background = row.context.stream, learner.background
    if not learner.wants(stream, row.media_s):
        return Evidence(frame, stream, row.media_s, None, None)
    if background is None or background.shape != frame.grey.shape:
        return Evidence(frame, stream, row.media_s, None, motion())
    share = foreground_share(frame.grey, background, frame.geometry)
    windows = find_windows(share, motion, frame.geometry, row.context.trail(background), row.media_s)
    return Evidence(frame, stream, row.media_s, windows, None)


def _score_frame(row: Row, state: NormalityState, motion: Callable[[], Motion | None]) -> VadScore | None:
    frame: Prepared = row.prepared
    if not isinstance(state, MotionState):
        raise StateError(f"a state of type {state.vad_type} cannot score for {MotionStats.name}")
    if state.geometry != frame.geometry:
        raise StateError(
            f"the state was learned from frames of {state.width}x{state.height}, "
            f"this one is {frame.geometry.width}x{frame.geometry.height}",
            "let the camera learn again",
        )
    share = foreground_share(frame.grey, state.background, frame.geometry)
    windows = find_windows(share, motion, frame.geometry, row.context.trail(state.background), row.media_s)
    return None if windows is None else _score_windows(state, windows)


def _score_windows(state: MotionState, windows: Windows) -> VadScore:
    rows, columns = state.geometry.cells
    levels = np.zeros(rows * columns, np.float32)
    if not len(windows.cells):
        return VadScore(0.0, 0.5, 0.5, _location_map(levels, state.geometry), "")
    row = windows.cells // columns
    fast = np.maximum((windows.speed - state.speed.mean[row]) / state.speed.deviation[row], 0.0)
    much = np.maximum((windows.amount - state.amount.mean[row]) / state.amount.deviation[row], 0.0)
    top = top_cells(state.geometry)
    speed_level = float(state.speed_tail.level(top_mean(fast, top)))
    amount_level = float(state.amount_tail.level(top_mean(much, top)))
    score = float(state.frame_tail.level(speed_level + amount_level))

    fast_levels, much_levels = state.speed_tail.level(fast), state.amount_tail.level(much)
    levels[windows.cells] = state.frame_tail.level(fast_levels + much_levels)
    # A peak that its neighbours share is an object; a lone one is noise.
    around = cv2.blur(levels.reshape(rows, columns), (3, 3), borderType=cv2.BORDER_CONSTANT).ravel()
    peak = int(np.argmax(around[windows.cells]))
    cell = int(windows.cells[peak])
    by_speed = bool(fast_levels[peak] >= much_levels[peak])
    usual = (state.speed if by_speed else state.amount).mean[cell // columns]
    found = (windows.speed if by_speed else windows.amount)[peak]
    peak_x, peak_y = state.geometry.middle(cell)
    return VadScore(
        score,
        peak_x,
        peak_y,
        _location_map(levels, state.geometry),
        _reason(float(found), float(usual), by_speed=by_speed),
    )


def _location_map(levels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The largest of 2x2 cells each, a cell per 8 working pixels."""
    rows, columns = geometry.cells
    even = np.zeros((rows + rows % 2, columns + columns % 2), np.float32)
    even[:rows, :columns] = levels.reshape(rows, columns)
    largest = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).max(axis=(1, 3))
    return np.clip(largest * (255.0 / MAP_LEVELS), 0.0, 255.0).astype(np.uint8)


def _reason(found: float, usual: float, *, by_speed: bool) -> str:
    if by_speed:
        if usual < STILL_SPEED:
            return "movement where there is usually none"
        return f"{found / usual:.1f} x the usual speed here"
    return f"{found / max(usual, 0.01):.1f} x the usual amount of movement here"
