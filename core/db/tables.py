"""The tables, as SQLAlchemy models; migrations/ brings databases to them."""

from sqlalchemy import BigInteger, Boolean, Float, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "CameraRow", "EventRow"]


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class CameraRow(Base):
    """Desired state; the fields of core.cameras.CameraConfig."""

    __tablename__ = "cameras"

    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(Boolean)
    autostart: Mapped[bool] = mapped_column(Boolean)
    vad_type: Mapped[str] = mapped_column(String(64))
    learn_s: Mapped[float] = mapped_column(Float)
    analysis_fps: Mapped[float] = mapped_column(Float)
    loop: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[str] = mapped_column(String(32))
    updated_at: Mapped[str] = mapped_column(String(32))


class EventRow(Base):
    """The latest revision of each event; times are RFC 3339 UTC text, which sorts."""

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "began_at", "id"),
        Index(None, "camera_id", "began_at", "id"),
        Index(None, "sequence", unique=True),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    """Grows with each committed revision: where a subscriber goes on."""
    revision: Mapped[int] = mapped_column(Integer)
    camera_id: Mapped[str] = mapped_column(String(63))
    node_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    began_at: Mapped[str] = mapped_column(String(32))
    ended_at: Mapped[str | None] = mapped_column(String(32))
    begin_s: Mapped[float] = mapped_column(Float)
    end_s: Mapped[float] = mapped_column(Float)
    peak_score: Mapped[float] = mapped_column(Float)
    peak_at: Mapped[str] = mapped_column(String(32))
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
