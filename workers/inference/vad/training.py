"""How nets are trained, in a process of its own that takes nothing but idle time from what is being scored.

`python -m workers.inference.vad.training FOLDER` reads FOLDER/footage.npz and options.json, writes FOLDER/trained.npz.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from core.errors import ModelError
from workers.inference.vad.uploads import in_light_of, to_levels

__all__ = [
    "Budget",
    "Footage",
    "Net",
    "Trained",
    "half_precision",
    "main",
    "no_weights_file",
    "optimise",
    "pick_device",
    "score_chunk",
    "windows",
]

AVERAGE = 0.99
"""The weights that are kept are a running mean of the last hundred steps or so."""
WARM_UP = 20
SCORED_AT_ONCE = 16


@dataclass(frozen=True)
class Budget:
    """What training may take: it ends after `steps` or, a little less well, after `limit_s`."""

    steps: int
    limit_s: float
    seed: int = 0
    say: Callable[[str], None] = lambda _: None


class Footage(NamedTuple):
    """Chunks (n, h, w) uint8 of 10 frames a second; those of `held_out` are for calibration alone."""

    chunks: list[np.ndarray]
    background: np.ndarray
    """(h, w) uint8."""
    held_out: list[np.ndarray]


class Trained(NamedTuple):
    """All that a state keeps of a training, by name, and how it went."""

    weights: dict[str, np.ndarray]
    steps: int
    loss: float


class Net(Protocol):
    """What a type that trains a net per camera consists of. A module offers one by `make_net(weights)`."""

    frames: int
    """How many it looks at."""
    step: int
    """Frames of 0.1 s between them."""
    offset: float
    """Added to what it says of a place before that is calibrated, which is from 0 up."""
    least_scale: float
    """Least scale of the tail of that which is believed."""
    sharp: int | None
    """Which map says by its logits where exactly about the most unusual place it is; None where the first does."""
    steps: int
    limit_s: float

    def shapes(self, height: int, width: int) -> Mapping[str, tuple[int, ...]]:
        """Of all that `train` returns, for frames of this size."""
        ...

    def maps(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """(B, 1 + C, rows, columns) of (B, frames, h, w) and (B, 1, h, w) float grey levels: how unusual each place
        is, the frame as its largest place; then what `reason` goes by. No branch on values: it is vectorised over
        cameras.
        """
        ...

    def reason(self, told: np.ndarray) -> str:
        """For a person, from the (1 + C,) maps where a frame is most unusual."""
        ...

    def train(self, footage: Footage, budget: Budget) -> Trained:
        """Runs in a process of its own; `held_out` of the footage is not to be learned from."""
        ...


def no_weights_file(vad_type: str, weights_file: Path | None) -> None:
    """Raises ModelError where one is given to a type that learns all by itself."""
    if weights_file is not None:
        raise ModelError(f"{vad_type} has no use for the weights file {weights_file}", "take the setting out")


def pick_device() -> torch.device:
    """CUDA where there is one that works, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def half_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the device has instructions for it; a CPU without them takes twice as long with it as without."""
    known = torch.cpu.get_capabilities()
    there = device.type == "cuda" or any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=there)


def optimise(
    weights: Mapping[str, Tensor], loss_of: Callable[[Mapping[str, Tensor]], Tensor], budget: Budget, *, rate: float
) -> tuple[dict[str, Tensor], int, float]:
    """AdamW with a cosine over `budget`: the running mean of the weights, the steps taken, and the recent loss."""
    began = time.monotonic()
    learned = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    average = {name: value.detach().clone() for name, value in learned.items()}
    optimiser = torch.optim.AdamW(learned.values(), lr=rate, weight_decay=1e-3)
    recent, taken = 0.0, 0
    for step in range(1, budget.steps + 1):
        # by time where that runs out first, so that the rate has come down in either case
        progress = max(step / budget.steps, (time.monotonic() - began) / budget.limit_s)
        if progress > 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, step / WARM_UP) * 0.5 * (1.0 + np.cos(np.pi * progress))
        loss = loss_of(learned)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.step()
        keep = min(AVERAGE, step / (step + 10))
        with torch.no_grad():
            for name, value in learned.items():
                average[name].lerp_(value, 1.0 - keep)
        recent = float(loss.detach()) if step == 1 else 0.98 * recent + 0.02 * float(loss.detach())
        taken = step
        if step % 100 == 0:
            budget.say(f"step {step}: loss {recent:.4f}, {time.monotonic() - began:.0f} s")
    return average, taken, recent


def windows(chunk: np.ndarray, now: np.ndarray, frames: int, step: int) -> np.ndarray:
    """(len(now), frames, h, w): what is seen at those frames of a chunk, its history held at the first frame."""
    return chunk[np.maximum(now[:, None] - step * np.arange(frames - 1, -1, -1), 0)]


def score_chunk(net: Net, weights: Mapping[str, Tensor], chunk: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(n, 1 + C, rows, columns) maps of each frame of a chunk (n, h, w), as in the product."""
    device = next(iter(weights.values())).device
    found = []
    with torch.inference_mode():
        for begin in range(0, len(chunk), SCORED_AT_ONCE):
            now = np.arange(begin, min(begin + SCORED_AT_ONCE, len(chunk)))
            seen = to_levels(windows(chunk, now, net.frames, net.step), device)
            still = in_light_of(to_levels(background, device).expand(len(now), -1, -1), seen[:, -1])[:, None]
            found.append(net.maps(seen, still, weights).float().cpu().numpy())
    return np.concatenate(found)


def split(chunks: Sequence[np.ndarray], background: np.ndarray) -> Footage:
    """Every fifth chunk is kept out, where there are three or more."""
    held = set(range(2, len(chunks), 5)) if len(chunks) >= 3 else set()
    learned = [chunk for index, chunk in enumerate(chunks) if index not in held]
    return Footage(learned, background, [chunks[index] for index in sorted(held)])


def main(argv: Sequence[str] | None = None) -> int:
    """Trains with low priority in FOLDER; ends as soon as its parent does."""
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    os.nice(10)
    cv2.setNumThreads(1)
    options = json.loads((folder / "options.json").read_text())
    torch.set_num_threads(options["threads"])
    torch.manual_seed(options["seed"])
    with np.load(folder / "footage.npz", allow_pickle=False) as stored:
        frames, lengths, background = stored["frames"], stored["lengths"], stored["background"]
    chunks = np.split(frames, np.cumsum(lengths)[:-1])
    parent = os.getppid()

    def say(text: str) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)
        print(text, flush=True)

    weights_file = options["weights_file"]
    net: Net = import_module(options["module"]).make_net(Path(weights_file) if weights_file else None)
    footage = split(chunks, background)
    trained = net.train(footage, Budget(options["steps"], options["limit_s"], options["seed"], say))
    device = pick_device()
    weights = {name: torch.from_numpy(value).to(device) for name, value in trained.weights.items()}
    span = net.step * (net.frames - 1)
    held_out = [
        score_chunk(net, weights, chunk, background)[span if len(chunk) > span else 0 :, 0].max(axis=(1, 2))
        for chunk in footage.held_out or footage.chunks
    ]
    arrays: dict[str, Any] = {f"net.{name}": value for name, value in trained.weights.items()}
    np.savez(folder / "trained.npz", held_out=np.concatenate(held_out), **arrays)
    print(f"done: {trained.steps} steps, loss {trained.loss:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
