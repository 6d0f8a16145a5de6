"""synthetic: a small net per camera, trained on its own footage made unordinary; see docs/detection.md."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.inference.vad.layers import box_mean, conv, conv_shapes, half_size, initial_weights
from workers.inference.vad.synthetic_training import FRAMES, KINDS, STEP, Sampler
from workers.inference.vad.trained import TrainedType
from workers.inference.vad.training import (
    Budget,
    Footage,
    Trained,
    half_precision,
    no_weights_file,
    optimise,
    pick_device,
)

__all__ = ["SHAPES", "WIDE", "Synthetic", "learn", "look", "make_net"]

WIDE = 64
SHAPES = conv_shapes(
    (
        ("a1", 4 * FRAMES + 1, 32, 3),
        ("a2", 32, 32, 3),
        ("b1", 32, 48, 3),
        ("b2", 48, 48, 3),
        ("c1", 48, 64, 3),
        ("c2", 64, 64, 3),
        ("d1", 64 + 48, WIDE, 3),
        ("out", WIDE, 1 + len(KINDS), 1),
    )
)
BATCH = 8
RATE = 2e-3
_REASONS = {
    "speed": "looks faster than what usually moves here",
    "gait": "glides rather than walks, unlike what usually moves here",
    "size": "looks larger than what usually is here",
    "strange": "looks like nothing usually seen here",
    "direction": "seems to go against the usual direction",
}


def look(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """What is seen of each cell, (B, 64, h/8, w/8), of half_size(five frames)."""
    a = functional.relu(conv(functional.relu(conv(x, weights, "a1")), weights, "a2"))
    b = functional.relu(conv(functional.relu(conv(functional.max_pool2d(a, 2), weights, "b1")), weights, "b2"))
    small = functional.max_pool2d(b, 2)
    c = functional.relu(conv(functional.relu(conv(small, weights, "c1")), weights, "c2"))
    return functional.relu(conv(torch.cat([c, small], dim=1), weights, "d1"))


def _forward(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Logits (B, 1 + kinds, h/8, w/8): not ordinary, and how."""
    return conv(look(x, weights), weights, "out")


def learn(footage: Footage, budget: Budget) -> tuple[dict[str, Tensor], int, float]:
    """The weights of SHAPES that tell what is ordinary in `footage` from what is not, the steps and the loss."""
    sampler = Sampler(footage.chunks, footage.background, budget.seed)
    budget.say(f"{len(sampler.tubes)} tubes, one way {sampler.one_way:.2f}")
    device = pick_device()
    nothing = torch.zeros((1, 1, 1, 1), device=device)

    def loss_of(weights: Mapping[str, Tensor]) -> Tensor:
        sample = sampler.batch(BATCH)
        frames, truth, weight, kinds = (
            torch.from_numpy(part).to(device)
            for part in (sample.frames, sample.truth.astype(np.float32), sample.weight, sample.kinds)
        )
        with half_precision(device):
            logits = _forward(half_size(frames, nothing), weights).float()
        each = functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
        loss = (each * weight).sum() / weight.sum()
        positive = (truth > 0) & (weight > 0)
        if positive.any():
            loss = loss + 0.05 * functional.cross_entropy(logits[:, 1:].movedim(1, -1)[positive], kinds[positive])
        return loss

    begun = {name: value.to(device) for name, value in initial_weights(SHAPES, budget.seed).items()}
    begun["out.weight"] *= 0.1
    # at first, all is ordinary
    begun["out.bias"][0] = -3.0
    return optimise(begun, loss_of, budget, rate=RATE)


class Synthetic(TrainedType):
    """A net that was only ever asked which parts of a picture are not ordinary, of pictures made for that."""

    name = "synthetic"
    module = __name__


class _Net:
    frames, step = FRAMES, STEP
    offset, least_scale, sharp = 20.0, 0.3, 1
    steps, limit_s = 4000, 480.0

    def shapes(self, _height: int, _width: int) -> Mapping[str, tuple[int, ...]]:
        return SHAPES

    def maps(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The mean logit of 3x3 cells, the logit itself, and the logits of the kinds."""
        logits = _forward(half_size(frames, background), weights)
        return torch.cat([box_mean(logits[:, :1]), logits], dim=1)

    def reason(self, told: np.ndarray) -> str:
        return _REASONS[KINDS[int(np.argmax(told[2:]))]]

    def train(self, footage: Footage, budget: Budget) -> Trained:
        weights, steps, loss = learn(footage, budget)
        return Trained({name: value.cpu().numpy() for name, value in weights.items()}, steps, loss)


def make_net(weights_file: Path | None = None) -> _Net:
    """Raises ModelError where a weights file is given."""
    no_weights_file("synthetic", weights_file)
    return _Net()
