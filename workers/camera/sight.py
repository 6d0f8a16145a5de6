"""Sight: does the camera still see what it is there to see? Looked at before detection, and instead of it.

Pure: pictures and their times in, a finding out. What a good picture is, it learns from the camera's own footage.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import msgspec
import numpy as np

from core.cameras.model import Fault
from core.config import SightConfig
from workers.camera.pixels import shrink
from workers.camera.sources.base import Planes

__all__ = ["Finding", "Sight"]

STEP_S = 0.2
"""Pictures are looked at so far apart."""
LOOKED_BACK = 3
"""Looks that the next is compared with."""
SAME_S = 2.0
"""A picture that looks as the last ones did, which were measured and are good, is good as well, for so long."""
SAME_MEAN, SAME_AT, SAME_SHARE = 1.0, 4.0, 0.002
"""The same: grey levels by which it differs on average; and such a share of its places by more than so many."""
GAP_S = 3.0
"""After a longer pause nothing is compared with what was before it."""
WIDTH = 320
"""Of the luma that edges are measured on, in pixels; sums are kept at half of it."""
SAMPLES = 15
"""Pictures whose median is the reference, spread over all that was seen as it grows: every other one goes when these
are full, and the next come half as often, up to one in SPREAD_MAX_S."""
LEAST_SAMPLES = 5
FRESH = 4
"""The reference is made anew when one sample of so many is."""
SPREAD_S = 0.4
SPREAD_MAX_S = 120.0

STILL_LEVELS = 0.02
"""Grey levels, the mean over the picture: what does not change by that does not change at all."""
LEAST_FROZEN_S = 2.5
"""A picture that was never still is frozen after that."""
LEAST_LEARNED_S = 4.0
"""How long a camera is known before it is said how still it may be."""
VIDEO_BLACK = 16
"""What is darker is black as well: encoders waver beneath it."""
DARK, BRIGHT = 40.0, 210.0
"""Grey levels: the mean of a picture that is black, or white, if there is nothing in it."""
EXTREME = 0.001
"""Share of the darkest, and of the brightest pixels that say nothing."""
EMPTY, BLANK = 40.0, 25.0
"""Grey levels between the brightest and the darkest that a picture has, but for those of each: of one
that shows nothing though it may be grainy, and of one that shows nothing at all."""
SAME_VIEW = 0.75
"""Likeness of a picture to that before it, with which something between them is the light's doing."""
SWITCH_LEVELS, SWITCH_SHARE, SWITCH_CONTRAST = 8.0, 0.18, 1.25
"""What changes within STEP_S when lights are switched: grey levels, shares of the brightness, contrast. Automatic
exposure that follows a car through the picture changes a tenth of the brightness in that time."""
COLOURED = 2.5
"""Mean distance of chroma from grey in a picture that has colours."""
LOST_COLOUR, FOUND_COLOUR = 0.3, 0.5
"""Shares of the colour that a camera has shown: with less it sees by infra-red, with more by daylight again."""
COLOUR_FADES_S = 7 * 86_400.0
"""Within so long a camera that shows no colour any more is one that has none."""
MOVING_LEVELS = 6.0
"""Grey levels, a mean over some pixels: what changes by more within half a second moves."""
LEAST_STILL = 0.3
"""Share of the picture that must be still for the view to be judged by it."""
PLAIN = 0.3
"""Share of the picture in which it is plainest."""
NOISY = 3.0
"""Times the usual fine detail there, and three grey levels: noise."""
BLOCK = 16
"""Macroblocks of H.264 and MJPEG, in pixels; those of H.265 are multiples of it."""
BLOCK_STEP = 10.0
"""Grey levels by which a block's border stands out from what is beside it."""
BLOCKS_LINE = 3
"""Of those in a line, so many count: one straight edge may happen to lie on a border."""
BLOCKS_LEAST, BLOCKS_SHARE, TORN_MORE = 6, 0.003, 1.3
"""Borders that stand out and usually do not, beyond which a picture is torn. Of the clips that this was chosen on
ordinary ones show up to 9 of 2,517 and 3 of 638, damaged streams 32 to 247 and 9 to 53. A stream of few bits shows more
by itself: 1.3 times as many as this camera ever showed are allowed."""
AS_SHARP, SOFT, VERY_SOFT = 0.92, 0.72, 0.5
"""Share of the usual fine detail at edges, from which on a view without its edges is another one; below which the usual
view is out of focus; and below which any view is."""
RETURN_S = 15.0
"""So long after a camera was told to turn back another view is still no fault: it is on its way."""
HAND_S = 10.0
"""And so long after somebody turned it its own view says nothing yet: it may be about to leave it."""
LEAST_EDGES = 0.03
"""Share of the picture that has edges and is still, with which a view can be judged."""
STRONG, LEAST_EDGE = 0.25, 4.0
"""The share of the picture whose edges count, and how strong these are at least: nothing can be said of a void."""
LOST_EDGES, LOST = 0.45, 0.6
"""A part of the picture is lost where less than such a share of its edges is left; and so much of it at most."""
ALIKE = 0.5
"""Share of the usual likeness of edges, below which the view is another."""
DETAIL = 0.3
"""Share of the usual amount of edges, from which on a lost view is another view rather than none."""
STEADY = 0.65
"""Likeness of the edges of two pictures in a row, below which they are noise."""
STRUCTURE, SAME_LEVELS = 0.8, 12.0
"""Likeness of brightness to the usual one, from which on it is the same view without its edges; or grey levels by
which most of what lost its edges may differ."""

REASONS = {
    Fault.FROZEN: "the picture is frozen: it has not changed for {for_s:.0f} s",
    Fault.BLACK: "the picture is black: no light, a covered lens, or no signal",
    Fault.WHITE: "the picture is white: the camera is dazzled, or its exposure is wrong",
    Fault.COVERED: "something covers the lens: most of the view is gone",
    Fault.BLURRED: "the picture is blurred: out of focus, or the lens is dirty or wet",
    Fault.MOVED: "the camera shows another view than the one it learned: it was moved or turned",
    Fault.LIGHT: "the light or the night sight was switched: waiting until the picture has settled",
    Fault.CORRUPT: "the picture is torn or full of noise: the stream arrives damaged",
    Fault.TURNED: "it was turned to another preset: nothing is watched until it shows its own view again",
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a look found."""

    vetoed: bool
    """Nothing is to be scored or learned: a fault, or what may become one."""
    fault: Fault | None = None
    """Once it is certain."""
    reason: str = ""
    """For a person."""


GOOD, DOUBTFUL = Finding(vetoed=False), Finding(vetoed=True)


class _Look(NamedTuple):
    """A picture in the figures that are compared; arrays are (h, w) float32 at half of WIDTH."""

    luma: np.ndarray
    edges: np.ndarray
    """Mean absolute gradient."""
    fine: np.ndarray
    """Mean absolute Laplacian: what goes first when a picture goes out of focus, and what noise adds to."""
    mean: float
    deviation: float
    span: float
    """Grey levels between its darkest and its brightest."""
    colour: float
    """Mean distance of the chroma from grey."""
    borders: tuple[np.ndarray, np.ndarray]
    """(rows, columns) and (columns, rows) bool: the left and the upper borders of blocks that stand out."""


class _Reference(NamedTuple):
    """Medians of the samples."""

    luma: np.ndarray
    edges: np.ndarray
    fine: np.ndarray
    strong: np.ndarray
    """(h, w) bool: where the scene itself has edges."""
    strong_from: float
    plain: float
    """Fine detail where the picture is plainest."""
    mean: float
    likeness: float
    """Of the samples' edges to these, the middle one."""
    borders: tuple[np.ndarray, np.ndarray]
    """The block borders that often stand out."""


class Sight:
    """One camera's; used by one thread. Times are seconds of the source, rising; a gap makes it compare anew."""

    def __init__(self, config: SightConfig, frozen_s: float) -> None:
        self._config = config
        self.frozen_s = frozen_s
        """However still a scene is: a picture that has not changed for so long is frozen; 0 never calls it so."""
        self.turned = False
        """Whether it is turned to another view for a while; once it is not any more, it has RETURN_S to be back."""
        self._returns_s = self._stays_s = 0.0
        self._by_hand = False
        self.colour = 0.0
        """The most colour that it has shown of late; given by whoever remembers it, so that a start at night is one."""
        self.night = False
        """Whether it sees by infra-red: it has shown colours, and shows none for `settle_s`."""
        self._other_s = 0.0
        self.new_views = 0
        """How often the camera was moved for good, and learned its new view."""
        self._shape = (0, 0)
        self.forget()

    def forget(self) -> None:
        """Another size, other masks, another place: what was learned does not hold any more."""
        self._stillest_s = self._learned_s = 0.0
        self._forget_view()
        self._begin()

    def _forget_view(self) -> None:
        self._samples: list[_Look] = []
        self._spread_s, self._sampled_s = SPREAD_S, -math.inf
        self._fresh = 0
        self._reference: _Reference | None = None
        self._torn_now, self._torn_most = 0, 0.0

    def _begin(self) -> None:
        self._at_s = self._measured_s = -math.inf
        self._alike = 0
        self._before: deque[_Look] = deque(maxlen=LOOKED_BACK)
        self._grey: np.ndarray | None = None
        self._still_s = 0.0
        self._settles_s = -math.inf
        self._suspect: Fault | None = None
        self._suspected_s = self._clear_s = self._lasted_s = 0.0
        self.finding = GOOD
        """The last one."""

    def turned_by_hand(self) -> None:
        """Somebody turns it now: another view is no fault, until it is back, or has stayed there for good."""
        self._by_hand, self._returns_s, self._stays_s = True, self._config.new_view_s, HAND_S

    @property
    def learned(self) -> bool:
        """Whether it knows the camera's view."""
        return self._reference is not None

    def look(self, picture: Planes, at_s: float) -> Finding:
        """A picture of time `at_s`; between looks that are due, the last finding holds."""
        step_s = at_s - self._at_s
        shape = picture[0].shape
        if 0 <= step_s < STEP_S - 1e-3 and shape == self._shape:
            return self.finding
        if shape != self._shape:
            self.forget()
        elif not 0 <= step_s <= GAP_S:
            self._begin()
        self._shape = shape
        step_s = step_s if 0 < step_s <= GAP_S else 0.0
        self._at_s = at_s
        small = _reduced(picture[0])
        grey = _halved(small.astype(np.float32))
        frozen, self._grey = self._is_frozen(grey, step_s), grey
        look, fault = self._before[-1] if self._before else None, None
        self._alike = self._alike + 1 if look and _is_same(grey, look.luma) else 0
        if look is None or frozen or not self._is_as_good(at_s):
            self._measured_s = at_s
            look = _measure(picture, small, grey)
            fault = self._judge(look, at_s, step_s, frozen)
        self.finding = self._decide(fault, step_s)
        if self.finding is GOOD:
            self._learn(look, at_s, step_s)
            self._tell_night(look, step_s)
        self._before.append(look)
        return self.finding

    # ---- judging

    def _is_as_good(self, at_s: float) -> bool:
        """Whether it looks as the last ones do, which are known to be good, and need not be measured."""
        known = self._reference is not None and self._learned_s >= LEAST_LEARNED_S
        turned = self.turned or self._returns_s > 0
        good = self.finding is GOOD and not self._suspected_s and not turned and at_s >= self._settles_s
        return known and good and self._alike > LOOKED_BACK and at_s <= self._measured_s + SAME_S

    def _judge(self, look: _Look, at_s: float, step_s: float, frozen: bool) -> Fault | None:
        """What this picture looks like, taken for itself."""
        if self._is_turned(look, step_s):
            return Fault.TURNED
        if look.mean < DARK and look.span < EMPTY:
            return Fault.BLACK
        if look.mean > BRIGHT and look.span < EMPTY:
            return Fault.WHITE
        if self._switched(look):
            self._settles_s = at_s + self._config.settle_s
            self._forget_view()  # other light makes other edges
        if at_s < self._settles_s:
            return Fault.LIGHT
        if self._reference is None:
            seen = Fault.COVERED if look.span < BLANK else None
        else:
            before = self._before[-1].edges if self._before else None
            size = sum(borders.size for borders in look.borders)
            self._torn_now = _torn(look, self._reference)
            most = max(BLOCKS_LEAST + BLOCKS_SHARE * size, 2 + TORN_MORE * self._torn_most)
            if self._reference.mean > DARK and self._torn_now > most:
                return Fault.CORRUPT
            seen = _compare(look, before, self._reference, self._still_parts(look))
        if seen is Fault.COVERED and look.mean < DARK:
            return Fault.BLACK  # with a clock in it, say
        return Fault.FROZEN if frozen and seen in {None, Fault.MOVED} else seen

    def _is_frozen(self, grey: np.ndarray, step_s: float) -> bool:
        """A scene may be still: four times as long as it ever was is too long, and so is `frozen_s`."""
        if self._grey is None or _change(grey, self._grey) >= STILL_LEVELS:
            self._stillest_s = max(self._stillest_s, self._still_s)
            self._still_s = 0.0
            return False
        self._still_s += step_s
        own_s = max(LEAST_FROZEN_S, 4 * self._stillest_s) if self._learned_s >= LEAST_LEARNED_S else math.inf
        return bool(self.frozen_s) and self._still_s >= min(self.frozen_s, own_s)

    def _is_turned(self, look: _Look, step_s: float) -> bool:
        if self.turned:
            self._returns_s, self._stays_s, self._by_hand = RETURN_S, 0.0, False
            self._still_s = 0.0
            return True
        if self._returns_s <= 0:
            return False
        self._returns_s -= step_s
        self._stays_s -= step_s
        known = self._reference
        alike = known and _likeness(look.edges, known.edges) > ALIKE * known.likeness
        if self._stays_s <= 0 and (alike or (self._by_hand and not known)):
            self._returns_s = 0.0
        elif self._by_hand and self._returns_s <= 0:
            self.new_views += 1
            self._forget_view()
        return self._returns_s > 0

    def _switched(self, look: _Look) -> bool:
        """Whether the light changed two looks ago and stayed so: not a flash, nor one odd picture."""
        if len(self._before) < 2:
            return False
        old, new = self._before[-2], self._before[-1]
        return _is_other_light(old, new) and _is_other_light(old, look)

    def _still_parts(self, look: _Look) -> np.ndarray:
        """(h, w) bool: what has not changed for half a second; what moves says nothing about the view."""
        if not self._before:
            return np.ones(look.luma.shape, bool)
        return cv2.blur(cv2.absdiff(look.luma, self._before[0].luma), (5, 5)) < MOVING_LEVELS

    # ---- deciding

    def _decide(self, fault: Fault | None, step_s: float) -> Finding:
        """Faults are called such after a while, and are over after a while."""
        now = self.finding.fault
        if fault is None:
            self._clear_s += step_s
            slowly = 1 / 3 if self._suspect is Fault.CORRUPT else 1.0  # what is torn is torn now and then
            self._suspected_s = max(0.0, self._suspected_s - slowly * step_s)
            if now:
                return self.finding if self._clear_s < self._config.clear_s else self._well()
            return DOUBTFUL if self._suspected_s > 0 else GOOD
        self._clear_s = 0.0
        if fault is not self._suspect:
            self._suspect, self._lasted_s = fault, 0.0
        self._lasted_s += step_s
        self._suspected_s = min(self._suspected_s + step_s, self._config.confirm_s)
        if fault is Fault.MOVED and self._lasted_s >= self._config.new_view_s:
            self.new_views += 1
            self._forget_view()
            return self._well()
        if fault is not now and (fault in AT_ONCE or self._suspected_s >= self._config.confirm_s):
            return Finding(vetoed=True, fault=fault, reason=REASONS[fault].format(for_s=self._still_s))
        return self.finding if now else DOUBTFUL

    def _well(self) -> Finding:
        self._suspect, self._suspected_s, self._lasted_s = None, 0.0, 0.0
        return GOOD

    def _tell_night(self, look: _Look, step_s: float) -> None:
        """Day or infra-red, by the collapse of colour; a change holds for a while before it is believed."""
        self.colour = max(look.colour, self.colour * (1 - step_s / COLOUR_FADES_S))
        limit = (FOUND_COLOUR if self.night else LOST_COLOUR) * self.colour
        night = self.colour > COLOURED and look.colour < limit
        self._other_s = self._other_s + step_s if night != self.night else 0.0
        if self._other_s >= self._config.settle_s:
            self.night, self._other_s = night, 0.0

    # ---- learning

    def _learn(self, look: _Look, at_s: float, step_s: float) -> None:
        self._learned_s += step_s
        self._torn_most = max(self._torn_now, self._torn_most * (1 - step_s / 3600))
        if 0 <= at_s - self._sampled_s < self._spread_s:
            return
        known = self._reference
        if known and _likeness(look.edges, known.edges) < 0.6 * known.likeness:
            return  # something large stands before it
        self._sampled_s = at_s
        self._samples.append(look)
        if len(self._samples) > SAMPLES:
            thin = self._spread_s < SPREAD_MAX_S
            self._samples = self._samples[::2] if thin else self._samples[1:]
            self._spread_s = min(SPREAD_MAX_S, 2 * self._spread_s) if thin else self._spread_s
        self._fresh += 1
        if len(self._samples) >= LEAST_SAMPLES and (known is None or FRESH * self._fresh >= len(self._samples)):
            self._reference, self._fresh = _reference(self._samples), 0


AT_ONCE = {Fault.FROZEN, Fault.LIGHT, Fault.TURNED}
"""Faults that are certain when they are seen: the first has taken its time, the second is over soon, and the third is
known from elsewhere."""


def _is_other_light(before: _Look, look: _Look) -> bool:
    """Whether the whole picture changed in brightness, contrast or colour, with the same things in it."""
    less, more = sorted((look.colour, before.colour))
    greyed = more > COLOURED and less < 0.3 * more and min(look.mean, before.mean) > DARK
    if not greyed and _change(look.luma, before.luma) < 2:
        return False  # cheap, and what else there is asks for more
    if _likeness(look.luma, before.luma) < SAME_VIEW or min(look.span, before.span) < BLANK:
        return False
    if greyed:
        return True
    contrast = look.deviation / max(1.0, before.deviation)
    change = look.luma - before.luma
    if not 1 / SWITCH_CONTRAST < contrast < SWITCH_CONTRAST and float((np.abs(change) > 4).mean()) > 0.5:
        return True
    least = np.maximum(SWITCH_LEVELS, SWITCH_SHARE * (before.luma - VIDEO_BLACK))
    return max(float((change > least).mean()), float((change < -least).mean())) > 0.7


def _compare(look: _Look, before: np.ndarray | None, usual: _Reference, still: np.ndarray) -> Fault | None:
    """What is wrong with a picture beside the usual one; `still` (h, w) bool is where nothing moves, `before` the edges
    of the look before this one.
    """
    if _quantile(look.fine, PLAIN) > NOISY * usual.plain + 3.0:
        return Fault.CORRUPT
    strong = usual.strong & still
    of = still.size
    if np.count_nonzero(still) < LEAST_STILL * of or np.count_nonzero(strong) < LEAST_EDGES * of or usual.mean < DARK:
        return None
    gain = min(1.0, max(0.1, (look.mean - VIDEO_BLACK) / max(1.0, usual.mean - VIDEO_BLACK)))
    share, where = _lost(look.edges, usual.edges, strong, LOST_EDGES * gain)
    lost = share >= LOST
    alike = _likeness(look.edges, usual.edges, still) > ALIKE * usual.likeness
    same = _likeness(look.luma, usual.luma, still) > STRUCTURE
    if not same and lost:
        same = float((np.abs(look.luma - usual.luma)[where] < SAME_LEVELS).mean()) > 0.6
    sharpness = _detail(look, strong) / _detail(usual, strong)
    if sharpness < (SOFT if same else VERY_SOFT):
        return Fault.BLURRED
    if alike and not lost:
        return None
    gone = where & still if lost else still
    detail = float((look.edges[gone] > usual.strong_from * gain).mean()) / STRONG if gone.any() else 0.0
    if lost and same:
        return Fault.MOVED if sharpness > AS_SHARP and detail > DETAIL else Fault.BLURRED
    most = 1.5 * usual.strong_from  # a few strong edges shall not speak for the whole
    steady = before is None or _likeness(np.minimum(look.edges, most), np.minimum(before, most), gone) > STEADY
    if detail > DETAIL and steady:
        return None if alike else Fault.MOVED
    return None if same else Fault.COVERED


def _detail(one: _Look | _Reference, where: np.ndarray) -> float:
    """How fine the detail of what has edges is: 0 and more."""
    mask = where.view(np.uint8)
    return cv2.mean(one.fine, mask)[0] / (cv2.mean(one.edges, mask)[0] + 1e-6)


def _torn(look: _Look, usual: _Reference) -> int:
    """How many block borders stand out that usually do not."""
    new = 0
    for borders, often in zip(look.borders, usual.borders, strict=True):
        on_line = np.count_nonzero(borders & ~often, axis=0)
        new += int(np.minimum(on_line, BLOCKS_LINE).sum())
    return new


def _lost(edges: np.ndarray, usual: np.ndarray, strong: np.ndarray, share: float) -> tuple[float, np.ndarray]:
    """The share of the parts with edges in which less than `share` of these is left; and where, (h, w) bool."""
    size = (16, 9)
    had = cv2.resize(np.where(strong, usual, 0.0), size, interpolation=cv2.INTER_AREA)
    left = cv2.resize(np.where(strong, np.minimum(edges, usual), 0.0), size, interpolation=cv2.INTER_AREA)
    parts = had > 0.25 * had.mean()
    lost = parts & (left < share * had)
    where = cv2.resize(lost.astype(np.uint8), (edges.shape[1], edges.shape[0]), interpolation=cv2.INTER_NEAREST)
    return float(lost.sum() / max(1, parts.sum())), where.astype(bool)


def _likeness(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Correlation of two pictures (h, w) float32, -1..1: brightness and contrast do not matter."""
    mask = None if where is None else where.view(np.uint8)
    count = one.size if mask is None else cv2.countNonZero(mask)
    if not count:
        return 1.0
    a, b = (x - cv2.mean(x, mask)[0] for x in (one, other))
    variances = cv2.norm(a, cv2.NORM_L2SQR, mask) * cv2.norm(b, cv2.NORM_L2SQR, mask)
    return count * cv2.mean(cv2.multiply(a, b), mask)[0] / math.sqrt(variances + 1e-9)


def _change(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures of floats, in grey levels."""
    return cv2.norm(one, other, cv2.NORM_L1) / one.size


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    change = cv2.absdiff(one, other)
    if cv2.norm(change, cv2.NORM_L1) >= SAME_MEAN * change.size:
        return False
    _, over = cv2.threshold(change, SAME_AT, 1.0, cv2.THRESH_BINARY)
    return cv2.norm(over, cv2.NORM_L1) <= SAME_SHARE * change.size


def _quantile(levels: np.ndarray, share: float) -> float:
    """Below which such a share of levels is; of every third, which is enough."""
    some = levels.ravel()[::3]
    at = round(share * (some.size - 1))
    return float(np.partition(some, at)[at])


def _reduced(luma: np.ndarray) -> np.ndarray:
    """(h, w) uint8 at WIDTH at most."""
    height, width = luma.shape
    if width > WIDTH:
        luma = shrink(luma, WIDTH, max(2, round(height * WIDTH / width)))
    return np.maximum(luma, VIDEO_BLACK)


def _halved(plane: np.ndarray) -> np.ndarray:
    size = (max(1, plane.shape[1] // 2), max(1, plane.shape[0] // 2))
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def _measure(picture: Planes, small: np.ndarray, grey: np.ndarray) -> _Look:
    """`small` and `grey` are the luma of the picture, reduced, and that halved."""
    luma, u, v = picture
    edges = np.add(*(np.abs(gradient) for gradient in cv2.spatialGradient(small)))
    mean, deviation = cv2.meanStdDev(small)
    step = max(1, u.shape[0] // 60)
    colour = sum(float(np.abs(plane[::step, ::step].astype(np.int16) - 128).mean()) for plane in (u, v))
    below = np.bincount(grey.astype(np.uint8).ravel(), minlength=256).cumsum()
    darkest, brightest = np.searchsorted(below, (EXTREME * grey.size, (1 - EXTREME) * grey.size))
    return _Look(
        grey,
        _halved(edges.astype(np.float32)),
        _halved(np.abs(cv2.Laplacian(small, cv2.CV_16S)).astype(np.float32)),
        float(mean[0, 0]),
        float(deviation[0, 0]),
        float(brightest - darkest),
        colour,
        (_left_borders(luma), _upper_borders(luma)),
    )


def _left_borders(luma: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: which left borders of the picture's blocks stand out; of every other line of pixels."""
    rows = luma[: luma.shape[0] // BLOCK * BLOCK : 2]
    steps = _steps([rows[:, BLOCK + n : luma.shape[1] - 2 + n : BLOCK] for n in (-2, -1, 0, 1)])
    return steps.reshape(-1, BLOCK // 2, steps.shape[1]).mean(axis=1) > BLOCK_STEP


def _upper_borders(luma: np.ndarray) -> np.ndarray:
    """(columns, rows) bool: which upper borders of the picture's blocks stand out."""
    columns = luma[:, : luma.shape[1] // BLOCK * BLOCK]
    steps = _steps([columns[BLOCK + n : luma.shape[0] - 2 + n : BLOCK] for n in (-2, -1, 0, 1)])
    along = cv2.reduce(steps.reshape(-1, BLOCK), 1, cv2.REDUCE_AVG)
    return along.reshape(len(steps), -1).T > BLOCK_STEP


def _steps(lines: Sequence[np.ndarray]) -> np.ndarray:
    """(n, m) float32, grey levels: by how much the middle two of four lines of pixels (n, m) uint8 differ more than the
    two on either side.
    """
    before, left, right, after = (np.maximum(np.ascontiguousarray(line), VIDEO_BLACK) for line in lines)
    beside = cv2.max(cv2.absdiff(left, before), cv2.absdiff(after, right))
    return cv2.subtract(cv2.absdiff(right, left), beside, dtype=cv2.CV_32F)


def _median(stack: Sequence[np.ndarray]) -> np.ndarray:
    """Of a few arrays, place by place: the largest that are left go to the end until the middle one has."""
    rest, spare = [one.copy() for one in stack], np.empty_like(stack[0])
    for end in range(len(rest) - 1, len(rest) // 2 - 1, -1):
        for at in range(end):
            np.minimum(rest[at], rest[at + 1], out=spare)
            np.maximum(rest[at], rest[at + 1], out=rest[at + 1])
            rest[at], spare = spare, rest[at]
    return rest[len(rest) // 2]


def _reference(samples: Sequence[_Look]) -> _Reference:
    edges = _median([one.edges for one in samples])
    fine = _median([one.fine for one in samples])
    strong_from = _quantile(edges, 1 - STRONG)
    alike = sorted(_likeness(one.edges, edges) for one in samples)
    return _Reference(
        luma=_median([one.luma for one in samples]),
        edges=edges,
        fine=fine,
        strong=edges > max(strong_from, LEAST_EDGE),
        strong_from=strong_from,
        plain=_quantile(fine, PLAIN),
        mean=float(np.median([one.mean for one in samples])),
        likeness=alike[len(alike) // 2],
        borders=(
            np.mean([one.borders[0] for one in samples], axis=0) > 0.2,
            np.mean([one.borders[1] for one in samples], axis=0) > 0.2,
        ),
    )
