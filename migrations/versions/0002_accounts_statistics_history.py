"""accounts, statistics, history and notifications"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
TIME = sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
WAS_TEXT = {"cameras": ("created_at", "updated_at"), "events": ("began_at", "ended_at", "peak_at")}
COUNTERS = ("scores", "events-counted", "scores-counted", "events-kept-since", "scores-kept-since", "statistics")
UNACKNOWLEDGED = sa.text("acknowledged_at IS NULL")
OPEN = sa.text("state = 'open'")
BODY = "(description || ' ' || reason)"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _real_types(to_text=False)
    op.create_table(
        "audit_log",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    with op.batch_alter_table("audit_log") as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_log_actor_at"), ["actor", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_log_at"), ["at"], unique=False)

    op.create_table(
        "camera_groups",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_camera_groups_name")),
    )
    op.create_table(
        "camera_states",
        sa.Column("id", KEY, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera_states")),
    )
    with op.batch_alter_table("camera_states") as batch_op:
        batch_op.create_index(batch_op.f("ix_camera_states_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_camera_states_camera_id_at"), ["camera_id", "at"], unique=False)

    op.create_table(
        "counters",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "coverage",
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("up_s", sa.SmallInteger(), nullable=False),
        sa.Column("watched_s", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "camera_id", name=op.f("pk_coverage")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("coverage") as batch_op:
        batch_op.create_index(batch_op.f("ix_coverage_camera_id_bucket"), ["camera_id", "bucket"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", KEY, nullable=False),
        sa.Column("outbox_id", KEY, nullable=False),
        sa.Column("channel_id", KEY, nullable=False),
        sa.Column("event_id", KEY, nullable=True),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    with op.batch_alter_table("deliveries") as batch_op:
        batch_op.create_index(batch_op.f("ix_deliveries_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_deliveries_outbox_id_at"), ["outbox_id", "at"], unique=False)

    op.create_table(
        "event_statistics",
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("vlm_type", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("peak_score", sa.Float(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("bucket", "camera_id", "vlm_type", "severity", name=op.f("pk_event_statistics")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("event_statistics") as batch_op:
        batch_op.create_index(batch_op.f("ix_event_statistics_camera_id_bucket"), ["camera_id", "bucket"], unique=False)

    op.create_table(
        "statistics_days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_statistics_days")),
    )
    op.create_table(
        "job_runs",
        sa.Column("job", sa.String(length=64), nullable=False),
        sa.Column("period", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("job", "period", name=op.f("pk_job_runs")),
    )
    with op.batch_alter_table("job_runs") as batch_op:
        batch_op.create_index(batch_op.f("ix_job_runs_started_at"), ["started_at"], unique=False)

    op.create_table(
        "normality_versions",
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("vad_type", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("learned_s", sa.Float(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("camera_id", "vad_type", "version", name=op.f("pk_normality_versions")),
    )
    op.create_table(
        "notification_channels",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_channels")),
        sa.UniqueConstraint("name", name=op.f("uq_notification_channels_name")),
    )
    op.create_table(
        "notification_rules",
        sa.Column("id", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("conditions", JSON, nullable=False),
        sa.Column("actions", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_rules")),
        sa.UniqueConstraint("name", name=op.f("uq_notification_rules_name")),
    )
    op.create_table(
        "score_history",
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("highest", sa.Float(), nullable=True),
        sa.Column("mean", sa.Float(), nullable=True),
        sa.Column("up", sa.BigInteger(), nullable=False),
        sa.Column("up_s", sa.SmallInteger(), nullable=False),
        sa.Column("watched_s", sa.SmallInteger(), nullable=False),
        sa.Column("seconds", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("camera_id", "minute", name=op.f("pk_score_history")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("score_history") as batch_op:
        batch_op.create_index(batch_op.f("ix_score_history_sequence"), ["sequence"])
        batch_op.create_index(batch_op.f("ix_score_history_minute"), ["minute"], unique=False)

    op.create_table(
        "suppressions",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("sent_ms", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("suppressed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_suppressions")),
    )
    op.create_table(
        "users",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("token_version", sa.Integer(), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("failed_logins", sa.Integer(), nullable=False),
        sa.Column("login_after", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("last_login_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("id", KEY, nullable=False),
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("user_id", KEY, nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("assignee", sa.String(length=200), nullable=False),
        sa.Column("undone_at", TIME, nullable=True),
        sa.Column("undone_by", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_acknowledgements_event_id_events"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_acknowledgements_user_id_users"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acknowledgements")),
    )
    with op.batch_alter_table("acknowledgements") as batch_op:
        batch_op.create_index(batch_op.f("ix_acknowledgements_event_id_at"), ["event_id", "at"], unique=False)

    op.create_table(
        "api_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("camera_ids", JSON, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_keys_secret_hash")),
    )
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.create_index(batch_op.f("ix_api_keys_user_id"), ["user_id"], unique=False)

    op.create_table(
        "camera_grants",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=True),
        sa.Column("group_id", KEY, nullable=True),
        sa.CheckConstraint("(camera_id IS NULL) <> (group_id IS NULL)", name=op.f("ck_camera_grants_camera_or_group")),
        sa.ForeignKeyConstraint(
            ["camera_id"], ["cameras.camera_id"], name=op.f("fk_camera_grants_camera_id_cameras"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["group_id"], ["camera_groups.id"], name=op.f("fk_camera_grants_group_id_camera_groups"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_camera_grants_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera_grants")),
    )
    with op.batch_alter_table("camera_grants") as batch_op:
        batch_op.create_index(batch_op.f("ix_camera_grants_user_id"), ["user_id"], unique=False)
        batch_op.create_index("uq_camera_grants_user_camera", ["user_id", "camera_id"], unique=True)
        batch_op.create_index("uq_camera_grants_user_group", ["user_id", "group_id"], unique=True)

    op.create_table(
        "camera_group_members",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.ForeignKeyConstraint(
            ["camera_id"],
            ["cameras.camera_id"],
            name=op.f("fk_camera_group_members_camera_id_cameras"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["camera_groups.id"],
            name=op.f("fk_camera_group_members_group_id_camera_groups"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("group_id", "camera_id", name=op.f("pk_camera_group_members")),
    )
    with op.batch_alter_table("camera_group_members") as batch_op:
        batch_op.create_index(batch_op.f("ix_camera_group_members_camera_id"), ["camera_id"], unique=False)

    op.create_table(
        "event_media",
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_event_media_event_id_events"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event_id", "kind", name=op.f("pk_event_media")),
    )
    op.create_table(
        "event_steps",
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_event_steps_event_id_events"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("event_id", "position", name=op.f("pk_event_steps")),
    )
    op.create_table(
        "feedback",
        sa.Column("id", KEY, nullable=False),
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("user_id", KEY, nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name=op.f("fk_feedback_event_id_events"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_feedback_user_id_users"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    with op.batch_alter_table("feedback") as batch_op:
        batch_op.create_index(batch_op.f("ix_feedback_event_id_at"), ["event_id", "at"], unique=False)

    op.create_table(
        "outbox",
        sa.Column("id", KEY, nullable=False),
        sa.Column("dedup_key", sa.String(length=200), nullable=False),
        sa.Column("channel_id", KEY, nullable=False),
        sa.Column("rule_id", KEY, nullable=True),
        sa.Column("event_id", KEY, nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("message", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name=op.f("fk_outbox_channel_id_notification_channels"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["notification_rules.id"],
            name=op.f("fk_outbox_rule_id_notification_rules"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("dedup_key", name="uq_outbox_dedup_key"),
    )
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.create_index(
            "ix_outbox_waiting",
            ["priority", "due_at"],
            unique=False,
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )

    op.create_table(
        "token_families",
        sa.Column("id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.Column("revoked_reason", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("user_agent", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_token_families_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_families")),
    )
    with op.batch_alter_table("token_families") as batch_op:
        batch_op.create_index(batch_op.f("ix_token_families_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_token_families_user_id"), ["user_id"], unique=False)

    op.create_table(
        "zones",
        sa.Column("id", KEY, nullable=False),
        sa.Column("camera_id", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("points", JSON, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["camera_id"], ["cameras.camera_id"], name=op.f("fk_zones_camera_id_cameras"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_zones")),
        sa.UniqueConstraint("camera_id", "name", name=op.f("uq_zones_camera_id_name")),
    )
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("family_id", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("used_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["family_id"],
            ["token_families.id"],
            name=op.f("fk_refresh_tokens_family_id_token_families"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_refresh_tokens")),
    )
    with op.batch_alter_table("refresh_tokens") as batch_op:
        batch_op.create_index(batch_op.f("ix_refresh_tokens_family_id"), ["family_id"], unique=False)

    with op.batch_alter_table("cameras") as batch_op:
        batch_op.add_column(sa.Column("node_id", sa.String(length=64), server_default="local", nullable=False))

    with op.batch_alter_table("events") as batch_op:
        batch_op.add_column(sa.Column("number", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("acknowledged_at", TIME, nullable=True))
        batch_op.add_column(sa.Column("locked", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.execute("UPDATE events SET number = sequence")
    op.execute("INSERT INTO counters (name, value) SELECT 'events', coalesce(max(sequence), 0) FROM events")
    for counter in COUNTERS:
        op.execute(f"INSERT INTO counters (name, value) VALUES ('{counter}', 0)")
    with op.batch_alter_table("events") as batch_op:
        batch_op.alter_column("number", existing_type=sa.BigInteger(), nullable=False)
        batch_op.create_index(batch_op.f("ix_events_number"), ["number"], unique=True)
        batch_op.create_index(batch_op.f("ix_events_severity_began_at_id"), ["severity", "began_at", "id"])
        batch_op.create_index(batch_op.f("ix_events_vlm_type_began_at_id"), ["vlm_type", "began_at", "id"])
    for name, columns, where in (
        ("ix_events_unacknowledged", ["began_at", "id"], UNACKNOWLEDGED),
        ("ix_events_camera_unacknowledged", ["camera_id", "began_at", "id"], UNACKNOWLEDGED),
        ("ix_events_open", ["began_at", "id"], OPEN),
    ):
        op.create_index(name, "events", columns, sqlite_where=where, postgresql_where=where)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE statistics_days ALTER data SET STORAGE EXTERNAL")  # read whole, and often
        op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        op.execute(f"CREATE INDEX event_texts ON events USING gin ({BODY} gin_trgm_ops)")
    else:
        _full_text_on_sqlite()


def _real_types(*, to_text: bool) -> None:
    """Times and ids were text; PostgreSQL has types of its own for them."""
    for table, columns in WAS_TEXT.items():
        for column in columns:
            if to_text:
                shown = f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                op.execute(f"ALTER TABLE {table} ALTER {column} TYPE varchar(32) USING {shown}")
            else:
                op.execute(f"ALTER TABLE {table} ALTER {column} TYPE timestamptz USING {column}::timestamptz")
    new = "varchar(36) USING id::varchar" if to_text else "uuid USING id::uuid"
    op.execute(f"ALTER TABLE events ALTER id TYPE {new}")


def _full_text_on_sqlite() -> None:
    """A contentless trigram index kept by triggers; a trigram of every place, so the end is padded by two spaces.

    Whatever makes the events table anew (batch mode does) must make the triggers anew.
    """
    op.execute("CREATE VIRTUAL TABLE event_texts USING fts5(body, content='', tokenize='trigram')")
    op.execute("CREATE VIRTUAL TABLE event_texts_terms USING fts5vocab('event_texts', 'row')")
    put = "INSERT INTO event_texts(rowid, body) VALUES (new.number, new.description || ' ' || new.reason || '  ');"
    drop = (
        "INSERT INTO event_texts(event_texts, rowid, body) "
        "VALUES ('delete', old.number, old.description || ' ' || old.reason || '  ');"
    )
    changed = "new.description <> old.description OR new.reason <> old.reason OR new.number <> old.number"
    op.execute(f"INSERT INTO event_texts(rowid, body) SELECT number, {BODY} || '  ' FROM events")
    op.execute(f"CREATE TRIGGER event_texts_put AFTER INSERT ON events BEGIN {put} END")
    op.execute(f"CREATE TRIGGER event_texts_drop AFTER DELETE ON events BEGIN {drop} END")
    op.execute(f"CREATE TRIGGER event_texts_change AFTER UPDATE ON events WHEN {changed} BEGIN {drop} {put} END")


def downgrade() -> None:
    postgres = op.get_bind().dialect.name == "postgresql"
    if postgres:
        op.execute("DROP INDEX event_texts")
    else:
        for trigger in ("put", "drop", "change"):
            op.execute(f"DROP TRIGGER event_texts_{trigger}")
        op.execute("DROP TABLE event_texts_terms")
        op.execute("DROP TABLE event_texts")
    for index in ("open", "camera_unacknowledged", "unacknowledged", "vlm_type_began_at_id", "severity_began_at_id"):
        op.drop_index(f"ix_events_{index}", "events")
    op.drop_index("ix_events_number", "events")
    with op.batch_alter_table("refresh_tokens") as batch_op:
        batch_op.drop_index(batch_op.f("ix_refresh_tokens_family_id"))

    op.drop_table("refresh_tokens")
    op.drop_table("zones")
    with op.batch_alter_table("token_families") as batch_op:
        batch_op.drop_index(batch_op.f("ix_token_families_user_id"))
        batch_op.drop_index(batch_op.f("ix_token_families_expires_at"))

    op.drop_table("token_families")
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.drop_index(
            "ix_outbox_waiting",
            sqlite_where=sa.text("state = 'waiting'"),
            postgresql_where=sa.text("state = 'waiting'"),
        )

    op.drop_table("outbox")
    with op.batch_alter_table("feedback") as batch_op:
        batch_op.drop_index(batch_op.f("ix_feedback_event_id_at"))

    op.drop_table("feedback")
    op.drop_table("event_steps")
    op.drop_table("event_media")
    with op.batch_alter_table("camera_group_members") as batch_op:
        batch_op.drop_index(batch_op.f("ix_camera_group_members_camera_id"))

    op.drop_table("camera_group_members")
    with op.batch_alter_table("camera_grants") as batch_op:
        batch_op.drop_index("uq_camera_grants_user_group")
        batch_op.drop_index("uq_camera_grants_user_camera")
        batch_op.drop_index(batch_op.f("ix_camera_grants_user_id"))

    op.drop_table("camera_grants")
    with op.batch_alter_table("api_keys") as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_keys_user_id"))

    op.drop_table("api_keys")
    with op.batch_alter_table("acknowledgements") as batch_op:
        batch_op.drop_index(batch_op.f("ix_acknowledgements_event_id_at"))

    op.drop_table("acknowledgements")
    op.drop_table("users")
    op.drop_table("suppressions")
    with op.batch_alter_table("score_history") as batch_op:
        batch_op.drop_index(batch_op.f("ix_score_history_minute"))

    op.drop_table("score_history")
    op.drop_table("notification_rules")
    op.drop_table("notification_channels")
    op.drop_table("normality_versions")
    with op.batch_alter_table("job_runs") as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_runs_started_at"))

    op.drop_table("statistics_days")
    op.drop_table("job_runs")
    with op.batch_alter_table("event_statistics") as batch_op:
        batch_op.drop_index(batch_op.f("ix_event_statistics_camera_id_bucket"))

    op.drop_table("event_statistics")
    with op.batch_alter_table("deliveries") as batch_op:
        batch_op.drop_index(batch_op.f("ix_deliveries_outbox_id_at"))
        batch_op.drop_index(batch_op.f("ix_deliveries_at"))

    op.drop_table("deliveries")
    with op.batch_alter_table("coverage") as batch_op:
        batch_op.drop_index(batch_op.f("ix_coverage_camera_id_bucket"))

    op.drop_table("coverage")
    op.drop_table("counters")
    with op.batch_alter_table("camera_states") as batch_op:
        batch_op.drop_index(batch_op.f("ix_camera_states_camera_id_at"))
        batch_op.drop_index(batch_op.f("ix_camera_states_at"))

    op.drop_table("camera_states")
    op.drop_table("camera_groups")
    with op.batch_alter_table("audit_log") as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_log_at"))
        batch_op.drop_index(batch_op.f("ix_audit_log_actor_at"))

    op.drop_table("audit_log")
    with op.batch_alter_table("events") as batch_op:
        batch_op.drop_column("locked")
        batch_op.drop_column("acknowledged_at")
        batch_op.drop_column("number")
    with op.batch_alter_table("cameras") as batch_op:
        batch_op.drop_column("node_id")
    if postgres:
        _real_types(to_text=True)
