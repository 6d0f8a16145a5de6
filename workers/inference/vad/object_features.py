"""What things are in front of the background, and what each is like: place, speed, size, shape, stay, gait, look.

Lengths are fractions of the frame's height and times are seconds, as in motion_features, whose flow and foreground are
used. Things are found on its half grid.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise, product
from typing import NamedTuple

import cv2
import numpy as np

from core.tracking import pair_surest_first
from workers.inference.vad.motion_features import (
    STILL_DIFFERENCE,
    Earlier,
    Geometry,
    Motion,
    MotionContext,
    Prepared,
    background_difference,
    find_motion,
    half_share,
)

__all__ = ["LOOK", "Backdrop", "Box", "Looker", "Memory", "ObjectContext", "Things", "backdrop_of"]

Box = tuple[float, float, float, float, int]
"""(left, top, right, bottom) as fractions of the frame, and what kind of thing a detector takes it for."""

LEAST_AREA = 0.0012
"""Of a thing, in squared frame heights: a quarter of a person who is a tenth of the frame tall."""
MOST_THINGS = 48
"""The largest ones of a frame."""
LATELY_S = 0.7
"""Time constant of what is averaged along a track, as in motion_stats."""
LOST_S, HIDDEN_S = 1.2, 4.0
"""A track that was not seen for so long has ended; where something is where it was seen last, it may be behind that."""
AGAIN_S = 1.0
"""Time constant of how unusual a thing is, along its track. Chosen on demo scenes: 0 0.854, 1 s 0.865, 2 s 0.859."""
LASTING_S = 8.0
"""Time constant of what a thing has been like for a while: a moment hardly counts there, what goes on does."""
FIRST_S = 0.1
"""That what is seen of a new track counts for."""
GAP_S = 3.0
"""After a longer gap in the pictures everything begins anew; a closed motion gate lets one by every 2 s."""
STAY_CELL = 4
"""Pixels of the half grid: a place that something may stay at."""
STAY_BREAK_S = 1.0
"""A place that was seen with nothing in it for longer was left; what a closed motion gate did not show is no gap."""
STAY_CELLS = 3
"""Of the places that a thing covers, so many (half, where there are fewer) must have had something in them for so long:
who passes in front of something, and is one blob with it, covers more.
"""
APART_S = 0.5
"""Things that were followed for so long are told apart where they have become one blob. On demo scenes: 0.5 s
0.909, 1 s 0.911, 1.5 s 0.908."""
OWN_REACH = 1.3
"""Times half its size from where a thing is expected to be: what is farther away is no part of it."""
OWN_LEAST, OWN_MOST = 0.3, 0.9
"""Shares of a thing's area and of a joined blob's: where less is left of it, it is hidden; one that is larger is the
blob."""
UNLIKE, UNLIKE_COLOUR, ALIEN_COLOUR = 0.4, 1.0, 30.0
"""What a blob of e times a track's area, and one of quite another colour, are farther away by, in own heights; and from
which difference of U and V on it is quite another.
"""
COLOUR_FRAMES = 20
PATH_S, LEAST_PATH = 0.65, 4
"""Where a thing was lately tells how fast it goes: so long ago at most, in so many pictures at least."""
BLIND, BLIND_SPEED = 1.5, 0.08
"""Flow is blind to a thing that goes so many times as fast as it says, and so many frame heights a second faster: one
of the ground's grey, that is told from it by colour.
"""
NEAR = 1.5
"""Own heights within which something is still where it was."""
STANDS_OUT, STANDS_OUT_LEAST, STANDS_OUT_MOST = 5.0, 10.0, 18.0
"""What a place usually differs from the background by is noise. A faint thing differs by so many times that, within
these grey levels; a clear one by the last, as in motion_stats."""
COLOUR_LEAST, COLOUR_MOST = 6.0, 12.0
"""The same in levels of U or V."""
COLOUR_STEP = 4
"""Every such place of the half grid tells how all colours have changed: by the light, or what is taken for white."""
COLOUR_FITS, COLOUR_RIDGE = 3, 16.0
"""How often that is fitted, each time to places where it fitted before; a ground whose colours vary by less than so
many levels squared says little of how strong they are.
"""
COLOUR_GAIN = (0.25, 2.0)
"""How much weaker or stronger they may be."""
NOISE_AROUND = 9
"""Pixels over which noise is averaged: of each it is known in whole grey levels."""
FOLLOW_S, ABSORB_S = 60.0, 300.0
"""Time constants with which the background follows what is seen: where nothing is before it, and where something is.
What is put down stays a thing for some five minutes, then it belongs to the scene."""
FOLLOW_STEP_S = 1.0
DISPLACED, MOST_OFF = 0.9, 64
"""A picture is displaced where it differs from the moved background by no more than that share of what it differs from
the unmoved one by (displaced by a pixel 0.35 to 0.79 in Ped2's training clips and drawn scenes, else 1.0), each pixel
counting for so many grey levels at most.
"""
WAYS, ROWS, COLUMNS = 4, 4, 2
"""Gradient orientations, and the parts of a thing in which they are counted."""
LOOK = WAYS * ROWS * COLUMNS
DULL = 0.02
"""Added to gradients before they are compared, in shares of the largest there can be: noise has no look."""
RIGID_NOISE = 4.0
"""Grey levels that a thing's contrast must have over noise for changes within it to say something."""


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What things are told from, uint8 each."""

    background: np.ndarray
    """(h, w) grey at working size."""
    above: np.ndarray
    """(h, w) grey levels off the background from which there is something, if only faintly."""
    chroma: np.ndarray
    """(2, h, w) U and V on the half grid."""
    chroma_above: np.ndarray
    """(h, w) levels of either, likewise."""


def backdrop_of(background: np.ndarray, samples: Sequence[np.ndarray], geometry: Geometry) -> Backdrop:
    """With the noise of `samples`, most of which show the background at each place; all from `Prepared.flat`."""
    still, frames = Prepared.of_flat(background, geometry), [Prepared.of_flat(one, geometry) for one in samples]
    assert still.chroma is not None
    grey = [background_difference(one.grey, still.grey) for one in frames]
    colour = [_colour_difference(one.chroma, still.chroma) for one in frames if one.chroma is not None]
    return Backdrop(
        still.grey,
        _above(grey, NOISE_AROUND, STANDS_OUT_LEAST, STANDS_OUT_MOST),
        still.chroma,
        _above(colour, NOISE_AROUND // 2, COLOUR_LEAST, COLOUR_MOST),
    )


def _above(off: list[np.ndarray], around: int, least: float, most: float) -> np.ndarray:
    """From which difference there is something, where these are usual."""
    middle = len(off) // 2
    noise = cv2.blur(np.partition(np.stack(off), middle, axis=0)[middle].astype(np.float32), (around, around))
    return np.clip(STANDS_OUT * noise, least, most).astype(np.uint8)


def _colour_difference(chroma: np.ndarray, still: np.ndarray) -> np.ndarray:
    """Levels by which U or V, (2, h, w) uint8, lies off `still`, uint8 or float32, in the light of now, the greater of
    the two: (h, w) uint8 after a mean over 3x3.
    """
    u, v = (cv2.absdiff(now, _relit(was, now)) for now, was in zip(chroma, still, strict=True))
    return cv2.blur(cv2.max(u, v), (3, 3))


def _relit(still: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(h, w) uint8 U or V of the background as strong, and shifted as much, as in most of `now`."""
    x, y = (plane[::COLOUR_STEP, ::COLOUR_STEP].ravel().astype(np.float32) for plane in (still, now))
    gain, offset = 1.0, 0.0
    fits = np.ones(len(x), bool)
    for _ in range(COLOUR_FITS):
        of_x, of_y = x[fits], y[fits]
        middle_x, middle_y = float(of_x.mean()), float(of_y.mean())
        off = of_x - middle_x
        gain = (float(off @ (of_y - middle_y)) / len(off) + COLOUR_RIDGE) / (float(off @ off) / len(off) + COLOUR_RIDGE)
        gain = min(max(gain, COLOUR_GAIN[0]), COLOUR_GAIN[1])
        offset = middle_y - gain * middle_x
        fits = np.abs(y - gain * x - offset) < COLOUR_MOST
        if not fits.any():
            break
    return cv2.convertScaleAbs(still, alpha=gain, beta=offset)


@dataclass(frozen=True)
class Things:
    """N things of one frame. What is not known of a thing is NaN."""

    box: np.ndarray
    """(N, 4) left, top, right, bottom as fractions of the frame."""
    x: np.ndarray
    """(N,) of its middle, as a fraction of the frame's width."""
    foot: np.ndarray
    """(N,) as a fraction of the frame's height."""
    velocity: np.ndarray
    """(N, 2) frame heights a second, lately."""
    speed: np.ndarray
    """(N,) likewise: of all that moves in it, whichever way."""
    size: np.ndarray
    """(N,) root of its area, in frame heights."""
    shape: np.ndarray
    """(N,) width by height."""
    stay_s: np.ndarray
    """(N,) for how long something has been there, or it near there."""
    change: np.ndarray
    """(N,) how much of its contrast changes in 0.3 s other than by moving, lately: 0 glides, 1 is another thing."""
    look: np.ndarray
    """(N, LOOK) shares of its gradients by part and orientation, lately."""
    kind: np.ndarray
    """(N,) what a detector takes it for; -1 without one."""
    track: np.ndarray
    """(N,) number of its track, which no other of this process has."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(slots=True)
class _Track:
    number: int
    seen_s: float
    x: float
    y: float
    width: float
    height: float
    area: float
    vx: float
    vy: float
    colour: complex
    """Mean U and V of its last COLOUR_FRAMES or so; NaN where there are none."""
    began_s: float
    anchor: tuple[float, float]
    anchor_s: float
    change: float = math.nan
    coloured: int = 0
    path: deque[tuple[float, float, float]] = field(default_factory=deque)
    """(media_s, x, y) of the last PATH_S in which it was seen by itself and whole."""
    weight: float = 0.0
    lately: np.ndarray = field(default_factory=lambda: np.zeros(3 + LOOK, np.float32))


_numbers = count()


class _Blob(NamedTuple):
    """Pixels of the half grid."""

    left: int
    top: int
    width: int
    height: int
    area: int
    kind: int
    label: int
    """Of its pixels."""
    track: int = -1
    """Whose part of a joined blob it is, -1 of one that is a blob by itself."""

    @property
    def part(self) -> tuple[slice, slice]:
        """Its box: (rows, columns)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    @property
    def is_part(self) -> bool:
        return self.track >= 0


class Looker:
    """What one stream shows in front of one background; times go forward but for gaps. Belongs to one thread."""

    __slots__ = (
        "_at_s",
        "_followed_s",
        "_last",
        "_seen",
        "_since",
        "_still",
        "_still_chroma",
        "_tracks",
        "backdrop",
        "memory",
    )

    def __init__(self, backdrop: Backdrop) -> None:
        self.backdrop = backdrop
        """As it was learned; what is compared with follows the scene from there."""
        self.memory = Memory()
        """Of how unusual its things were."""
        self._still = backdrop.background.astype(np.float32)
        self._still_chroma = backdrop.chroma.astype(np.float32)
        self._at_s = self._followed_s = -math.inf
        self._seen: np.ndarray | None = None
        self._tracks: list[_Track] = []
        self._since = self._last = np.zeros((0, 0), np.float64)

    def look(
        self,
        frame: Prepared,
        earlier: Earlier | None,
        media_s: float,
        boxes: list[Box] | None = None,
    ) -> Things | None:
        """The things of a frame; None where something is there but nothing is known of how it moves.

        `boxes` of a detector are taken instead of what stands out from the background.
        """
        before_s, self._at_s = self._at_s, media_s
        if not 0.0 < media_s - before_s <= GAP_S:
            self._tracks, self._since = [], np.zeros((0, 0))
            before_s = self._followed_s = media_s
            self._seen = None
        still = self._in_place(frame.grey, media_s)
        share = self._stands_out(frame, still)
        mask = (share >= 0.5).astype(np.uint8)
        self._follow(frame, mask, media_s)
        stay = self._stay(mask, before_s, media_s)
        if boxes is None:
            blobs, labels = _find_blobs(mask)
            blobs = self._tell_apart(blobs, labels, frame, media_s)
        else:
            blobs, labels = _to_blobs(boxes, frame.geometry), np.zeros(mask.shape, np.int32)
        if not blobs:
            self._tracks = [track for track in self._tracks if media_s - track.seen_s <= LOST_S]
            return _things([], frame.geometry)
        seen = None if earlier is None else find_motion(earlier, frame)
        if seen is None or earlier is None:
            return None
        ways = _orientations(frame.grey, frame.geometry)
        masks = [share[blob.part] * (labels[blob.part] == blob.label) for blob in blobs]
        rows = [
            _Measured(blob, *self._measure(blob, own, frame, still, seen, ways, earlier))
            for blob, own in zip(blobs, masks, strict=True)
        ]
        return self._track(rows, stay, frame.geometry, media_s)

    def _in_place(self, grey: np.ndarray, media_s: float) -> np.ndarray:
        """The slow background, (h, w) uint8; where the whole picture has moved it goes along, by a pixel a step."""
        still = cv2.convertScaleAbs(self._still)
        if self._seen is not None and media_s - self._followed_s < FOLLOW_STEP_S:
            return still
        y, x = _displaced(grey, still)
        if not y and not x:
            return still
        by = np.array([[1, 0, x], [0, 1, y]], np.float32)
        size = self._still.shape[::-1]
        self._still = cv2.warpAffine(self._still, by, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        by[:, 2] /= 2
        size = self._still_chroma.shape[:0:-1]
        for plane in self._still_chroma:
            plane[:] = cv2.warpAffine(plane, by, size, borderMode=cv2.BORDER_REPLICATE)
        return cv2.convertScaleAbs(self._still)

    def _stands_out(self, frame: Prepared, still: np.ndarray) -> np.ndarray:
        """Share of foreground on the half grid, by light or colour; what is faint counts where nothing clear is beside
        it.
        """
        difference = background_difference(frame.grey, still)
        _, clear = cv2.threshold(difference, STANDS_OUT_MOST, 255, cv2.THRESH_BINARY)
        share = half_share(clear, frame.geometry)
        faint = half_share(cv2.compare(difference, self.backdrop.above, cv2.CMP_GT), frame.geometry)
        if frame.chroma is not None:
            colour = _colour_difference(frame.chroma, self._still_chroma)
            share = np.maximum(share, colour > COLOUR_MOST, dtype=np.float32)
            faint = np.maximum(faint, colour > self.backdrop.chroma_above, dtype=np.float32)
        beside = cv2.dilate((share >= 0.5).astype(np.uint8), _AROUND)
        faintly = (faint >= 0.5).astype(np.uint8)
        if not (faintly > beside).any():
            return share
        known, parts = cv2.connectedComponents(faintly)
        alone, labels = np.ones(known, bool), np.asarray(parts, np.int32)
        alone[np.unique(labels[np.asarray(beside, bool)])] = False
        alone[0] = False
        return np.where(alone[labels], faint, share)

    def _follow(self, frame: Prepared, mask: np.ndarray, media_s: float) -> None:
        """The slow background: the light of the day, and what stays. Who passes leaves no trace in it."""
        grey = frame.grey
        passed_s = media_s - self._followed_s
        if self._seen is None or self._seen.shape != grey.shape:
            self._seen = grey
        if passed_s < FOLLOW_STEP_S:
            return
        changed = cv2.blur(cv2.absdiff(grey, self._seen), (5, 5))
        self._followed_s, self._seen = media_s, grey
        full = cv2.resize(mask, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
        rests = np.where(changed < STILL_DIFFERENCE, full, np.uint8(0))
        for constant_s, where in ((FOLLOW_S, 1 - cv2.dilate(full, _BESIDE)), (ABSORB_S, rests)):
            part = 1.0 - math.exp(-passed_s / constant_s)
            cv2.accumulateWeighted(grey, self._still, part, where)
            if frame.chroma is not None:
                half = cv2.resize(where, mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
                for now, was in zip(frame.chroma, self._still_chroma, strict=True):
                    cv2.accumulateWeighted(now, was, part, half)

    def _stay(self, mask: np.ndarray, before_s: float, media_s: float) -> np.ndarray:
        """(rows, columns) seconds for which each place has had something in it; who passes before it makes no break."""
        size = (max(1, mask.shape[1] // STAY_CELL), max(1, mask.shape[0] // STAY_CELL))
        taken = cv2.resize(mask * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 100
        if self._since.shape != taken.shape:
            self._since = np.full(taken.shape, media_s)
            self._last = np.full(taken.shape, -math.inf)
        self._since[before_s - self._last > STAY_BREAK_S] = media_s
        self._last[taken] = media_s
        return np.where(taken, media_s - self._since, 0.0)

    def _measure(
        self,
        blob: _Blob,
        weights: np.ndarray,
        frame: Prepared,
        still: np.ndarray,
        motion: Motion,
        ways: np.ndarray,
        earlier: Earlier,
    ) -> tuple[float, float, float, complex, float, np.ndarray]:
        """Both parts of its velocity, its speed, colour, what changes in it, its look; `weights` are its own of its
        box.
        """
        whole = float(weights.sum()) + 1e-6
        vx, vy = (float(v) for v in np.einsum("ij,ijk->k", weights, motion.velocity[blob.part]) / whole)
        speed = math.sqrt(max(float((weights * motion.squared[blob.part]).sum()) / whole, 0.0))
        look = cv2.resize(ways[blob.part] * weights[..., None], (COLUMNS, ROWS), interpolation=cv2.INTER_AREA).ravel()
        change = math.nan if blob.is_part else _change(blob, frame, still, weights, (vx, vy), earlier)
        colour = complex(math.nan, math.nan)
        if frame.chroma is not None:
            u, v = (float((weights * plane[blob.part]).sum()) / whole for plane in frame.chroma)
            colour = complex(u, v)
        return vx, vy, speed, colour, change, look / float(look.sum() + 1e-6)

    def _tell_apart(self, blobs: Sequence[_Blob], labels: np.ndarray, frame: Prepared, media_s: float) -> list[_Blob]:
        """A blob in which several things are expected becomes their parts of it, in `labels` too."""
        unit, found = frame.geometry.half[1], list[_Blob]()
        next_label = len(blobs) + 1 + int(labels.max(initial=0))
        tracks = [one for one in self._tracks if media_s - one.seen_s <= LOST_S and one.seen_s - one.began_s >= APART_S]
        for blob in blobs:
            expected: list[_Expected] = []
            for track in tracks:
                gap_s = media_s - track.seen_s
                x, y = track.x + track.vx * unit * gap_s, track.y + track.vy * unit * gap_s
                inside = 0 <= x - blob.left < blob.width and 0 <= y - blob.top < blob.height
                if inside and track.area < OWN_MOST * blob.area:
                    expected.append(_Expected(track, x, y))
            parts = _parts_of(blob, expected, labels, frame.chroma, next_label) if len(expected) > 1 else []
            next_label += len(parts)
            found += parts or [blob]
        return found

    def _track(self, found: list["_Measured"], stay: np.ndarray, geometry: Geometry, media_s: float) -> Things:
        unit = geometry.half[1]
        pairs: list[tuple[float, int, int]] = []
        told = {one.blob.track: index for index, one in enumerate(found) if one.blob.is_part}
        for number, track in enumerate(self._tracks):
            if track.number in told:
                pairs.append((-1.0, number, told[track.number]))
                continue
            gap_s = media_s - track.seen_s
            at_x, at_y = track.x + track.vx * unit * gap_s, track.y + track.vy * unit * gap_s
            reach = (0.6 + 1.5 * min(gap_s, 1.0)) * max(track.height, 4.0)
            for index, one in enumerate(found):
                away = math.hypot(one.x - at_x, one.y - at_y)
                if away < reach:
                    pairs.append((away / max(track.height, 4.0) + _unlikeness(track, one), number, index))
        known = {index: self._tracks[number] for number, index in pair_surest_first(pairs)}
        made = [_advance(known.get(index), one, stay, unit, media_s) for index, one in enumerate(found)]
        kept = {id(track) for track in known.values()}
        lost = [
            track
            for track in self._tracks
            if id(track) not in kept and media_s - track.seen_s <= (HIDDEN_S if _behind(track, found) else LOST_S)
        ]
        self._tracks = ([track for track, _ in made] + lost)[: 2 * MOST_THINGS]
        return _things([(one, *pair) for one, pair in zip(found, made, strict=True)], geometry)


def _unlikeness(track: _Track, one: "_Measured") -> float:
    """By size and colour, in own heights that it might be away as well."""
    larger = UNLIKE * abs(math.log(one.blob.area / track.area))
    off = abs(one.colour - track.colour) / ALIEN_COLOUR
    return larger if math.isnan(off) else larger + UNLIKE_COLOUR * min(off, 1.0)


def _displaced(grey: np.ndarray, still: np.ndarray) -> tuple[int, int]:
    """(down, right) pixels by which all of a picture lies off `still`, one at most each way; (0, 0) where in doubt."""
    height, width = grey.shape
    inner = grey[1:-1, 1:-1]
    off: dict[tuple[int, int], float] = {}
    for y, x in product((-1, 0, 1), repeat=2):
        difference = cv2.absdiff(inner, still[1 - y : height - 1 - y, 1 - x : width - 1 - x])
        _, difference = cv2.threshold(difference, MOST_OFF, 0, cv2.THRESH_TRUNC)
        off[y, x] = cv2.mean(difference)[0]
    nearest = min(off, key=lambda by: off[by])
    return nearest if off[nearest] < DISPLACED * off[0, 0] else (0, 0)


def _behind(track: _Track, found: Sequence["_Measured"]) -> bool:
    """Whether it was last seen where there is something now."""
    return any(
        one.blob.left <= track.x <= one.blob.left + one.blob.width
        and one.blob.top <= track.y <= one.blob.top + one.blob.height
        for one in found
    )


class Memory:
    """What was found of each track of one stream, averaged over AGAIN_S: what is a little unusual again and again is
    more so than what is for a moment. Of each as a whole, what it was like over LASTING_S too.
    """

    __slots__ = ("_lasting", "_tracks")

    def __init__(self) -> None:
        self._tracks: dict[int, tuple[float, float, np.ndarray]] = {}
        self._lasting: dict[int, tuple[float, float]] = {}

    def carry(self, tracks: np.ndarray, media_s: float, now: np.ndarray) -> np.ndarray:
        """(N, K) averages along (N,) tracks from (N, K) of what is found now. NaN, where that is not known, counts as
        0: what was found once is not believed for as long as nothing is found.
        """
        for number in [number for number, (at_s, _, _) in self._tracks.items() if media_s - at_s > HIDDEN_S]:
            del self._tracks[number]
        found = np.where(np.isfinite(now), now, 0.0)
        nothing = np.zeros(now.shape[1])
        for index, number in enumerate(tracks.tolist()):
            at_s, weight, total = self._tracks.get(number, (media_s - FIRST_S, 0.0, nothing))
            kept = math.exp(min(0.0, at_s - media_s) / AGAIN_S)
            weight = weight * kept + (1.0 - kept)
            total = total * kept + (1.0 - kept) * found[index]
            self._tracks[number] = media_s, weight, total
            found[index] = total / max(weight, 1e-6)
        return found

    def lasting(self, tracks: np.ndarray, media_s: float, now: np.ndarray) -> np.ndarray:
        """(N,) averages along (N,) tracks from (N,) of what is found now. What was before a track counts as 0, so that
        only what goes on comes near to what it is at each moment.
        """
        for number in [number for number, (at_s, _) in self._lasting.items() if media_s - at_s > HIDDEN_S]:
            del self._lasting[number]
        found = np.empty(len(now))
        for index, number in enumerate(tracks.tolist()):
            at_s, average = self._lasting.get(number, (media_s - FIRST_S, 0.0))
            kept = math.exp(min(0.0, at_s - media_s) / LASTING_S)
            found[index] = average * kept + (1.0 - kept) * float(now[index])
            self._lasting[number] = media_s, float(found[index])
        return found


class _Measured(NamedTuple):
    blob: _Blob
    vx: float
    vy: float
    speed: float
    colour: complex
    """Mean U and V; NaN where there are none."""
    change: float
    look: np.ndarray

    @property
    def x(self) -> float:
        return self.blob.left + self.blob.width / 2

    @property
    def y(self) -> float:
        return self.blob.top + self.blob.height / 2


def _gone(track: _Track, one: _Measured, unit: int, media_s: float) -> tuple[float, float, float] | None:
    """Velocity and speed by where the thing was before, where flow is blind to it and it goes steadily; else None.

    `unit` is the frame's height in pixels of the half grid.
    """
    path = track.path
    if one.blob.is_part:
        path.clear()
        return None
    while path and media_s - path[0][0] > PATH_S:
        path.popleft()
    path.append((media_s, one.x, one.y))
    if len(path) < LEAST_PATH:
        return None
    steps = [
        ((x1 - x0) / (t1 - t0) / unit, (y1 - y0) / (t1 - t0) / unit)
        for (t0, x0, y0), (t1, x1, y1) in pairwise((path[0], path[len(path) // 2], path[-1]))
    ]
    (ax, ay), (bx, by) = steps
    speed = min(math.hypot(ax, ay), math.hypot(bx, by))
    steady = ax * bx + ay * by > 0.8 * math.hypot(ax, ay) * math.hypot(bx, by)
    if not steady or speed < max(BLIND * one.speed, one.speed + BLIND_SPEED):
        return None
    return (ax + bx) / 2, (ay + by) / 2, speed


def _advance(track: _Track | None, one: _Measured, stay: np.ndarray, unit: int, media_s: float) -> tuple[_Track, float]:
    """The track with what is seen now, a new one where there was none; and how long it or its place has stayed."""
    blob = one.blob
    if track is None:
        track = _Track(
            next(_numbers),
            media_s,
            one.x,
            one.y,
            blob.width,
            blob.height,
            blob.area,
            0.0,
            0.0,
            one.colour,
            media_s,
            (one.x, one.y),
            media_s,
        )
        kept = 0.0
    else:
        kept = math.exp(-(media_s - track.seen_s) / LATELY_S)
    if blob.area > 1.9 * track.area or blob.area < 0.5 * track.area:
        # what is one blob now was two, or the other way round: what was averaged was of something else
        kept = 0.0
        track.path.clear()
        track.area, track.width, track.height = blob.area, blob.width, blob.height
    elif not blob.is_part:
        track.coloured = min(track.coloured + 1, COLOUR_FRAMES)
        track.colour += (one.colour - track.colour) / track.coloured
    fresh = 1.0 - kept
    vx, vy, speed = _gone(track, one, unit, media_s) or (one.vx, one.vy, one.speed)
    now = np.concatenate([[vx, vy, speed], one.look]).astype(np.float32)
    if blob.is_part and kept:
        # what others leave to be seen of it has no look
        now[3:] = track.lately[3:] / track.weight
    track.lately = track.lately * np.float32(kept) + now * np.float32(fresh)
    track.weight = track.weight * kept + fresh
    if not math.isnan(one.change):
        track.change = one.change if math.isnan(track.change) or not kept else kept * track.change + fresh * one.change
    track.vx, track.vy = (float(v) / track.weight for v in track.lately[:2])
    track.area += 0.3 * (blob.area - track.area)
    track.width += 0.3 * (blob.width - track.width)
    track.height += 0.3 * (blob.height - track.height)
    track.x, track.y, track.seen_s = one.x, one.y, media_s
    if math.dist(track.anchor, (one.x, one.y)) > NEAR * track.height:
        track.anchor, track.anchor_s = (one.x, one.y), media_s
    top, left = blob.top // STAY_CELL, blob.left // STAY_CELL
    bottom, right = -(-(blob.top + blob.height) // STAY_CELL), -(-(blob.left + blob.width) // STAY_CELL)
    there = stay[top:bottom, left:right]
    there = np.sort(there[there > 0])
    longest = float(there[-min(STAY_CELLS, (there.size + 1) // 2)]) if there.size else 0.0
    return track, max(media_s - track.anchor_s, longest)


class _Expected(NamedTuple):
    track: _Track
    x: float
    y: float


def _parts_of(
    blob: _Blob, expected: Sequence[_Expected], labels: np.ndarray, chroma: np.ndarray | None, next_label: int
) -> list[_Blob]:
    """Each pixel to the thing whose expected box it lies in most and whose colour it has, or to none; [] where one of
    them at most is seen.
    """
    box = labels[blob.part]
    ys, xs = np.nonzero(box == blob.label)
    colours = np.full(len(xs), np.nan + 0j)
    if chroma is not None:
        u, v = (plane[blob.part][ys, xs] for plane in chroma)
        colours = u + 1j * v
    nearest = np.zeros(0, int)
    while len(expected) > 1:
        aside = [np.abs(xs + blob.left + 0.5 - one.x) / max(one.track.width / 2, 1.0) for one in expected]
        upright = [np.abs(ys + blob.top + 0.5 - one.y) / max(one.track.height / 2, 1.0) for one in expected]
        away = np.maximum(aside, upright)
        alien = [np.nan_to_num(np.abs(colours - one.track.colour) / ALIEN_COLOUR) for one in expected]
        nearest = (away + UNLIKE_COLOUR * np.minimum(alien, 1.0)).argmin(axis=0)
        nearest[away[nearest, np.arange(len(xs))] > OWN_REACH] = -1
        areas = np.bincount(nearest + 1, minlength=len(expected) + 1)[1:]
        seen = [one for one, area in zip(expected, areas, strict=True) if area >= OWN_LEAST * one.track.area]
        if len(seen) == len(expected):
            break
        expected = seen
    parts: list[_Blob] = []
    for index, one in enumerate(expected if len(expected) > 1 else ()):
        mine = nearest == index
        x, y, label = xs[mine], ys[mine], next_label + index
        box[y, x] = label
        left, top = int(x.min()), int(y.min())
        width, height = int(x.max()) - left + 1, int(y.max()) - top + 1
        parts.append(_Blob(blob.left + left, blob.top + top, width, height, len(x), blob.kind, label, one.track.number))
    return parts


def _find_blobs(mask: np.ndarray) -> tuple[list[_Blob], np.ndarray]:
    """The largest connected parts of a mask on the half grid, and the label of each pixel; what an arm or a bag leaves
    apart is joined upright.
    """
    joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _UPRIGHT)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    stats = np.column_stack([stats[1:count], np.arange(1, count)])
    stats = stats[stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA * mask.shape[0] ** 2]
    stats = stats[np.argsort(-stats[:, cv2.CC_STAT_AREA], kind="stable")[:MOST_THINGS]]
    blobs = [
        _Blob(left, top, width, height, area, -1, label)
        for left, top, width, height, area, label in stats.astype(int).tolist()
    ]
    return blobs, np.asarray(parts, np.int32)


_BESIDE = cv2.getStructuringElement(cv2.MORPH_RECT, (7, 7))
_AROUND = cv2.getStructuringElement(cv2.MORPH_RECT, (9, 17))
_UPRIGHT = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 5))


def _to_blobs(boxes: list[Box], geometry: Geometry) -> list[_Blob]:
    width, height = geometry.half
    blobs: list[_Blob] = []
    for x0, y0, x1, y1, kind in boxes[:MOST_THINGS]:
        left, top = min(int(x0 * width), width - 1), min(int(y0 * height), height - 1)
        right, bottom = min(math.ceil(x1 * width), width), min(math.ceil(y1 * height), height)
        if right - left >= 2 and bottom - top >= 2:
            # a box is a little larger than what is in it
            blobs.append(
                _Blob(left, top, right - left, bottom - top, round(0.7 * (right - left) * (bottom - top)), kind, 0)
            )
    return blobs


def _orientations(grey: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(h, w, WAYS) float32 on the half grid: gradients, by the way they go."""
    half = cv2.resize(grey, geometry.half, interpolation=cv2.INTER_AREA)
    dx = cv2.Sobel(half, cv2.CV_32F, 1, 0, scale=1.0 / 1024)
    dy = cv2.Sobel(half, cv2.CV_32F, 0, 1, scale=1.0 / 1024)
    length = cv2.magnitude(dx, dy) + DULL
    along, across = (dx * dx - dy * dy) / length, 2.0 * dx * dy / length
    return cv2.merge([np.maximum(part, 0.0) for part in (along, -along, across, -across)])


def _change(
    blob: _Blob,
    frame: Prepared,
    still: np.ndarray,
    weights: np.ndarray,
    velocity: tuple[float, float],
    earlier: Earlier,
) -> float:
    """How much of a thing's contrast to the background changed other than by moving; NaN where it has none, or where
    its past lies outside the picture.
    """
    unit = frame.geometry.working[1] * earlier.far_s
    x, y, width, height = 2 * blob.left, 2 * blob.top, 2 * blob.width, 2 * blob.height
    width, height = min(width, frame.grey.shape[1] - x), min(height, frame.grey.shape[0] - y)
    from_x, from_y = x - velocity[0] * unit, y - velocity[1] * unit
    if from_x < 0 or from_y < 0 or from_x + width > frame.grey.shape[1] or from_y + height > frame.grey.shape[0]:
        return math.nan
    middle = (from_x + (width - 1) / 2, from_y + (height - 1) / 2)
    before = cv2.getRectSubPix(earlier.far, (width, height), middle)
    now = frame.grey[y : y + height, x : x + width]
    inside = (cv2.resize(weights, (width, height)) >= 0.5).astype(np.uint8)
    contrast = cv2.mean(cv2.absdiff(now, still[y : y + height, x : x + width]), inside)[0]
    if contrast < RIGID_NOISE:
        return math.nan
    return cv2.mean(cv2.absdiff(now, before), inside)[0] / contrast


def _things(rows: list[tuple[_Measured, _Track, float]], geometry: Geometry) -> Things:
    width, height = geometry.half
    blobs = np.array([one.blob[:5] for one, _, _ in rows], np.float32).reshape(-1, 5)
    left, top, wide, tall, area = blobs.T
    lately = np.array([track.lately / track.weight for _, track, _ in rows], np.float32).reshape(-1, 3 + LOOK)
    # what is cut by the picture's edge, or by others, has another shape
    part = np.array([one.blob.is_part for one, _, _ in rows], bool)
    cut = part | (left <= 0) | (top <= 0) | (left + wide >= width) | (top + tall >= height)
    return Things(
        box=np.stack([left / width, top / height, (left + wide) / width, (top + tall) / height], axis=1),
        x=(left + wide / 2) / width,
        foot=np.minimum((top + tall) / height, 1.0),
        velocity=lately[:, :2],
        speed=lately[:, 2],
        size=np.sqrt(area) / height,
        shape=np.where(cut, np.nan, wide / np.maximum(tall, 1.0)).astype(np.float32),
        stay_s=np.array([stay_s for _, _, stay_s in rows], np.float32),
        change=np.array([track.change for _, track, _ in rows], np.float32),
        look=lately[:, 3:],
        kind=np.array([one.blob.kind for one, _, _ in rows], np.int16),
        track=np.array([track.number for _, track, _ in rows], np.int64),
    )


class ObjectContext:
    """The history of one stream, and what it shows in front of at most two backdrops: scored, and learned from."""

    __slots__ = ("_lookers", "motion")

    def __init__(self) -> None:
        self.motion = MotionContext()
        self._lookers: deque[Looker] = deque(maxlen=2)

    def looker(self, backdrop: Backdrop) -> Looker:
        for looker in self._lookers:
            if looker.backdrop is backdrop:
                return looker
        self._lookers.append(Looker(backdrop))
        return self._lookers[-1]

    def look(
        self,
        backdrop: Backdrop,
        frame: Prepared,
        earlier: Earlier | None,
        media_s: float,
        boxes: list[Box] | None = None,
    ) -> Things | None:
        """As `Looker.look`; `earlier` is what `motion.push` gave for this frame."""
        return self.looker(backdrop).look(frame, earlier, media_s, boxes)
