"""Zones: parts of a camera's picture with a meaning of their own, always or at set times of the week."""

import enum
from datetime import datetime, time, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Point", "Weekly", "Zone", "ZoneKind", "contains"]

Fraction = Annotated[float, Meta(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
"""(x, y) as fractions of width and height, from the top left."""
ClockTime = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class ZoneKind(enum.StrEnum):
    """What a zone does.

    `detect`: where there are such, only what happens in them raises events. `ignore`: what happens in it is neither
    scored nor learned. `privacy`: black in every picture that leaves the camera's process. `direction`: names what
    happens in it and the way that is right there, for rules and analysts.
    """

    DETECT = "detect"
    IGNORE = "ignore"
    PRIVACY = "privacy"
    DIRECTION = "direction"


class Weekly(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of time on days of the week, in the site's time zone; over midnight where it ends before it begins."""

    days: Annotated[tuple[Annotated[int, Meta(ge=1, le=7)], ...], Meta(min_length=1, max_length=7)] = (
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    )
    """ISO: 1 is Monday. The day on which it begins."""
    begin: ClockTime = "00:00"
    end: ClockTime = "24:00"

    def holds(self, local: datetime) -> bool:
        """Whether `local`, in the site's time zone, lies in it; its end does not."""
        begin, end = _minutes(self.begin), _minutes(self.end)
        now = local.hour * 60 + local.minute
        if begin < end:
            return local.isoweekday() in self.days and begin <= now < end
        yesterday = (local - timedelta(days=1)).isoweekday()
        return (local.isoweekday() in self.days and now >= begin) or (yesterday in self.days and now < end)


class Zone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A polygon on a camera's picture; without a schedule it holds always."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    kind: ZoneKind
    points: Annotated[tuple[Point, ...], Meta(min_length=3, max_length=64)]
    direction: Annotated[float, Meta(ge=0, lt=360)] | None = None
    """Degrees, clockwise from the top of the picture: the way that is right. Only of `direction` zones."""
    schedule: Annotated[tuple[Weekly, ...], Meta(max_length=28)] = ()

    def __post_init__(self) -> None:
        if (self.direction is not None) != (self.kind is ZoneKind.DIRECTION):
            raise ValueError("a direction belongs to a zone of the kind direction, and to no other")
        if self.kind is ZoneKind.PRIVACY and self.schedule:
            raise ValueError("a privacy zone holds always: it has no schedule")

    def holds(self, local: datetime) -> bool:
        """Whether it counts at `local`, a time in the site's time zone."""
        return not self.schedule or any(weekly.holds(local) for weekly in self.schedule)


def contains(points: tuple[Point, ...], x: float, y: float) -> bool:
    """Whether (x, y) lies in the polygon, by the even-odd rule."""
    inside = False
    before = points[-1]
    for point in points:
        (ax, ay), (bx, by) = before, point
        if (ay > y) != (by > y) and x < (bx - ax) * (y - ay) / (by - ay) + ax:
            inside = not inside
        before = point
    return inside


def _minutes(text: str) -> int:
    return 24 * 60 if text == "24:00" else time.fromisoformat(text).hour * 60 + time.fromisoformat(text).minute
