"""Who is told what: channels, rules, what waits to be sent, what was sent."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, Key, UtcTime

__all__ = ["ChannelRow", "DeliveryRow", "OutboxRow", "PushSubscriptionRow", "RuleRow", "SuppressionRow"]

_WAITING = text("state = 'waiting'")


class ChannelRow(Base):
    __tablename__ = "notification_channels"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    enabled: Mapped[bool] = mapped_column(Boolean)
    settings: Mapped[dict[str, Any]] = mapped_column(Json)
    sealed: Mapped[str] = mapped_column(Text, server_default="")
    """Its secrets (passwords, tokens, keys) as sealed JSON; never shown."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    updated_at: Mapped[str] = mapped_column(UtcTime)


class RuleRow(Base):
    """A rule; the lowest position is asked first."""

    __tablename__ = "notification_rules"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    enabled: Mapped[bool] = mapped_column(Boolean)
    conditions: Mapped[dict[str, Any]] = mapped_column(Json)
    actions: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[str] = mapped_column(UtcTime)
    updated_at: Mapped[str] = mapped_column(UtcTime)


class PushSubscriptionRow(Base):
    """A browser that wants to be told, for its user."""

    __tablename__ = "push_subscriptions"
    __table_args__ = (Index(None, "user_id"),)

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    endpoint_hash: Mapped[str] = mapped_column(String(64), unique=True)
    sealed: Mapped[str] = mapped_column(Text)
    """Endpoint and keys, as sealed JSON."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    failed_at: Mapped[str | None] = mapped_column(UtcTime)


class OutboxRow(Base):
    """A message to be delivered; the id of the event, not the event: that is read when it is sent."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_waiting",
            "priority",
            "due_at",
            sqlite_where=_WAITING,
            postgresql_where=_WAITING,
        ),
        UniqueConstraint("dedup_key", name="uq_outbox_dedup_key"),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    dedup_key: Mapped[str] = mapped_column(String(200))
    """Channel, rule, event and occasion: the same is never queued twice."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("notification_channels.id", ondelete="CASCADE"))
    rule_id: Mapped[str | None] = mapped_column(ForeignKey("notification_rules.id", ondelete="SET NULL"))
    event_id: Mapped[str | None] = mapped_column(Key)
    priority: Mapped[int] = mapped_column(Integer)
    """0 is critical."""
    state: Mapped[str] = mapped_column(String(16))
    """"waiting", "sent" or "dead"."""
    due_at: Mapped[str] = mapped_column(UtcTime)
    attempts: Mapped[int] = mapped_column(Integer)
    message: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[str] = mapped_column(UtcTime)


class DeliveryRow(Base):
    """One attempt to deliver: the proof."""

    __tablename__ = "deliveries"
    __table_args__ = (Index(None, "outbox_id", "at"), Index(None, "at"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    outbox_id: Mapped[str] = mapped_column(Key)
    channel_id: Mapped[str] = mapped_column(Key)
    event_id: Mapped[str | None] = mapped_column(Key)
    node_id: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(UtcTime)
    ok: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str] = mapped_column(Text)
    took_ms: Mapped[int] = mapped_column(Integer)


class SuppressionRow(Base):
    """When something of a kind was last sent, and how many like it were held back since."""

    __tablename__ = "suppressions"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    sent_ms: Mapped[int] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(Integer)
    suppressed: Mapped[int] = mapped_column(Integer)
