"""what was said of an event can be taken back"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("feedback", sa.Column("undone_at", TIME, nullable=True))
    op.add_column("feedback", sa.Column("undone_by", sa.String(200), nullable=True))
    op.create_index(op.f("ix_feedback_at"), "feedback", ["at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_feedback_at"), table_name="feedback")
    with op.batch_alter_table("feedback") as table:
        table.drop_column("undone_by")
        table.drop_column("undone_at")
