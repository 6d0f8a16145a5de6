"""One small network behind every server that is compared: Haetae's inference, LitServe, Ray Serve, and none at all.

    python -m bench.serving WAY REGIME        used by bench.inference; says "ready" when it is

A frame is 640x360 I420. Every server is given the frame as it takes it fastest, prepares it in the same way, and runs
the same network, one torch thread, batches of 16 at most.
"""

import argparse
import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workers.inference.vad.base import NormalityState, Row, VadScore
from workers.process import keep_freed_memory

__all__ = ["BATCH", "FRAME", "REGIMES", "BenchModel", "Network", "frame_of", "keep_asking", "summary"]

FRAME = (640, 360)
BATCH = 16
REGIMES: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "light": (160, 90, (8, 16, 16)),
    "heavy": (320, 180, (16, 32, 48)),
}
"""Width and height of the network's input, and its channels: under 1 ms a frame, and over 20 ms a batch of 16."""


class Network:
    """Three convolutions and a mean, with fixed weights; what is measured is the way to it."""

    def __init__(self, regime: str) -> None:
        import torch  # noqa: PLC0415 - heavy, and only the processes that run it need it

        keep_freed_memory()  # as the inference process does: all of them run the same network
        torch.set_num_threads(1)
        torch.manual_seed(1)
        self._torch = torch
        width, height, channels = REGIMES[regime]
        self._size = (width, height)
        layers: list[Any] = []
        for number, out in enumerate(channels):
            before = channels[number - 1] if number else 1
            layers += [torch.nn.Conv2d(before, out, 3, stride=1 if number == 2 else 2, padding=1), torch.nn.ReLU()]
        self._net = torch.nn.Sequential(*layers).eval()

    def prepare(self, pixels: np.ndarray, height: int = FRAME[1]) -> np.ndarray:
        """(height * 3 / 2, w) uint8 I420 to the network's input, (h, w) float32."""
        small = cv2.resize(pixels[:height], self._size, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / 255

    def run(self, inputs: Sequence[np.ndarray]) -> list[float]:
        with self._torch.inference_mode():
            batch = self._torch.from_numpy(np.stack(inputs)[:, None])
            return self._net(batch).mean(dim=(1, 2, 3)).tolist()


class _NothingLearned:
    """What this network, which learns nothing, takes in."""

    learned_s, frames = 0.0, 0


class BenchModel:
    """The network as a type of detection."""

    suffix, trains, device, parameters = ".npz", False, "cpu", 0

    def __init__(self, regime: str) -> None:
        self.name = f"bench_{regime}"
        self._network = Network(regime)
        self._map = np.zeros((1, 1), np.uint8)

    def new_context(self) -> None:
        return None

    def new_learner(self) -> "_NothingLearned":
        return _NothingLearned()

    def pack_learner(self, learner: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        raise NotImplementedError

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        raise NotImplementedError

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:  # noqa: ARG002
        return self._network.prepare(pixels, height)

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:  # noqa: ARG002
        scores = self._network.run([row.prepared for row in rows])
        return [VadScore(score, 0.5, 0.5, self._map, "") for score in scores]

    def fit(self, learner: Any, version: int, armed_s: float) -> NormalityState:
        raise NotImplementedError

    def fit_provisional(self, learner: Any) -> NormalityState:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def save(self, state: NormalityState, path: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path) -> NormalityState:
        """There is nothing to learn: `path` only says that there is a state."""
        return NormalityState(
            vad_type=self.name,
            version=int(path.stem),
            width=FRAME[0],
            height=FRAME[1],
            learned_s=1.0,
            frames=1,
            phase="armed",
        )


def frame_of(body: bytes) -> np.ndarray:
    return np.frombuffer(body, np.uint8).reshape(FRAME[1] * 3 // 2, FRAME[0])


# ---- the ways


def serve_haetae(regime: str) -> int:
    """The inference process as it is, with this model in its pool."""
    from workers.inference import __main__ as process  # noqa: PLC0415
    from workers.inference.pool import ResourcePool  # noqa: PLC0415

    pool = ResourcePool(1, lambda _name, _threads: BenchModel(regime))
    setattr(process, "InferenceServer", partial(process.InferenceServer, pool=pool))  # noqa: B010
    return process.main([])


def serve_directly(regime: str) -> int:
    """For each number of seconds read: full batches of prepared inputs, one after the other; frames a second."""
    network = Network(regime)
    inputs = [network.prepare(np.full((FRAME[1] * 3 // 2, FRAME[0]), n, np.uint8)) for n in range(BATCH)]
    network.run(inputs)
    print("ready", flush=True)
    for line in sys.stdin:
        begun, frames = time.perf_counter(), 0
        while time.perf_counter() - begun < float(line):
            network.run(inputs)
            frames += BATCH
        print(json.dumps({"fps": frames / (time.perf_counter() - begun)}), flush=True)
    return 0


def serve_rayserve(regime: str, port: int) -> int:
    """The body is the frame. For each "seconds clients" read: the same through its handle, frames as arrays."""
    ray: Any = importlib.import_module("ray")
    serve: Any = importlib.import_module("ray.serve")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(max_ongoing_requests=256)
    class Scorer:
        def __init__(self) -> None:
            self.network = Network(regime)

        @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.002)
        async def score(self, frames: list[np.ndarray]) -> list[float]:
            return self.network.run([self.network.prepare(frame) for frame in frames])

        async def __call__(self, request: Any) -> dict[str, float]:
            return {"score": await self.score(frame_of(await request.body()))}

    handle: Any = serve.run(Scorer.bind(), route_prefix="/predict")
    print("ready", flush=True)
    frame = np.zeros((FRAME[1] * 3 // 2, FRAME[0]), np.uint8)
    for line in sys.stdin:
        seconds, clients = map(float, line.split())

        async def ask() -> None:
            await handle.score.remote(frame)

        print(json.dumps(asyncio.run(keep_asking(ask, seconds, int(clients)))), flush=True)
    serve.shutdown()
    ray.shutdown()
    return 0


async def keep_asking(ask: Callable[[], Any], seconds: float, clients: int) -> dict[str, float]:
    """So many clients, each of which asks again once it is answered: frames a second and p50, p99 in milliseconds."""
    times: list[float] = []
    begun = time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - begun < seconds:
            asked = time.perf_counter()
            await ask()
            times.append(time.perf_counter() - asked)

    await asyncio.gather(*(client() for _ in range(clients)))
    return summary(times, time.perf_counter() - begun)


def summary(times: Sequence[float], took: float) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {"fps": len(times) / took, "p50_ms": float(p50), "p99_ms": float(p99)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=["haetae", "direct", "litserve", "rayserve"])
    parser.add_argument("regime", choices=list(REGIMES))
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    match args.way:
        case "haetae":
            return serve_haetae(args.regime)
        case "direct":
            return serve_directly(args.regime)
        case "litserve":
            return importlib.import_module("bench.serving_litserve").serve_litserve(args.regime, args.port)
        case _:
            return serve_rayserve(args.regime, args.port)


if __name__ == "__main__":
    sys.exit(main())
