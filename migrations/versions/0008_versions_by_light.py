"""what a camera learned by night has versions beside those of the day"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLE, KEY = "normality_versions", "pk_normality_versions"


def upgrade() -> None:
    with op.batch_alter_table(TABLE) as table:
        table.add_column(sa.Column("light", sa.String(8), nullable=False, server_default="day"))
        table.drop_constraint(op.f(KEY), type_="primary")
        table.create_primary_key(op.f(KEY), ["camera_id", "vad_type", "light", "version"])


def downgrade() -> None:
    op.execute(f"DELETE FROM {TABLE} WHERE light <> 'day'")
    with op.batch_alter_table(TABLE) as table:
        table.drop_constraint(op.f(KEY), type_="primary")
        table.create_primary_key(op.f(KEY), ["camera_id", "vad_type", "version"])
        table.drop_column("light")
