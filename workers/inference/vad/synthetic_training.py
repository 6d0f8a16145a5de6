"""How `synthetic` learns: ordinary things of the camera's own footage, made unordinary, are told from ordinary ones.

`python -m workers.inference.vad.synthetic_training FOLDER` reads FOLDER/footage.npz and writes FOLDER/trained.npz:
a process of its own, so that training takes nothing but idle time from what is being scored.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.nn import functional

from workers.inference.vad.synthetic_net import (
    CELL,
    FRAMES,
    KINDS,
    build_input,
    forward,
    initial_weights,
    pick_device,
    smooth,
)

__all__ = ["STEP", "Trained", "main", "score_chunk", "train"]

STEP = 3
"""Frames of 0.1 s between the five that are looked at."""
SPAN = STEP * (FRAMES - 1)
TUBE = 3 * SPAN + 1
"""Frames that a thing is followed for: enough to be shown three times as fast."""
MOST_TUBES = 1000
FOREGROUND = 18
"""Grey levels off the background, after a 3x3 mean."""
LEAST_AREA, MOST_SHARE = 24, 0.12
"""Pixels of a thing at the net's size, and the share of the frame of the largest that is pasted."""
CONTROLS = 0.45
"""Pastes that change nothing and are normal: without them, being pasted would itself be the mark."""
WHOLE = 0.2
"""Samples in which everything goes faster."""
BEGUN = 0.1
"""Samples whose history has only just begun: its first frame stands for those before it."""
MOVED = 8.0
"""Grey levels between first and last frame from which a cell of those counts as moving."""
BATCH = 8
LEARNING_RATE = 2e-3
AVERAGE = 0.99
"""The weights that are kept are a running mean of the last hundred steps or so."""
LEAST_ONE_WAY = 0.6
"""Where things move one way rather than another, from so much on (0 evenly, 1 all alike), backwards is an anomaly."""


class Trained(NamedTuple):
    """Weights by name, and the largest smoothed logit of frames that were kept out of training, chunk by chunk."""

    weights: dict[str, np.ndarray]
    held_out: list[np.ndarray]
    steps: int
    loss: float


@dataclass(frozen=True)
class Tube:
    """Something followed over n frames: (n, h, w) differences to the background and masks, and where it was."""

    difference: np.ndarray
    mask: np.ndarray
    x: np.ndarray
    y: np.ndarray
    """(n,) of its middle."""

    @property
    def way(self) -> float:
        """Pixels between where it begins and ends."""
        return float(np.hypot(self.x[-1] - self.x[0], self.y[-1] - self.y[0]))

    @property
    def moved_x(self) -> float:
        return float(self.x[-1] - self.x[0])


def _foreground(frame: np.ndarray, background: np.ndarray) -> np.ndarray:
    return (cv2.blur(cv2.absdiff(frame, background), (3, 3)) > FOREGROUND).astype(np.uint8)


def find_tubes(
    chunks: Sequence[np.ndarray],
    background: np.ndarray,
    choice: np.random.Generator,
    *,
    length: int = TUBE,
    most: int = MOST_TUBES,
) -> list[Tube]:
    """Foreground components of chunks (n, h, w) uint8, followed by template matching from their middle frame."""
    half = length // 2
    each = max(4, -(-most * 2 // max(1, len(chunks))))
    tubes: list[Tube] = []
    for index in choice.permutation(len(chunks)):
        chunk = chunks[index]
        if len(chunk) < length:
            continue
        masks = np.stack([_foreground(frame, background) for frame in chunk])
        clean = (chunk.astype(np.float32) - background) * masks
        found: list[Tube] = []
        for middle in choice.permutation(np.arange(half, len(chunk) - half, 4)):
            closed = cv2.morphologyEx(masks[middle], cv2.MORPH_CLOSE, np.ones((5, 3), np.uint8))
            n, _, boxes, _ = cv2.connectedComponentsWithStats(closed)
            followed = [_follow(chunk, clean, int(middle) - half, length, background, box) for box in boxes[1:n]]
            found += [tube for tube in followed if tube is not None]
            if len(found) >= each:
                break
        tubes += found
        if len(tubes) >= most:
            break
    return tubes


def _follow(
    chunk: np.ndarray, clean: np.ndarray, first: int, length: int, background: np.ndarray, box: np.ndarray
) -> Tube | None:
    """`clean` is the chunk's difference to the background, 0 where that is no foreground: it must not hold on."""
    x, y, width, height, area = (int(value) for value in box)
    frame_height, frame_width = background.shape
    if area < LEAST_AREA or width * height > MOST_SHARE * background.size:
        return None
    if x <= 0 or y <= 0 or x + width >= frame_width or y + height >= frame_height:
        return None
    reach = max(3, frame_height // 24)
    middle = length // 2
    exact = np.zeros((length, 2))
    exact[middle] = x, y
    for direction in (1, -1):
        at_x, at_y, last_x, last_y = float(x), float(y), x, y
        for k in range(middle + direction, length if direction > 0 else -1, direction):
            template = clean[first + k - direction][last_y : last_y + height, last_x : last_x + width]
            left, top = max(0, last_x - reach), max(0, last_y - reach)
            area_of = clean[first + k][top : last_y + height + reach, left : last_x + width + reach]
            errors = cv2.matchTemplate(area_of, template, cv2.TM_SQDIFF)
            _, _, best, _ = cv2.minMaxLoc(errors)
            # what goes less than half a pixel a frame goes nonetheless
            at_x += left + best[0] - last_x + _between(errors[best[1]], best[0])
            at_y += top + best[1] - last_y + _between(errors[:, best[0]], best[1])
            last_x, last_y = round(at_x), round(at_y)
            if last_x <= 0 or last_y <= 0 or last_x + width >= frame_width or last_y + height >= frame_height:
                return None
            exact[k] = at_x, at_y
    places = np.round(exact).astype(int)
    edge = 2
    differences = np.zeros((length, height + 2 * edge, width + 2 * edge), np.float32)
    masks = np.zeros_like(differences)
    for k, (at_x, at_y) in enumerate(places):
        left, top = max(0, at_x - edge), max(0, at_y - edge)
        right, bottom = min(frame_width, at_x + width + edge), min(frame_height, at_y + height + edge)
        part = (slice(top, bottom), slice(left, right))
        rows = slice(top - at_y + edge, bottom - at_y + edge)
        columns = slice(left - at_x + edge, right - at_x + edge)
        frame = chunk[first + k][part]
        differences[k, rows, columns] = frame.astype(np.float32) - background[part]
        masks[k, rows, columns] = cv2.dilate(_foreground(frame, background[part]), np.ones((3, 3), np.uint8))
    if masks.mean() < 0.2:
        return None
    masks = np.stack([cv2.blur(mask, (3, 3)) for mask in masks])
    centre = exact + np.array([width / 2, height / 2])
    return Tube(differences, masks, centre[:, 0], centre[:, 1])


def _between(errors: np.ndarray, best: int) -> float:
    """Where a parabola through the least of (n,) errors and its neighbours is lowest, -0.5 to 0.5 off it."""
    if not 0 < best < len(errors) - 1:
        return 0.0
    before, least, after = (float(error) for error in errors[best - 1 : best + 2])
    bend = before - 2 * least + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend > 0 else 0.0


class Sampler:
    """Makes training samples: windows of footage with things pasted in, and which cells of them are not ordinary."""

    def __init__(self, chunks: Sequence[np.ndarray], background: np.ndarray, seed: int) -> None:
        self._chunks = [chunk for chunk in chunks if len(chunk) > SPAN]
        self._long = [chunk for chunk in self._chunks if len(chunk) > round(1.7 * SPAN)]
        self._weights = np.array([len(chunk) - SPAN for chunk in self._chunks], float)
        self._weights /= self._weights.sum()
        self._background = background
        self._choice = np.random.default_rng(seed)
        self.tubes = find_tubes(self._chunks, background, self._choice)
        moved = np.array([tube.moved_x for tube in self.tubes if abs(tube.moved_x) > CELL])
        # what goes one way here is not to be mirrored, nor is the rest where that is so
        self.one_way = float(abs(np.sign(moved).sum()) / len(moved)) if len(moved) >= 20 else 0.0
        self._main_way = float(np.sign(np.sign(moved).sum()))
        self._mirrors = self.one_way < LEAST_ONE_WAY

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(5, h, w) differences to the background; per cell: truth 0 or 1, weight, and the kind's index."""
        choice = self._choice
        if self._long and choice.random() < WHOLE:
            return self._faster_whole()
        chunk = self._chunks[choice.choice(len(self._chunks), p=self._weights)]
        start = choice.integers(0, len(chunk) - SPAN)
        frames = chunk[start : start + SPAN + 1 : STEP].astype(np.float32)
        if choice.random() < BEGUN:
            first = choice.integers(1, FRAMES)
            frames[:first] = frames[first]
        truth, weight, kinds = self._plain(frames)
        for _ in range(choice.integers(0, 4) if self.tubes else 0):
            self._paste(frames, truth, weight, kinds)
        return self._finished(frames, truth, weight, kinds)

    def _plain(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = _cells(_foreground(frames[-1].astype(np.uint8), self._background).astype(np.float32))
        return np.zeros_like(share), 0.25 + 0.75 * (share > 0.1), np.zeros(share.shape, np.int64)

    def _finished(
        self, frames: np.ndarray, truth: np.ndarray, weight: np.ndarray, kinds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        contrast = self._choice.uniform(0.85, 1.15)
        frames = (frames - self._background) * contrast
        if self._mirrors and self._choice.random() < 0.5:
            frames, truth, weight, kinds = (part[..., ::-1] for part in (frames, truth, weight, kinds))
        return frames.astype(np.float32), truth.copy(), weight.astype(np.float32), kinds.copy()

    def _faster_whole(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        choice = self._choice
        chunk = self._long[choice.integers(len(self._long))]
        fastest = min(3.0, (len(chunk) - 1) / SPAN)
        speed = choice.uniform(1.7, max(1.7, fastest))
        offsets = np.minimum(np.round(np.arange(FRAMES) * STEP * speed).astype(int), len(chunk) - 1)
        start = choice.integers(0, len(chunk) - offsets[-1])
        frames = chunk[start + offsets].astype(np.float32)
        truth, weight, kinds = self._plain(frames)
        moved = _cells(np.abs(frames[-1] - frames[0]))
        share = _cells(_foreground(frames[-1].astype(np.uint8), self._background).astype(np.float32))
        truth[(share > 0.3) & (moved > MOVED)] = 1.0
        weight[(truth == 0) & (cv2.dilate(np.maximum(truth, share > 0.1), np.ones((3, 3))) > 0)] = 0.0
        return self._finished(frames, truth, weight, kinds)

    def _paste(self, frames: np.ndarray, truth: np.ndarray, weight: np.ndarray, kinds: np.ndarray) -> None:
        """Puts one thing in, at its own height of the picture, as it was or changed."""
        choice = self._choice
        tube = self.tubes[choice.integers(len(self.tubes))]
        kind, speed, gait, scale = None, 1.0, 1.0, 1.0
        if choice.random() >= CONTROLS:
            possible = ["strange", "size"]
            if tube.way > CELL:
                possible += ["speed", "speed"]
            if tube.way > 2 * CELL:
                possible.append("gait")
            if self.one_way >= LEAST_ONE_WAY and tube.moved_x * self._main_way > CELL:
                possible.append("direction")
            kind = str(choice.choice(possible))
            match kind:
                case "speed":
                    speed = gait = choice.uniform(1.7, 3.0)
                case "gait":
                    speed, gait = choice.uniform(1.0, 2.5), float(choice.choice([0.0, 0.3]))
                case "size":
                    scale = choice.uniform(1.5, 2.6)
                case "strange":
                    scale, speed = choice.uniform(0.8, 2.0), choice.uniform(0.5, 2.5)
                case _:
                    pass
        last = TUBE - 1
        begin = choice.uniform(0, max(0.0, last - SPAN * max(speed, gait)))
        times = np.arange(FRAMES) * STEP
        if kind == "direction":
            times = times[::-1]
        where = np.clip(np.round(begin + times * speed).astype(int), 0, last)
        looks = np.clip(np.round(begin + times * gait).astype(int), 0, last)
        shift = choice.uniform(0, frames.shape[2]) - tube.x[where[-1]]
        texture = self._texture(tube, scale) if kind == "strange" else None
        covered = np.zeros(frames.shape[1:], np.float32)
        for index, (place, look) in enumerate(zip(where, looks, strict=True)):
            difference, mask = tube.difference[look], tube.mask[look]
            if texture is not None:
                difference, mask = texture
            elif scale != 1.0:
                size = (round(mask.shape[1] * scale), round(mask.shape[0] * scale))
                difference, mask = cv2.resize(difference, size), cv2.resize(mask, size)
            # it stands on the same ground, however large
            foot = tube.y[place] + tube.mask.shape[1] / 2 - 2
            middle_y = foot - mask.shape[0] / 2 + 2 if scale != 1.0 else tube.y[place]
            at = (float(tube.x[place] + shift), float(middle_y))
            covered = _blend(frames[index], self._background, difference, mask, at)
        share = _cells(covered)
        inside = share > 0.3
        truth[inside] = 0.0 if kind is None else 1.0
        weight[inside] = 1.0
        if kind is not None:
            kinds[inside] = KINDS.index(kind)
            ring = (cv2.dilate((share > 0.02).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~inside
            weight[ring] = 0.0

    def _texture(self, tube: Tube, scale: float) -> tuple[np.ndarray, np.ndarray]:
        choice = self._choice
        height, width = (max(4, round(side * scale * choice.uniform(0.6, 1.3))) for side in tube.mask.shape[1:])
        coarse = choice.normal(0.0, 50.0, (int(choice.integers(2, 6)), int(choice.integers(2, 6)))).astype(np.float32)
        texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + choice.uniform(-60, 60)
        mask = np.zeros((height, width), np.float32)
        cv2.ellipse(mask, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1.0, -1)
        if choice.random() < 0.4:
            mask[:] = 1.0
        return texture, cv2.blur(mask, (3, 3), borderType=cv2.BORDER_CONSTANT)


def _blend(
    frame: np.ndarray, background: np.ndarray, difference: np.ndarray, mask: np.ndarray, middle: tuple[float, float]
) -> np.ndarray:
    """Draws into `frame` around `middle` (x, y); what it covers, 0..1 per pixel."""
    x, y = middle
    height, width = mask.shape
    left, top = round(x - width / 2), round(y - height / 2)
    covered = np.zeros(frame.shape, np.float32)
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(frame.shape[1], left + width), min(frame.shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return covered
    part = (slice(y0, y1), slice(x0, x1))
    own = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    alpha = mask[own]
    frame[part] += alpha * (background[part] + difference[own] - frame[part])
    covered[part] = alpha
    return covered


def _cells(image: np.ndarray) -> np.ndarray:
    """The mean of each cell of (h, w)."""
    height, width = image.shape
    return image.reshape(height // CELL, CELL, width // CELL, CELL).mean(axis=(1, 3))


def train(
    chunks: Sequence[np.ndarray],
    background: np.ndarray,
    *,
    steps: int,
    limit_s: float,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Weights from chunks (n, h, w) uint8, 10 frames a second each, every fifth of which is only for calibration.

    Ends after `steps` or, a little less well, after `limit_s`.
    """
    began = time.monotonic()
    held = list(range(2, len(chunks), 5)) if len(chunks) >= 3 else []
    sampler = Sampler([chunk for index, chunk in enumerate(chunks) if index not in held], background, seed)
    say(f"{len(sampler.tubes)} tubes, one way {sampler.one_way:.2f}, {time.monotonic() - began:.1f} s")
    device = pick_device()
    weights = {name: value.to(device).requires_grad_() for name, value in initial_weights(seed).items()}
    average = {name: value.detach().clone() for name, value in weights.items()}
    optimiser = torch.optim.AdamW(weights.values(), lr=LEARNING_RATE, weight_decay=1e-3)
    nothing = torch.zeros((1, 1, 1, 1), device=device)
    recent = 0.0
    step = 0
    prepare_s = 0.0
    for step in range(1, steps + 1):
        # by time where that runs out first, so that the rate has come down in either case
        progress = max(step / steps, (time.monotonic() - began) / limit_s)
        if progress > 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / 20) * 0.5 * (1.0 + np.cos(np.pi * progress))
        at = time.monotonic()
        frames, truth, weight, kinds = (
            torch.from_numpy(np.stack(part)).to(device)
            for part in zip(*(sampler.sample() for _ in range(BATCH)), strict=True)
        )
        prepare_s += time.monotonic() - at
        with torch.autocast(device.type, torch.bfloat16):
            x = build_input(frames, nothing).to(memory_format=torch.channels_last)
            logits = forward(x, weights)
        logits = logits.float()
        truth = truth.float()
        each = functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
        loss = (each * weight).sum() / weight.sum()
        positive = (truth > 0) & (weight > 0)
        if positive.any():
            which = functional.cross_entropy(logits[:, 1:].movedim(1, -1)[positive], kinds[positive])
            loss = loss + 0.05 * which
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        keep = min(AVERAGE, step / (step + 10))
        with torch.no_grad():
            for name, value in weights.items():
                average[name].lerp_(value, 1.0 - keep)
        recent = float(loss.detach()) if step == 1 else 0.98 * recent + 0.02 * float(loss.detach())
        if step % 100 == 0:
            say(f"step {step}: loss {recent:.4f}, {time.monotonic() - began:.0f} s ({prepare_s:.0f} s samples)")
    kept = {name: value.detach() for name, value in average.items()}
    held_out = [score_chunk(kept, chunks[index], background)[SPAN:] for index in (held or range(len(chunks)))]
    return Trained({name: value.cpu().numpy() for name, value in kept.items()}, held_out, step, recent)


def score_chunk(weights: dict[str, torch.Tensor], chunk: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(n,) the largest smoothed logit of each frame of a chunk (n, h, w), its history held at the first frame."""
    device = next(iter(weights.values())).device
    still = torch.from_numpy(background)[None, None].to(device)
    found = []
    with torch.inference_mode():
        for begin in range(0, len(chunk), 16):
            now = np.arange(begin, min(begin + 16, len(chunk)))
            index = np.maximum(now[:, None] - SPAN + STEP * np.arange(FRAMES), 0)
            x = build_input(torch.from_numpy(chunk[index]).to(device), still)
            found.append(smooth(forward(x, weights)[:, 0]).amax(dim=(1, 2)).cpu().numpy())
    return np.concatenate(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains with the lowest priority in FOLDER; ends as soon as its parent does."""
    folder = Path((sys.argv[1:] if argv is None else argv)[0])
    os.nice(10)
    cv2.setNumThreads(1)
    options = json.loads((folder / "options.json").read_text())
    torch.set_num_threads(options["threads"])
    with np.load(folder / "footage.npz", allow_pickle=False) as stored:
        frames, lengths, background = stored["frames"], stored["lengths"], stored["background"]
    chunks = np.split(frames, np.cumsum(lengths)[:-1])
    parent = os.getppid()

    def say(text: str) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)
        print(text, flush=True)

    trained = train(
        chunks, background, steps=options["steps"], limit_s=options["limit_s"], seed=options["seed"], say=say
    )
    arrays: dict[str, Any] = {f"net.{name}": value for name, value in trained.weights.items()}
    np.savez(folder / "trained.npz", held_out=np.concatenate(trained.held_out), **arrays)
    print(f"done: {trained.steps} steps, loss {trained.loss:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
