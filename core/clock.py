"""Time, as a value that can be passed in: UTC for what is stored, monotonic for what is measured."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.errors import ConfigError

__all__ = [
    "DAY",
    "Clock",
    "FakeClock",
    "SystemClock",
    "later_utc",
    "local_day",
    "local_text",
    "normal_utc",
    "time_zone",
    "utc_iso",
]


DAY = r"^\d{4}-\d{2}-\d{2}$"
"""What `local_day` reads."""


class Clock(Protocol):
    """What decides on time asks this, so that tests need not wait."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, since an arbitrary start."""
        ...

    def monotonic_ns(self) -> int:
        """The same in nanoseconds; comparable between processes of one machine."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start.timestamp()
        self._elapsed_ns = 0

    def advance(self, seconds: float) -> None:
        self._elapsed_ns += round(seconds * 1e9)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._start + self._elapsed_ns / 1e9, UTC)

    def monotonic(self) -> float:
        return self._elapsed_ns / 1e9

    def monotonic_ns(self) -> int:
        return self._elapsed_ns


def utc_iso(at: datetime) -> str:
    """`at` as RFC 3339 in UTC with microseconds; sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_zone(name: str) -> ZoneInfo:
    """The IANA time zone of this name; raises ConfigError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"not a time zone: {name[:60]!r}", "use an IANA name such as Asia/Seoul") from error


def local_text(at: str, zone: ZoneInfo) -> str:
    """A moment as people of that zone write it: 2026-03-01 18:00:05."""
    return datetime.fromisoformat(at).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")


def local_day(text: str) -> date:
    """A day of the calendar, as 2026-03-01; raises ConfigError."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"not a day: {text[:40]!r}", "write it as 2026-03-01") from error


def later_utc(at: str, seconds: float) -> str:
    """So many seconds after `at`, both as `utc_iso` writes them."""
    return utc_iso(datetime.fromisoformat(at) + timedelta(seconds=seconds))


def normal_utc(text: str) -> str:
    """`text`, RFC 3339 with an offset or Z, in the form of `utc_iso`; raises ConfigError for anything else."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return utc_iso(at)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"not a time: {text[:40]!r}", "write it as 2026-03-01T18:00:00Z")
