"""Frames on their way to the device that a net runs on, while the batch before is still computed there."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workers.inference.vad.motion_features import GAIN_LIMITS

__all__ = ["Ahead", "Uploads", "in_light_of", "stack", "to_levels"]


class Ahead:
    """A frame that was sent ahead: `picture` is (h, w) uint8 on the device, to be used once `copied` has happened."""

    __slots__ = ("copied", "picture")

    def __init__(self, picture: Tensor, copied: Any = None) -> None:
        self.picture, self.copied = picture, copied

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.picture.shape)


class Uploads:
    """On CUDA: through pinned memory and on a stream of its own, beside what is computed. On a CPU nothing moves."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def put(self, small: np.ndarray) -> Ahead:
        """Begins to send an (h, w) uint8 frame, which may be changed from then on; never waits for the device."""
        if self._stream is None:
            return Ahead(torch.from_numpy(small.copy()))
        # torch keeps pinned blocks, and gives one out again only when what was copied from it has arrived
        pinned = torch.from_numpy(small).pin_memory()
        with torch.cuda.stream(self._stream):
            picture = pinned.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        return Ahead(picture, copied)

    def arrived(self, frames: Iterable[Ahead]) -> None:
        """What is computed from here on in this thread comes after these frames' arrival; does not wait for it."""
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._device)
        for frame in frames:
            current.wait_event(frame.copied)
            frame.picture.record_stream(current)


def to_levels(frames: np.ndarray, device: torch.device) -> Tensor:
    """Grey levels of any shape, uint8, as floats on the device."""
    return torch.from_numpy(frames).to(device).float()


def stack(windows: Sequence[Sequence[Ahead]]) -> Tensor:
    """(len(windows), frames, h, w) float grey levels on the device."""
    together = torch.stack([frame.picture for window in windows for frame in window])
    return together.view(len(windows), -1, *together.shape[-2:]).float()


def in_light_of(background: Tensor, frames: Tensor) -> Tensor:
    """Each (N, h, w) background in its frame's light, float grey levels on their device, as motion_stats does it."""
    sample, usual = frames[:, ::4, ::4].flatten(1), background[:, ::4, ::4].flatten(1)
    gain = ((sample + 1.0) / (usual + 1.0)).median(dim=1).values.clamp(*GAIN_LIMITS)[:, None, None]
    return torch.where((gain - 1.0).abs() > 0.02, (background * gain).round().clamp(0.0, 255.0), background)
