"""The net of `synthetic`: five frames against the background, one logit per 8x8 pixels, many cameras in one pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "CELL",
    "FRAMES",
    "KINDS",
    "SHAPES",
    "build_input",
    "forward",
    "initial_weights",
    "parameters",
    "pick_device",
    "smooth",
]

CELL = 8
"""Pixels of the net's frame per cell, each way."""
FRAMES = 5
DIFFERENCE_UNIT, DIFFERENCE_LIMIT = 48.0, 3.0
"""Grey levels off the background that make 1, and where they are cut."""
KINDS = ("speed", "gait", "size", "strange", "direction")
"""What a synthetic anomaly may be, in the order of the logits after the first."""
_UNSHUFFLED = 4 * FRAMES + 1
_LAYERS: tuple[tuple[str, int, int, int], ...] = (
    ("a1", _UNSHUFFLED, 32, 3),
    ("a2", 32, 32, 3),
    ("b1", 32, 48, 3),
    ("b2", 48, 48, 3),
    ("c1", 48, 64, 3),
    ("c2", 64, 64, 3),
    ("d1", 64 + 48, 64, 3),
    ("out", 64, 1 + len(KINDS), 1),
)
SHAPES: dict[str, tuple[int, ...]] = {
    name: shape
    for layer, inside, outside, side in _LAYERS
    for name, shape in (
        (f"{layer}.weight", (outside, inside, side, side)),
        (f"{layer}.bias", (outside,)),
    )
}
"""Of every weight; a file with others is of another net."""


def parameters() -> int:
    """How many numbers are learned per camera."""
    return sum(int(np.prod(shape)) for shape in SHAPES.values())


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Kaiming's for ReLU; the last layer says "normal" at first."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in SHAPES.items():
        weights[name] = torch.zeros(shape)
        if name.endswith("weight"):
            nn.init.kaiming_normal_(weights[name], nonlinearity="relu", generator=generator)
    weights["out.weight"] *= 0.1
    weights["out.bias"][0] = -3.0
    return weights


def build_input(frames: Tensor, background: Tensor) -> Tensor:
    """(B, 21, h/2, w/2) from (B, 5, h, w) and (B, 1, h, w) grey levels of any type, h and w multiples of 8."""
    x = ((frames.float() - background.float()) / DIFFERENCE_UNIT).clamp(-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT)
    x = functional.pixel_unshuffle(x, 2)
    height, width = x.shape[-2:]
    row = torch.linspace(-1.0, 1.0, height, device=x.device).view(1, 1, height, 1).expand(len(x), 1, height, width)
    return torch.cat([x, row], dim=1)


def forward(x: Tensor, weights: Mapping[str, Tensor], groups: int = 1) -> Tensor:
    """Logits (B, groups * 6, rows, columns) of (B, groups * 21, h/2, w/2): one set of weights per group, stacked."""

    def conv(x: Tensor, layer: str) -> Tensor:
        weight = weights[f"{layer}.weight"]
        return functional.conv2d(x, weight, weights[f"{layer}.bias"], padding=weight.shape[-1] // 2, groups=groups)

    a = functional.relu(conv(functional.relu(conv(x, "a1")), "a2"))
    b = functional.relu(conv(functional.relu(conv(functional.max_pool2d(a, 2), "b1")), "b2"))
    small = functional.max_pool2d(b, 2)
    c = functional.relu(conv(functional.relu(conv(small, "c1")), "c2"))
    if groups == 1:
        joined = torch.cat([c, small], dim=1)
    else:
        per_group = (len(c), groups, -1, *c.shape[-2:])
        joined = torch.cat([c.view(per_group), small.view(per_group)], dim=2).flatten(1, 2)
    return conv(functional.relu(conv(joined, "d1")), "out")


def stack(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The weights of several cameras side by side, for as many groups."""
    return {name: torch.cat([one[name] for one in weights]) for name in SHAPES}


def smooth(logits: Tensor) -> Tensor:
    """The mean of 3x3 cells, fewer at the edges, of (B, rows, columns)."""
    return functional.avg_pool2d(logits[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]


def pick_device() -> Any:
    """CUDA where there is one that works, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
