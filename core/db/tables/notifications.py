"""Who is told what: channels, rules, what waits to be sent, what was sent."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Json, Key, UtcTime

__all__ = [
    "COUNTED",
    "WAITING",
    "ChannelRow",
    "DeliveryRow",
    "OutboxRow",
    "PushSubscriptionRow",
    "RuleRow",
    "SuppressionRow",
]

WAITING = text("state = 'waiting'")
"""As the partial index says it: a query that says it with a parameter does not find that."""
COUNTED = text("state IN ('waiting', 'sent', 'dead')")
"""What a limit per hour counts: not what was held back, which may be very much."""


class ChannelRow(Base):
    __tablename__ = "notification_channels"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    enabled: Mapped[bool] = mapped_column(Boolean)
    settings: Mapped[dict[str, Any]] = mapped_column(Json)
    sealed: Mapped[str] = mapped_column(Text, server_default="")
    """Its secrets (passwords, tokens, keys) as sealed JSON; never shown."""
    secrets_set: Mapped[list[str]] = mapped_column(Json, server_default="[]")
    """The names of those that there are."""
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
    session_id: Mapped[str] = mapped_column(String(36), server_default="")
    """Of the login that asked for it; where that is revoked, this goes too. Its mere age ends nothing."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    failed_at: Mapped[str | None] = mapped_column(UtcTime)


class OutboxRow(Base):
    """A message to be delivered; the id of the event, not the event: that is read when it is sent."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_waiting",
            "channel_id",
            "priority",
            "due_at",
            sqlite_where=WAITING,
            postgresql_where=WAITING,
        ),
        Index("ix_outbox_counted", "channel_id", "created_at", sqlite_where=COUNTED, postgresql_where=COUNTED),
        Index(None, "event_id"),
        Index(None, "state", "id"),
        UniqueConstraint("dedup_key", name="uq_outbox_dedup_key"),
    )

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    dedup_key: Mapped[str] = mapped_column(String(200))
    """Rule, channel, event and occasion: the same is never queued twice."""
    channel_id: Mapped[str] = mapped_column(ForeignKey("notification_channels.id", ondelete="CASCADE"))
    rule_id: Mapped[str | None] = mapped_column(ForeignKey("notification_rules.id", ondelete="SET NULL"))
    event_id: Mapped[str | None] = mapped_column(Key)
    priority: Mapped[int] = mapped_column(Integer)
    """0 is critical."""
    state: Mapped[str] = mapped_column(String(16))
    """A core.notifications.model.State."""
    occasion: Mapped[str] = mapped_column(String(16), server_default="event")
    due_at: Mapped[str] = mapped_column(UtcTime)
    scheduled_at: Mapped[str] = mapped_column(UtcTime)
    """When `due_at` was decided: in the future, the clock went back since, and it is due."""
    attempts: Mapped[int] = mapped_column(Integer)
    message: Mapped[dict[str, Any]] = mapped_column(Json)
    """A core.notifications.model.Notice."""
    targets: Mapped[list[str] | None] = mapped_column(Json)
    """Of several recipients those that are still to be told; None: all."""
    told: Mapped[str] = mapped_column(Text, server_default="")
    """The verdict on the event that was told."""
    claimed_by: Mapped[str] = mapped_column(String(64), server_default="")
    """The node whose notifier is at it; "" for none."""
    claimed_until: Mapped[str | None] = mapped_column(UtcTime)
    """Another node may take it over then."""
    created_at: Mapped[str] = mapped_column(UtcTime)
    ended_at: Mapped[str | None] = mapped_column(UtcTime)
    """When it was sent, given up, held back or dropped."""


class DeliveryRow(Base):
    """One attempt to deliver: the proof."""

    __tablename__ = "deliveries"
    __table_args__ = (Index(None, "outbox_id", "at"), Index(None, "at"), Index(None, "channel_id", "at"))

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
    """Held back since the last one that was sent."""
    similar: Mapped[int] = mapped_column(Integer, server_default="0")
    """Held back before the last one that was sent: what it tells."""
