"""frame_pred: a small net per camera says what the next frame will be; what it did not foresee is unusual."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.inference.vad.layers import (
    conv,
    conv_shapes,
    differences,
    half_size,
    initial_weights,
    per_row,
    weighted_mean,
)
from workers.inference.vad.synthetic_training import roughly
from workers.inference.vad.trained import TrainedType
from workers.inference.vad.training import (
    Budget,
    Footage,
    Trained,
    half_precision,
    no_weights_file,
    optimise,
    pick_device,
    windows,
)

__all__ = ["FramePred", "make_net"]

FRAMES, STEP = 5, 2
"""Four are given, the fifth is foretold; 0.1 s apart each. A walker moves half a pixel in 0.1 s at this size."""
PATCH = 12
"""Pixels: smaller than a person, larger than noise."""
_SHAPES = conv_shapes(
    (
        ("a1", 4 * (FRAMES - 1) + 1, 32, 3),
        ("a2", 32, 32, 3),
        ("b1", 32, 48, 3),
        ("b2", 48, 48, 3),
        ("c1", 48, 64, 3),
        ("c2", 64, 64, 3),
        ("d1", 64 + 48, 48, 3),
        ("e1", 48 + 32, 32, 3),
        ("out", 32, 4, 1),
    )
)
BATCH = 8
RATE = 2e-3
MOTION_WEIGHT = 10.0
"""What moves or is in the foreground weighs up to so much more than what does not: most of a picture is still."""
GRADIENT_WEIGHT = 0.5
SEEN = 0.1
"""In units of differences(): where a patch differs so much from the background on average, something is there."""


class FramePred(TrainedType):
    """Future-frame prediction (after Liu et al., CVPR 2018) without its adversary and its flow net."""

    name = "frame_pred"
    module = __name__


def _foretell(frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """(B, 4, h/2, w/2), the fifth frame's differences to the background, from (B, 4, h, w) before it."""
    x = half_size(frames, background)
    a = functional.relu(conv(functional.relu(conv(x, weights, "a1")), weights, "a2"))
    b = functional.relu(conv(functional.relu(conv(functional.max_pool2d(a, 2), weights, "b1")), weights, "b2"))
    c = functional.relu(conv(functional.relu(conv(functional.max_pool2d(b, 2), weights, "c1")), weights, "c2"))
    d = functional.relu(conv(torch.cat([_twice(c), b], dim=1), weights, "d1"))
    e = functional.relu(conv(torch.cat([_twice(d), a], dim=1), weights, "e1"))
    # what the last one shows stays, but for what is foretold
    return functional.pixel_unshuffle(differences(frames[:, -1:], background), 2) + conv(e, weights, "out")


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def _patches(x: Tensor) -> Tensor:
    """(B, 1, h/4, w/4): the mean over patches of (B, 1, h/2, w/2), one for every four pixels."""
    side = PATCH // 2
    return functional.avg_pool2d(x, side, stride=2, padding=side // 2 - 1, count_include_pad=False)


def _errors(frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(B, 1, rows, columns) each: the RMS error in patches, and how much the frame differs from the background."""
    truth = functional.pixel_unshuffle(differences(frames[:, -1:], background), 2)
    error = (_foretell(frames[:, :-1], background, weights).float() - truth) ** 2
    return _patches(error.mean(dim=1, keepdim=True)).sqrt(), _patches(truth.abs().mean(dim=1, keepdim=True))


class _Net:
    frames, step = FRAMES, STEP
    offset, least_scale, sharp = 0.0, 0.1, None
    steps, limit_s = 3000, 480.0

    def shapes(self, height: int, _width: int) -> Mapping[str, tuple[int, ...]]:
        return _SHAPES | {"usual": (height // 4, 1)}

    def maps(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """How many times the error that is usual for what is seen in this row."""
        error, _ = _errors(frames, background, weights)
        return error / weights["usual"]

    def reason(self, told: np.ndarray) -> str:
        return f"moves or changes as could not be foreseen: {told[0]:.1f} x the usual error here"

    def train(self, footage: Footage, budget: Budget) -> Trained:
        device = pick_device()
        choice = np.random.default_rng(budget.seed)
        chunks = footage.chunks
        lengths = np.array([len(chunk) for chunk in chunks], float)

        def batch() -> Tensor:
            picked = [chunks[index] for index in choice.choice(len(chunks), BATCH, p=lengths / lengths.sum())]
            now = [choice.integers(0, len(chunk), 1) for chunk in picked]
            seen = [windows(chunk, at, FRAMES, STEP)[0] for chunk, at in zip(picked, now, strict=True)]
            return torch.from_numpy(np.stack(seen)).to(device).float()

        def loss_of(weights: Mapping[str, Tensor]) -> Tensor:
            frames = batch()
            rough = np.stack([roughly(footage.background, choice) for _ in range(BATCH)])[:, None]
            still = torch.from_numpy(rough).to(device)
            with half_precision(device):
                foretold = _foretell(frames[:, :-1], still, weights).float()
            truth = differences(frames[:, -1:], still)
            foretold = functional.pixel_shuffle(foretold, 2)
            moved = differences(frames[:, -1:], frames[:, -2:-1]).abs()
            weight = 1.0 + MOTION_WEIGHT * torch.maximum(moved, 0.5 * truth.abs()).clamp(max=1.0)
            loss = weighted_mean((foretold - truth).abs(), weight)
            for axis in (-1, -2):
                edges = (foretold - truth).diff(dim=axis).abs()
                loss = loss + GRADIENT_WEIGHT * weighted_mean(edges, weight.narrow(axis, 1, edges.shape[axis]))
            return loss

        begun = {name: value.to(device) for name, value in initial_weights(_SHAPES, budget.seed).items()}
        begun["out.weight"] *= 0.0
        weights, steps, loss = optimise(begun, loss_of, budget, rate=RATE)
        still = torch.from_numpy(footage.background)[None, None].to(device).float()
        weights["usual"] = _usual(weights, chunks, still)
        return Trained({name: value.cpu().numpy() for name, value in weights.items()}, steps, loss)


def _usual(weights: Mapping[str, Tensor], chunks: list[np.ndarray], still: Tensor) -> Tensor:
    """(rows, 1): the error in each row, where there is something to be seen."""
    errors: list[Tensor] = []
    seen: list[Tensor] = []
    with torch.inference_mode():
        for chunk in chunks:
            frames = torch.from_numpy(windows(chunk, np.arange(0, len(chunk), 4), FRAMES, STEP)).to(still.device)
            error, there = _errors(frames.float(), still, weights)
            errors.append(error[:, 0])
            seen.append((there[:, 0] > SEEN).float())
    usual = per_row(torch.cat(errors), torch.cat(seen)).clone()
    return usual.clamp_min(max(1e-3, 0.1 * float(usual.mean())))


def make_net(weights_file: Path | None = None) -> _Net:
    """Raises ModelError where a weights file is given."""
    no_weights_file("frame_pred", weights_file)
    return _Net()
