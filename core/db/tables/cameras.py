"""Cameras: what is wanted of them, what was observed, and what they learned."""

from typing import Any

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, Key, UtcTime

__all__ = ["CameraGroupMemberRow", "CameraGroupRow", "CameraRow", "CameraStateRow", "NormalityRow", "ZoneRow"]


class CameraRow(Base):
    """Desired state; the fields of core.cameras.CameraConfig."""

    __tablename__ = "cameras"

    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    url: Mapped[str] = mapped_column(Text)
    """As it may be shown."""
    sealed_url: Mapped[str] = mapped_column(Text, server_default="")
    """The URL with its credentials, sealed; "" where it has none."""
    sub_url: Mapped[str] = mapped_column(Text, server_default="")
    sealed_sub_url: Mapped[str] = mapped_column(Text, server_default="")
    settings: Mapped[dict[str, Any]] = mapped_column(Json, server_default="{}")
    """The rest of core.cameras.CameraConfig: core.cameras.CameraSettings."""
    enabled: Mapped[bool] = mapped_column(Boolean)
    autostart: Mapped[bool] = mapped_column(Boolean)
    vad_type: Mapped[str] = mapped_column(String(64))
    learn_s: Mapped[float] = mapped_column(Float)
    analysis_fps: Mapped[float] = mapped_column(Float)
    loop: Mapped[bool] = mapped_column(Boolean)
    node_id: Mapped[str] = mapped_column(String(64), server_default="local")
    """The machine whose manager runs it."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    updated_at: Mapped[str] = mapped_column(UtcTime)


class CameraGroupRow(Base):
    __tablename__ = "camera_groups"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[str] = mapped_column(UtcTime)


class CameraGroupMemberRow(Base):
    __tablename__ = "camera_group_members"
    __table_args__ = (Index(None, "camera_id"),)

    group_id: Mapped[str] = mapped_column(ForeignKey("camera_groups.id", ondelete="CASCADE"), primary_key=True)
    camera_id: Mapped[str] = mapped_column(ForeignKey("cameras.camera_id", ondelete="CASCADE"), primary_key=True)


class ZoneRow(Base):
    """A polygon on a camera's picture; its points are fractions 0..1 of width and height."""

    __tablename__ = "zones"
    __table_args__ = (UniqueConstraint("camera_id", "name"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    camera_id: Mapped[str] = mapped_column(ForeignKey("cameras.camera_id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    """A core.cameras.ZoneKind."""
    points: Mapped[list[Any]] = mapped_column(Json)
    settings: Mapped[dict[str, Any]] = mapped_column(Json, server_default="{}")
    """Direction and schedule, where it has them."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    updated_at: Mapped[str] = mapped_column(UtcTime)


class CameraStateRow(Base):
    """One change of a camera's phase; kept when the camera is removed."""

    __tablename__ = "camera_states"
    __table_args__ = (Index(None, "camera_id", "at"), Index(None, "at"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    camera_id: Mapped[str] = mapped_column(String(63))
    node_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(UtcTime)
    phase: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)


class NormalityRow(Base):
    """One version of what a camera learned to be normal; its state lies in a file."""

    __tablename__ = "normality_versions"

    camera_id: Mapped[str] = mapped_column(String(63), primary_key=True)
    vad_type: Mapped[str] = mapped_column(String(64), primary_key=True)
    light: Mapped[str] = mapped_column(String(8), primary_key=True, server_default="day")
    """A core.cameras.Light."""
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    node_id: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[str] = mapped_column(UtcTime)
    learned_s: Mapped[float] = mapped_column(Float)
    frames: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(Text)
    """Why it was made: "learned", "asked for", "normal: EVENT_ID"."""
    file: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
