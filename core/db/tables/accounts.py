"""Who may do what, and who did what."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, Key, UtcTime

__all__ = [
    "ApiKeyRow",
    "AuditRow",
    "CameraGrantRow",
    "InvitationRow",
    "LoginDelayRow",
    "RefreshTokenRow",
    "TokenFamilyRow",
    "UserRow",
]


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    """argon2id, with its parameters and salt."""
    role: Mapped[str] = mapped_column(String(16))
    all_cameras: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """Sees every camera, those to come included; otherwise those that are granted."""
    enabled: Mapped[bool] = mapped_column(Boolean)
    token_version: Mapped[int] = mapped_column(Integer)
    """Tokens that carry another are void."""
    language: Mapped[str] = mapped_column(String(16))
    time_zone: Mapped[str] = mapped_column(String(64))
    preferences: Mapped[dict[str, Any]] = mapped_column(Json, server_default="{}")
    """What the web page remembers for its user."""
    failed_logins: Mapped[int] = mapped_column(Integer)
    login_after: Mapped[str | None] = mapped_column(UtcTime)
    """No login is tried before; set by failed ones."""
    totp_secret: Mapped[str] = mapped_column(Text, server_default="")
    """The second factor's secret, sealed; "" where there is none."""
    totp_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last time step that was used: a code is good once."""
    totp_recovery: Mapped[list[str]] = mapped_column(Json, server_default="[]")
    """SHA-256 of the recovery codes that are left."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    updated_at: Mapped[str] = mapped_column(UtcTime)
    last_login_at: Mapped[str | None] = mapped_column(UtcTime)


class TokenFamilyRow(Base):
    """One login on one device: all refresh tokens that came of it, revoked together."""

    __tablename__ = "token_families"
    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[str] = mapped_column(UtcTime)
    expires_at: Mapped[str] = mapped_column(UtcTime)
    last_used_at: Mapped[str] = mapped_column(UtcTime)
    revoked_at: Mapped[str | None] = mapped_column(UtcTime)
    revoked_reason: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(400))


class RefreshTokenRow(Base):
    """One opaque token, as its SHA-256; used once."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (Index(None, "family_id"),)

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    family_id: Mapped[str] = mapped_column(ForeignKey("token_families.id", ondelete="CASCADE"))
    created_at: Mapped[str] = mapped_column(UtcTime)
    expires_at: Mapped[str] = mapped_column(UtcTime)
    used_at: Mapped[str | None] = mapped_column(UtcTime)


class InvitationRow(Base):
    """Whoever has the token may make one account with this role and these cameras."""

    __tablename__ = "invitations"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    grants: Mapped[dict[str, Any]] = mapped_column(Json)
    """{"cameras": [id…], "groups": [id…]}"""
    note: Mapped[str] = mapped_column(String(200))
    created_by: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[str] = mapped_column(UtcTime)
    expires_at: Mapped[str] = mapped_column(UtcTime)
    used_at: Mapped[str | None] = mapped_column(UtcTime)


class LoginDelayRow(Base):
    """Failed logins of one network, whatever the name they tried."""

    __tablename__ = "login_delays"

    network: Mapped[str] = mapped_column(String(64), primary_key=True)
    failed: Mapped[int] = mapped_column(Integer)
    login_after: Mapped[str] = mapped_column(UtcTime)


class ApiKeyRow(Base):
    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "user_id"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    camera_ids: Mapped[list[str] | None] = mapped_column(Json)
    """None: all that its user may see."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    expires_at: Mapped[str | None] = mapped_column(UtcTime)
    last_used_at: Mapped[str | None] = mapped_column(UtcTime)
    revoked_at: Mapped[str | None] = mapped_column(UtcTime)


class CameraGrantRow(Base):
    """A user may see a camera, or all of a group."""

    __tablename__ = "camera_grants"
    __table_args__ = (
        CheckConstraint("(camera_id IS NULL) <> (group_id IS NULL)", name="camera_or_group"),
        Index(None, "user_id"),
        Index("uq_camera_grants_user_camera", "user_id", "camera_id", unique=True),
        Index("uq_camera_grants_user_group", "user_id", "group_id", unique=True),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    camera_id: Mapped[str | None] = mapped_column(ForeignKey("cameras.camera_id", ondelete="CASCADE"))
    group_id: Mapped[str | None] = mapped_column(ForeignKey("camera_groups.id", ondelete="CASCADE"))


class AuditRow(Base):
    """One change, or one refusal; nothing refers to it and it refers to nothing, so that it outlives all."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "at"), Index(None, "actor", "at"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    at: Mapped[str] = mapped_column(UtcTime)
    node_id: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(200))
    detail: Mapped[dict[str, Any]] = mapped_column(Json)
    address: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))
