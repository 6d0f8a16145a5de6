"""The demo source: a rendered place in which people walk about, and now and then something unusual happens.

Everything is a function of scene, seed and time, so a frame looks the same however one gets to it, and what happens
when can be asked for as ground truth.
"""

import math
import random
from collections.abc import Iterator
from functools import cached_property
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import cv2
import msgspec
import numpy as np
from msgspec import structs

from core.errors import SourceError
from workers.camera.sources.base import SourceFrame, SourceInfo, check_i420

__all__ = ["SCENES", "DemoAnomaly", "DemoSource", "ground_truth"]

_LENGTH_S = {
    "runner": 4.0,
    "cyclist": 4.0,
    "loitering": 40.0,
    "abandoned_object": 40.0,
    "fall": 15.0,
    "wrong_way": 20.0,
}
KINDS = tuple(_LENGTH_S)
_FAST_KINDS = ("runner", "cyclist")
_ASKED_FOR_S = {"dispersal": 9.0, "tamper": 12.0, "trespass": 12.0, "cart": 12.0, "odd": 12.0}
"""Those that happen only where the URL names them. `trespass` walks where nobody does, a `cart` is larger than a person
and `odd` looks like none; both go as people do."""
NORMAL_BEFORE_S = 100_000.0
"""Learning happens on the time line before zero, where there are no anomalies."""

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]


class Scene(msgspec.Struct, frozen=True):
    """Geometry: walkers keep to `lanes` (where, direction, people); sizes shrink with distance.

    Seen "across", lanes run from side to side, and where is their depth, 0 far .. 1 near. Seen from "above", nothing
    shrinks, and where is the height in the picture. Seen "along", lanes run to the vanishing point, direction 1 comes
    nearer, and where is aside of it, -1 .. 1.
    """

    horizon: float
    """Height of the far edge of the ground, as a fraction of the picture."""
    far_size: float
    """Height of a person at the far edge, as a fraction of the picture's height."""
    near_size: float
    lanes: tuple[tuple[float, int, int], ...]
    ground: Colour
    wall: Colour
    view: Literal["across", "above", "along"] = "across"
    shunned: float = -0.12
    """Where nobody walks: as of a lane."""
    floor_share: float = 1.0
    """Seen along: how wide the floor is, beside what a picture that wide would show."""


SCENES = {
    "plaza": Scene(
        0.30,
        0.12,
        0.30,
        ((0.10, 1, 2), (0.30, -1, 2), (0.50, 1, 2), (0.70, -1, 2), (0.92, 1, 1)),
        (128, 132, 134),
        (92, 98, 88),
    ),
    "street": Scene(0.42, 0.16, 0.28, ((0.15, 1, 3), (0.45, -1, 3), (0.85, 1, 2)), (104, 104, 108), (84, 92, 120)),
    "corridor": Scene(0.22, 0.20, 0.42, ((0.25, 1, 2), (0.75, -1, 2)), (150, 156, 158), (176, 180, 178)),
    "overhead": Scene(
        0.0,
        0.20,
        0.20,
        ((0.12, 1, 2), (0.28, -1, 2), (0.44, 1, 2), (0.60, -1, 2)),
        (134, 136, 138),
        (70, 104, 78),
        "above",
        shunned=0.88,
    ),
    "avenue": Scene(
        0.24,
        0.055,
        0.36,
        ((-0.48, 1, 3), (-0.24, 1, 2), (0.18, -1, 2), (0.42, -1, 3)),
        (120, 122, 126),
        (96, 128, 104),
        "along",
        shunned=0.86,
    ),
    "hallway": Scene(
        0.30,
        0.09,
        0.42,
        ((-0.20, 1, 2), (0.20, -1, 2)),
        (146, 150, 154),
        (178, 182, 184),
        "along",
        shunned=0.56,
        floor_share=0.62,
    ),
}


class DemoAnomaly(msgspec.Struct, frozen=True):
    """What happens from `begin_s` to `end_s`; `x`, `y` are pixels of its middle at its own middle."""

    kind: str
    begin_s: float
    end_s: float
    x: float
    y: float


class _Walker(msgspec.Struct, frozen=True):
    """Someone who crosses a lane again and again; `speed` in own heights per second."""

    depth: float
    direction: int
    speed: float
    offset: float
    size: float
    colours: tuple[Colour, Colour]
    sway: float


class _Figure(msgspec.Struct, frozen=True):
    """Someone or something to be drawn, feet at (x, y)."""

    x: float
    y: float
    height: float
    colours: tuple[Colour, Colour]
    stride: float
    """Phase of the gait, radians."""
    lying: float = 0.0
    """0 upright .. 1 on the ground."""
    wheels: bool = False
    box: bool = False
    odd: bool = False
    above: bool = False
    """Seen from there."""
    heading: int = 1


def _colours(luck: random.Random) -> tuple[Colour, Colour]:
    def pick() -> Colour:
        return luck.randint(20, 190), luck.randint(20, 190), luck.randint(20, 190)

    return pick(), pick()


def _box(figure: _Figure) -> Box:
    x, y, height = figure.x, figure.y, figure.height
    if figure.above:
        half = 0.5 if figure.wheels or (figure.box and not figure.odd) else 0.2
        deep = 0.3 if figure.box and not figure.odd else 0.2
        left = half + 0.7 * figure.lying
        return x - left * height, y - deep * height, x + half * height, y + deep * height
    half = 0.5 if figure.box and not figure.odd else 0.42 if figure.wheels else 0.2
    up = 1.0 - 0.75 * figure.lying
    return x - half * height, y - up * height, x + half * height + 0.8 * figure.lying * height, y


class _World:
    """Where everybody is at any time."""

    def __init__(
        self, scene: Scene, seed: int, width: int, height: int, *, anomalies: bool, kinds: tuple[str, ...] = ()
    ) -> None:
        self.scene, self.seed, self.width, self.height, self.anomalous = scene, seed, width, height, anomalies
        self.kinds = kinds
        luck = random.Random(f"walkers {seed}")
        self.walkers = [
            _Walker(
                depth=min(1.0, max(0.02, depth + luck.uniform(-0.06, 0.06))),
                direction=direction,
                speed=luck.uniform(0.62, 0.95),
                offset=luck.random(),
                size=luck.uniform(0.92, 1.08),
                colours=_colours(luck),
                sway=luck.uniform(0.01, 0.05),
            )
            for depth, direction, people in scene.lanes
            for _ in range(people)
        ]

    def place(self, depth: float) -> tuple[float, float]:
        """(y of the feet, height of a person) in pixels at a depth."""
        scene = self.scene
        if scene.view == "along":
            near, far = 1.0, 0.45 * self.reach[1]
            _, y, height = self.spot(0.0, 1 / (1 / far + (1 / near - 1 / far) * depth))
            return y, height
        if scene.view == "above":
            return depth * self.height, scene.near_size * self.height
        y = (scene.horizon + 0.06 + (0.98 - scene.horizon - 0.06) * depth) * self.height
        return y, (scene.far_size + (scene.near_size - scene.far_size) * depth) * self.height

    def spot(self, where: float, distance: float) -> tuple[float, float, float]:
        """(x, y of the feet, height of a person) in pixels of a place seen along; `distance` is 1 where people are
        `near_size`, and grows as they shrink.
        """
        scene = self.scene
        y = (scene.horizon + (0.98 - scene.horizon) / distance) * self.height
        x = self.width * (0.5 + 0.55 * scene.floor_share * where / distance)
        return x, y, scene.near_size * self.height / distance

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the greatest distance, seen along: where a person has left the picture, and the end."""
        return 0.5, self.scene.near_size / self.scene.far_size

    def figures(self, time_s: float) -> list[_Figure]:
        """All to be drawn, farthest first."""
        found = [self._walking(walker, time_s) for walker in self.walkers]
        for anomaly in self.around(time_s, time_s):
            found += self._happening(anomaly, time_s)
        return sorted(found, key=lambda figure: figure.y)

    def _walking(self, walker: _Walker, time_s: float, speed: float = 1.0) -> _Figure:
        if self.scene.view == "along":
            return self._walking_along(walker, time_s, speed)
        y, height = self.place(walker.depth)
        height *= walker.size
        margin = height
        span = self.width + 2 * margin
        pace = walker.speed * (1 + 0.12 * math.sin(0.31 * time_s + 40 * walker.offset)) * speed
        travelled = walker.speed * speed * height * time_s - 0.12 / 0.31 * walker.speed * height * math.cos(
            0.31 * time_s + 40 * walker.offset
        )
        x = (walker.offset * span + walker.direction * travelled) % span - margin
        y += walker.sway * height * math.sin(0.7 * time_s + 9 * walker.offset)
        stride = 2 * math.pi * pace * 0.75 * time_s + walker.offset
        above = self.scene.view == "above"
        return _Figure(x, y, height, walker.colours, stride, above=above, heading=walker.direction)

    def _walking_along(self, walker: _Walker, time_s: float, speed: float) -> _Figure:
        """Nearer or farther, in the world as fast as anybody: a person's height is one everywhere there."""
        near, far = self.reach
        length = (far - near) / self.scene.near_size
        swing = 0.12 / 0.31 * math.cos(0.31 * time_s + 40 * walker.offset)
        gone = (walker.offset * length + walker.speed * speed * (time_s - swing)) % length
        left = gone if walker.direction < 0 else length - gone
        aside = walker.depth + 0.1 * walker.sway * math.sin(0.7 * time_s + 9 * walker.offset)
        x, y, height = self.spot(aside, near + left * self.scene.near_size)
        stride = 2 * math.pi * walker.speed * speed * 0.75 * time_s + walker.offset
        return _Figure(x, y, height * walker.size, walker.colours, stride)

    # ---- anomalies

    def schedule(self) -> Iterator[DemoAnomaly]:
        """All anomalies from time zero on, without end."""
        luck = random.Random(f"anomalies {self.seed}")
        begin_s = luck.uniform(40, 70)
        kind = luck.choice(self.kinds or _FAST_KINDS)
        while True:
            length_s = {**_LENGTH_S, **_ASKED_FOR_S}[kind]
            if self.scene.view == "along" and kind in _FAST_KINDS:
                length_s *= 2  # it is a long way
            depth = luck.uniform(0.25, 0.85)
            y, height = self.place(depth)
            yield DemoAnomaly(kind, begin_s, begin_s + length_s, luck.uniform(0.3, 0.7) * self.width, y - height / 2)
            begin_s += length_s + luck.uniform(45, 90)
            kind = luck.choice(self.kinds or KINDS)

    def around(self, begin_s: float, end_s: float) -> list[DemoAnomaly]:
        """Anomalies that overlap the time."""
        if not self.anomalous or end_s < 0:
            return []
        found: list[DemoAnomaly] = []
        for anomaly in self.schedule():
            if anomaly.begin_s > end_s:
                return found
            if anomaly.end_s >= begin_s:
                found.append(anomaly)
        return found

    def shown(self, time_s: float) -> list[tuple[str, Box]]:
        found: list[tuple[str, Box]] = []
        for anomaly in self.around(time_s, time_s):
            for figure in self._happening(anomaly, time_s):
                box = _box(figure)
                inside = (max(0.0, box[0]), max(0.0, box[1]), min(self.width, box[2]), min(self.height, box[3]))
                area = max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1])
                if area >= 0.5 * (box[2] - box[0]) * (box[3] - box[1]):
                    found.append((anomaly.kind, inside))
        return found

    def is_covered(self, time_s: float) -> bool:
        """Whether something is held before the lens."""
        return any(one.kind == "tamper" for one in self.around(time_s, time_s))

    def _happening(self, anomaly: DemoAnomaly, time_s: float) -> list[_Figure]:
        since = time_s - anomaly.begin_s
        part = since / (anomaly.end_s - anomaly.begin_s)
        luck = random.Random(f"{anomaly.begin_s}")
        colours, direction = _colours(luck), luck.choice((-1, 1))
        depth = luck.uniform(0.3, 0.8)
        if self.scene.view != "across":
            return self._happening_elsewhere(anomaly, since, luck, colours)
        y, height = self.place(depth)
        across = (part if direction > 0 else 1 - part) * (self.width + 2 * height) - height
        match anomaly.kind:
            case "runner":
                return [_Figure(across, y, height, colours, 2 * math.pi * 2.6 * since)]
            case "cyclist":
                return [_Figure(across, y, height, colours, 2 * math.pi * 1.2 * since, wheels=True)]
            case "wrong_way":
                lane = self.scene.lanes[luck.randrange(len(self.scene.lanes))]
                walker = _Walker(lane[0], -lane[1], 0.8, 0.0 if lane[1] < 0 else 1.0, 1.0, colours, 0.02)
                return [self._walking(walker, since)]
            case "fall":
                lying = min(1.0, max(0.0, (since - 2.0) / 0.5))
                x = anomaly.x + direction * height * 0.8 * min(since, 2.0)
                return [_Figure(x, y, height, colours, 2 * math.pi * 0.6 * min(since, 2.0), lying=lying)]
            case "loitering":
                x = anomaly.x + height * 0.5 * math.sin(0.5 * since)
                return [_Figure(x, y, height, colours, 3 * math.sin(0.5 * since))]
            case "abandoned_object":
                return [_Figure(anomaly.x, y, height * 0.3, colours, 0.0, box=True)]
            case "tamper":
                return []
            case "trespass":
                y, height = self.place(self.scene.shunned)
                across = (part if direction > 0 else 1 - part) * (self.width + 2 * height) - height
                return [_Figure(across, y, height, colours, 2 * math.pi * 0.6 * since)]
            case "cart" | "odd":
                return [self._unlike(anomaly.kind, self._walking(self._newcomer(luck, colours), since), colours)]
            case _:
                return self._dispersing(anomaly, since, luck)

    def _newcomer(
        self, luck: random.Random, colours: tuple[Colour, Colour], *, against: bool = False, where: float | None = None
    ) -> _Walker:
        """Somebody who comes in at the beginning of a lane, or at its end and against it."""
        lane, direction, _ = self.scene.lanes[luck.randrange(len(self.scene.lanes))]
        direction = -direction if against else direction
        lane = lane if where is None else where
        begins = 0.0 if direction > 0 or self.scene.view == "along" else 1.0
        return _Walker(lane, direction, 0.8, begins, 1.0, colours, 0.02)

    def _unlike(self, kind: str, walking: _Figure, colours: tuple[Colour, Colour]) -> _Figure:
        """Something that goes as a person does, and is none."""
        size = 1.5 if kind == "cart" else 1.0
        return structs.replace(walking, height=walking.height * size, colours=colours, box=True, odd=kind == "odd")

    def _happening_elsewhere(
        self, anomaly: DemoAnomaly, since: float, luck: random.Random, colours: tuple[Colour, Colour]
    ) -> list[_Figure]:
        """The same kinds in views from above and along."""
        above, kind = self.scene.view == "above", anomaly.kind
        against = kind == "wrong_way"
        where = self.scene.shunned if kind == "trespass" else None
        walker = self._newcomer(luck, colours, against=against, where=where)
        speed = {"runner": 3.2, "cyclist": 3.2}.get(kind, 1.0)
        if kind in {"trespass", "wrong_way", "cart", "odd"} and not above:
            walker = structs.replace(walker, offset=0.35 if walker.direction > 0 else 0.05)  # the far end is far
        match kind:
            case "runner" | "cyclist":
                return [structs.replace(self._walking(walker, since, speed), wheels=kind == "cyclist")]
            case "wrong_way" | "trespass":
                return [self._walking(walker, since)]
            case "cart" | "odd":
                return [self._unlike(kind, self._walking(walker, since), colours)]
            case "tamper":
                return []
            case "dispersal":
                return [
                    structs.replace(one, above=above, heading=1 if one.x > anomaly.x else -1)
                    for one in self._dispersing(anomaly, since, luck)
                ]
            case _:
                return [self._staying(anomaly, since, luck, colours)]

    def _staying(
        self, anomaly: DemoAnomaly, since: float, luck: random.Random, colours: tuple[Colour, Colour]
    ) -> _Figure:
        """A fall, loitering or something left behind, in views from above and along."""
        depth = luck.uniform(0.25, 0.6)
        y, height = self.place(depth)
        x, above = anomaly.x, self.scene.view == "above"
        if not above:  # beside the floor are walls
            x, _, _ = self.spot(1.6 * (anomaly.x / self.width - 0.5), self.scene.near_size * self.height / height)
        at = _Figure(x, y, height, colours, 0.0, above=above)
        match anomaly.kind:
            case "fall":
                lying = min(1.0, max(0.0, (since - 2.0) / 0.5))
                x += height * 0.8 * (min(since, 2.0) - 1.0)
                return structs.replace(at, x=x, stride=2 * math.pi * 0.6 * min(since, 2.0), lying=lying)
            case "loitering":
                x += height * 0.5 * math.sin(0.5 * since)
                return structs.replace(at, x=x, stride=3 * math.sin(0.5 * since))
            case _:
                return structs.replace(at, height=height * 0.3, box=True)

    def _dispersing(self, anomaly: DemoAnomaly, since: float, luck: random.Random) -> list[_Figure]:
        people: list[_Figure] = []
        for number in range(9):
            angle = 2 * math.pi * number / 9 + luck.random()
            depth = 0.5 + 0.05 * math.sin(angle)
            run = max(0.0, since - 3.0)
            y, height = self.place(min(1.0, max(0.0, depth + 0.10 * run * math.sin(angle))))
            x = anomaly.x + math.cos(angle) * height * (0.6 + 2.4 * run)
            people.append(_Figure(x, y, height, _colours(luck), 2 * math.pi * 2.2 * run + number))
        return people


class _Painter:
    """Draws a world; keeps the background and some tiles of noise, so that a frame costs little."""

    def __init__(self, world: _World, noise: float) -> None:
        self._world = world
        luck = np.random.default_rng(world.seed)
        self._background = self._paint_background(luck)
        shape = (world.height * 3 // 2, world.width)
        sigma = np.full(shape, noise, np.float32)
        sigma[world.height :] *= 0.5
        tiles = [luck.normal(0, 1, shape) * sigma for _ in range(6)]
        self._noise = [
            (np.clip(tile, 0, 32).astype(np.uint8), np.clip(-tile, 0, 32).astype(np.uint8)) for tile in tiles
        ]
        self._canvas = np.empty_like(self._background)

    def _paint_background(self, luck: np.random.Generator) -> np.ndarray:
        world, scene = self._world, self._world.scene
        width, height = world.width, world.height
        picture = np.empty((height, width, 3), np.uint8)
        if scene.view == "across":
            self._paint_across(picture)
        elif scene.view == "above":
            self._paint_above(picture)
        else:
            self._paint_along(picture)
        grain = cv2.resize(luck.normal(0, 7, (height // 3, width // 3)).astype(np.float32), (width, height))
        return np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)

    def _paint_above(self, picture: np.ndarray) -> None:
        """Slabs, and a flower bed that nobody walks in."""
        scene = self._world.scene
        height, width = picture.shape[:2]
        picture[:] = scene.ground
        step = max(12, height // 9)
        for at in range(0, width, step):
            cv2.line(picture, (at, 0), (at, height), (116, 120, 122), 1, cv2.LINE_AA)
        for at in range(0, height, step):
            cv2.line(picture, (0, at), (width, at), (116, 120, 122), 1, cv2.LINE_AA)
        cv2.rectangle(picture, (0, round(0.76 * height)), (width, height), scene.wall, -1)
        cv2.rectangle(picture, (0, round(0.74 * height)), (width, round(0.76 * height)), (96, 100, 104), -1)

    def _paint_along(self, picture: np.ndarray) -> None:
        """A floor that runs to the vanishing point between what is beside it."""
        world, scene = self._world, self._world.scene
        height = picture.shape[0]
        picture[:] = scene.wall
        edge = round(scene.horizon * height)
        picture[: round(edge * 0.9)] = tuple(min(255, part + 40) for part in scene.wall)
        near, far = world.reach

        def ground(where: float, distance: float) -> tuple[int, int]:
            x, y, _ = world.spot(where, distance)
            return round(x), round(y)

        floor = np.array([ground(-0.66, far), ground(0.66, far), ground(0.66, near), ground(-0.66, near)], np.int32)
        cv2.fillPoly(picture, [floor], scene.ground)
        for number in range(-6, 7):
            cv2.line(picture, ground(number * 0.11, far), ground(number * 0.11, near), (104, 108, 112), 1, cv2.LINE_AA)
        distance = 0.8
        while distance < far:
            cv2.line(picture, ground(-0.66, distance), ground(0.66, distance), (104, 108, 112), 1, cv2.LINE_AA)
            for side in (-0.72, 0.72):
                foot, head = ground(side, distance), world.spot(side, distance)[2]
                cv2.line(picture, foot, (foot[0], round(foot[1] - 1.6 * head)), (72, 76, 80), 2, cv2.LINE_AA)
            distance *= 1.35

    def _paint_across(self, picture: np.ndarray) -> None:
        scene = self._world.scene
        height, width = picture.shape[:2]
        edge = round(scene.horizon * height)
        picture[:edge], picture[edge:] = scene.wall, scene.ground
        for x in range(0, width, max(24, width // 14)):
            top = (round(edge * 0.25), round(edge * 0.7))
            cv2.rectangle(picture, (x + 6, top[0]), (x + max(16, width // 26), top[1]), (70, 74, 70), -1)
            far = width / 2 + (x - width / 2) * 0.45
            near = width / 2 + (x - width / 2) * 2.2
            cv2.line(picture, (round(far), edge), (round(near), height), (112, 116, 118), 1, cv2.LINE_AA)
        for row in range(1, 9):
            y = edge + round((height - edge) * (row / 9) ** 1.6)
            cv2.line(picture, (0, y), (width, y), (112, 116, 118), 1, cv2.LINE_AA)
        cv2.rectangle(picture, (0, edge - 3), (width, edge + 2), (96, 100, 102), -1)

    def paint(self, time_s: float, index: int, out: np.ndarray) -> None:
        """The picture at `time_s` into `out`, I420 (h * 3 // 2, w) uint8."""
        np.copyto(self._canvas, self._background)
        for figure in self._world.figures(time_s):
            _draw(self._canvas, figure)
        if self._world.is_covered(time_s):
            cv2.rectangle(self._canvas, (0, 0), (self._world.width, self._world.height), (38, 40, 44), -1)
        cv2.cvtColor(self._canvas, cv2.COLOR_BGR2YUV_I420, dst=out)
        luma = out[: self._world.height]
        gain = 1 + 0.03 * math.sin(time_s / 97) + 0.01 * math.sin(time_s / 13)
        cv2.convertScaleAbs(luma, dst=luma, alpha=gain)
        brighter, darker = self._noise[(index * 7 + 3) % len(self._noise)]
        cv2.add(out, brighter, dst=out)
        cv2.subtract(out, darker, dst=out)


def _draw(canvas: np.ndarray, figure: _Figure) -> None:
    """A walking figure of limbs, head and body, with a soft shadow."""
    height, x, y = figure.height, figure.x, figure.y
    if figure.odd:
        _draw_odd(canvas, figure)
        return
    if figure.above:
        _draw_from_above(canvas, figure)
        return
    cv2.ellipse(canvas, _at(x + height * 0.12, y), _at(height * 0.22, height * 0.05), 0, 0, 360, (84, 86, 88), -1)
    if figure.box:
        cv2.rectangle(canvas, _at(x - height / 2, y - height), _at(x + height / 2, y), figure.colours[0], -1)
        return
    lean = figure.lying * math.pi / 2

    def point(side: float, up: float) -> tuple[int, int]:
        return _at(
            x + height * (side * math.cos(lean) + up * math.sin(lean)),
            y - height * (up * math.cos(lean) + side * math.sin(lean) * 0.3),
        )

    shirt, trousers = figure.colours
    thick = max(1, round(height * 0.085))
    hip, neck = point(0, 0.5), point(0, 0.82)
    swing = 0.16 * math.sin(figure.stride)
    if figure.wheels:
        for side in (-0.32, 0.32):
            cv2.circle(
                canvas, point(side, 0.2), max(2, round(height * 0.2)), (30, 30, 30), max(1, thick // 2), cv2.LINE_AA
            )
        cv2.line(canvas, point(-0.32, 0.2), point(0.25, 0.5), (40, 40, 160), max(1, thick // 2), cv2.LINE_AA)
    feet_up = 0.15 if figure.wheels else 0.0
    cv2.line(canvas, hip, point(swing, feet_up), trousers, thick, cv2.LINE_AA)
    cv2.line(canvas, hip, point(-swing, feet_up), trousers, thick, cv2.LINE_AA)
    cv2.line(canvas, hip, neck, shirt, max(2, round(height * 0.17)), cv2.LINE_AA)
    cv2.line(canvas, point(0, 0.78), point(-swing * 0.9, 0.48), shirt, max(1, thick - 1), cv2.LINE_AA)
    cv2.line(canvas, point(0, 0.78), point(swing * 0.9, 0.48), shirt, max(1, thick - 1), cv2.LINE_AA)
    cv2.circle(canvas, point(0, 0.93), max(2, round(height * 0.075)), (132, 156, 196), -1, cv2.LINE_AA)


def _draw_odd(canvas: np.ndarray, figure: _Figure) -> None:
    """As large as a person, and a chequered thing."""
    half = figure.height * 0.2
    top, rows = (figure.y - half, 3) if figure.above else (figure.y - figure.height, 7)
    tall = (2 * half if figure.above else figure.height) / rows
    for row in range(rows):
        for column in range(3):
            corner = figure.x - half + column * 2 * half / 3, top + row * tall
            colour = (235, 235, 235) if (row + column) % 2 else (20, 20, 20)
            cv2.rectangle(canvas, _at(*corner), _at(corner[0] + 2 * half / 3, corner[1] + tall), colour, -1)


def _draw_from_above(canvas: np.ndarray, figure: _Figure) -> None:
    """Shoulders and head of somebody who walks beneath; all of the body where it lies."""
    height, x, y, (shirt, trousers) = figure.height, figure.x, figure.y, figure.colours
    if figure.box:
        side = height / 2
        cv2.rectangle(canvas, _at(x - side, y - side * 0.6), _at(x + side, y + side * 0.6), shirt, -1)
        return
    step = 0.16 * height * math.sin(figure.stride)
    cv2.ellipse(
        canvas,
        _at(x + 0.05 * height, y + 0.05 * height),
        _at(0.14 * height, 0.17 * height),
        0,
        0,
        360,
        (98, 100, 102),
        -1,
    )
    thick = max(1, round(0.08 * height))
    if figure.wheels:
        cv2.line(canvas, _at(x - 0.5 * height, y), _at(x + 0.5 * height, y), (30, 30, 30), thick, cv2.LINE_AA)
    for side in (-1, 1):
        foot = y + 0.06 * side * height
        cv2.line(canvas, _at(x, foot), _at(x + side * step, foot), trousers, thick, cv2.LINE_AA)
    if figure.lying:
        cv2.line(canvas, _at(x - 0.9 * height * figure.lying, y), _at(x, y), trousers, 2 * thick, cv2.LINE_AA)
    cv2.ellipse(canvas, _at(x, y), _at(0.09 * height, 0.19 * height), 0, 0, 360, shirt, -1, cv2.LINE_AA)
    cv2.circle(
        canvas, _at(x + 0.03 * height * figure.heading, y), max(2, round(0.08 * height)), (60, 70, 96), -1, cv2.LINE_AA
    )


def _at(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


class _DemoFrame:
    """A picture that is drawn when it is asked for."""

    def __init__(self, painter: _Painter, size: tuple[int, int], index: int, media_s: float, time_s: float) -> None:
        self._painter, self._size, self._time_s = painter, size, time_s
        self.index, self.media_s = index, media_s

    def write_i420(self, out: np.ndarray) -> None:
        check_i420(out, *self._size)
        self._painter.paint(self._time_s, self.index, out)

    def planes(self) -> None:
        """It is drawn where it is wanted."""


class DemoSource:
    """`demo://SCENE?seed=1&fps=10&width=640&height=360&anomalies=1&noise=2&duration=60`; endless without duration.

    `speed=10` plays it ten times as fast as the clock goes.
    `kinds=runner,tamper` has only these happen.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        name = parts.netloc or parts.path.strip("/")
        if name not in SCENES:
            raise SourceError(f"there is no demo scene {name!r}", hint=f"there are: {', '.join(SCENES)}")
        kinds, values = _parameters(parts.query)
        width, height = round(values["width"]) // 2 * 2, round(values["height"]) // 2 * 2
        self._fps, self._noise = values["fps"], values["noise"]
        anomalies = bool(values["anomalies"])
        self._world = _World(SCENES[name], round(values["seed"]), width, height, anomalies=anomalies, kinds=kinds)
        duration = values["duration"] or None
        self._info = SourceInfo(
            name=f"demo://{name}",
            width=width,
            height=height,
            fps=self._fps,
            frames=round(duration * self._fps) if duration else None,
            duration_s=duration,
            simulated=True,
            speed=values["speed"],
        )

    @cached_property
    def _painter(self) -> _Painter:
        return _Painter(self._world, self._noise)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def frames(self) -> Iterator[SourceFrame]:
        """From time zero on, as fast as they are asked for."""
        index = 0
        while self._info.frames is None or index < self._info.frames:
            yield self._frame(index, index / self._fps)
            index += 1

    def normal_frames(self, seconds: float) -> Iterator[SourceFrame]:
        """`seconds` of simulated time before zero, in which nothing unusual happens."""
        for index in range(round(seconds * self._fps)):
            yield self._frame(index, index / self._fps - NORMAL_BEFORE_S)

    def frame_at(self, index: int) -> SourceFrame:
        """Frame number `index` since time zero, without those before it."""
        return self._frame(index, index / self._fps)

    def _frame(self, index: int, time_s: float) -> SourceFrame:
        return _DemoFrame(self._painter, (self._info.width, self._info.height), index, index / self._fps, time_s)

    def ground_truth(self, begin_s: float, end_s: float) -> list[DemoAnomaly]:
        """What happens between two times of the source."""
        return self._world.around(begin_s, end_s)

    def shown(self, time_s: float) -> list[tuple[str, Box]]:
        """What is unusual and half of it in the picture at least: kind and box, pixels x0, y0, x1, y1."""
        return self._world.shown(time_s)

    def close(self) -> None:
        """Nothing to let go of."""


_BOUNDS = {
    "seed": (1.0, 0, 2**31),
    "fps": (10.0, 1, 60),
    "width": (640.0, 64, 3840),
    "height": (360.0, 64, 2160),
    "anomalies": (1.0, 0, 1),
    "noise": (2.0, 0, 5),
    "duration": (0.0, 0, 1e6),
    "speed": (1.0, 0.1, 100),
}


def _parameters(query: str) -> tuple[tuple[str, ...], dict[str, float]]:
    """The kinds of what may happen, and the numbers."""
    values = {name: default for name, (default, _, _) in _BOUNDS.items()}
    given = parse_qs(query, keep_blank_values=True)
    kinds = tuple(given.pop("kinds", [""])[-1].split(",")) if given.get("kinds", [""])[-1] else ()
    given.pop("kinds", None)
    known = {*KINDS, *_ASKED_FOR_S}
    for kind in kinds:
        if kind not in known:
            raise SourceError(f"nothing of the kind {kind!r} happens", hint=f"there are: {', '.join(sorted(known))}")
    for name, texts in given.items():
        if name not in _BOUNDS:
            raise SourceError(
                f"a demo source has no parameter {name!r}", hint=f"there are: {', '.join(_BOUNDS)}, kinds"
            )
        _, low, high = _BOUNDS[name]
        try:
            values[name] = float(texts[-1])
        except ValueError:
            values[name] = math.nan
        if not low <= values[name] <= high:
            raise SourceError(f"{name}={texts[-1]} of the demo source is not between {low:g} and {high:g}")
    return kinds, values


def ground_truth(url: str, begin_s: float, end_s: float) -> list[DemoAnomaly]:
    """What a demo source shows between two of its times; raises SourceError."""
    return DemoSource(url).ground_truth(begin_s, end_s)
