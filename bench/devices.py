"""What a type of detection that runs a net reaches on a device, of what the bare net does: `bench.inference --device`.

Batches of 1 to 64 cameras, each with weights of its own, go through the two stages of the inference process: one is
prepared while the one before it runs. `over_plain` is the frames/s of that over those of the same net called with the
same batch that lies on the device already; `hidden` is the share of preparation that took no time of its own.
"""

import contextlib
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from bench.figures import spread
from core.errors import HaetaeError
from core.ids import CameraId
from core.wire.messages import FrameRef
from workers.inference.scheduler import Ticket
from workers.inference.stages import Job, Stages
from workers.inference.vad import VAD_TYPES, Row, VadModel, create_model
from workers.inference.vad.trained import TrainedState, TrainedType

__all__ = ["BATCHES", "measure_device"]

BATCHES = (1, 2, 4, 8, 16, 32, 64)
WIDTH, HEIGHT = 640, 360
LEARNED_FRAMES = 60
FRAME_S = 0.1


class _Frames:
    """In the place of the rings: the same frames in memory, so that only the model is measured."""

    def __init__(self) -> None:
        still = np.random.default_rng(1).integers(60, 150, (HEIGHT * 3 // 2, WIDTH), np.uint8)
        self._frames = [still.copy() for _ in range(8)]
        for number, pixels in enumerate(self._frames):
            pixels[100:200, 40 * number : 40 * number + 40] = 230

    def pixels(self, seq: int) -> np.ndarray:
        return self._frames[seq % len(self._frames)]

    @contextlib.contextmanager
    def read(self, ref: FrameRef) -> Iterator[Any]:
        yield SimpleNamespace(pixels=self.pixels(ref.seq))


def measure_device(device: str, *, quick: bool) -> dict[str, Any]:
    """Figures by type and batch; raises HaetaeError where this machine has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise HaetaeError("no CUDA device is at hand", f"torch {torch.__version__} sees none; --device cpu runs here")
    chosen = torch.device(device)
    torch.set_num_threads(1)  # on a CPU as in the product, where passes go side by side
    found: dict[str, Any] = {"device": torch.cuda.get_device_name(chosen) if device == "cuda" else "cpu"}
    for name in VAD_TYPES:
        model = create_model(name, steps=1) if name in _trained_types() else None
        if not isinstance(model, TrainedType):
            continue
        with contextlib.closing(model):
            if model.device.partition(":")[0] != device:
                found[name] = {"skipped": f"it runs on {model.device} here"}
                continue
            state = _learn(model)
            batches = BATCHES[:4:3] if quick else BATCHES
            rounds, seconds = (1, 0.2) if quick else (5, 1.0)
            found[name] = {str(batch): _measure_batch(model, state, batch, rounds, seconds) for batch in batches}
    return found


def _trained_types() -> list[str]:
    """Making one of the others costs nothing, but they are none that run a net."""
    return [name for name in VAD_TYPES if getattr(create_model(name), "trains", False)]


def _learn(model: TrainedType) -> TrainedState:
    """A state after one step of training: what a net weighs does not change what it costs."""
    learner, context, frames = model.new_learner(), model.new_context(), _Frames()
    for number in range(LEARNED_FRAMES):
        prepared = model.prepare(frames.pixels(number), WIDTH, HEIGHT)
        model.process([Row(prepared, number * FRAME_S, context, learner=learner)])
    return model.fit(learner, 1, 0.0)


def _measure_batch(model: TrainedType, state: TrainedState, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Both ways in turns; medians, and the quartiles of their ratio."""
    assert state.net
    states = [
        replace(state, net={name: value.clone() for name, value in state.net.items()}, version=number + 1)
        for number in range(batch)
    ]
    plain, staged = _Plain(model, states), _Staged(model, states)
    try:
        plain.run(seconds / 4)
        staged.run(seconds / 4)
        runs = [(staged.run(seconds), plain.run(seconds)) for _ in range(rounds)]
    finally:
        staged.close()
    return {
        "fps": float(np.median([ours["fps"] for ours, _ in runs])),
        "plain_fps": float(np.median([fps for _, fps in runs])),
        "hidden": float(np.median([ours["hidden"] for ours, _ in runs])),
    } | spread("over_plain", [ours["fps"] / fps for ours, fps in runs])


class _Plain:
    """The net alone, its batch and all weights on the device."""

    def __init__(self, model: TrainedType, states: Sequence[TrainedState]) -> None:
        net = import_module(model.module).make_net()
        self._device = torch.device(model.device)
        shape = states[0].background.shape
        self._seen = torch.rand((len(states), 1, net.frames, *shape), device=self._device) * 255
        self._still = torch.rand((len(states), 1, 1, *shape), device=self._device) * 255
        nets = [state.net for state in states if state.net]
        self._weights = {name: torch.stack([one[name] for one in nets]) for name in nets[0]}
        self._maps = torch.func.vmap(net.maps)
        self._single = net.maps

    def _batch(self) -> torch.Tensor:
        if len(self._seen) == 1:
            return self._single(self._seen[0], self._still[0], {k: v[0] for k, v in self._weights.items()})
        return self._maps(self._seen, self._still, self._weights)

    def run(self, seconds: float) -> float:
        """Frames a second."""
        begun, frames = time.perf_counter(), 0
        with torch.inference_mode():
            while time.perf_counter() - begun < seconds:
                self._batch()
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
                frames += len(self._seen)
        return frames / (time.perf_counter() - begun)


class _Staged:
    """The model as the inference process runs it."""

    def __init__(self, model: TrainedType, states: Sequence[TrainedState]) -> None:
        self._model, self._states = model, states
        self._contexts = [model.new_context() for _ in states]
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._executor = ThreadPoolExecutor(2)
        rings: Any = _Frames()
        self._stages = Stages(rings, self._executor, lambda: self._woken.put(None))
        self._turn = 0

    def _begin(self) -> None:
        self._turn += 1
        frames = [
            FrameRef(CameraId(f"cam-{number}"), "analysis", 1, self._turn + number)
            for number in range(len(self._states))
        ]
        now = time.monotonic_ns()
        self._stages.begin(
            Job(
                model=cast("VadModel", self._model),
                tickets=[Ticket(camera_id=frame.camera_id, vad_type=self._model.name) for frame in frames],
                frames=frames,
                rows=[
                    Row(None, self._turn * FRAME_S, context, state)
                    for context, state in zip(self._contexts, self._states, strict=True)
                ],
                normalities=[],
                begun_ns=now,
                ends_ns=now,
            )
        )

    def run(self, seconds: float) -> dict[str, float]:
        """Frames a second, and the share of preparation during which another batch ran."""
        begun, jobs = time.perf_counter(), list[Job]()
        self._begin()
        self._begin()
        inside = 2
        while inside:
            self._woken.get(timeout=60.0)
            for job in self._stages.take():
                inside -= 1
                failed = [outcome for outcome in job.outcomes if isinstance(outcome, Exception)]
                if failed:
                    raise failed[0]
                jobs.append(job)
                if time.perf_counter() - begun < seconds:
                    self._begin()
                    inside += 1
        took = time.perf_counter() - begun
        prepared, ran = sum(job.prepare_s for job in jobs), sum(job.run_s for job in jobs)
        return {
            "fps": len(jobs) * len(self._states) / took,
            "hidden": min(1.0, max(0.0, (prepared + ran - took) / prepared)),
        }

    def close(self) -> None:
        self._stages.close()
        self._executor.shutdown()
