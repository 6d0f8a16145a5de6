"""KeyFrames: the few pictures that show an event: before it, its beginning, its peak, and what came after."""

from collections import deque

import cv2
import msgspec
import numpy as np

from core.events.evidence import FrameRole
from workers.camera.pixels import planes, to_bgr

__all__ = ["Kept", "KeyFrames", "crop_of", "shown"]

BEFORE_S = 2.0
"""A picture in so much time is kept while nothing happens."""
BEFORE = 4
FIRST_S = 0.4
"""Between pictures of an event at first; twice as much whenever there are too many."""
MOST = 10
"""Of one event, before those that are alike are left out."""
SHOWN = 8
ALIKE = 2.0
"""Grey levels of mean difference between thumbnails: what differs less shows the same."""
LONG_SIDE = 640
CROP_SIDE = 448
CROP_AROUND = 1.8
"""A crop is so many times as large as what moves."""


class Kept(msgspec.Struct):
    """A picture, (h * 3 // 2, w) uint8 I420, and a thumbnail of it."""

    media_s: float
    pixels: np.ndarray
    thumbnail: np.ndarray
    score: float = 0.0
    role: FrameRole = FrameRole.DURING


class KeyFrames:
    """Takes analysed pictures in order; a few megabytes at most."""

    def __init__(self) -> None:
        self._before: deque[Kept] = deque(maxlen=BEFORE)
        self._of_event: list[Kept] = []
        self._every_s = FIRST_S
        self._peak: Kept | None = None

    def begin(self) -> None:
        """Something else begins: what was kept of the last event is not of this one."""
        self._of_event, self._peak, self._every_s = [], None, FIRST_S

    def quiet(self, pixels: np.ndarray, media_s: float) -> None:
        """Nothing goes on; `pixels` are copied where they are kept."""
        self.begin()
        if not self._before or not 0 <= media_s - self._before[-1].media_s < BEFORE_S:
            self._before.append(_kept(pixels, media_s, 0.0))

    def goes_on(self, pixels: np.ndarray, media_s: float, score: float) -> None:
        """Something does, with this score."""
        is_peak = self._peak is None or score > self._peak.score
        due = not self._of_event or media_s - self._of_event[-1].media_s >= self._every_s
        if not (is_peak or due):
            return
        kept = _kept(pixels, media_s, score)
        if is_peak:
            self._peak = kept
        if due:
            self._of_event.append(kept)
            if len(self._of_event) > MOST:
                # the first stays, of the others every second one
                self._of_event = [self._of_event[0], *self._of_event[2::2]]
                self._every_s *= 2

    def chosen(self, *, over: bool) -> list[Kept]:
        """At most SHOWN pictures in order of time, with their roles; near-duplicates are left out, the peak never."""
        if self._peak is None:
            return []
        peak = self._peak
        peak.role = FrameRole.PEAK
        found = [one for one in self._of_event if one is not peak]
        for number, one in enumerate(found):
            one.role = FrameRole.ONSET if number == 0 else FrameRole.DURING
        if over and len(found) > 1 and found[-1].media_s > peak.media_s:
            found[-1].role = FrameRole.AFTER
        if self._before:
            first = self._before[0]
            first.role = FrameRole.BASELINE
            found.insert(0, first)
        order = {FrameRole.BASELINE: 0, FrameRole.ONSET: 1, FrameRole.AFTER: 2, FrameRole.DURING: 3}
        shown = [peak]
        for one in sorted(found, key=lambda kept: (order[kept.role], kept.media_s)):
            if len(shown) < SHOWN - 1 and all(_differ(one, other) for other in shown):
                shown.append(one)
        return sorted(shown, key=lambda kept: kept.media_s)


def crop_of(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray | None:
    """The part of an I420 picture around `box` (left, top, right, bottom, fractions) as BGR; None where it is most of
    it, or nothing.
    """
    height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
    left, top, right, bottom = box
    side = max((right - left) * width, (bottom - top) * height) * CROP_AROUND
    side = max(side, 96.0)
    if side > 0.8 * min(width, height) or right <= left or bottom <= top:
        return None
    middle_x, middle_y = (left + right) / 2 * width, (top + bottom) / 2 * height
    x = round(min(max(middle_x - side / 2, 0), width - side))
    y = round(min(max(middle_y - side / 2, 0), height - side))
    part = to_bgr(pixels)[y : y + round(side), x : x + round(side)]
    times = CROP_SIDE / max(part.shape[:2])
    return cv2.resize(part, None, fx=times, fy=times, interpolation=cv2.INTER_AREA if times < 1 else cv2.INTER_CUBIC)


def shown(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) BGR of at most LONG_SIDE columns or rows."""
    picture = to_bgr(pixels)
    times = LONG_SIDE / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_AREA) if times < 1 else picture


def _kept(pixels: np.ndarray, media_s: float, score: float) -> Kept:
    thumbnail = cv2.resize(planes(pixels)[0], (64, 36), interpolation=cv2.INTER_AREA)
    return Kept(media_s, pixels.copy(), thumbnail, score)


def _differ(one: Kept, other: Kept) -> bool:
    """Moving things are small: the tenth of the picture that differs most is what counts."""
    if one.thumbnail.shape != other.thumbnail.shape:
        return True
    difference = cv2.absdiff(one.thumbnail, other.thumbnail)
    return float(np.partition(difference.ravel(), -230)[-230:].mean()) > ALIKE * 3
