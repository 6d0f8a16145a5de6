"""The first three stages of a ResNet-18 from a file of weights, as features of 8x8 pixels; nothing is downloaded."""

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from core.errors import ModelError

__all__ = ["Trunk", "load_trunk"]

_STAGES = (("layer1", 64, 64), ("layer2", 64, 128), ("layer3", 128, 256))
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that such nets are trained on, as fractions of white."""
EPSILON = 1e-5
PROJECTED = 48
"""Numbers that what a cell looks like, and how that changed, are each brought down to (Johnson and Lindenstrauss)."""


def _norms(name: str, wide: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (wide,) for part in ("weight", "bias", "running_mean", "running_var")}


def _expected() -> dict[str, tuple[int, ...]]:
    """As torchvision and timm name them."""
    shapes = {"conv1.weight": (64, 3, 7, 7)} | _norms("bn1", 64)
    for stage, inside, outside in _STAGES:
        for block in range(2):
            name, first = f"{stage}.{block}", inside if block == 0 else outside
            shapes[f"{name}.conv1.weight"] = (outside, first, 3, 3)
            shapes[f"{name}.conv2.weight"] = (outside, outside, 3, 3)
            shapes |= _norms(f"{name}.bn1", outside) | _norms(f"{name}.bn2", outside)
        if inside != outside:
            shapes[f"{stage}.0.downsample.0.weight"] = (outside, inside, 1, 1)
            shapes |= _norms(f"{stage}.0.downsample.1", outside)
    return shapes


class Trunk:
    """Features of what is seen, and of how it changed within 0.3 s; shared by all cameras."""

    wide = 2 * PROJECTED
    back = 1
    """How many frames before the last the other one lies, of those 0.3 s apart."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Weights as `load_trunk` checks them; each norm becomes part of the convolution before it."""
        self._convs: dict[str, tuple[Tensor, Tensor]] = {}
        for name, weight in weights.items():
            if weight.ndim != 4:
                continue
            layer = name.removesuffix(".weight")
            norm = layer.replace("conv", "bn") if "downsample" not in layer else f"{layer.removesuffix('0')}1"
            factor = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPSILON).sqrt()
            bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor
            self._convs[layer] = weight * factor[:, None, None, None], bias
        device = weights["conv1.weight"].device
        seen = sum(outside for _, _, outside in _STAGES[1:])
        self._project = torch.randn((PROJECTED, seen, 1, 1), generator=torch.Generator().manual_seed(0)).to(device)
        self._project /= PROJECTED**0.5

    def __call__(self, now: Tensor, before: Tensor) -> Tensor:
        """(B, 96, h/8, w/8) of (B, 1, h, w) grey levels each."""
        seen, earlier = self._project_of(now), self._project_of(before)
        return torch.cat([seen, seen - earlier], dim=1)

    def _project_of(self, grey: Tensor) -> Tensor:
        mean, deviation = (torch.tensor(one, device=grey.device).view(1, 3, 1, 1) for one in (_MEAN, _DEVIATION))
        x = (grey / 255.0 - mean) / deviation
        x = functional.max_pool2d(functional.relu(self._conv(x, "conv1", 2)), 3, 2, 1)
        kept: list[Tensor] = []
        for stage, inside, outside in _STAGES:
            for block in range(2):
                name, stride = f"{stage}.{block}", 2 if block == 0 and inside != outside else 1
                y = self._conv(functional.relu(self._conv(x, f"{name}.conv1", stride)), f"{name}.conv2")
                x = self._conv(x, f"{name}.downsample.0", stride) if stride == 2 else x
                x = functional.relu(x + y)
            kept.append(x)
        fine, coarse = kept[1], functional.interpolate(kept[2], size=kept[1].shape[-2:], mode="nearest")
        return functional.conv2d(torch.cat([fine, coarse], dim=1), self._project)

    def _conv(self, x: Tensor, layer: str, stride: int = 1) -> Tensor:
        weight, bias = self._convs[layer]
        return functional.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)


def load_trunk(path: Path, device: torch.device) -> Trunk:
    """Raises ModelError: no such file, no safetensors, or not the weights of a ResNet-18, saying what is missing."""
    try:
        found = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"there is no weights file {path}") from error
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is no file of weights in the safetensors format: {error}") from error
    expected = _expected()
    for name, shape in expected.items():
        if name not in found or tuple(found[name].shape) != shape:
            is_there = f"is {tuple(found[name].shape)}" if name in found else "is not in it"
            raise ModelError(
                f"{path} holds no ResNet-18: {name} {is_there}, it should be {shape}",
                "give the weights of a ResNet-18 with the names that torchvision and timm use",
            )
    weights = {name: found[name].to(device, torch.float32) for name in expected}
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise ModelError(f"{path} holds weights that are no numbers")
    return Trunk(weights)
