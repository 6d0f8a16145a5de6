"""sealed credentials, camera settings, second factors, invitations, login delays, push subscriptions"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")


def json(name: str, default: str = "{}") -> sa.Column:
    return sa.Column(name, JSON, nullable=False, server_default=default)


def added() -> dict[str, tuple[sa.Column, ...]]:
    return {
        "cameras": (text("sealed_url"), text("sub_url"), text("sealed_sub_url"), json("settings")),
        "zones": (json("settings"),),
        "notification_channels": (text("sealed"),),
        "users": (
            sa.Column("all_cameras", sa.Boolean(), nullable=False, server_default=sa.false()),
            json("preferences"),
            text("totp_secret"),
            sa.Column("totp_step", sa.BigInteger(), nullable=False, server_default="0"),
            json("totp_recovery", "[]"),
        ),
    }


def upgrade() -> None:
    for table, columns in added().items():
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.add_column(column)
    op.create_table(
        "invitations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("grants", JSON, nullable=False),
        sa.Column("note", sa.String(length=200), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitations_token_hash")),
    )
    op.create_table(
        "login_delays",
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("login_after", TIME, nullable=False),
        sa.PrimaryKeyConstraint("network", name=op.f("pk_login_delays")),
    )
    op.create_table(
        "push_subscriptions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("endpoint_hash", sa.String(length=64), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("failed_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_push_subscriptions_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_push_subscriptions")),
        sa.UniqueConstraint("endpoint_hash", name=op.f("uq_push_subscriptions_endpoint_hash")),
    )
    op.create_index(op.f("ix_push_subscriptions_user_id"), "push_subscriptions", ["user_id"])


def downgrade() -> None:
    op.drop_table("push_subscriptions")
    op.drop_table("login_delays")
    op.drop_table("invitations")
    for table, columns in added().items():
        with op.batch_alter_table(table) as batch_op:
            for column in columns:
                batch_op.drop_column(column.name)
