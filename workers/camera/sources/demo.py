"""The demo source: a rendered place in which people walk about, and now and then something unusual happens.

Everything is a function of scene, seed and time, so a frame looks the same however one gets to it, and what happens
when can be asked for as ground truth.
"""

import math
import random
from collections.abc import Iterator
from functools import cached_property
from urllib.parse import parse_qs, urlsplit

import cv2
import msgspec
import numpy as np

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
_ASKED_FOR_S = {"dispersal": 9.0, "tamper": 12.0}
"""Those that happen only where the URL names them."""
NORMAL_BEFORE_S = 100_000.0
"""Learning happens on the time line before zero, where there are no anomalies."""

Colour = tuple[int, int, int]


class Scene(msgspec.Struct, frozen=True):
    """Geometry: walkers keep to `lanes` (depth 0 far .. 1 near, direction, people); sizes shrink with distance."""

    horizon: float
    """Height of the far edge of the ground, as a fraction of the picture."""
    far_size: float
    """Height of a person at the far edge, as a fraction of the picture's height."""
    near_size: float
    lanes: tuple[tuple[float, int, int], ...]
    ground: Colour
    wall: Colour


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


def _colours(luck: random.Random) -> tuple[Colour, Colour]:
    def pick() -> Colour:
        return luck.randint(20, 190), luck.randint(20, 190), luck.randint(20, 190)

    return pick(), pick()


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
        y = (scene.horizon + 0.06 + (0.98 - scene.horizon - 0.06) * depth) * self.height
        return y, (scene.far_size + (scene.near_size - scene.far_size) * depth) * self.height

    def figures(self, time_s: float) -> list[_Figure]:
        """All to be drawn, farthest first."""
        found = [self._walking(walker, time_s) for walker in self.walkers]
        for anomaly in self.around(time_s, time_s):
            found += self._happening(anomaly, time_s)
        return sorted(found, key=lambda figure: figure.y)

    def _walking(self, walker: _Walker, time_s: float, speed: float = 1.0) -> _Figure:
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
        return _Figure(x, y, height, walker.colours, 2 * math.pi * pace * 0.75 * time_s + walker.offset)

    # ---- anomalies

    def schedule(self) -> Iterator[DemoAnomaly]:
        """All anomalies from time zero on, without end."""
        luck = random.Random(f"anomalies {self.seed}")
        begin_s = luck.uniform(40, 70)
        kind = luck.choice(self.kinds or _FAST_KINDS)
        while True:
            length_s = {**_LENGTH_S, **_ASKED_FOR_S}[kind]
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

    def is_covered(self, time_s: float) -> bool:
        """Whether something is held before the lens."""
        return any(one.kind == "tamper" for one in self.around(time_s, time_s))

    def _happening(self, anomaly: DemoAnomaly, time_s: float) -> list[_Figure]:
        since = time_s - anomaly.begin_s
        part = since / (anomaly.end_s - anomaly.begin_s)
        luck = random.Random(f"{anomaly.begin_s}")
        colours, direction = _colours(luck), luck.choice((-1, 1))
        depth = luck.uniform(0.3, 0.8)
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
            case _:
                return self._dispersing(anomaly, since, luck)

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
        grain = cv2.resize(luck.normal(0, 7, (height // 3, width // 3)).astype(np.float32), (width, height))
        return np.clip(picture + grain[..., None], 0, 255).astype(np.uint8)

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


class DemoSource:
    """`demo://SCENE?seed=1&fps=10&width=640&height=360&anomalies=1&noise=2&duration=60`; endless without duration.

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
