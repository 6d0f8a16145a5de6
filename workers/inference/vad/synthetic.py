"""synthetic: a small net per camera, trained on its own footage made unordinary; see docs/detection.md."""

import contextlib
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import safetensors
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from core.errors import StateError
from workers.inference.vad.base import MAP_LEVELS, NormalityState, Phase, Row, VadScore
from workers.inference.vad.calibration import TailCalibration, fit_tail
from workers.inference.vad.motion_features import GAIN_LIMITS, RESET_GAP_S, MotionContext, Prepared, prepare_grey
from workers.inference.vad.motion_learning import LEAST_S, MotionLearner, MotionState, clusters
from workers.inference.vad.motion_stats import MotionStats, pack, unpack
from workers.inference.vad.synthetic_net import (
    CELL,
    FRAMES,
    KINDS,
    SHAPES,
    build_input,
    forward,
    parameters,
    pick_device,
    smooth,
    stack,
)

__all__ = ["Synthetic", "SyntheticLearner", "SyntheticState"]

FORMAT = 1
"""Version of what `save` writes, and of the net: another one is to be learned anew."""
NET_PIXELS = 180 * 120
"""About so many are looked at, never more than there are."""
FRAME_S, STEP_S = 0.1, 0.3
"""Footage is kept at 10 frames a second; of it, every third is looked at."""
HISTORY_STEP_S = 0.02
CHUNK = 48
"""Frames that are kept together: things are followed for 37."""
MOST_CHUNKS = 64
"""66 MB at most while learning, five minutes; of more, chunks in which more happens are likelier to stay."""
LEAST_CHUNK = 20
STEPS, LIMIT_S = 2000, 480.0
"""Training: steps of 8 samples, 45 ms each on one core; and the longest it may take."""
START_S = 120.0
"""For the training process to begin and end, beside LIMIT_S."""
OFFSET = 20.0
"""Added to logits, so that what is calibrated is never below 0."""
LEAST_SCALE = 0.3
"""Least scale of the tail of logits that is believed."""
SAID_FROM = 1.0
"""-log10 P from which a reason is given."""
_REASONS = {
    "speed": "looks faster than what usually moves here",
    "gait": "glides rather than walks, unlike what usually moves here",
    "size": "looks larger than what usually is here",
    "strange": "looks like nothing usually seen here",
    "direction": "seems to go against the usual direction",
}


class Seen(NamedTuple):
    """A frame as motion_stats takes it, and (h, w) uint8 at the net's size."""

    motion: Prepared
    small: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SyntheticState(NormalityState):
    """`background` is (h, w) uint8 at the net's size; without a net, `motion` scores until there is one."""

    background: np.ndarray
    motion: MotionState
    net: dict[str, Tensor] | None = None
    tail: TailCalibration | None = None


class SyntheticContext:
    """What motion_stats keeps of a stream, and its last second and a half at the net's size."""

    __slots__ = ("history", "motion")

    def __init__(self) -> None:
        self.motion = MotionContext()
        self.history: deque[tuple[float, np.ndarray]] = deque()


class SyntheticLearner:
    """What motion_stats learns, and chunks of footage at the net's size in bounded memory; safe between threads."""

    def __init__(self) -> None:
        self.motion = MotionLearner()
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self._open: dict[int, tuple[float, list[np.ndarray]]] = {}
        self._kept: list[tuple[float, int, np.ndarray]] = []
        self._order = 0
        self._frames = 0

    @property
    def learned_s(self) -> float:
        return self.motion.learned_s

    @property
    def frames(self) -> int:
        return self.motion.frames

    def add(self, stream: int, media_s: float, small: np.ndarray) -> None:
        """Takes a frame in: into every slot of 0.1 s since the last one, at most until RESET_GAP_S."""
        with self._lock:
            begun, chunk = self._open.get(stream, (media_s, []))
            late = media_s - (begun + len(chunk) * FRAME_S)
            if chunk and (late > RESET_GAP_S or late < -RESET_GAP_S or chunk[0].shape != small.shape):
                self._close(chunk)
                begun, chunk, late = media_s, [], 0.0
            while late > -FRAME_S / 2:
                chunk.append(small)
                late -= FRAME_S
                if len(chunk) == CHUNK:
                    self._close(chunk)
                    begun, chunk = begun + CHUNK * FRAME_S, []
            self._open[stream] = begun, chunk

    def _close(self, chunk: list[np.ndarray]) -> None:
        """Keeps a chunk by weighted choice (A-ES, Efraimidis and Spirakis 2006): what moves weighs more."""
        if len(chunk) < LEAST_CHUNK:
            return
        frames = np.stack(chunk)
        moved = float((cv2.absdiff(frames[0], frames[-1]) > FOREGROUND_DIFFERENCE).mean())
        self._order += 1
        self._kept.append((self._choice.random() ** (1.0 / (0.01 + moved)), self._order, frames))
        if len(self._kept) > MOST_CHUNKS:
            self._kept.remove(min(self._kept, key=lambda one: one[0]))

    def snapshot(self) -> list[np.ndarray]:
        """The chunks in the order they came, (n, h, w) uint8 each; raises StateError where there is too little."""
        with self._lock:
            chunks = [frames for _, _, frames in sorted(self._kept, key=lambda one: one[1])]
            chunks += [np.stack(chunk) for _, chunk in self._open.values() if len(chunk) >= LEAST_CHUNK]
        if sum(len(chunk) for chunk in chunks) * FRAME_S < LEAST_S:
            raise StateError(
                f"learned from {self.learned_s:.1f} s of footage: at least {LEAST_S:g} s without a gap are needed",
                "let it learn for longer, or from a longer file",
            )
        return chunks


FOREGROUND_DIFFERENCE = 18
"""Grey levels between a chunk's first and last frame that count as movement."""


class Synthetic:
    """Trains in a process of its own with the lowest priority; until that ends, motion_stats scores.

    Nets of several cameras run in one pass on CUDA, one after the other on a CPU, where a pass has no cost of its own.
    """

    name = "synthetic"
    suffix = ".safetensors"
    trains = True

    def __init__(self, threads: int = 1, *, steps: int = STEPS, limit_s: float = LIMIT_S, seed: int = 0) -> None:
        """`steps`, `limit_s` and `seed` are of training."""
        self._motion = MotionStats()
        self._device = pick_device()
        self._threads, self._steps, self._limit_s, self._seed = threads, steps, limit_s, seed
        self._training: set[subprocess.Popen[str]] = set()
        self._closed = False
        self._lock = threading.Lock()
        self._stacked: tuple[list[SyntheticState], dict[str, Tensor]] | None = None

    @property
    def device(self) -> str:
        return str(self._device)

    @property
    def parameters(self) -> int:
        return parameters()

    def new_context(self) -> SyntheticContext:
        return SyntheticContext()

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> Seen:
        motion = prepare_grey(pixels, width, height)
        return Seen(motion, cv2.resize(motion.grey, _net_size(*motion.geometry.working), interpolation=cv2.INTER_AREA))

    def new_learner(self) -> SyntheticLearner:
        return SyntheticLearner()

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        results: list[VadScore | Exception | None] = [None] * len(rows)
        histories: dict[int, deque[tuple[float, np.ndarray]]] = {}
        windows: dict[int, np.ndarray] = {}
        for index, row in enumerate(rows):
            history = histories.setdefault(id(row.context), row.context.history.copy())
            try:
                windows[index] = _push(history, row.prepared.small, row.media_s)
                if row.state is not None:
                    _check(row.state, row.prepared.motion)
            except StateError as error:
                results[index] = error
        with_net = [
            index
            for index, row in enumerate(rows)
            if results[index] is None and isinstance(row.state, SyntheticState) and row.state.net is not None
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
                row.state.motion if isinstance(row.state, SyntheticState) and index not in scored else None,
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
                row.learner.add(row.context.motion.stream, row.media_s, row.prepared.small)
        return results

    # ---- scores

    def _score(
        self, jobs: Sequence[tuple[Row, np.ndarray]], indices: Sequence[int], executor: Executor | None
    ) -> list[tuple[int, VadScore]]:
        by_size: dict[tuple[int, ...], dict[int, list[int]]] = {}
        for number, (row, window) in enumerate(jobs):
            by_size.setdefault(window.shape, {}).setdefault(id(row.state), []).append(number)
        passes: list[list[list[int]]] = []
        for by_state in by_size.values():
            groups = list(by_state.values())
            passes += [groups] if self._device.type == "cuda" else [[group] for group in groups]
        if executor is None or len(passes) == 1:
            made = [self._run(jobs, groups) for groups in passes]
        else:
            made = [future.result() for future in [executor.submit(self._run, jobs, groups) for groups in passes]]
        return [
            (indices[number], _to_score(_state_of(jobs[number][0]), maps[place][turn]))
            for groups, maps in zip(passes, made, strict=True)
            for place, group in enumerate(groups)
            for turn, number in enumerate(group)
        ]

    def _run(self, jobs: Sequence[tuple[Row, np.ndarray]], groups: Sequence[Sequence[int]]) -> np.ndarray:
        """(groups, most rows, 1 + kinds, rows, columns): the smoothed logit, then the kinds'."""
        if self._device.type == "cpu" and torch.get_num_threads() != 1:
            torch.set_num_threads(1)  # of this thread: passes go side by side, and so small a net gains nothing
        with torch.inference_mode():
            states = [_state_of(jobs[group[0]][0]) for group in groups]
            most = max(len(group) for group in groups)
            parts: list[Tensor] = []
            for group, state in zip(groups, states, strict=True):
                picked = [jobs[number][1] for number in (*group, *[group[-1]] * (most - len(group)))]
                frames = np.stack(picked)
                still = np.stack([_lit(state.background, window[-1]) for window in picked])[:, None]
                parts.append(
                    build_input(torch.from_numpy(frames).to(self._device), torch.from_numpy(still).to(self._device))
                )
            logits = forward(torch.cat(parts, dim=1), self._weights(states), groups=len(groups))
            logits = logits.view(most, len(groups), -1, *logits.shape[-2:]).transpose(0, 1).float()
            shape = logits[:, :, 0].shape
            even = smooth(logits[:, :, 0].reshape(-1, *shape[-2:])).view(shape)
            return torch.cat([even[:, :, None], logits[:, :, 1:]], dim=2).cpu().numpy()

    def _weights(self, states: list[SyntheticState]) -> dict[str, Tensor]:
        """Side by side; those of the last batch are kept, since the next one is mostly of the same cameras."""
        nets = [state.net for state in states if state.net is not None]
        if len(nets) == 1:
            return nets[0]
        kept = self._stacked
        if kept is None or len(kept[0]) != len(states) or any(a is not b for a, b in zip(kept[0], states, strict=True)):
            kept = self._stacked = (states, stack(nets))
        return kept[1]

    # ---- learning

    def fit_provisional(self, learner: SyntheticLearner) -> SyntheticState:
        """What motion_stats learned, to score with while the net is being trained."""
        motion = self._motion.fit(learner.motion, 0, float("inf"))
        return _state(motion, _background(learner.snapshot()), 0, "provisional")

    def fit(self, learner: SyntheticLearner, version: int, armed_s: float) -> SyntheticState:
        """Some two minutes on one core; raises StateError also where training fails or the model is closed."""
        chunks = learner.snapshot()
        motion = self._motion.fit(learner.motion, version, armed_s)
        background = _background(chunks)
        chunks = [chunk for chunk in chunks if chunk.shape[1:] == background.shape]
        with tempfile.TemporaryDirectory(prefix="haetae-training-") as name:
            folder = Path(name)
            np.savez(
                folder / "footage.npz",
                frames=np.concatenate(chunks),
                lengths=np.array([len(chunk) for chunk in chunks]),
                background=background,
            )
            options = {"steps": self._steps, "limit_s": self._limit_s, "seed": self._seed, "threads": 1}
            (folder / "options.json").write_text(json.dumps(options))
            self._train(folder)
            with np.load(folder / "trained.npz", allow_pickle=False) as stored:
                trained = dict(stored)
        values = np.maximum(trained["held_out"].astype(np.float64) + OFFSET, 0.0)
        tail = fit_tail(values, independent=len(values) * FRAME_S, clusters=clusters(values), floor=LEAST_SCALE)
        net = {name: torch.from_numpy(trained[f"net.{name}"]).to(self._device) for name in SHAPES}
        return _state(motion, background, version, motion.phase, net, tail)

    def _train(self, folder: Path) -> None:
        command = [sys.executable, "-m", "workers.inference.vad.synthetic_training", str(folder)]
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

    # ---- files

    def save(self, state: NormalityState, path: Path) -> None:
        if not isinstance(state, SyntheticState) or state.net is None or state.tail is None:
            raise StateError(f"a state of type {state.vad_type} without a net is not one of {self.name} to be kept")
        head, arrays = pack(state.motion)
        arrays = {f"motion.{name}": np.array(array, order="C") for name, array in arrays.items()}
        arrays |= {f"net.{name}": value.cpu().numpy() for name, value in state.net.items()}
        arrays |= {
            "background": np.ascontiguousarray(state.background),
            "tail.values": state.tail.values,
            "tail.levels": state.tail.levels,
            "tail.slope": np.array([state.tail.slope]),
        }
        metadata = {
            "format": str(FORMAT),
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

    def load(self, path: Path) -> SyntheticState:
        try:
            arrays, head = load_file(path), _metadata(path)
            return self._read(arrays, head, path)
        except FileNotFoundError as error:
            raise StateError(f"there is no state {path}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, safetensors.SafetensorError) as error:
            raise StateError(
                f"the state {path} is broken: {error}", "remove it and let the camera learn again"
            ) from error

    def _read(self, arrays: dict[str, np.ndarray], head: dict[str, str], path: Path) -> SyntheticState:
        if head.get("vad_type") != self.name:
            raise StateError(f"{path} is a state of type {head.get('vad_type')!r}, not {self.name!r}")
        if head.get("format") != str(FORMAT):
            raise StateError(
                f"{path} has format {head.get('format')!r}, this version reads {FORMAT}",
                "remove it and let the camera learn again",
            )
        for name, shape in SHAPES.items():
            found = arrays.get(f"net.{name}")
            if found is None or found.shape != shape:
                raise StateError(
                    f"{path} is of another net: {name} is {None if found is None else found.shape}, not {shape}",
                    "remove it and let the camera learn again",
                )
        motion = unpack(
            json.loads(head["motion"]),
            {name.removeprefix("motion."): array for name, array in arrays.items() if name.startswith("motion.")},
        )
        width, height = _net_size(*motion.geometry.working)
        if arrays["background"].shape != (height, width):
            raise ValueError("its background does not fit its frame size")
        tail = TailCalibration(arrays["tail.values"], arrays["tail.levels"], float(arrays["tail.slope"][0]))
        net = {name: torch.from_numpy(arrays[f"net.{name}"]).to(self._device) for name in SHAPES}
        return _state(motion, arrays["background"], int(head["version"]), motion.phase, net, tail)


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size)).get("__metadata__") or {}


def _state(
    motion: MotionState,
    background: np.ndarray,
    version: int,
    phase: Phase,
    net: dict[str, Tensor] | None = None,
    tail: TailCalibration | None = None,
) -> SyntheticState:
    return SyntheticState(
        vad_type=Synthetic.name,
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
    )


def _state_of(row: Row) -> SyntheticState:
    assert isinstance(row.state, SyntheticState)
    return row.state


@lru_cache(maxsize=256)
def _net_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of what the net sees of a working frame: multiples of a cell."""
    scale = min(1.0, (NET_PIXELS / (width * height)) ** 0.5)
    return max(2, -(-round(width * scale) // CELL)) * CELL, max(2, -(-round(height * scale) // CELL)) * CELL


def _background(chunks: Sequence[np.ndarray]) -> np.ndarray:
    """The median of frames all over what was kept, (h, w) uint8."""
    shape = chunks[0].shape[1:]
    frames = [frame for chunk in chunks if chunk.shape[1:] == shape for frame in chunk[:: CHUNK // 3]]
    picked = frames[:: -(-len(frames) // 96)]
    return np.median(np.stack(picked), axis=0).astype(np.uint8)


def _push(history: deque[tuple[float, np.ndarray]], small: np.ndarray, media_s: float) -> np.ndarray:
    """Takes a frame in; (5, h, w) uint8, 0.3 s apart, the last one now; the oldest there is where history is short."""
    if not np.isfinite(media_s):
        raise StateError(f"a frame's time must be a finite number, not {media_s}")
    if history and (not 0.0 < media_s - history[-1][0] <= RESET_GAP_S or history[-1][1].shape != small.shape):
        history.clear()
    span = STEP_S * (FRAMES - 1)
    while len(history) > 1 and media_s - history[1][0] >= span:
        history.popleft()
    earlier = list(history)
    window = [
        min(earlier, key=lambda one: abs(media_s - one[0] - STEP_S * back))[1] if earlier else small
        for back in range(FRAMES - 1, 0, -1)
    ]
    if not history or media_s - history[-1][0] >= HISTORY_STEP_S:
        history.append((media_s, small))
    return np.stack([*window, small])


def _check(state: NormalityState, frame: Prepared) -> None:
    if not isinstance(state, SyntheticState):
        raise StateError(f"a state of type {state.vad_type} cannot score for {Synthetic.name}")
    if (state.width, state.height) != (frame.geometry.width, frame.geometry.height):
        raise StateError(
            f"the state was learned from frames of {state.width}x{state.height}, "
            f"this one is {frame.geometry.width}x{frame.geometry.height}",
            "let the camera learn again",
        )


def _lit(background: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The background in the frame's light, as motion_stats does it."""
    sample, usual = frame[::4, ::4].astype(np.float32), background[::4, ::4].astype(np.float32)
    gain = float(np.clip(np.median((sample + 1.0) / (usual + 1.0)), *GAIN_LIMITS))
    return cv2.convertScaleAbs(background, alpha=gain) if abs(gain - 1.0) > 0.02 else background


def _to_score(state: SyntheticState, logits: np.ndarray) -> VadScore:
    assert state.tail
    rows, columns = logits.shape[1:]
    levels = state.tail.level(np.maximum(logits[0] + OFFSET, 0.0))
    peak = int(np.argmax(levels))
    row, column = divmod(peak, columns)
    score = float(levels[row, column])
    return VadScore(
        score,
        (column + 0.5) / columns,
        (row + 0.5) / rows,
        np.clip(levels * (255.0 / MAP_LEVELS), 0.0, 255.0).astype(np.uint8),
        _REASONS[KINDS[int(np.argmax(logits[1:, row, column]))]] if score >= SAID_FROM else "",
    )
