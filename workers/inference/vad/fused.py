"""fused: several types look at the same frames, and what each finds improbable is added; see docs/detection.md."""

import json
import random
import tempfile
import threading
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import cv2
import numpy as np

from core.errors import StateError
from workers.inference.vad.base import MAP_LEVELS, Inheriting, NormalityState, Row, VadModel, VadScore
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.motion_features import RESET_GAP_S, Geometry, Prepared, prepare_colour
from workers.inference.vad.motion_learning import clusters
from workers.inference.vad.state_files import AGAIN, Packed, join, part_of, replace_whole, split, under

__all__ = ["Fused", "FusedLearner", "FusedState"]

FORMAT = 2
PIECE, MOST_PIECES = 48, 10
"""Frames of a piece of footage that is kept to see how the parts go together, and how many: 72 MB."""
PIECE_STEP_S = 0.09
WARM_UP = 12
"""First frames of a piece, in which the parts have no history yet."""
LEAST_TOGETHER = 100
"""Frames that must have been seen by all parts; with fewer, they are taken to say the same thing."""
LEAST_LEVEL_SCALE = 0.2
SAID_FROM = 1.0
COUNTS_FROM = {"motion_stats": 1.0}
"""-log10 P of a part below which it counts LITTLE. What motion_stats finds in nine frames of ten is
how busy it is, in which what others see is lost. Chosen on demo scenes; see docs/detection.md."""
LITTLE = 0.1
_HEAD = "head.json"


class SharedFrames(Protocol):
    """What a part is: its `prepare` can begin with a frame that is at working size already."""

    @property
    def needs_pixels(self) -> bool:
        """Whether it looks at more than that frame."""
        ...

    def prepare_from(self, motion: Prepared, pixels: np.ndarray | None) -> Any:
        """`pixels` may be None where they are not needed."""
        ...


@dataclass(frozen=True, kw_only=True)
class FusedState(NormalityState):
    """The parts' states, None where a part does not score yet; `tail` is of the sum of their levels."""

    parts: tuple[NormalityState | None, ...]
    tail: TailCalibration


class _Seen(NamedTuple):
    """A frame at working size, and what each part makes of it."""

    motion: Prepared
    parts: tuple[Any, ...]


class FusedContext:
    __slots__ = ("parts", "stream")

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts


class FusedLearner:
    """What each part learns, and some footage to see how they go together; safe between threads."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self._open: dict[int, list[tuple[float, _Seen]]] = {}
        self._pieces: list[list[tuple[float, _Seen]]] = []
        self._offered = 0

    def merge(self, others: Sequence["FusedLearner"]) -> None:
        for index, part in enumerate(self.parts):
            part.merge([other.parts[index] for other in others])
        with self._lock:
            for other in others:
                self._pieces += other.pieces()
                self._offered += other._offered  # noqa: SLF001 - of the same class
            self._choice.shuffle(self._pieces)
            del self._pieces[MOST_PIECES:]

    @property
    def learned_s(self) -> float:
        return self.parts[0].learned_s

    @property
    def frames(self) -> int:
        return self.parts[0].frames

    def add(self, stream: int, media_s: float, seen: _Seen) -> None:
        """Keeps pieces by Algorithm R (Vitter 1985)."""
        with self._lock:
            piece = self._open.setdefault(stream, [])
            if piece and not 0.0 < media_s - piece[-1][0] <= RESET_GAP_S:
                # what comes in bursts never makes a whole one
                if len(piece) > 2 * WARM_UP:
                    self._offer(piece)
                self._open[stream] = piece = []
            if piece and media_s - piece[-1][0] < PIECE_STEP_S:
                return
            piece.append((media_s, seen))
            if len(piece) == PIECE:
                self._offer(piece)
                self._open[stream] = []

    def _offer(self, piece: list[tuple[float, _Seen]]) -> None:
        self._offered += 1
        if len(self._pieces) < MOST_PIECES:
            self._pieces.append(piece)
        elif (place := self._choice.randrange(self._offered)) < MOST_PIECES:
            self._pieces[place] = piece

    def pack(self) -> tuple[int, list[list[tuple[float, _Seen]]]]:
        """How many pieces were offered, and those that are kept."""
        with self._lock:
            return self._offered, list(self._pieces)

    def unpack(self, offered: int, pieces: list[list[tuple[float, _Seen]]]) -> None:
        """Goes on from what `pack` gave."""
        self._offered, self._pieces, self._choice = offered, pieces, random.Random(offered)

    def pieces(self) -> list[list[tuple[float, _Seen]]]:
        """Unfinished ones too, where they are of use."""
        with self._lock:
            return list(self._pieces) + [list(piece) for piece in self._open.values() if len(piece) > 2 * WARM_UP]


class Fused:
    """Parts are types by themselves. The first one is there from the first seconds; those that train follow."""

    suffix = ".zip"

    def __init__(self, parts: Sequence[VadModel], name: str = "fused") -> None:
        """`parts` offer `prepare_from`; `name` is that of the type."""
        self._parts = tuple(parts)
        self.name = name
        self.trains = any(part.trains for part in self._parts)
        # what may run out of memory comes first: nothing has changed until then
        self._order = sorted(range(len(self._parts)), key=lambda index: not self._parts[index].trains)

    @property
    def device(self) -> str:
        return next((part.device for part in self._parts if part.device != "cpu"), "cpu")

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self._parts)

    def new_context(self) -> FusedContext:
        return FusedContext(tuple(part.new_context() for part in self._parts))

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> _Seen:
        return self._seen(prepare_colour(pixels, width, height), pixels)

    def _seen(self, motion: Prepared, pixels: np.ndarray | None = None) -> _Seen:
        return _Seen(motion, tuple(cast("SharedFrames", part).prepare_from(motion, pixels) for part in self._parts))

    @property
    def _needs_pixels(self) -> bool:
        return any(cast("SharedFrames", part).needs_pixels for part in self._parts)

    def new_learner(self) -> FusedLearner:
        return FusedLearner(tuple(part.new_learner() for part in self._parts))

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        found: list[list[VadScore | Exception | None]] = [[] for _ in self._parts]
        for turn, index in enumerate(self._order):
            passed = [_row_of(row, index) for row in rows]
            try:
                found[index] = self._parts[index].process(passed, executor)
            except Exception as error:
                if turn == 0:
                    raise
                # another part has taken the frames in already: they cannot be tried again
                found[index] = [error] * len(rows)
        results: list[VadScore | Exception | None] = []
        for row, *said in zip(rows, *found, strict=True):
            wrong = next((one for one in said if isinstance(one, Exception)), None)
            if wrong is None and row.learner is not None:
                row.learner.add(id(row.context), row.media_s, row.prepared)
            if wrong is None:
                heard = [(p.name, s) for p, s in zip(self._parts, said, strict=True) if isinstance(s, VadScore)]
                results.append(_join(row.state, heard))
            else:
                results.append(wrong)
        return results

    def pack_learner(self, learner: FusedLearner) -> Packed:
        heads: list[dict[str, Any]] = []
        arrays: dict[str, np.ndarray] = {}
        for part, one in self._with(learner):
            head, own = part.pack_learner(one)
            heads.append(head)
            arrays |= under(part.name, own)
        offered, pieces = learner.pack() if not self._needs_pixels else (0, [])
        geometry = pieces[0][0][1].motion.geometry if pieces else None
        pieces = [piece for piece in pieces if piece[0][1].motion.geometry == geometry]
        frames = [np.stack([seen.motion.flat() for _, seen in piece]) for piece in pieces]
        arrays |= join("pieces", frames, np.zeros((0, geometry.flat if geometry else 0), np.uint8))
        arrays["pieces.media_s"] = np.array([media_s for piece in pieces for media_s, _ in piece], np.float64)
        size = [geometry.width, geometry.height] if geometry else None
        return {"parts": heads, "offered": offered, "size": size}, arrays

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> FusedLearner:
        heads = head["parts"]
        parts = [
            part.unpack_learner(own, part_of(part.name, arrays)) for part, own in zip(self._parts, heads, strict=True)
        ]
        learner = FusedLearner(tuple(parts))
        pieces, times = split("pieces", arrays), iter(arrays["pieces.media_s"].tolist())
        if len(pieces) > MOST_PIECES or arrays["pieces"].dtype != np.uint8:
            raise ValueError("its footage is of another kind")
        if pieces:
            geometry = Geometry(*map(int, head["size"]))
            if arrays["pieces"].shape[1:] != (geometry.flat,):
                raise ValueError("its footage does not fit its frame size")
            kept = [[(next(times), self._seen(Prepared.of_flat(flat, geometry))) for flat in piece] for piece in pieces]
            learner.unpack(int(head["offered"]), kept)
        return learner

    def fit(self, learner: FusedLearner, version: int, armed_s: float) -> FusedState:
        """As long as its slowest part; raises StateError as they do."""
        return self._fused([part.fit(one, version, armed_s) for part, one in self._with(learner)], learner)

    def inherit(self, state: NormalityState, used: NormalityState) -> NormalityState:
        if not isinstance(state, FusedState) or not isinstance(used, FusedState):
            return state
        parts = tuple(
            part.inherit(own, other) if isinstance(part, Inheriting) and own and other else own
            for part, own, other in zip(self._parts, state.parts, used.parts, strict=True)
        )
        return replace(state, parts=parts)

    def fit_provisional(self, learner: FusedLearner) -> FusedState:
        """Without the parts that train."""
        states = [None if part.trains else part.fit_provisional(one) for part, one in self._with(learner)]
        return self._fused(states, learner)

    def _with(self, learner: FusedLearner) -> list[tuple[VadModel, Any]]:
        return list(zip(self._parts, learner.parts, strict=True))

    def _fused(self, states: Sequence[NormalityState | None], learner: FusedLearner) -> FusedState:
        first = next(state for state in states if state is not None)
        return FusedState(
            vad_type=self.name,
            version=first.version,
            width=first.width,
            height=first.height,
            learned_s=first.learned_s,
            frames=first.frames,
            phase=first.phase,
            parts=tuple(states),
            tail=self._together(states, learner),
        )

    def _together(self, states: Sequence[NormalityState | None], learner: FusedLearner) -> TailCalibration:
        """How improbable a sum of levels is.

        Each part's levels are calibrated by itself. How often they are high together is seen by letting the parts
        look at the kept footage: their ranks there, not their levels, since it is footage that they learned from.
        """
        levels: list[list[float]] = []
        for piece in learner.pieces():
            context = self.new_context()
            rows = [
                [Row(seen.parts[i], media_s, context.parts[i], s) for media_s, seen in piece]
                for i, s in enumerate(states)
            ]
            each = [
                self._parts[i].process(rows[i]) if state is not None else [None] * len(piece)
                for i, state in enumerate(states)
            ]
            used = [i for i, state in enumerate(states) if state is not None]
            for number in range(WARM_UP, len(piece)):
                said = [each[i][number] for i in used]
                if all(isinstance(one, VadScore) for one in said):
                    levels.append([one.score for one in said if isinstance(one, VadScore)])
        n = len(levels)
        parts = sum(state is not None for state in states)
        if n < LEAST_TOGETHER:
            return TailCalibration(np.array([0.0, float(parts)]), np.array([0.0, 1.0]), 1.0 / parts)
        ranks = np.argsort(np.argsort(np.array(levels), axis=0, kind="stable"), axis=0)
        even = -np.log10((n - ranks - 0.5) / n)
        names = [part.name for part, state in zip(self._parts, states, strict=True) if state is not None]
        sums = np.sum([_counted(name, column) for name, column in zip(names, even.T, strict=True)], axis=0)
        return fit_tail(sums, independent=learner.learned_s, clusters=clusters(sums), floor=LEAST_LEVEL_SCALE)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def save(self, state: NormalityState, path: Path) -> None:
        """A zip of the parts' own files."""
        if not isinstance(state, FusedState) or any(part is None for part in state.parts):
            raise StateError(f"a state of type {state.vad_type} without all parts is not one of {self.name} to be kept")
        head = {
            "format": FORMAT,
            "vad_type": self.name,
            "parts": [part.name for part in self._parts],
            "values": state.tail.values.tolist(),
            "levels": state.tail.levels.tolist(),
            "slope": state.tail.slope,
        }
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as name:
            files: list[Path] = []
            for part, own in zip(self._parts, state.parts, strict=True):
                assert own is not None
                files.append(Path(name) / f"{part.name}{part.suffix}")
                part.save(own, files[-1])

            def write(aside: Any) -> None:
                with zipfile.ZipFile(aside, "w") as bundle:
                    bundle.writestr(_HEAD, json.dumps(head))
                    for file in files:
                        bundle.write(file, file.name)

            replace_whole(path, write)

    def load(self, path: Path) -> FusedState:
        try:
            with zipfile.ZipFile(path) as bundle:
                return self._read(bundle, path)
        except FileNotFoundError as error:
            raise StateError(f"there is no state {path}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise StateError(f"the state {path} is broken: {error}", AGAIN) from error

    def _read(self, bundle: zipfile.ZipFile, path: Path) -> FusedState:
        if _HEAD not in bundle.namelist():
            raise StateError(f"{path} is no state of type {self.name!r}")
        head = json.loads(bundle.read(_HEAD))
        if head.get("format") != FORMAT:
            raise StateError(f"{path} has format {head.get('format')!r}, this version reads {FORMAT}", AGAIN)
        names = [part.name for part in self._parts]
        if head.get("parts") != names:
            known = ", ".join(head.get("parts", []))
            raise StateError(f"{path} is of the parts {known}, not {', '.join(names)}", AGAIN)
        states: list[NormalityState] = []
        with tempfile.TemporaryDirectory() as name:
            for part in self._parts:
                file = Path(name) / f"{part.name}{part.suffix}"
                file.write_bytes(bundle.read(file.name))
                states.append(part.load(file))
        if len({(state.width, state.height) for state in states}) != 1:
            raise ValueError("its parts are of different frame sizes")
        first = states[0]
        return FusedState(
            vad_type=self.name,
            version=first.version,
            width=first.width,
            height=first.height,
            learned_s=first.learned_s,
            frames=first.frames,
            phase=first.phase,
            parts=tuple(states),
            tail=TailCalibration(np.array(head["values"]), np.array(head["levels"]), float(head["slope"])),
        )


def _row_of(row: Row, index: int) -> Row:
    state = row.state
    return Row(
        row.prepared.parts[index],
        row.media_s,
        row.context.parts[index],
        # a state of another type is for the part to refuse
        state.parts[index] if isinstance(state, FusedState) else state,
        row.learner.parts[index] if row.learner is not None else None,
    )


def _counted(name: str, levels: np.ndarray) -> np.ndarray:
    """What a part's -log10 P add to the sum, same shape."""
    return levels - (1.0 - LITTLE) * np.minimum(levels, COUNTS_FROM.get(name, 0.0))


def _join(state: NormalityState | None, said: Sequence[tuple[str, VadScore]]) -> VadScore | None:
    """Of what the parts say, with their names."""
    scores = [one for _, one in said]
    if not scores or not isinstance(state, FusedState):
        return None
    total = float(state.tail.level(sum(float(_counted(name, np.asarray(one.score))) for name, one in said)))
    # of one size, whichever parts have their say
    rows, columns = (-(-side // 2) for side in Geometry(state.width, state.height).cells)
    maps = [
        _counted(name, cv2.resize(one.map, (columns, rows)).astype(np.float32) * np.float32(MAP_LEVELS / 255.0))
        for name, one in said
    ]
    levels = state.tail.level(np.sum(maps, axis=0)).astype(np.float32)
    # where the parts agree most: of their own peaks the one with most around it, since maps are cut at 6
    around = cv2.blur(levels, (3, 3))

    def agreed(one: VadScore) -> tuple[float, float]:
        row, column = min(int(one.peak_y * rows), rows - 1), min(int(one.peak_x * columns), columns - 1)
        return float(around[row, column]), one.score

    best = max(scores, key=agreed)
    reasons = [
        one.reason for one in sorted(scores, key=lambda one: -one.score) if one.score >= SAID_FROM and one.reason
    ]
    return VadScore(
        total,
        best.peak_x,
        best.peak_y,
        np.clip(levels * (255.0 / MAP_LEVELS), 0.0, 255.0).astype(np.uint8),
        "; ".join(dict.fromkeys(reasons)),
    )
