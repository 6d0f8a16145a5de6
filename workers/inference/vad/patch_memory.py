"""patch_memory: what patches of a camera's picture looked like, each at its place; far from all of them is unusual."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from core.errors import StateError
from workers.inference.vad.base import NormalityState, Row
from workers.inference.vad.footage import CELL
from workers.inference.vad.layers import box_mean, differences, half_size
from workers.inference.vad.resnet import Trunk, load_trunk
from workers.inference.vad.synthetic import SHAPES, WIDE, learn, look
from workers.inference.vad.synthetic_training import FRAMES, STEP, roughly
from workers.inference.vad.trained import TrainedState, TrainedType
from workers.inference.vad.training import Budget, Footage, Trained, pick_device, windows
from workers.inference.vad.uploads import in_light_of, to_levels

__all__ = ["PatchMemory", "make_net"]

ITEMS, MARKED = 2048, 256
"""Patches that are remembered, and room for what is marked as normal later; of more marks, the oldest make room."""
CANDIDATES = 24_000
"""Of what was seen, chosen at random, among which the items are chosen to lie far apart."""
PLACE = np.array([1.0, 0.5], np.float32)
"""How far apart the picture's top and bottom, and its left and right, count: two things seen at random differ by 1."""
THERE = 0.1
"""In units of differences(): where a cell differs so much from the background on average, something is there."""
STILL_SHARE = 0.05
"""Of cells with nothing in them, so many are candidates too."""
MARK_FROM = 0.5
"""-log10 P from which a patch of a frame that is marked as normal is remembered: the others are known."""


class PatchMemory(TrainedType):
    """PatchCore (Roth et al., CVPR 2022) for moving pictures, location-aware; its trunk is trained on own footage as
    that of `synthetic`, or is a ResNet-18 from a file.
    """

    name = "patch_memory"
    module = __name__

    @property
    def _patches(self) -> "_Net":
        assert isinstance(self._net, _Net)
        return self._net

    def mark_normal(self, state: NormalityState, rows: Sequence[Row]) -> TrainedState:
        """Remembers the patches of `rows` that are far from all it knows: up to 256 of all marks together."""
        if not isinstance(state, TrainedState) or state.vad_type != self.name or state.net is None or not state.tail:
            raise StateError(
                f"a state of type {state.vad_type} without a net is not one of {self.name} to be corrected"
            )
        results: list[Any] = [None] * len(rows)
        _, seen = self._take_in([_with_state(row, state) for row in rows], results)
        for error in results:
            if error is not None:
                raise error
        memory, marks = state.net["memory"].clone(), int(state.net["marks"][0])
        found: list[Tensor] = []
        with torch.inference_mode():
            for window in seen.values():
                frames = self.arrived([window])
                still = in_light_of(to_levels(state.background[None], memory.device), frames[:, -1])[:, None]
                features = self._patches.features(frames, still, state.net)
                distance = self._patches.distances(features, memory)[0].flatten()
                level = state.tail.level(distance.cpu().numpy())
                found.append(_flat(features)[torch.from_numpy(level >= MARK_FROM).to(memory.device)])
        new = _spread(torch.cat(found), MARKED // 4, np.random.default_rng(marks)) if found else memory[:0]
        for item in new:
            memory[ITEMS + marks % MARKED] = item
            marks += 1
        net = state.net | {"memory": memory, "marks": torch.tensor([marks], device=memory.device)}
        return replace(state, net=net, version=state.version + 1)

    def _read(self, arrays: dict[str, np.ndarray], head: dict[str, Any], path: Path) -> TrainedState:
        state = super()._read(arrays, head, path)
        if not np.array_equal(arrays["net.trunk"], self._patches.mark):
            raise StateError(
                f"{path} was learned with another trunk than {self._weights_file or 'the one trained on own footage'}",
                "give the weights file that it was learned with, or let the camera learn again",
            )
        return state


def _with_state(row: Row, state: TrainedState) -> Row:
    return Row(row.prepared, row.media_s, row.context, state)


class _Net:
    """With its own trunk, or with one from a file that is shared by all cameras."""

    frames, step = FRAMES, STEP
    offset, least_scale, sharp = 0.0, 0.02, None
    steps, limit_s = 4000, 420.0

    def __init__(self, weights_file: Path | None) -> None:
        self._trunk: Trunk | None = None
        digest = b""
        if weights_file is not None:
            self._trunk = load_trunk(weights_file, pick_device())
            digest = hashlib.sha256(weights_file.read_bytes()).digest()
        self.mark = np.frombuffer(digest.ljust(32, b"\0"), np.uint8)
        """The trunk that a state belongs to."""
        self._wide = WIDE if self._trunk is None else self._trunk.wide

    def shapes(self, _height: int, _width: int) -> Mapping[str, tuple[int, ...]]:
        own = SHAPES if self._trunk is None else {}
        memory = {"memory": (ITEMS + MARKED, self._wide + 2), "marks": (1,), "scale": (1,), "middle": (self._wide,)}
        return own | memory | {"trunk": (32,)}

    def features(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """(B, C + 2, h/8, w/8): what is seen of each cell and about it, in units of what two things differ by, and
        where it is.
        """
        seen = self.raw(frames, background, weights)
        seen = (seen - weights["middle"][:, None, None]) / weights["scale"][:, None, None]
        rows, columns = seen.shape[-2:]
        y = torch.linspace(0.0, float(PLACE[0]), rows, device=seen.device)
        x = torch.linspace(0.0, float(PLACE[1]), columns, device=seen.device)
        place = torch.stack([y[:, None].expand(rows, columns), x[None].expand(rows, columns)])
        return torch.cat([seen, place[None].expand(len(seen), 2, rows, columns)], dim=1)

    def raw(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        if self._trunk is not None:
            return box_mean(self._trunk(frames[:, -1:], frames[:, -1 - self._trunk.back :][:, :1]))
        return box_mean(look(half_size(frames, background), weights).float())

    def distances(self, features: Tensor, memory: Tensor) -> Tensor:
        """(B, rows, columns) from the nearest item."""
        flat = features.movedim(1, -1)
        squared = (flat**2).sum(-1, keepdim=True) - 2.0 * flat @ memory.T + (memory**2).sum(-1)
        return squared.amin(dim=-1).clamp_min(0.0).sqrt()

    def maps(self, frames: Tensor, background: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        features = self.features(frames, background, weights)
        return self.distances(features, weights["memory"])[:, None]

    def reason(self, told: np.ndarray) -> str:
        return f"looks or moves unlike anything remembered hereabouts (distance {told[0]:.2f})"

    def train(self, footage: Footage, budget: Budget) -> Trained:
        choice = np.random.default_rng(budget.seed)
        weights: dict[str, Tensor] = {}
        steps, loss = 0, 0.0
        if self._trunk is None:
            weights, steps, loss = learn(footage, budget)
        weights |= self._remember(footage, weights, choice)
        weights["trunk"] = torch.from_numpy(self.mark.copy())
        return Trained({name: value.cpu().numpy() for name, value in weights.items()}, steps, loss)

    def _remember(self, footage: Footage, weights: dict[str, Tensor], choice: np.random.Generator) -> dict[str, Tensor]:
        """The memory, of patches with something in them and a few with nothing, also before a rough background."""
        device = pick_device()
        still = torch.from_numpy(footage.background)[None, None].to(device).float()
        one = {"middle": torch.zeros(self._wide, device=device), "scale": torch.ones(1, device=device)}
        found: list[Tensor] = []
        with torch.inference_mode():
            for chunk in footage.chunks:
                frames = torch.from_numpy(windows(chunk, np.arange(0, len(chunk), 3), FRAMES, STEP)).to(device).float()
                rough = torch.from_numpy(roughly(footage.background, choice))[None, None].to(device)
                features = self.features(frames, rough, weights | one)
                there = functional.avg_pool2d(differences(frames, still).abs().amax(dim=1, keepdim=True), CELL)
                lot = torch.from_numpy(choice.random(there.shape)).to(device)
                taken = (functional.max_pool2d(there, 3, 1, 1) > THERE) | (lot < STILL_SHARE)
                found.append(_flat(features)[taken.flatten()].cpu())
            items = torch.cat(found).to(device)
            items = items[torch.from_numpy(choice.permutation(len(items))[:CANDIDATES]).to(device)]
            seen = items[:, : self._wide]
            middle = seen.mean(dim=0)
            half = len(seen) // 2
            scale = (seen[:half] - seen[half : 2 * half]).norm(dim=1).median().clamp_min(1e-3)[None]
            items = torch.cat([(seen - middle) / scale, items[:, self._wide :]], dim=1)
            memory = _spread(items, ITEMS, choice)
            # room that is not taken holds what is known anyway
            memory = memory[torch.arange(ITEMS + MARKED, device=device) % len(memory)]
        return {
            "memory": memory.clone(),
            "marks": torch.zeros(1, dtype=torch.int64, device=device),
            "scale": scale.clone(),
            "middle": middle.clone(),
        }


def _flat(features: Tensor) -> Tensor:
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def _spread(items: Tensor, most: int, choice: np.random.Generator) -> Tensor:
    """Up to `most` of (N, C) items, each the farthest from those before it (Gonzalez 1985)."""
    if len(items) <= most:
        return items
    picked = [int(choice.integers(len(items)))]
    distance = torch.full((len(items),), float("inf"), device=items.device)
    for _ in range(most - 1):
        distance = torch.minimum(distance, ((items - items[picked[-1]]) ** 2).sum(dim=1))
        picked.append(int(distance.argmax()))
    return items[picked]


def make_net(weights_file: Path | None = None) -> _Net:
    """With the trunk of a ResNet-18 where its weights are given; raises ModelError where they are none."""
    return _Net(weights_file)
