"""SceneMeter: what moves in a camera's picture, for how long and how fast; measured on its analysed frames.

All work on pixels is OpenCV's, on a picture of 160 columns: about half a millisecond a frame. It explains events; what
is an event is for the detection to say.
"""

import math
from collections import deque
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np

from core.cameras import Zone, ZoneKind
from core.cameras.zones import contains
from core.events.evidence import Scene, Track, ZoneEvidence
from core.tracking import pair_surest_first
from workers.camera.pixels import planes

__all__ = ["SceneMeter", "Window"]

WIDTH = 160
DIFFERENT = 12
"""Grey levels from the background: above the noise of a small picture, below the contrast of clothes."""
BACKGROUND_S = 20.0
"""Time constant of the background where nothing is in front of it."""
ABSORB_S = 180.0
"""And where something is: what stays becomes part of it only slowly."""
LEARN_S = 12.0
"""Until so much was seen, what is usual is not known."""
MIN_AREA = 0.0006
"""Share of the picture; what is smaller is noise."""
MOST = 48
"""Blobs that are followed, the largest ones."""
LOST_S = 1.5
"""A track without a blob is kept for so long: others pass before it."""
STAYING_LOST_S = 4.0
"""And one that stayed at its place."""
SPEED_S = 0.7
"""Speeds are kept for so long to count."""
GONE_S = 3.0
"""A gap in the pictures after which everything begins anew."""
LEAST_USUAL = 20
"""Speeds that must be known before one is unusual."""
NEAR = 1.0
"""Heights: what stays within is at one place."""
STILL = 0.06
"""Heights a second; slower is not moving."""
MOSTLY = 0.6
"""Share of the picture that is changed when a camera is covered, or turned away."""
BLUNT = 0.25
"""Share of the usual detail with which a picture counts as blind;"""
LEAST_DETAIL = 0.6
"""where there usually is so much, in grey levels."""
UNIFORM = 6.0
"""Grey levels of standard deviation: a picture with less shows nothing."""
CELL = 4
"""Pixels of the small picture: a place."""
PARTING_TIMES = 1.8
"""The usual speed: who parts goes faster."""
BREAK_S = 1.0
"""What left a place for longer has not stayed."""
BUSY_S = 120.0
BUSY = 0.4
"""Share of the time in which something is at a place that is busy: nobody stays there alone."""
BUSY_UNKNOWN_S = 6.0
"""For so long a place counts as busy of which nothing is known: it has to be seen free."""
SHIFT = 0.5
"""Heights to either side within which who stays shifts about."""
LASTING_S = 2.0
BANDS = 8
"""Of the picture's height, in which things are about as tall."""


class _Blob(msgspec.Struct, frozen=True):
    """Pixels of the small picture."""

    x: float
    """Of its middle, by weight: limbs that swing hardly move it."""
    y: float
    """Of its foot."""
    middle: float
    """Of its middle, from the top."""
    width: float
    height: float
    area: float


class _Track:
    """One thing, from blob to blob."""

    __slots__ = (
        "anchor",
        "anchor_s",
        "area",
        "born_s",
        "box",
        "cut",
        "fastest",
        "flat_s",
        "flattened",
        "heading",
        "height",
        "holds",
        "longest",
        "measure",
        "origin",
        "seen_s",
        "shapes",
        "still",
        "still_s",
        "trail",
        "travelled",
        "vx",
        "vy",
        "zones",
    )

    def __init__(self, blob: _Blob, now_s: float) -> None:
        self.born_s = self.seen_s = self.anchor_s = now_s
        self.box = blob
        self.height, self.area = blob.height, blob.area
        self.measure = max(blob.height, 3.0)
        self.origin = self.anchor = (blob.x, blob.y)
        self.vx = self.vy = 0.0
        self.trail: deque[tuple[float, float, float]] = deque([(now_s, blob.x, blob.middle)], maxlen=64)
        self.shapes: deque[tuple[float, float]] = deque([(now_s, blob.width / blob.height)], maxlen=64)
        self.cut = False
        """Its last box was another size all at once: it met or left something."""
        self.holds = 0.0
        self.fastest = self.heading = self.travelled = self.longest = self.still = 0.0
        self.still_s = now_s
        self.flattened, self.flat_s = 1.0, math.inf
        self.zones: dict[str, list[float]] = {}
        """By name: seconds inside, against in widths, seconds against."""

    def follow(self, blob: _Blob, now_s: float, usual_height: float) -> None:
        """`usual_height` of what moves there: a part of something is not measured by its own."""
        step_s = max(now_s - self.seen_s, 1e-3)
        grown = blob.area / max(self.area, 1.0)
        taller = blob.height / max(self.height, 1.0)
        self.cut = not (0.5 < grown < 1.9 and 0.7 < taller < 1.45)
        if self.cut:
            # what is one blob now was two, or the other way round: where it is says little about how it moves
            self.trail.clear()
            self.area, self.height = blob.area, blob.height
        self.area += 0.3 * (blob.area - self.area)
        self.vx += 0.5 * ((blob.x - self.box.x) / step_s - self.vx)
        self.vy += 0.5 * ((blob.y - self.box.y) / step_s - self.vy)
        self.height += 0.2 * (blob.height - self.height)
        self.measure = max(self.height, 0.7 * usual_height, 3.0)
        self.box, self.seen_s = blob, now_s
        self.trail.append((now_s, blob.x, blob.middle))
        self.shapes.append((now_s, blob.width / max(blob.height, 1.0)))
        self.travelled = max(self.travelled, math.dist(self.origin, (blob.x, blob.y)) / WIDTH)
        if math.dist(self.anchor, (blob.x, blob.y)) > NEAR * self.measure:
            self.anchor, self.anchor_s = (blob.x, blob.y), now_s
        self.longest = max(self.longest, now_s - self.anchor_s)
        self.holds = self._speed(now_s)
        if self.holds >= STILL or len(self.trail) < 3:
            self.still_s = now_s
        self.still = max(self.still, now_s - self.still_s)
        self._flatten(now_s)

    def _speed(self, now_s: float) -> float:
        """Own heights a second over the last SPEED_S: the way from end to end; 0 before there is so much."""
        lately = [one for one in self.trail if one[0] >= now_s - SPEED_S - 0.15]
        if len(lately) < 3 or now_s - lately[0][0] < SPEED_S - 0.15:
            return 0.0
        begin, half, end = lately[0], lately[len(lately) // 2], lately[-1]
        dx, dy = end[1] - begin[1], end[2] - begin[2]
        speed = math.hypot(dx, dy) / (end[0] - begin[0]) / self.measure
        halves = [
            math.dist(two[1:], one[1:]) / max(two[0] - one[0], 1e-3) / self.measure
            for one, two in ((begin, half), (half, end))
        ]
        # what jumps goes all its way at once
        speed = min(speed, 1.6 * min(halves))
        if speed > self.fastest:
            self.fastest = speed
            self.heading = math.degrees(math.atan2(dx, -dy)) % 360
        return speed

    def _flatten(self, now_s: float) -> None:
        """Whether it became flat at once, and stayed so: a second ago it was upright."""
        before = next((shape for at_s, shape in self.shapes if now_s - 1.2 <= at_s <= now_s - 0.6), None)
        if before is None:
            return
        times = self.shapes[-1][1] / max(before, 0.05)
        if times > 1.8 and self.shapes[-1][1] > 1.0:
            self.flattened, self.flat_s = max(self.flattened, times), min(self.flat_s, now_s)
        elif self.flat_s < math.inf and self.shapes[-1][1] < 0.8:
            self.flattened, self.flat_s = 1.0, math.inf

    def forget_peaks(self, now_s: float) -> None:
        """A new window: what was fastest before does not count in it; how long it has stayed does."""
        self.fastest = self.holds
        self.flattened, self.flat_s = 1.0, math.inf
        self.longest, self.still = now_s - self.anchor_s, now_s - self.still_s
        self.zones = {}

    def measured(self, now_s: float, rows: int) -> Track:
        return Track(
            age_s=round(self.seen_s - self.born_s, 2),
            x=_share(self.box.x, WIDTH),
            y=_share(self.box.y, rows),
            width=_share(self.box.width, WIDTH),
            height=_share(self.box.height, rows),
            speed=round(self.fastest, 3),
            heading=round(self.heading, 1),
            travelled=round(self.travelled, 3),
            dwell_s=round(self.longest, 2),
            still_s=round(self.still, 2),
            flattened=round(self.flattened if now_s - self.flat_s >= 1.0 else 1.0, 2),
        )


class Window(msgspec.Struct, frozen=True):
    """What was measured from a window's beginning until now."""

    scene: Scene
    tracks: tuple[Track, ...]
    zones: tuple[ZoneEvidence, ...]


class SceneMeter:
    """Belongs to one thread. Times are seconds on the source's time line, and go forward but for gaps."""

    def __init__(self) -> None:
        self.crops: deque[tuple[float, tuple[float, float, float, float]]] = deque(maxlen=8)
        self._speeds: deque[float] = deque(maxlen=512)
        self._sizes: deque[float] = deque(maxlen=512)
        self._counts: deque[int] = deque(maxlen=512)
        self._sharp: deque[float] = deque(maxlen=256)
        self._contrast: deque[float] = deque(maxlen=256)
        self._noted_s = -math.inf
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._heights: list[deque[float]] = [deque(maxlen=128) for _ in range(BANDS)]
        self._usual_heights: dict[int, float] = {}
        self._usual_speed = (0.0, 0.0)
        self._reset()

    def _reset(self) -> None:
        self._background: np.ndarray | None = None
        self._seen_s = 0.0
        self._before: np.ndarray | None = None
        self._since: np.ndarray | None = None
        self._last = self._busy = self._busy_before = np.zeros((0, 0), np.float32)
        self._watched_s = BUSY_UNKNOWN_S
        self._tracks: list[_Track] = []
        self._now_s = self._begun_s = 0.0
        self._rows = 90
        self._open = False
        self._blinded_since = self._dull_since = self._changed_since = math.inf
        self._lately: deque[tuple[float, int, float]] = deque(maxlen=128)
        self._clear_window()

    def _clear_window(self) -> None:
        self._count_begin = self._count_peak = self._outward = 0
        self._largest = self._blinded_s = self._changed = 0.0
        self._sharpness = 1.0
        self._done: list[_Track] = []
        self._parting: deque[int] = deque([0, 0, 0], maxlen=3)
        self._stayed_s = 0.0

    def begin(self) -> None:
        """Something begins to go on: from now on it is measured for its own sake, and is not what is usual."""
        if self._open:
            return
        self._open = True
        self._begun_s = self._now_s
        self._clear_window()
        self._count_begin = self._count_peak = len(self._moving())
        for track in self._tracks:
            track.forget_peaks(self._now_s)

    def end(self) -> None:
        """What went on is over."""
        self._open = False

    @property
    def is_open(self) -> bool:
        return self._open

    def look(self, pixels: np.ndarray, now_s: float, zones: Sequence[Zone] = ()) -> None:
        """`pixels` (h * 3 // 2, w) uint8 I420 of an analysed frame; `zones` that hold now."""
        if not 0 <= now_s - self._now_s < LOOP_GAP_S and self._background is not None:
            was_open = self._open
            self._reset()
            self._open = was_open
        step_s = min(max(now_s - self._now_s, 0.0), GONE_S)
        if step_s >= GONE_S:
            self._tracks = []
        luma, u, v = planes(pixels)
        self._rows = rows = max(16, round(luma.shape[0] * WIDTH / luma.shape[1]))
        # what is as bright as what is behind it may have another colour
        small = cv2.merge([cv2.resize(one, (WIDTH, rows), interpolation=cv2.INTER_AREA) for one in (luma, u, v)])
        self._now_s = now_s
        if self._background is None or self._background.shape != small.shape:
            self._background = small.astype(np.float32)
            return
        difference = cv2.absdiff(small, cv2.convertScaleAbs(self._background))
        most = cv2.max(cv2.max(difference[..., 0], difference[..., 1]), difference[..., 2])
        mask = cv2.threshold(most, DIFFERENT, 255, cv2.THRESH_BINARY)[1]
        changed = cv2.countNonZero(mask) / mask.size
        self._see_all(small[..., 0], changed, now_s)
        quiet = cv2.bitwise_not(mask)
        # at first it is the mean of all that was seen, so that what stood in the first picture leaves no ghost
        self._seen_s += step_s
        for constant_s, where in ((BACKGROUND_S, quiet), (ABSORB_S if self._seen_s > LEARN_S else self._seen_s, mask)):
            rate = 1 - math.exp(-step_s / max(min(constant_s, self._seen_s), 1e-3))
            cv2.accumulateWeighted(small, self._background, rate, where)
        if changed < MOSTLY and self._seen_s > LEARN_S / 2:
            self._track(self._blobs(mask), now_s)
            self._stay(mask, now_s, step_s)
        self._in_zones(zones, step_s)
        self._see_together(small[..., 0], mask, step_s)
        if not self._open and self._seen_s > LEARN_S:
            self._note_usual(now_s)

    # ---- the whole picture

    def _see_all(self, small: np.ndarray, changed: float, now_s: float) -> None:
        detail = float(cv2.mean(cv2.absdiff(small, cv2.blur(small, (3, 3))))[0])
        deviation = float(cv2.meanStdDev(small)[1][0, 0])
        usual = float(np.median(self._sharp)) if len(self._sharp) >= 8 else detail
        sharpness = detail / max(usual, 0.05)
        self._lately.append((now_s, round(1000 * changed), sharpness))
        while self._lately[0][0] < now_s - LASTING_S:
            self._lately.popleft()
        if now_s - self._begun_s >= LASTING_S:
            self._changed = max(self._changed, min(one[1] for one in self._lately) / 1000)
            self._sharpness = min(self._sharpness, max(one[2] for one in self._lately))
        contrast = float(np.median(self._contrast)) if len(self._contrast) >= 8 else deviation
        # a scene that never shows much, such as a field at night, is not blind
        blunt = usual >= LEAST_DETAIL and sharpness < BLUNT
        uniform = contrast >= 2 * UNIFORM and deviation < UNIFORM
        blind = changed > MOSTLY or blunt or uniform
        self._blinded_since = min(self._blinded_since, now_s) if blind else math.inf
        if blind:
            self._blinded_s = max(self._blinded_s, now_s - self._blinded_since)
        elif not self._open and (not self._sharp or now_s - self._noted_s >= 1.0):
            self._sharp.append(detail)
            self._contrast.append(deviation)

    def _note_usual(self, now_s: float) -> None:
        if now_s - self._noted_s < 1.0 and now_s >= self._noted_s:
            return
        self._noted_s = now_s
        moving = self._moving()
        self._counts.append(len(moving))
        for track in moving:
            if track.holds > STILL and not track.cut:
                self._speeds.append(track.holds)
                self._sizes.append(track.box.width * track.box.height / (WIDTH * self._rows))
                self._heights[self._band(track.box.y)].append(track.box.height)
        self._usual_heights = {
            band: float(np.median(seen)) for band, seen in enumerate(self._heights) if len(seen) >= 8
        }
        self._usual_speed = self._median_speed()

    def _stay(self, mask: np.ndarray, now_s: float, step_s: float) -> None:
        """How long each place has had something in or beside it; who passes before it makes no break.

        It counts where the place is not busy, and was not when the stay began.
        """
        size = (WIDTH // CELL, max(4, self._rows // CELL))
        taken = cv2.dilate(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), _AROUND)
        cells = self._widened(taken) > 40
        if self._since is None or self._since.shape != cells.shape:
            self._since = np.full(cells.shape, now_s)
            self._last = np.full(cells.shape, -math.inf)
            self._busy = np.ones(cells.shape, np.float32)
            self._busy_before = self._busy.copy()
        left = now_s - self._last > BREAK_S
        self._since[left] = now_s
        self._busy_before[left] = self._busy[left]
        self._last[cells] = now_s
        if not self._open:
            self._watched_s += step_s
            self._busy += (cells - self._busy) * (1 - math.exp(-step_s / min(BUSY_S, self._watched_s)))
        free = (self._busy_before < BUSY) & (self._busy < BUSY)
        stays = np.where(cells & free, now_s - self._since, 0.0)
        self._stayed_s = max(self._stayed_s, float(stays.max()))

    def _widened(self, cells: np.ndarray) -> np.ndarray:
        """Each row to both sides, by SHIFT of the height that is usual there."""
        wide = cells.copy()
        for row in range(len(cells)):
            reach = round(SHIFT * self._height_at((row + 0.5) * CELL) / CELL)
            if reach:
                cv2.dilate(cells[row : row + 1], np.ones((1, 2 * reach + 1), np.uint8), wide[row : row + 1])
        return wide

    # ---- blobs and tracks

    def _blobs(self, mask: np.ndarray) -> list[_Blob]:
        joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _UPRIGHT)
        count, _, stats, middles = cv2.connectedComponentsWithStats(joined, connectivity=8)
        area = stats[1:count, cv2.CC_STAT_AREA]
        largest = np.argsort(-area, kind="stable")[:MOST] + 1
        largest = largest[stats[largest, cv2.CC_STAT_AREA] >= MIN_AREA * mask.size]
        return [
            _Blob(x, float(top + height), y, float(width), float(height), float(area))
            for (_, top, width, height, area), (x, y) in zip(
                stats[largest].tolist(), middles[largest].tolist(), strict=True
            )
        ]

    def _track(self, blobs: list[_Blob], now_s: float) -> None:
        """Each blob to the track that is expected nearest, the surest first; the others begin or end tracks."""
        pairs: list[tuple[float, int, int]] = []
        for number, track in enumerate(self._tracks):
            gap_s = now_s - track.seen_s
            at_x, at_y = track.box.x + track.vx * gap_s, track.box.y + track.vy * gap_s
            reach = (0.6 + 2.0 * min(gap_s, 1.0)) * max(track.height, 4.0)
            for index, blob in enumerate(blobs):
                away = math.hypot(blob.x - at_x, blob.y - at_y)
                if away < reach:
                    unlike = abs(math.log(max(blob.area, 1) / max(track.box.area, 1)))
                    pairs.append((away / max(track.height, 4.0) + 0.4 * unlike, number, index))
        taken: set[int] = set()
        for number, index in pair_surest_first(pairs):
            self._tracks[number].follow(blobs[index], now_s, self._height_at(blobs[index].y))
            taken.add(index)
        kept: list[_Track] = []
        for track in self._tracks:
            staying = track.longest > 2 * LOST_S
            if now_s - track.seen_s <= (STAYING_LOST_S if staying else LOST_S):
                kept.append(track)
            elif self._open and track.seen_s - track.born_s >= SPEED_S:
                self._done.append(track)
                del self._done[: -4 * MOST]
        self._tracks = kept + [_Track(blob, now_s) for index, blob in enumerate(blobs) if index not in taken]
        del self._tracks[2 * MOST :]
        self._largest = max([self._largest, *(blob.area / (WIDTH * self._rows) for blob in blobs)])

    def _height_at(self, y: float) -> float:
        """The usual height of what stands there; 0 where it is not known."""
        return self._usual_heights.get(self._band(y), 0.0)

    def _band(self, y: float) -> int:
        return min(int(BANDS * y / self._rows), BANDS - 1)

    def _moving(self) -> list[_Track]:
        return [one for one in self._tracks if one.seen_s == self._now_s and one.seen_s - one.born_s >= 0.3]

    def _see_together(self, luma: np.ndarray, mask: np.ndarray, step_s: float) -> None:
        """Whether several go fast away from each other: how many, by the area of what moves so.

        People who part hide each other first and leave soon after: there is no time to follow each of them.
        """
        self._count_peak = max(self._count_peak, len(self._moving()))
        before, self._before = self._before, luma
        usual, spread = self._usual_speed
        if not self._open or before is None or not 0 < step_s < 0.5 or not usual:
            return
        flow = self._flow.calc(before, luma, np.zeros((*luma.shape, 2), np.float32)) / step_s
        bands = [self._usual_heights.get(band, 0.0) for band in range(BANDS)]
        known = [one for one in bands if one]
        heights = np.repeat([one or float(np.median(known or [math.inf])) for one in bands], -(-self._rows // BANDS))
        limit = heights[: self._rows, None] * max(PARTING_TIMES * usual, usual + 4 * spread)
        person = 0.4 * float(np.median(self._sizes)) * mask.size
        parting = 0
        for axis in (0, 1):
            along = flow[..., axis]
            ahead = np.nonzero((mask > 0) & (along > limit))[1 - axis]
            back = np.nonzero((mask > 0) & (along < -limit))[1 - axis]
            if min(len(ahead), len(back)) >= person and ahead.mean() > back.mean():
                parting = max(parting, round((len(ahead) + len(back)) / person))
        self._parting.append(parting)
        self._outward = max(self._outward, min(self._parting))

    def _in_zones(self, zones: Sequence[Zone], step_s: float) -> None:
        for zone in zones:
            if zone.kind is ZoneKind.PRIVACY or zone.kind is ZoneKind.IGNORE:
                continue
            for track in self._moving():
                if not contains(zone.points, _share(track.box.x, WIDTH), _share(track.box.y, self._rows)):
                    continue
                held = track.zones.setdefault(zone.name, [0.0, 0.0, 0.0])
                held[0] += step_s
                if zone.direction is None or track.cut or track.holds < 0.15:
                    continue
                ahead = math.radians(zone.direction)
                against = -(track.vx * math.sin(ahead) - track.vy * math.cos(ahead))
                speed = math.hypot(track.vx, track.vy)
                if against > 0.7 * speed:
                    held[1] += against * step_s / WIDTH
                    held[2] += step_s
                elif against < -0.7 * speed:
                    held[1] = max(0.0, held[1] + against * step_s / WIDTH)

    def _median_speed(self) -> tuple[float, float]:
        if len(self._speeds) < LEAST_USUAL:
            return 0.0, 0.0
        speeds = np.array(self._speeds)
        median = float(np.median(speeds))
        return median, float(np.median(np.abs(speeds - median)))

    # ---- what came out

    def box_near(self, x: float, y: float) -> tuple[float, float, float, float] | None:
        """(left, top, right, bottom), fractions, of the thing that is nearest to a place; None where nothing moves."""
        moving = self._moving()
        if not moving:
            return None
        to_x, to_y = x * WIDTH, y * self._rows
        one = min(moving, key=lambda track: math.hypot(track.box.x - to_x, track.box.y - track.box.height / 2 - to_y))
        box = one.box
        return (
            _share(box.x - box.width / 2, WIDTH),
            _share(box.y - box.height, self._rows),
            _share(box.x + box.width / 2, WIDTH),
            _share(box.y, self._rows),
        )

    def window(self, zones: Sequence[Zone] = ()) -> Window:
        """All since `begin`; may be asked again and again."""
        now_s = self._now_s
        usual, spread = self._usual_speed
        everything = [one for one in (*self._done, *self._tracks) if one.seen_s - one.born_s >= 0.5]
        chosen: dict[int, _Track] = {}
        for value, most in ((lambda one: one.fastest, 3), (lambda one: one.longest, 2), (lambda one: one.flattened, 1)):
            for one in sorted(everything, key=value, reverse=True)[:most]:
                chosen[id(one)] = one
        scene = Scene(
            usual_speed=round(usual, 3),
            usual_spread=round(spread, 3),
            usual_size=round(float(np.median(self._sizes)), 5) if self._sizes else 0.0,
            usual_count=float(np.median(self._counts)) if self._counts else 0.0,
            largest=round(self._largest, 4),
            count_begin=self._count_begin,
            count_peak=self._count_peak,
            count_end=len(self._moving()),
            outward=self._outward,
            stayed_s=round(self._stayed_s, 2),
            changed=round(self._changed, 3),
            blinded_s=round(self._blinded_s, 2),
            sharpness=round(self._sharpness, 3),
        )
        found: list[ZoneEvidence] = []
        for zone in zones:
            held = [one.zones[zone.name] for one in everything if zone.name in one.zones]
            if held:
                found.append(
                    ZoneEvidence(
                        name=zone.name,
                        kind=zone.kind,
                        direction=zone.direction,
                        inside_s=round(max(one[0] for one in held), 2),
                        against=round(max(one[1] for one in held), 3),
                        against_s=round(max(one[2] for one in held), 2),
                    )
                )
        return Window(scene, tuple(one.measured(now_s, self._rows) for one in chosen.values())[:8], tuple(found))


_AROUND = np.ones((3, 3), np.uint8)
_UPRIGHT = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 7))
LOOP_GAP_S = 500.0
"""Of the source's own time: a file began anew."""


def _share(value: float, whole: float) -> float:
    return round(min(max(value / whole, 0.0), 1.0), 4)
