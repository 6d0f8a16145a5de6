"""Ordinary footage with things done to it, to choose between variants of a type without touching a labelled test.

Whatever is changed is taken from footage that was never learned from, and is told from controls: the same windows
with the same thing pasted in unchanged, so that having been pasted is no mark.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from workers.inference.vad.synthetic_training import Tube, find_tubes

__all__ = ["KINDS", "NO_ANOMALY", "SKIPPED", "Case", "make_cases"]

KINDS = ("fast", "faster scene", "large", "texture", "slides", "hops", "backwards scene", "displaced camera")
NO_ANOMALY = "displaced camera"
"""The kind that nobody should be able to tell: 0.5 is as good as it gets."""
LENGTH = 61
"""Frames that a thing is followed for."""
SHOWN = 30
SKIPPED = 13
"""Frames of a window that are history, not scored."""


class Case(NamedTuple):
    """A window of (SHOWN, h, w) uint8 grey in which something was changed, or a control of that kind."""

    of: str
    changed: bool
    frames: np.ndarray


def make_cases(clips: Sequence[np.ndarray], background: np.ndarray, *, per_kind: int, seed: int = 0) -> Iterator[Case]:
    """Of every kind and for each a control; clips (n, h, w) uint8 at 10 frames a second, of 61 frames or more."""
    choice = np.random.default_rng(seed)
    clips = [clip for clip in clips if len(clip) >= LENGTH]
    if not clips:
        raise ValueError(f"no clip of {LENGTH} frames or more")
    still = cv2.GaussianBlur(background, (0, 0), 1)
    tubes = [
        tube
        for tube in find_tubes(clips, background, choice, length=LENGTH, most=400)
        if abs(tube.moved_x) + abs(float(tube.y[-1] - tube.y[0])) > background.shape[0] / 12
    ]
    if not tubes:
        raise ValueError("nothing in these clips could be followed")
    for kind in KINDS:
        for _ in range(per_kind):
            clip = clips[choice.integers(len(clips))]
            start = choice.integers(0, len(clip) - LENGTH + 1)
            if kind == "faster scene":
                yield Case(kind, False, clip[start : start + SHOWN])
                yield Case(kind, True, clip[start : start + LENGTH - 1 : 2])
                continue
            if kind == NO_ANOMALY:
                yield Case(kind, False, clip[start : start + SHOWN])
                # nothing comes in again on the other side
                around = np.pad(clip[start : start + SHOWN], ((0, 0), (1, 0), (0, 1)), mode="edge")
                yield Case(kind, True, around[:, :-1, 1:])
                continue
            if kind == "backwards scene":
                yield Case(kind, False, clip[start : start + SHOWN])
                yield Case(kind, True, clip[start : start + SHOWN][::-1])
                continue
            tube = tubes[choice.integers(len(tubes))]
            shift = choice.uniform(0.1, 0.9) * background.shape[1] - tube.x[SHOWN // 2]
            k = np.arange(SHOWN)
            where = looks = k
            scale, texture = 1.0, None
            match kind:
                case "fast":
                    where = looks = 2 * k
                case "slides":
                    where, looks = np.minimum(2 * k, LENGTH - 1), np.zeros(SHOWN, int)
                case "large":
                    scale = 2.0
                case "hops":
                    where = looks = (k // 8) * 16
                case _:
                    noise = choice.normal(0, 60, (4, 4)).astype(np.float32)
                    texture = cv2.resize(noise, tube.mask.shape[:0:-1])
            base = clip[start : start + SHOWN]
            yield Case(kind, False, _paste(base, still, tube, k, k, shift, 1.0, None))
            yield Case(kind, True, _paste(base, still, tube, where, looks, shift, scale, texture))


def _paste(
    base: np.ndarray,
    background: np.ndarray,
    tube: Tube,
    where: np.ndarray,
    looks: np.ndarray,
    shift: float,
    scale: float,
    texture: np.ndarray | None,
) -> np.ndarray:
    """`base` with the thing as it looks at frames `looks` of its tube, where it is at frames `where`."""
    height, width = background.shape
    shown = base.copy()
    for index, (place, look) in enumerate(zip(where, looks, strict=True)):
        difference, mask = tube.difference[look] if texture is None else texture, tube.mask[look]
        if scale != 1.0:
            difference, mask = (cv2.resize(part, None, fx=scale, fy=scale) for part in (difference, mask))
        h, w = mask.shape
        left = round(tube.x[place] + shift - w / 2)
        top = round(tube.y[place] + tube.mask.shape[1] / 2 - h)
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + w), min(height, top + h)
        if x0 >= x1 or y0 >= y1:
            continue
        part, own = (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        under = shown[index][part].astype(np.float32)
        over = background[part] + difference[own]
        shown[index][part] = np.clip(under + mask[own] * (over - under), 0, 255)
    return shown
