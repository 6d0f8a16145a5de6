"""What all types that train a net per camera have in common; see docs/detection.md.

A type adds a module with `make_net(weights)` (`training.Net`: net, loss, score map) and a subclass that names it.
"""

import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import safetensors
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from core.errors import StateError
from workers.inference.vad.base import MAP_LEVELS, NormalityState, Phase, Row, VadScore
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.footage import FRAME_S, Chunks, History, find_background, net_size
from workers.inference.vad.motion_features import MotionContext, Prepared, prepare_grey
from workers.inference.vad.motion_learning import MotionLearner, MotionState, clusters
from workers.inference.vad.motion_stats import MotionFinder, MotionStats, pack, unpack
from workers.inference.vad.state_files import Packed, part_of, under
from workers.inference.vad.training import Net, pick_device
from workers.inference.vad.uploads import Ahead, Uploads, in_light_of, stack, to_levels

__all__ = ["TrainedContext", "TrainedLearner", "TrainedState", "TrainedType"]

START_S = 120.0
"""For the training process to begin and end, beside its limit."""
GOLDEN = 4
HALF_MISS = 0.05
"""-log10 P by which bfloat16 may be off."""
SAID_FROM = 1.0
"""-log10 P from which a reason is given."""


class Seen(NamedTuple):
    """A frame as motion_stats takes it, and (h, w) uint8 at the net's size, here and on the net's device."""

    motion: Prepared
    small: np.ndarray
    ahead: Ahead


@dataclass(frozen=True, kw_only=True)
class TrainedState(NormalityState):
    """`background` is (h, w) uint8 at the net's size; without a net, `motion` scores until there is one."""

    background: np.ndarray
    motion: MotionState
    net: dict[str, Tensor] | None = None
    tail: TailCalibration | None = None
    half: bool = False
    """Whether the net is run in bfloat16: on CUDA, where that says the same."""


class _Stacked(NamedTuple):
    """What a pass over several cameras needs of their states, on the device; of one alone, its net as it is."""

    states: list[TrainedState]
    nets: Mapping[str, Tensor]
    backgrounds: Tensor
    """(states, h, w) float."""


class TrainedContext:
    """What motion_stats keeps of a stream, and its last frames at the net's size."""

    __slots__ = ("history", "motion")

    def __init__(self) -> None:
        self.motion = MotionContext()
        self.history: History[Ahead] = History()


class TrainedLearner:
    """What motion_stats learns, and chunks of footage at the net's size in bounded memory; safe between threads."""

    def __init__(self) -> None:
        self.motion = MotionLearner()
        self.chunks = Chunks()

    def merge(self, others: Sequence["TrainedLearner"]) -> None:
        self.motion.merge([other.motion for other in others])
        self.chunks.merge([other.chunks for other in others])

    @property
    def learned_s(self) -> float:
        return self.motion.learned_s

    @property
    def frames(self) -> int:
        return self.motion.frames


class TrainedType:
    """Trains in a process of its own with low priority; until that ends, motion_stats scores.

    Nets of several cameras run in one pass on CUDA, side by side in threads on a CPU, where a pass has no cost of its
    own.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """The module whose `make_net` the training process calls too."""
    format: ClassVar[int] = 1
    """Version of what `save` writes, and of the net: another one is to be learned anew."""
    suffix = ".safetensors"
    trains = True
    needs_pixels = False

    def __init__(
        self,
        threads: int = 1,
        *,
        steps: int | None = None,
        limit_s: float | None = None,
        seed: int = 0,
        weights_file: Path | None = None,
        finder: MotionFinder | None = None,
    ) -> None:
        """`steps`, `limit_s` and `seed` are of training, which may take an hour where `steps` are given; raises
        ModelError for a file that the type has no use for. `finder`: as MotionStats has it.
        """
        self._net: Net = import_module(self.module).make_net(weights_file)
        self._weights_file = weights_file
        self._motion = MotionStats(finder)
        self._device = pick_device()
        self._uploads = Uploads(self._device)
        self._threads, self._seed = threads, seed
        self._steps, self._limit_s = steps or self._net.steps, limit_s or (3600.0 if steps else self._net.limit_s)
        self._training: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._stacked: _Stacked | None = None

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self._net.shapes(*net_size(360, 240)[::-1]).values())

    def new_context(self) -> TrainedContext:
        return TrainedContext()

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> Seen:
        return self.prepare_from(prepare_grey(pixels, width, height), pixels)

    def prepare_from(self, motion: Prepared, pixels: np.ndarray | None) -> Seen:  # noqa: ARG002 - what others need of it
        """Of a frame that another type looks at too."""
        small = cv2.resize(motion.grey, net_size(*motion.geometry.working), interpolation=cv2.INTER_AREA)
        return Seen(motion, small, self._uploads.put(small))

    def new_learner(self) -> TrainedLearner:
        return TrainedLearner()

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        results: list[VadScore | Exception | None] = [None] * len(rows)
        histories, windows = self._take_in(rows, results)
        with_net = [
            index
            for index, row in enumerate(rows)
            if results[index] is None and isinstance(row.state, TrainedState) and row.state.net is not None
        ]
        # what may run out of memory comes first: nothing has changed until then
        for index, score in self._score([(rows[index], windows[index]) for index in with_net], with_net, executor):
            results[index] = score
        for row in rows:
            row.context.history = histories[id(row.context)]
        scored = set(with_net)
        by_motion = [
            index
            for index, row in enumerate(rows)
            if results[index] is None or (row.learner is not None and not isinstance(results[index], Exception))
        ]
        passed = [
            Row(
                row.prepared.motion,
                row.media_s,
                row.context.motion,
                row.state.motion if isinstance(row.state, TrainedState) and index not in scored else None,
                row.learner.motion if row.learner is not None else None,
            )
            for index in by_motion
            for row in [rows[index]]
        ]
        for index, result in zip(by_motion, self._motion.process(passed, executor), strict=True):
            if isinstance(result, Exception) or index not in scored:
                results[index] = result
            row = rows[index]
            if row.learner is not None and not isinstance(result, Exception):
                row.learner.chunks.add(row.context.motion.stream, row.media_s, row.prepared.small)
        return results

    def _take_in(
        self, rows: Sequence[Row], results: list[VadScore | Exception | None]
    ) -> tuple[dict[int, History[Ahead]], dict[int, list[Ahead]]]:
        """New histories by context, what each row shows by index; what is wrong with a row is its result."""
        histories: dict[int, History[Ahead]] = {}
        windows: dict[int, list[Ahead]] = {}
        for index, row in enumerate(rows):
            history = histories.setdefault(id(row.context), row.context.history.copy())
            try:
                windows[index] = history.push(
                    row.prepared.ahead, row.media_s, frames=self._net.frames, step_s=self._net.step * FRAME_S
                )
                if row.state is not None:
                    self._check(row.state, row.prepared.motion)
            except StateError as error:
                results[index] = error
        return histories, windows

    def _check(self, state: NormalityState, frame: Prepared) -> None:
        if state.vad_type != self.name or not isinstance(state, TrainedState):
            raise StateError(f"a state of type {state.vad_type} cannot score for {self.name}")
        if (state.width, state.height) != (frame.geometry.width, frame.geometry.height):
            raise StateError(
                f"the state was learned from frames of {state.width}x{state.height}, "
                f"this one is {frame.geometry.width}x{frame.geometry.height}",
                "let the camera learn again",
            )

    # ---- scores

    def _score(
        self, jobs: Sequence[tuple[Row, list[Ahead]]], indices: Sequence[int], executor: Executor | None
    ) -> list[tuple[int, VadScore]]:
        by_size: dict[tuple[int, ...], dict[int, list[int]]] = {}
        for number, (row, window) in enumerate(jobs):
            by_size.setdefault(window[-1].shape, {}).setdefault(id(row.state), []).append(number)
        passes: list[list[list[int]]] = []
        for by_state in by_size.values():
            groups = list(by_state.values())
            passes += [groups] if self._device.type == "cuda" else [[group] for group in groups]
        if executor is None or len(passes) == 1:
            made = [self._run(jobs, groups) for groups in passes]
        else:
            made = [future.result() for future in [executor.submit(self._run, jobs, groups) for groups in passes]]
        return [
            (indices[number], self._to_score(_state_of(jobs[number][0]), maps[place][turn]))
            for groups, maps in zip(passes, made, strict=True)
            for place, group in enumerate(groups)
            for turn, number in enumerate(group)
        ]

    def _run(self, jobs: Sequence[tuple[Row, list[Ahead]]], groups: Sequence[Sequence[int]]) -> np.ndarray:
        """(groups, most rows, 1 + C, rows, columns): the net's maps."""
        if self._device.type == "cpu" and torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # of this thread: passes go side by side, and so small a net gains nothing
        with torch.inference_mode():
            states = [_state_of(jobs[group[0]][0]) for group in groups]
            most = max(len(group) for group in groups)
            windows = [jobs[number][1] for group in groups for number in (*group, *[group[-1]] * (most - len(group)))]
            seen, stacked = self.arrived(windows), self._stack(states)
            still = in_light_of(stacked.backgrounds.repeat_interleave(most, 0), seen[:, -1])[:, None]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=all(state.half for state in states)):
                if len(states) == 1:
                    return self._net.maps(seen, still, stacked.nets).float().cpu().numpy()[None]
                seen, still = (part.view(len(states), most, *part.shape[1:]) for part in (seen, still))
                return torch.func.vmap(self._net.maps)(seen, still, stacked.nets).float().cpu().numpy()

    def arrived(self, windows: Sequence[Sequence[Ahead]]) -> Tensor:
        """(len(windows), frames, h, w) float grey levels on the device, to be used in this thread."""
        self._uploads.arrived(frame for window in windows for frame in window)
        return stack(windows)

    def _stack(self, states: list[TrainedState]) -> _Stacked:
        """Side by side; what the last batch on CUDA needed is kept: the next one is mostly of the same cameras."""
        kept = self._stacked
        if kept and len(kept.states) == len(states) and all(a is b for a, b in zip(kept.states, states, strict=True)):
            return kept
        nets = [state.net for state in states if state.net is not None]
        beside = nets[0] if len(nets) == 1 else {name: torch.stack([net[name] for net in nets]) for name in nets[0]}
        made = _Stacked(states, beside, to_levels(np.stack([state.background for state in states]), self._device))
        if self._device.type == "cuda":  # where one thread runs all
            self._stacked = made
        return made

    def _holds_in_half(self, net: Mapping[str, Tensor], tail: TailCalibration, background: np.ndarray) -> bool:
        """Whether bfloat16 says the same, to HALF_MISS, of a golden batch: a thing that moves over the background."""
        frames = np.repeat(background[None, None], self._net.frames, axis=1).repeat(GOLDEN, axis=0)
        rows, columns = (side // 3 for side in background.shape)
        for number, index in np.ndindex(frames.shape[:2]):
            left = (2 * columns * number // GOLDEN + 2 * index) % (2 * columns)
            frames[number, index, rows : 2 * rows, left : left + columns // 2] = 255 - background[0, 0]
        with torch.inference_mode():
            seen = to_levels(frames, self._device)
            still = to_levels(background, self._device).expand(GOLDEN, 1, -1, -1)
            said: list[np.ndarray] = []
            for half in (False, True):
                with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
                    maps = self._net.maps(seen, still, net)[:, 0].float().cpu().numpy()
                said.append(tail.level(np.maximum(maps + self._net.offset, 0.0)))
        return bool(np.isfinite(said[1]).all() and np.abs(said[0] - said[1]).max() <= HALF_MISS)

    def _to_score(self, state: TrainedState, maps: np.ndarray) -> VadScore:
        assert state.tail
        rows, columns = maps.shape[1:]
        levels = state.tail.level(np.maximum(maps[0] + self._net.offset, 0.0))
        # by what the net says: levels may tie at 0
        peak = int(np.argmax(maps[0]))
        row, column = divmod(peak, columns)
        score = float(levels[row, column])
        y, x = (row, column) if self._net.sharp is None else _centre(maps[self._net.sharp], row, column)
        return VadScore(
            score,
            (x + 0.5) / columns,
            (y + 0.5) / rows,
            np.clip(levels * (255.0 / MAP_LEVELS), 0.0, 255.0).astype(np.uint8),
            self._net.reason(maps[:, row, column]) if score >= SAID_FROM else "",
        )

    # ---- learning

    def pack_learner(self, learner: TrainedLearner) -> Packed:
        head, arrays = learner.motion.pack()
        of_chunks, frames = learner.chunks.pack()
        return {"motion": head, "chunks": of_chunks}, under("motion", arrays) | under("chunks", frames)

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> TrainedLearner:
        learner = self.new_learner()
        learner.motion.unpack(head["motion"], part_of("motion", arrays))
        learner.chunks.unpack(head["chunks"], part_of("chunks", arrays))
        return learner

    def fit_provisional(self, learner: TrainedLearner) -> TrainedState:
        """What motion_stats learned, to score with while the net is being trained."""
        motion = self._motion.fit(learner.motion, 0, float("inf"))
        return self._state(motion, find_background(learner.chunks.snapshot()), 0, "provisional")

    def fit(self, learner: TrainedLearner, version: int, armed_s: float) -> TrainedState:
        """Some minutes on one core; raises StateError also where training fails or the model is closed."""
        chunks = learner.chunks.snapshot()
        motion = self._motion.fit(learner.motion, version, armed_s)
        background = find_background(chunks)
        chunks = [chunk for chunk in chunks if chunk.shape[1:] == background.shape]
        with tempfile.TemporaryDirectory(prefix="haetae-training-") as name:
            folder = Path(name)
            np.savez(
                folder / "footage.npz",
                frames=np.concatenate(chunks),
                lengths=np.array([len(chunk) for chunk in chunks]),
                background=background,
            )
            options = {
                "module": self.module,
                "weights_file": str(self._weights_file.resolve()) if self._weights_file else None,
                "steps": self._steps,
                "limit_s": self._limit_s,
                "seed": self._seed,
                "threads": 1,
            }
            (folder / "options.json").write_text(json.dumps(options))
            self._train(folder)
            with np.load(folder / "trained.npz", allow_pickle=False) as stored:
                trained = dict(stored)
        values = np.maximum(trained["held_out"].astype(np.float64) + self._net.offset, 0.0)
        tail = fit_tail(
            values, independent=len(values) * FRAME_S, clusters=clusters(values), floor=self._net.least_scale
        )
        net = {
            name: torch.from_numpy(trained[f"net.{name}"]).to(self._device)
            for name in self._net.shapes(*background.shape)
        }
        return self._state(motion, background, version, motion.phase, net, tail)

    def _train(self, folder: Path) -> None:
        command = [sys.executable, "-m", "workers.inference.vad.training", str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (folder / "log").open("w") as said:
            with self._lock:
                if self._closed:
                    raise StateError("training was given up: inference is stopping")
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, text=True, env=environment
                )
                self._training.add(child)
            try:
                child.wait(self._limit_s + START_S)
            except subprocess.TimeoutExpired as error:
                raise StateError(f"training took longer than {self._limit_s + START_S:.0f} s") from error
            finally:
                child.kill()
                child.wait()
                self._training.discard(child)
        if self._closed:
            raise StateError("training was given up: inference is stopping")
        if child.returncode:
            lines = (folder / "log").read_text(errors="replace").strip().splitlines()
            raise StateError(f"training failed with {child.returncode}: {lines[-1] if lines else 'it said nothing'}")

    def close(self) -> None:
        """Ends what is being trained; those who wait for it get a StateError."""
        with self._lock:
            self._closed = True
            for child in list(self._training):
                with contextlib.suppress(ProcessLookupError):
                    child.kill()

    def _state(
        self,
        motion: MotionState,
        background: np.ndarray,
        version: int,
        phase: Phase,
        net: dict[str, Tensor] | None = None,
        tail: TailCalibration | None = None,
    ) -> TrainedState:
        return TrainedState(
            vad_type=self.name,
            version=version,
            width=motion.width,
            height=motion.height,
            learned_s=motion.learned_s,
            frames=motion.frames,
            phase=phase,
            background=background,
            motion=motion,
            net=net,
            tail=tail,
            half=bool(net and tail and self._device.type == "cuda" and self._holds_in_half(net, tail, background)),
        )

    # ---- files

    def save(self, state: NormalityState, path: Path) -> None:
        if state.vad_type != self.name or not isinstance(state, TrainedState) or not state.net or not state.tail:
            raise StateError(f"a state of type {state.vad_type} without a net is not one of {self.name} to be kept")
        head, arrays = pack(state.motion)
        arrays = {f"motion.{name}": np.array(array, order="C") for name, array in arrays.items()}
        arrays |= {f"net.{name}": np.ascontiguousarray(value.cpu().numpy()) for name, value in state.net.items()}
        arrays |= {
            "background": np.ascontiguousarray(state.background),
            "tail.values": state.tail.values,
            "tail.levels": state.tail.levels,
            "tail.slope": np.array([state.tail.slope]),
        }
        metadata = {
            "format": str(self.format),
            "vad_type": self.name,
            "version": str(state.version),
            "motion": json.dumps(head),
        }
        aside = path.with_name(f".{path.name}.part")
        try:
            save_file(arrays, aside, metadata)
            with aside.open("rb") as written:
                os.fsync(written.fileno())
            aside.replace(path)
        except OSError as error:
            raise StateError(f"cannot write the state {path}: {error.strerror}") from error

    def load(self, path: Path) -> TrainedState:
        try:
            arrays, head = load_file(path), _metadata(path)
            return self._read(arrays, head, path)
        except FileNotFoundError as error:
            raise StateError(f"there is no state {path}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, safetensors.SafetensorError) as error:
            raise StateError(
                f"the state {path} is broken: {error}", "remove it and let the camera learn again"
            ) from error

    def _read(self, arrays: dict[str, np.ndarray], head: dict[str, Any], path: Path) -> TrainedState:
        if head.get("vad_type") != self.name:
            raise StateError(f"{path} is a state of type {head.get('vad_type')!r}, not {self.name!r}")
        if head.get("format") != str(self.format):
            raise StateError(
                f"{path} has format {head.get('format')!r}, this version reads {self.format}",
                "remove it and let the camera learn again",
            )
        motion = unpack(
            json.loads(head["motion"]),
            {name.removeprefix("motion."): array for name, array in arrays.items() if name.startswith("motion.")},
        )
        width, height = net_size(*motion.geometry.working)
        if arrays["background"].shape != (height, width):
            raise ValueError("its background does not fit its frame size")
        shapes = self._net.shapes(height, width)
        for name, shape in shapes.items():
            found = arrays.get(f"net.{name}")
            if found is None or found.shape != shape:
                raise StateError(
                    f"{path} is of another net: {name} is {None if found is None else found.shape}, not {shape}",
                    "remove it and let the camera learn again",
                )
        tail = TailCalibration(arrays["tail.values"], arrays["tail.levels"], float(arrays["tail.slope"][0]))
        net = {name: torch.from_numpy(arrays[f"net.{name}"]).to(self._device) for name in shapes}
        return self._state(motion, arrays["background"], int(head["version"]), motion.phase, net, tail)


def _centre(logits: np.ndarray, row: int, column: int) -> tuple[float, float]:
    """(row, column) of the centre of what (rows, columns) logits say of the 3x3 cells about one."""
    rows, columns = np.mgrid[
        max(0, row - 1) : min(logits.shape[0], row + 2), max(0, column - 1) : min(logits.shape[1], column + 2)
    ]
    about = logits[rows, columns]
    weight = np.exp(about - about.max())
    return float((rows * weight).sum() / weight.sum()), float((columns * weight).sum() / weight.sum())


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size)).get("__metadata__") or {}


def _state_of(row: Row) -> TrainedState:
    assert isinstance(row.state, TrainedState)
    return row.state
