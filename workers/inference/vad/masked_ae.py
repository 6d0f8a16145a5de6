"""masked_ae: a small masked autoencoder per camera redraws its picture as it should be; see docs/detection.md."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from workers.inference.vad.footage import CELL
from workers.inference.vad.layers import (
    box_mean,
    conv,
    conv_shapes,
    differences,
    initial_weights,
    per_row,
    row_channel,
    weighted_mean,
)
from workers.inference.vad.synthetic_training import FRAMES, STEP, Sampler
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

__all__ = ["MaskedAe", "make_net"]

WIDE, HEADS = 96, 4
PIXELS = CELL * CELL
_BLOCKS = ("encoder", "shared", "teacher", "student")
_SHAPES = conv_shapes(
    (
        ("stem1", 4 * (FRAMES + 1) + 1, 32, 3),
        ("stem2", 32, 48, 3),
        ("stem3", 48, WIDE, 3),
        ("redraw", WIDE, PIXELS, 1),
        ("copy", WIDE, PIXELS, 1),
        ("judge", WIDE, 1, 1),
    )
) | {
    f"{block}.{name}": shape
    for block in _BLOCKS
    for name, shape in {
        "near.weight": (WIDE, 1, 3, 3),
        "near.bias": (WIDE,),
        "norm1": (2, WIDE),
        "ask": (WIDE, WIDE),
        "offer": (2 * WIDE, WIDE),
        "project": (WIDE, WIDE),
        "norm2": (2, WIDE),
        "wide": (2 * WIDE, WIDE),
        "narrow": (WIDE, 2 * WIDE),
    }.items()
}
BATCH = 8
RATE = 1e-3
MASKED = 0.5
"""Tokens that are hidden in every other sample; the others show all, as when it is used."""
MOTION_WEIGHT = 4.0
"""Of a token that moves as much as moving ones do on average, beside one that does not move."""
JUDGED, COPIED = 0.5, 0.5
"""Weights of the anomaly map's and of the student's loss beside the teacher's."""
THERE = 0.1
"""In units of differences(): where a cell differs so much from the background on average, something is there."""


class MaskedAe(TrainedType):
    """After AED-MAE (Ristea et al., CVPR 2024): motion weights the loss, anomalies are made of own footage and are to
    be drawn without, a student copies the teacher and fails where the teacher does something unusual.
    """

    name = "masked_ae"
    module = __name__


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.layer_norm(x, (WIDE,)) * (1.0 + weight[0]) + weight[1]


def _block(x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    """A convolutional transformer block (Wu et al., ICCV 2021) on (B, C, rows, columns)."""
    x = x + functional.conv2d(x, weights[f"{name}.near.weight"], weights[f"{name}.near.bias"], padding=1, groups=WIDE)
    batch, _, rows, columns = x.shape
    tokens = x.flatten(2).transpose(1, 2)
    # keys and values at half the resolution
    around = functional.avg_pool2d(x, 2, ceil_mode=True).flatten(2).transpose(1, 2)
    asked = _norm(tokens, weights[f"{name}.norm1"]) @ weights[f"{name}.ask"].T
    offered = _norm(around, weights[f"{name}.norm1"]) @ weights[f"{name}.offer"].T
    asked = asked.view(batch, -1, HEADS, WIDE // HEADS).transpose(1, 2)
    key, value = offered.view(batch, -1, 2, HEADS, WIDE // HEADS).permute(2, 0, 3, 1, 4).unbind()
    attention = (asked @ key.transpose(-1, -2) * (WIDE // HEADS) ** -0.5).softmax(dim=-1)
    heard = (attention @ value).transpose(1, 2).reshape(batch, rows * columns, WIDE)
    tokens = tokens + heard @ weights[f"{name}.project"].T
    inner = functional.gelu(_norm(tokens, weights[f"{name}.norm2"]) @ weights[f"{name}.wide"].T)
    tokens = tokens + inner @ weights[f"{name}.narrow"].T
    return tokens.transpose(1, 2).view(batch, WIDE, rows, columns)


def _redraw(seen: Tensor, hidden: Tensor, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of (B, 5, h, w) differences, of which cells where (B, 1, rows, columns) `hidden` is 1 are not shown: the last
    frame as the teacher and as the student draw it, (B, 64, rows, columns) each, and a logit per cell.
    """
    hidden = functional.interpolate(hidden, scale_factor=CELL, mode="nearest")
    x = torch.cat([seen * (1.0 - hidden), hidden], dim=1)
    x = functional.relu(conv(row_channel(functional.pixel_unshuffle(x, 2)), weights, "stem1"))
    x = functional.relu(conv(functional.max_pool2d(x, 2), weights, "stem2"))
    x = conv(functional.max_pool2d(x, 2), weights, "stem3")
    shared = _block(_block(x, weights, "encoder"), weights, "shared")
    teacher = _block(shared, weights, "teacher")
    student = _block(shared.detach(), weights, "student")
    return conv(teacher, weights, "redraw"), conv(student, weights, "copy"), conv(teacher, weights, "judge")


def _cells(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, CELL)


def _errors(frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 1, rows, columns) each: RMS of teacher against picture and of student against teacher, and the logit."""
    seen = differences(frames, background)
    teacher, student, logit = _redraw(seen, torch.zeros_like(_cells(seen[:, :1])), weights)
    picture = functional.pixel_unshuffle(seen[:, -1:], CELL)
    error = ((teacher - picture) ** 2).mean(dim=1, keepdim=True)
    discrepancy = ((student - teacher) ** 2).mean(dim=1, keepdim=True)
    return box_mean(error.float()).sqrt(), box_mean(discrepancy.float()).sqrt(), logit.float()


class _Net:
    frames, step = FRAMES, STEP
    offset, least_scale, sharp = 30.0, 0.3, 4
    steps, limit_s = 2500, 480.0

    def shapes(self, height: int, _width: int) -> Mapping[str, tuple[int, ...]]:
        rows = (height // CELL, 1)
        return _SHAPES | {"usual.error": rows, "usual.discrepancy": rows}

    def maps(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The logarithm of how many times the usual discrepancy it is, and that of the odds, added; then that of how
        many times the usual error, and both of the former.
        """
        error, discrepancy, logit = _errors(frames, background, weights)
        error = (error / weights["usual.error"]).clamp_min(0.01).log()
        discrepancy = (discrepancy / weights["usual.discrepancy"]).clamp_min(0.01).log()
        odds = box_mean(logit)
        return torch.cat([discrepancy + odds, error, discrepancy, odds, logit], dim=1)

    def reason(self, told: np.ndarray) -> str:
        if told[3] > max(told[1], told[2]):
            return "looks or moves unlike what is usual here"
        return f"cannot be redrawn from what is usual here: {np.exp(max(told[1], told[2])):.1f} x the usual error"

    def train(self, footage: Footage, budget: Budget) -> Trained:
        sampler = Sampler(footage.chunks, footage.background, budget.seed)
        device = pick_device()
        choice = torch.Generator().manual_seed(budget.seed)
        nothing = torch.zeros((1, 1, 1, 1), device=device)

        def loss_of(weights: Mapping[str, Tensor]) -> Tensor:
            sample = sampler.batch(BATCH)
            frames, before, truth, weight = (
                torch.from_numpy(part).to(device)
                for part in (sample.frames, sample.before, sample.truth.astype(np.float32), sample.weight)
            )
            seen, before = differences(frames, nothing), differences(before, nothing)
            masked = torch.rand((BATCH, 1, *truth.shape[1:]), generator=choice) < MASKED
            masked[::2] = False
            hidden = masked.to(device).float()
            with half_precision(device):
                teacher, student, logit = (part.float() for part in _redraw(seen, hidden, weights))
            picture = functional.pixel_unshuffle(before[:, -1:], CELL)
            moved = _cells((before[:, -1:] - before[:, -2:-1]).abs())
            motion = 1.0 + MOTION_WEIGHT * (moved / moved[moved > 0.05].mean().nan_to_num(1.0)).clamp(max=2.0)
            drawn = weighted_mean(((teacher - picture) ** 2).mean(dim=1, keepdim=True), motion)
            # the student learns from what is ordinary alone
            copied = weighted_mean(
                ((student - teacher.detach()) ** 2).mean(dim=1, keepdim=True), motion * (1.0 - truth[:, None])
            )
            judged = functional.binary_cross_entropy_with_logits(logit[:, 0], truth, reduction="none")
            # of a thing that is hidden half, nothing is to be said
            shown = weight * (1.0 - hidden[:, 0])
            return drawn + COPIED * copied + JUDGED * weighted_mean(judged, shown)

        begun = initial_weights(_SHAPES, budget.seed)
        for name in begun:
            if name.endswith(("project", "narrow", "near.weight", "judge.weight")):
                begun[name] *= 0.1
            elif "norm" in name:
                begun[name] *= 0.0
            elif name.endswith(("ask", "offer", "wide")):
                begun[name] *= 0.5
        # at first, all is ordinary
        begun["judge.bias"][0] = -3.0
        begun = {name: value.to(device) for name, value in begun.items()}
        weights, steps, loss = optimise(begun, loss_of, budget, rate=RATE)
        still = torch.from_numpy(footage.background)[None, None].to(device).float()
        weights |= _usual(weights, footage.chunks, still)
        return Trained({name: value.cpu().numpy() for name, value in weights.items()}, steps, loss)


def _usual(weights: Mapping[str, Tensor], chunks: list[np.ndarray], still: Tensor) -> dict[str, Tensor]:
    """Error and discrepancy in each row, where there is something to be seen."""
    errors: list[Tensor] = []
    discrepancies: list[Tensor] = []
    seen: list[Tensor] = []
    with torch.inference_mode():
        for chunk in chunks:
            frames = torch.from_numpy(windows(chunk, np.arange(0, len(chunk), 4), FRAMES, STEP)).to(still.device)
            error, discrepancy, _ = _errors(frames.float(), still, weights)
            errors.append(error[:, 0])
            discrepancies.append(discrepancy[:, 0])
            seen.append((_cells(differences(frames[:, -1:].float(), still).abs())[:, 0] > THERE).float())
    there = torch.cat(seen)
    return {
        name: per_row(torch.cat(values), there).clone().clamp_min(1e-3)
        for name, values in (("usual.error", errors), ("usual.discrepancy", discrepancies))
    }


def make_net(weights_file: Path | None = None) -> _Net:
    """Raises ModelError where a weights file is given."""
    no_weights_file("masked_ae", weights_file)
    return _Net()
