"""Statistics: events and coverage by day, week or month of any time zone, from the roll-ups; and how they compare."""

import enum
import statistics
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, select

from core.clock import Clock, SystemClock, time_zone
from core.db.counters import counter
from core.db.day_pack import Counted, load_days
from core.db.rollup import QUARTER_S, quarter_at
from core.db.tables import CameraRow
from core.errors import ConfigError
from core.ids import CameraId

__all__ = ["Looked", "Period", "PeriodStatistics", "Statistics", "StatisticsQuery", "StatisticsReader", "Trend"]

MAX_PERIODS = 800
CACHED = 256
BASELINE_WEEKS = 4
WHOLE = 0.95
"""Share of the time that counts as all of it."""


class Period(enum.StrEnum):
    DAY = "day"
    WEEK = "week"
    """From Monday on."""
    MONTH = "month"


class Looked(enum.StrEnum):
    """Whether cameras looked: what tells "nothing happened" from "nobody was looking"."""

    FULLY = "fully"
    PARTLY = "partly"
    NOT = "not"


class StatisticsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whole periods from the one that holds `first` to the one that holds `last`, local dates of `time_zone` (IANA)."""

    first: date
    last: date
    period: Period = Period.DAY
    time_zone: str = "UTC"
    cameras: tuple[CameraId, ...] | None = None
    """None: all."""


class PeriodStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One period, or all of several. Seconds are summed over cameras."""

    begin: date
    events: int
    by_type: dict[str, int]
    by_severity: dict[str, int]
    by_camera: dict[str, int]
    peak_score: float
    """The highest; 0 where there was no event."""
    duration_s: float
    """Of all events."""
    up_s: int
    watched_s: int
    expected_s: int
    """Watching all the time since they were added would have been so much; 0 before there was a camera."""
    looked: Looked
    partial: bool
    """It is not over yet."""

    @property
    def coverage(self) -> float | None:
        """Share of the time that was watched; None where there was nothing to watch."""
        return min(1.0, self.watched_s / self.expected_s) if self.expected_s else None


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How the range compares. A range that is not over is held against the same stretch of the one before."""

    events: int
    before: int
    """Events in the range of the same length right before."""
    change: float | None
    """events / before - 1; None where there were none before."""
    usual: float | None
    """For a range of days: the sum over its days of the median of the same weekday in the 4 weeks before the range.

    Days that nobody watched do not count; None where a weekday has none that counts.
    """


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    periods: list[PeriodStatistics]
    total: PeriodStatistics
    trend: Trend
    version: int
    """Of the data: the same version gives the same answer, but for the period that is not over."""


class StatisticsReader:
    """Answers and remembers: by data version, set of cameras and question. Safe from several threads."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock or SystemClock()
        self._cache: OrderedDict[tuple[Any, ...], Statistics] = OrderedDict()

    def read(self, query: StatisticsQuery) -> Statistics:
        """Raises ConfigError for an unknown time zone, and for a range that is backwards or too long."""
        zone = time_zone(query.time_zone)
        begins = _begins(query)
        now = self._clock.now()
        with self._engine.connect() as connection:
            version = counter(connection, "statistics")
            cameras = frozenset(query.cameras) if query.cameras is not None else None
            key = (version, cameras, begins[0], begins[-1], query.period, query.time_zone, quarter_at(now))
            known = self._cache.get(key)
            if known is None:
                known = _Reading(connection, query, zone, begins, now).read(version)
                self._cache[key] = known
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
        return known


def _begins(query: StatisticsQuery) -> list[date]:
    """The first local day of each period, and of the one after the last."""
    if query.last < query.first:
        raise ConfigError(f"the range ends ({query.last}) before it begins ({query.first})")
    begins = [_period_begin(query.first, query.period)]
    while begins[-1] <= query.last:
        if len(begins) > MAX_PERIODS:
            raise ConfigError(f"more than {MAX_PERIODS} periods", "ask for a shorter range, or for longer periods")
        begins.append(_next(begins[-1], query.period))
    return begins


def _period_begin(day: date, period: Period) -> date:
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def _next(begin: date, period: Period) -> date:
    if period is Period.MONTH:
        return (begin + timedelta(days=32)).replace(day=1)
    return begin + timedelta(days=7 if period is Period.WEEK else 1)


def _quarter(day: date, zone: ZoneInfo) -> int:
    """The quarter with which a local day begins; where midnight does not exist, the one that comes instead."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    return quarter_at(midnight.astimezone(UTC))


class _Sums:
    """Sums of events and of watched seconds between each two neighbouring edges, from what was loaded for all."""

    def __init__(self, counted: Counted) -> None:
        self.names = counted
        self._events, self._coverage = counted.events, counted.coverage

    def events(self, edges: Sequence[int]) -> list[int]:
        index, inside = _inside(edges, self._events)
        return _add(index, self._events["events"][inside], len(edges) - 1)

    def duration_s(self, edges: Sequence[int]) -> list[float]:
        index, inside = _inside(edges, self._events)
        return np.bincount(index, self._events["duration"][inside], len(edges) - 1).tolist()

    def peak(self, edges: Sequence[int]) -> list[float]:
        offsets = np.searchsorted(self._events["quarter"], np.array(edges))
        peaks = self._events["peak"]
        return [float(peaks[low:high].max()) if high > low else 0.0 for low, high in pairwise(offsets.tolist())]

    def by(self, field: str, names: Sequence[str], edges: Sequence[int]) -> list[dict[str, int]]:
        """Events by name, most first, of a field that numbers them."""
        index, inside = _inside(edges, self._events)
        width = max(1, len(names))
        key = index * width + self._events[field][inside]
        counts = _add(key, self._events["events"][inside], (len(edges) - 1) * width)
        lines = [counts[begin : begin + width] for begin in range(0, len(counts), width)]
        return [_most_first(dict(zip(names, line, strict=False))) for line in lines]

    def seconds(self, field: str, edges: Sequence[int]) -> list[int]:
        """Of "up" or "watched"."""
        index, inside = _inside(edges, self._coverage)
        return _add(index, self._coverage[field][inside], len(edges) - 1)


def _inside(edges: Sequence[int], columns: dict[str, Any]) -> tuple[Any, slice]:
    """The rows between the first edge and the last, and for each between which two it lies."""
    offsets: Any = np.searchsorted(columns["quarter"], np.array(edges))
    return np.repeat(np.arange(len(edges) - 1), np.diff(offsets)), slice(int(offsets[0]), int(offsets[-1]))


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(((name, n) for name, n in counts.items() if n), key=lambda one: (-one[1], one[0])))


def _add(index: Any, numbers: Any, length: int) -> list[int]:
    return np.bincount(index, numbers, length).astype(np.int64).tolist()


class _Reading:
    """One question on one connection."""

    def __init__(
        self, connection: Connection, query: StatisticsQuery, zone: ZoneInfo, begins: list[date], now: datetime
    ) -> None:
        self._query, self._zone, self._begins, self._now = query, zone, begins, now
        self._edges = [_quarter(day, zone) for day in begins]
        self._before = self._edge_before()
        self._baseline = [begins[0] - timedelta(days=back) for back in range(7 * BASELINE_WEEKS, -1, -1)]
        self._baseline_edges = [_quarter(day, zone) for day in self._baseline]
        first = min(self._before, self._baseline_edges[0])
        cameras = frozenset(query.cameras) if query.cameras is not None else None
        self._sums = _Sums(load_days(connection, first, self._edges[-1], cameras))
        self._since = self._cameras_since(connection)

    def read(self, version: int) -> Statistics:
        total = self._periods([self._edges[0], self._edges[-1]])[0]
        return Statistics(periods=self._periods(self._edges), total=total, trend=self._trend(total), version=version)

    def _periods(self, edges: list[int]) -> list[PeriodStatistics]:
        sums, names = self._sums, self._sums.names
        events, peak, duration_s = sums.events(edges), sums.peak(edges), sums.duration_s(edges)
        types = sums.by("type", names.types, edges)
        severities = sums.by("severity", names.severities, edges)
        cameras = sums.by("camera", names.cameras, edges)
        up_s, watched_s = sums.seconds("up", edges), sums.seconds("watched", edges)
        periods: list[PeriodStatistics] = []
        for n, (low, high) in enumerate(pairwise(edges)):
            expected_s = _expected(self._since, low, high, self._now)
            share = watched_s[n] / expected_s if expected_s else 0.0
            looked = Looked.NOT if not watched_s[n] else Looked.FULLY if share >= WHOLE else Looked.PARTLY
            periods.append(
                PeriodStatistics(
                    begin=self._begins[n],
                    events=events[n],
                    by_type=types[n],
                    by_severity=severities[n],
                    by_camera=cameras[n],
                    peak_score=peak[n],
                    duration_s=duration_s[n],
                    up_s=up_s[n],
                    watched_s=watched_s[n],
                    expected_s=expected_s,
                    looked=looked,
                    partial=self._now.timestamp() < high * QUARTER_S,
                )
            )
        return periods

    def _cameras_since(self, connection: Connection) -> list[float]:
        """When each of the cameras that are there was added, Unix seconds."""
        query = select(CameraRow.created_at)
        if self._query.cameras is not None:
            query = query.where(CameraRow.camera_id.in_(sorted(set(self._query.cameras))))
        return [datetime.fromisoformat(at).timestamp() for at in connection.execute(query).scalars()]

    # ---- trends

    def _edge_before(self) -> int:
        """Where the range of the same length before this one begins; before a month, that is the month before."""
        begin, end = self._begins[0], self._begins[-1]
        if self._query.period is Period.MONTH:
            months = len(self._begins) - 1
            for _ in range(months):
                begin = _period_begin(begin - timedelta(days=1), Period.MONTH)
            return _quarter(begin, self._zone)
        return _quarter(begin - (end - begin), self._zone)

    def _trend(self, total: PeriodStatistics) -> Trend:
        first, end, now = self._edges[0], self._edges[-1], quarter_at(self._now)
        until = first if now >= end else min(first, self._before + max(0, now - first))
        before = self._sums.events([self._before, until])[0] if until > self._before else 0
        return Trend(
            events=total.events,
            before=before,
            change=total.events / before - 1 if before else None,
            usual=self._usual(),
        )

    def _usual(self) -> float | None:
        edges = self._baseline_edges
        events, watched = self._sums.events(edges), self._sums.seconds("watched", edges)
        by_weekday: dict[int, list[int]] = {}
        for n, day in enumerate(self._baseline[:-1]):
            if watched[n] or events[n]:
                by_weekday.setdefault(day.weekday(), []).append(events[n])
        first, length = self._begins[0], (self._begins[-1] - self._begins[0]).days
        asked = [(first + timedelta(days=n)).weekday() for n in range(length)]
        if any(weekday not in by_weekday for weekday in asked):
            return None
        return float(sum(statistics.median(by_weekday[weekday]) for weekday in asked))


def _expected(since: Sequence[float], first: int, end: int, now: datetime) -> int:
    """Seconds between two quarters in which cameras were there to watch, up to now."""
    until = min(end * QUARTER_S, now.timestamp())
    return round(sum(max(0.0, until - max(first * QUARTER_S, added)) for added in since))
