"""A camera's ordinary footage made unordinary, which `synthetic` learns to tell from ordinary footage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from workers.inference.vad.footage import CELL

__all__ = ["FRAMES", "KINDS", "STEP", "Sample", "Sampler", "Tube", "find_tubes", "roughly"]

FRAMES = 5
STEP = 3
"""Frames of 0.1 s between them."""
KINDS = ("speed", "gait", "size", "strange", "direction")
"""What a synthetic anomaly may be."""
SPAN = STEP * (FRAMES - 1)
TUBE = 3 * SPAN + 1
"""Frames that a thing is followed for: enough to be shown three times as fast."""
MOST_TUBES = 1000
FOREGROUND = 18
"""Grey levels off the background, after a 3x3 mean."""
LEAST_AREA, MOST_SHARE = 24, 0.12
"""Pixels of a thing at the net's size, and the share of the frame of the largest that is pasted."""
FASTER = (1.7, 3.0)
"""Times the usual speed."""
CONTROLS = 0.45
"""Pastes that change nothing and are normal: without them, being pasted would itself be the mark."""
WHOLE = 0.2
"""Samples in which everything goes faster."""
BEGUN = 0.1
"""Samples whose history has only just begun: its first frame stands for those before it."""
STANDING = 0.15
"""Of those, such as only stand there: what does not move for a window's length is not for this net to judge."""
MOVED = 8.0
"""Grey levels between first and last frame from which a cell of those counts as moving."""
LEAST_ONE_WAY = 0.6
"""Where things move one way rather than another, from so much on (0 evenly, 1 all alike), backwards is an anomaly."""


class Sample(NamedTuple):
    """Frames (5, h, w) float32, as differences to the background, and what is so of each 8x8 pixels of the last."""

    frames: np.ndarray
    before: np.ndarray
    """The same before anything in it was changed; what was pasted as it was is in it."""
    truth: np.ndarray
    """1 where it is not ordinary, else 0."""
    weight: np.ndarray
    """0 where that is not to be judged."""
    kinds: np.ndarray
    """Index into KINDS where truth is 1."""


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


ROUGH = 0.5
"""Samples whose background is not quite right."""
ROUGH_PIXELS, ROUGH_GAIN = 1.0, 0.06
"""How far it lies off at most, each way, and the deviation of its brightness from place to place, as a share."""


def roughly(background: np.ndarray, choice: np.random.Generator) -> np.ndarray:
    """(h, w) float32: every other time as it is, else as after a gust against the mast, or when clouds have moved.

    What differs from the background all the time is no sign of anything; a net that never saw that takes it for one.
    """
    exact = background.astype(np.float32)
    if choice.random() >= ROUGH:
        return exact
    height, width = background.shape
    x, y = choice.uniform(-ROUGH_PIXELS, ROUGH_PIXELS, 2)
    off = np.array([[1, 0, x], [0, 1, y]], np.float32)
    moved = cv2.warpAffine(exact, off, (width, height), borderMode=cv2.BORDER_REPLICATE)
    cells = (int(choice.integers(2, 8)), int(choice.integers(2, 8)))
    light = choice.normal(1.0, ROUGH_GAIN, cells).astype(np.float32)
    return moved * cv2.resize(light, (width, height), interpolation=cv2.INTER_CUBIC)


class Sampler:
    """Makes training samples: windows of footage with things pasted in, and which cells of them are not ordinary."""

    def __init__(self, chunks: Sequence[np.ndarray], background: np.ndarray, seed: int) -> None:
        self._chunks = [chunk for chunk in chunks if len(chunk) > SPAN]
        self._long = [chunk for chunk in self._chunks if len(chunk) > round(FASTER[0] * SPAN)]
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

    def batch(self, size: int) -> Sample:
        """So many samples, stacked."""
        return Sample(*(np.stack(part) for part in zip(*(self.sample() for _ in range(size)), strict=True)))

    def sample(self) -> Sample:
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
        before = frames.copy()
        for _ in range(choice.integers(0, 4) if self.tubes else 0):
            self._paste(frames, before, truth, weight, kinds)
        return self._finished(frames, before, truth, weight, kinds)

    def _plain(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = _cells(_foreground(frames[-1].astype(np.uint8), self._background).astype(np.float32))
        return np.zeros_like(share), 0.25 + 0.75 * (share > 0.1), np.zeros(share.shape, np.int64)

    def _finished(
        self, frames: np.ndarray, before: np.ndarray, truth: np.ndarray, weight: np.ndarray, kinds: np.ndarray
    ) -> Sample:
        contrast = self._choice.uniform(0.85, 1.15)
        background = roughly(self._background, self._choice)
        parts = (
            ((frames - background) * contrast).astype(np.float32),
            ((before - background) * contrast).astype(np.float32),
            truth,
            weight.astype(np.float32),
            kinds,
        )
        if self._mirrors and self._choice.random() < 0.5:
            parts = (np.ascontiguousarray(part[..., ::-1]) for part in parts)
        return Sample(*parts)

    def _faster_whole(self) -> Sample:
        choice = self._choice
        chunk = self._long[choice.integers(len(self._long))]
        least, most = FASTER
        speed = choice.uniform(least, max(least, min(most, (len(chunk) - 1) / SPAN)))
        offsets = np.minimum(np.round(np.arange(FRAMES) * STEP * speed).astype(int), len(chunk) - 1)
        start = choice.integers(0, len(chunk) - offsets[-1])
        frames = chunk[start + offsets].astype(np.float32)
        before = chunk[start + offsets[-1] - STEP * np.arange(FRAMES - 1, -1, -1)].astype(np.float32)
        truth, weight, kinds = self._plain(frames)
        moved = _cells(np.abs(frames[-1] - frames[0]))
        share = _cells(_foreground(frames[-1].astype(np.uint8), self._background).astype(np.float32))
        truth[(share > 0.3) & (moved > MOVED)] = 1.0
        weight[(truth == 0) & (cv2.dilate(np.maximum(truth, share > 0.1), np.ones((3, 3))) > 0)] = 0.0
        return self._finished(frames, before, truth, weight, kinds)

    def _paste(
        self, frames: np.ndarray, before: np.ndarray, truth: np.ndarray, weight: np.ndarray, kinds: np.ndarray
    ) -> None:
        """Puts one thing in, at its own height of the picture, as it was, then into `before` too, or changed."""
        choice = self._choice
        tube = self.tubes[choice.integers(len(self.tubes))]
        kind, speed, gait, scale = None, 1.0, 1.0, 1.0
        if choice.random() < CONTROLS:
            speed = gait = float(choice.random() >= STANDING)
        else:
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
                    speed = gait = choice.uniform(*FASTER)
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
            if kind is None:
                _blend(before[index], self._background, difference, mask, at)
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
