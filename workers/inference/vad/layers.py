"""Small nets as functions of their weights by name, so that those of many cameras run in one vectorised pass."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "box_mean",
    "conv",
    "conv_shapes",
    "differences",
    "half_size",
    "initial_weights",
    "per_row",
    "row_channel",
    "weighted_mean",
]

DIFFERENCE_UNIT, DIFFERENCE_LIMIT = 48.0, 3.0
"""Grey levels off the background that make 1, and where they are cut."""


def conv_shapes(layers: Sequence[tuple[str, int, int, int]]) -> dict[str, tuple[int, ...]]:
    """Of weights and biases of layers (name, channels in, channels out, side)."""
    return {
        name: shape
        for layer, inside, outside, side in layers
        for name, shape in ((f"{layer}.weight", (outside, inside, side, side)), (f"{layer}.bias", (outside,)))
    }


def initial_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Kaiming's for ReLU; biases are 0. Channels last, which bfloat16 on a CPU needs to be fast."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        weights[name] = torch.zeros(shape)
        if len(shape) > 1:
            nn.init.kaiming_normal_(weights[name], nonlinearity="relu", generator=generator)
        if len(shape) == 4:
            weights[name] = weights[name].contiguous(memory_format=torch.channels_last)
    return weights


def conv(x: Tensor, weights: Mapping[str, Tensor], layer: str) -> Tensor:
    """A convolution that keeps the size."""
    weight = weights[f"{layer}.weight"]
    return functional.conv2d(x, weight, weights[f"{layer}.bias"], padding=weight.shape[-1] // 2)


def differences(frames: Tensor, background: Tensor) -> Tensor:
    """(B, n, h, w) of (B, n, h, w) and (B, 1, h, w) grey levels: what is off the background, about -3 to 3."""
    return ((frames - background) / DIFFERENCE_UNIT).clamp(-DIFFERENCE_LIMIT, DIFFERENCE_LIMIT)


def row_channel(x: Tensor) -> Tensor:
    """(B, C + 1, h, w): with the height in the picture, -1 to 1."""
    height, width = x.shape[-2:]
    row = torch.linspace(-1.0, 1.0, height, device=x.device).view(1, 1, height, 1).expand(len(x), 1, height, width)
    return torch.cat([x, row], dim=1)


def half_size(frames: Tensor, background: Tensor) -> Tensor:
    """(B, 4 n + 1, h/2, w/2): differences with four pixels in channels, and the height in the picture."""
    return row_channel(functional.pixel_unshuffle(differences(frames, background), 2))


def box_mean(x: Tensor, side: int = 3) -> Tensor:
    """The mean of side x side cells, fewer at the edges, of (B, C, rows, columns)."""
    return functional.avg_pool2d(x, side, stride=1, padding=side // 2, count_include_pad=False)


def weighted_mean(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight).sum() / weight.sum().clamp_min(1e-6)


BAND = 0.05
"""Standard deviation of a row's band, in frame heights: a third of a person."""
ROW_CELLS = 200.0
"""A row with so many cells is half believed, against all rows together."""


def per_row(values: Tensor, weight: Tensor) -> Tensor:
    """(rows, 1): the mean of (n, rows, columns) values per row, from a band of rows, drawn towards that of all."""
    rows = values.shape[1]
    at = torch.arange(rows, device=values.device, dtype=torch.float32)
    band = torch.exp(-0.5 * ((at[:, None] - at[None]) / (BAND * rows)) ** 2)
    seen = band @ weight.sum(dim=(0, 2))
    total = band @ (values * weight).sum(dim=(0, 2))
    return ((total + ROW_CELLS * weighted_mean(values, weight)) / (seen + ROW_CELLS))[:, None]
