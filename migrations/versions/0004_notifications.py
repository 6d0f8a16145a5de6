"""notifications: occasions, claims and partial deliveries in the outbox, how many were held back"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
WAITING = sa.text("state = 'waiting'")
COUNTED = sa.text("state IN ('waiting', 'sent', 'dead')")
COUNTERS = {"notifier": -1, "notifications": 0}


def text(name: str, kind: sa.types.TypeEngine, default: str = "") -> sa.Column:
    return sa.Column(name, kind, nullable=False, server_default=default)


def upgrade() -> None:
    op.drop_index("ix_outbox_waiting", "outbox")
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.add_column(text("occasion", sa.String(16), "event"))
        batch_op.add_column(sa.Column("scheduled_at", TIME, nullable=True))
        batch_op.add_column(sa.Column("targets", JSON, nullable=True))
        batch_op.add_column(text("told", sa.Text()))
        batch_op.add_column(text("claimed_by", sa.String(64)))
        batch_op.add_column(sa.Column("claimed_until", TIME, nullable=True))
        batch_op.add_column(sa.Column("ended_at", TIME, nullable=True))
    op.execute("UPDATE outbox SET scheduled_at = created_at")
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.alter_column("scheduled_at", existing_type=TIME, nullable=False)
    op.create_index(
        "ix_outbox_waiting",
        "outbox",
        ["channel_id", "priority", "due_at"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
    op.create_index(
        "ix_outbox_counted", "outbox", ["channel_id", "created_at"], sqlite_where=COUNTED, postgresql_where=COUNTED
    )
    op.create_index(op.f("ix_outbox_event_id"), "outbox", ["event_id"])
    op.create_index(op.f("ix_outbox_state_id"), "outbox", ["state", "id"])
    op.create_index(op.f("ix_deliveries_channel_id_at"), "deliveries", ["channel_id", "at"])
    with op.batch_alter_table("notification_channels") as batch_op:
        batch_op.add_column(sa.Column("secrets_set", JSON, nullable=False, server_default="[]"))
    with op.batch_alter_table("suppressions") as batch_op:
        batch_op.add_column(sa.Column("similar", sa.Integer(), nullable=False, server_default="0"))
    for name, value in COUNTERS.items():
        op.execute(f"INSERT INTO counters (name, value) VALUES ('{name}', {value})")


def downgrade() -> None:
    for name in COUNTERS:
        op.execute(f"DELETE FROM counters WHERE name = '{name}'")
    with op.batch_alter_table("suppressions") as batch_op:
        batch_op.drop_column("similar")
    with op.batch_alter_table("notification_channels") as batch_op:
        batch_op.drop_column("secrets_set")
    op.drop_index(op.f("ix_deliveries_channel_id_at"), "deliveries")
    for name in ("ix_outbox_state_id", "ix_outbox_event_id"):
        op.drop_index(op.f(name), "outbox")
    for name in ("ix_outbox_counted", "ix_outbox_waiting"):
        op.drop_index(name, "outbox")
    with op.batch_alter_table("outbox") as batch_op:
        for name in ("ended_at", "claimed_until", "claimed_by", "told", "targets", "scheduled_at", "occasion"):
            batch_op.drop_column(name)
    op.create_index(
        "ix_outbox_waiting", "outbox", ["priority", "due_at"], sqlite_where=WAITING, postgresql_where=WAITING
    )
