"""What is counted, and what was done about it: quarter-hour roll-ups, score history, job runs."""

from typing import Any

from sqlalchemy import BigInteger, Float, Index, Integer, LargeBinary, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, UtcTime

__all__ = ["CoverageRow", "DayPackRow", "EventStatisticsRow", "JobRunRow", "ScoreHistoryRow"]


class EventStatisticsRow(Base):
    """Events that began in a quarter of an hour (UTC), by camera, type and severity."""

    __tablename__ = "event_statistics"
    __table_args__ = (Index(None, "camera_id", "bucket"), {"sqlite_with_rowid": False})

    bucket: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Quarters of an hour since 1970 in UTC."""
    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    vlm_type: Mapped[str] = mapped_column(String(64), primary_key=True)
    severity: Mapped[str] = mapped_column(String(16), primary_key=True)
    events: Mapped[int] = mapped_column(Integer)
    peak_score: Mapped[float] = mapped_column(Float)
    """The highest."""
    duration_s: Mapped[float] = mapped_column(Float)
    """Of all of them together."""


class CoverageRow(Base):
    """How much of a quarter of an hour a camera was up and looked."""

    __tablename__ = "coverage"
    __table_args__ = (Index(None, "camera_id", "bucket"), {"sqlite_with_rowid": False})

    bucket: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    up_s: Mapped[int] = mapped_column(SmallInteger)
    """Seconds in which pictures came, 0..900."""
    watched_s: Mapped[int] = mapped_column(SmallInteger)
    """Seconds in which they were judged by a state that was learned, 0..900."""


class DayPackRow(Base):
    """All roll-ups of one UTC day, as core.db.day_pack packs them: what statistics are read from."""

    __tablename__ = "statistics_days"

    day: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Days since 1970."""
    data: Mapped[bytes] = mapped_column(LargeBinary)


class ScoreHistoryRow(Base):
    """A minute of a camera's scores."""

    __tablename__ = "score_history"
    __table_args__ = (Index(None, "minute"), Index(None, "sequence"), {"sqlite_with_rowid": False})

    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    minute: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Minutes since 1970 in UTC."""
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Grows with each change of any minute."""
    node_id: Mapped[str] = mapped_column(String(64))
    highest: Mapped[float | None] = mapped_column(Float)
    mean: Mapped[float | None] = mapped_column(Float)
    """None where no second was watched."""
    up: Mapped[int] = mapped_column(BigInteger)
    """Bit n: pictures came in second n."""
    up_s: Mapped[int] = mapped_column(SmallInteger)
    watched_s: Mapped[int] = mapped_column(SmallInteger)
    seconds: Mapped[bytes | None] = mapped_column(LargeBinary)
    """60 float16, little-endian, the highest score of each second, NaN where it was not watched; None once old."""


class JobRunRow(Base):
    """One run of a periodic job: the key lets one housekeeper do it, however many there are."""

    __tablename__ = "job_runs"
    __table_args__ = (Index(None, "started_at"),)

    job: Mapped[str] = mapped_column(String(64), primary_key=True)
    period: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Which of its periods since 1970."""
    node_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    """"running", "done" or "failed"."""
    started_at: Mapped[str] = mapped_column(UtcTime)
    ended_at: Mapped[str | None] = mapped_column(UtcTime)
    lease_until: Mapped[str] = mapped_column(UtcTime)
    """A run that has not ended by then may be taken over."""
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
