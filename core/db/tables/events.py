"""Events, and all that hangs on one: files, steps, acknowledgements, feedback."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, Key, UtcTime

__all__ = [
    "AcknowledgementRow",
    "CounterRow",
    "EventAnalysisRow",
    "EventMediaRow",
    "EventPathRow",
    "EventRow",
    "EventStepRow",
    "FeedbackRow",
]


class CounterRow(Base):
    """Numbers that only grow. Whoever takes some holds the row until the commit: their order is that of commits."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


_UNACKNOWLEDGED = text("acknowledged_at IS NULL")
_OPEN = text("state = 'open'")


class EventRow(Base):
    """The latest revision of each event; the fields of core.events.AnomalyEvent and what people did with it."""

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "began_at", "id"),
        Index(None, "camera_id", "began_at", "id"),
        Index(None, "severity", "began_at", "id"),
        Index(None, "vlm_type", "began_at", "id"),
        Index(None, "sequence", unique=True),
        Index(None, "number", unique=True),
        Index(
            "ix_events_unacknowledged",
            "began_at",
            "id",
            sqlite_where=_UNACKNOWLEDGED,
            postgresql_where=_UNACKNOWLEDGED,
        ),
        Index(
            "ix_events_camera_unacknowledged",
            "camera_id",
            "began_at",
            "id",
            sqlite_where=_UNACKNOWLEDGED,
            postgresql_where=_UNACKNOWLEDGED,
        ),
        Index("ix_events_open", "began_at", "id", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Grows with each committed change: where a subscriber goes on."""
    number: Mapped[int] = mapped_column(BigInteger)
    """Its first sequence, which stays: the row of its text in the full-text index of SQLite."""
    revision: Mapped[int] = mapped_column(Integer)
    camera_id: Mapped[str] = mapped_column(String(63))
    node_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[str] = mapped_column(UtcTime)
    ended_at: Mapped[str | None] = mapped_column(UtcTime)
    begin_s: Mapped[float] = mapped_column(Float)
    end_s: Mapped[float] = mapped_column(Float)
    peak_score: Mapped[float] = mapped_column(Float)
    peak_at: Mapped[str] = mapped_column(UtcTime)
    peak_s: Mapped[float] = mapped_column(Float)
    peak_x: Mapped[float] = mapped_column(Float)
    peak_y: Mapped[float] = mapped_column(Float)
    frame_width: Mapped[int] = mapped_column(Integer)
    frame_height: Mapped[int] = mapped_column(Integer)
    vad_type: Mapped[str] = mapped_column(String(64))
    state_version: Mapped[int] = mapped_column(Integer)
    provisional: Mapped[bool] = mapped_column(Boolean)
    severity: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    vlm_type: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(64))
    snapshot: Mapped[str] = mapped_column(Text)
    acknowledged_at: Mapped[str | None] = mapped_column(UtcTime)
    """Of the acknowledgement in force; None where there is none."""
    locked: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Evidence: retention leaves it and its files alone."""


class EventMediaRow(Base):
    """One file of an event, beneath the media folder of its node."""

    __tablename__ = "event_media"

    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    """"snapshot", "clean", "heatmap", "turned", "clip", "evidence", "key1".."key8"."""
    file: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)


class EventAnalysisRow(Base):
    """What an event was taken to be: the newest core.events.analysis.Analysis, whole in `data`."""

    __tablename__ = "event_analyses"

    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), primary_key=True)
    verdict: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    needs_review: Mapped[bool] = mapped_column(Boolean)
    data: Mapped[dict[str, Any]] = mapped_column(Json)


class EventPathRow(Base):
    """Where an event was unusual while it went on: core.events.model.Place, three numbers each."""

    __tablename__ = "event_paths"

    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), primary_key=True)
    places: Mapped[list[Any]] = mapped_column(Json)


class EventStepRow(Base):
    """One step of how an event was judged: the analysis and the flow's audit trail, in order."""

    __tablename__ = "event_steps"

    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    at: Mapped[str] = mapped_column(UtcTime)
    text: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(Json)


class AcknowledgementRow(Base):
    """Who took note of an event, when and why; an undone one stays, with the time of its undoing."""

    __tablename__ = "acknowledgements"
    __table_args__ = (Index(None, "event_id", "at"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    at: Mapped[str] = mapped_column(UtcTime)
    actor: Mapped[str] = mapped_column(String(200))
    """The name of who did it, kept when the user is gone."""
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    reason: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text)
    assignee: Mapped[str] = mapped_column(String(200))
    undone_at: Mapped[str | None] = mapped_column(UtcTime)
    undone_by: Mapped[str | None] = mapped_column(String(200))


class FeedbackRow(Base):
    """What a person says that an event really was, "normal" or "real"; one that was taken back stays, with the time."""

    __tablename__ = "feedback"
    __table_args__ = (Index(None, "event_id", "at"), Index(None, "at"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    at: Mapped[str] = mapped_column(UtcTime)
    actor: Mapped[str] = mapped_column(String(200))
    user_id: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    verdict: Mapped[str] = mapped_column(String(16))
    note: Mapped[str] = mapped_column(Text)
    undone_at: Mapped[str | None] = mapped_column(UtcTime)
    undone_by: Mapped[str | None] = mapped_column(String(200))
