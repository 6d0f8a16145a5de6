"""Zones on pixels: what is black in every picture, and what detection does not see."""

from collections.abc import Sequence
from datetime import UTC, datetime

import cv2
import numpy as np

from core import clock
from core.cameras import Zone, ZoneKind
from core.cameras.zones import Point, contains
from workers.camera.pixels import planes

__all__ = ["Masks"]

BLACK, GREY = 16, 128


class Masks:
    """The zones of one camera; belongs to the capturing thread, but for `names_at`."""

    def __init__(self, zones: Sequence[Zone], time_zone: str = "UTC") -> None:
        self._zones = tuple(zones)
        self._time_zone = clock.time_zone(time_zone)
        self._minute = -1
        self._holding: frozenset[str] | None = None
        self._hidden: tuple[np.ndarray, np.ndarray] | None = None
        self.private = any(zone.kind is ZoneKind.PRIVACY for zone in zones)

    def turn(self, at_ns: int) -> bool:
        """Sets the time, UTC; whether another part of the picture is hidden from detection than before."""
        minute = at_ns // 60_000_000_000
        if minute == self._minute:
            return False
        self._minute = minute
        holding = self._names_holding()
        changed = self._holding is not None and holding != self._holding
        if holding != self._holding:
            self._holding, self._hidden = holding, None
        return changed

    def _names_holding(self) -> frozenset[str]:
        local = datetime.fromtimestamp(self._minute * 60, UTC).astimezone(self._time_zone)
        return frozenset(zone.name for zone in self._zones if zone.holds(local))

    def blacken(self, pixels: np.ndarray) -> None:
        """Privacy zones of an I420 picture (h * 3 // 2, w), in place."""
        if self.private:
            points = [zone.points for zone in self._zones if zone.kind is ZoneKind.PRIVACY]
            for plane, value in zip(planes(pixels), (BLACK, GREY, GREY), strict=True):
                _fill(plane, points, value)

    def hide(self, pixels: np.ndarray) -> None:
        """What detection is not to see of an I420 picture, in place: ignore zones, and all outside of detect zones."""
        if not self._zones:
            return
        luma, u, v = planes(pixels)
        if self._hidden is None or self._hidden[0].shape != luma.shape:
            self._hidden = self._covers(luma.shape), self._covers(u.shape)
        luma[self._hidden[0]] = BLACK
        u[self._hidden[1]] = GREY
        v[self._hidden[1]] = GREY

    def _covers(self, shape: tuple[int, ...]) -> np.ndarray:
        """(h, w) bool."""
        holding = [zone for zone in self._zones if zone.name in (self._holding or ())]
        seen = [zone.points for zone in holding if zone.kind is ZoneKind.DETECT]
        cover = np.full(shape, 1 if seen else 0, np.uint8)
        _fill(cover, seen, 0)
        _fill(cover, [zone.points for zone in holding if zone.kind is ZoneKind.IGNORE], 1)
        return cover.astype(bool)

    def holding(self) -> list[Zone]:
        """The zones that hold now."""
        names = self._holding or ()
        return [zone for zone in self._zones if zone.name in names]

    def around(self, x: float, y: float) -> list[Zone]:
        """The zones in which a point (fractions) lies now."""
        holding = self._holding or ()
        return [zone for zone in self._zones if zone.name in holding and contains(zone.points, x, y)]


def _fill(plane: np.ndarray, polygons: Sequence[tuple[Point, ...]], value: int) -> None:
    height, width = plane.shape
    for points in polygons:
        corners = np.round(np.array(points) * (width, height)).astype(np.int32)
        cv2.fillPoly(plane, [corners], value)
