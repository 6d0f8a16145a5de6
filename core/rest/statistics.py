"""Records of statistics."""

from core.db.statistics import Looked, PeriodStatistics, Statistics, Trend
from core.rest.base import Record

__all__ = ["PeriodOut", "StatisticsOut", "Trend", "TrendOut"]


class PeriodOut(Record, frozen=True, kw_only=True):
    """One day, week or month, or all of them; see `looked` before you trust a zero."""

    begin: str
    """Its first local day."""
    events: int
    by_type: dict[str, int]
    by_severity: dict[str, int]
    by_camera: dict[str, int]
    peak_score: float
    duration_s: float
    watched_s: int
    expected_s: int
    coverage: float | None
    """Share of the time that cameras watched; null where there was none to watch."""
    looked: Looked
    partial: bool
    """It is not over yet."""

    @classmethod
    def of(cls, period: PeriodStatistics) -> "PeriodOut":
        return cls(
            begin=period.begin.isoformat(),
            events=period.events,
            by_type=period.by_type,
            by_severity=period.by_severity,
            by_camera=period.by_camera,
            peak_score=round(period.peak_score, 3),
            duration_s=round(period.duration_s, 3),
            watched_s=period.watched_s,
            expected_s=period.expected_s,
            coverage=round(period.coverage, 4) if period.coverage is not None else None,
            looked=period.looked,
            partial=period.partial,
        )


class StatisticsOut(Record, frozen=True, kw_only=True):
    time_zone: str
    periods: list[PeriodOut]
    total: PeriodOut
    version: int
    """Of the data: the same version gives the same answer, but for what is not over."""

    @classmethod
    def of(cls, found: Statistics, time_zone: str) -> "StatisticsOut":
        return cls(
            time_zone=time_zone,
            periods=[PeriodOut.of(one) for one in found.periods],
            total=PeriodOut.of(found.total),
            version=found.version,
        )


class TrendOut(Record, frozen=True, kw_only=True):
    """How a range compares: all visible cameras together, and each by itself."""

    time_zone: str
    first: str
    last: str
    all: Trend
    by_camera: dict[str, Trend]
    version: int
