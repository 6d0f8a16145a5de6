"""Runs migrations on the database of the caller, or of the configuration."""

from typing import Any

from alembic import context
from sqlalchemy import text

from core.config import load_config
from core.db.engine import make_engine
from core.db.tables import Base
from core.db.tables.base import UtcTime

TEXT_INDEX = "event_texts"
"""The full-text index: a virtual table and its shadows on SQLite, a GIN index on PostgreSQL; made by hand in 0002."""

ONE_AT_A_TIME = 48_617_465_746_165
"""The advisory lock of whoever migrates: all processes of a site may start at once."""


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    return not (kind in {"table", "index"} and name and name.startswith(TEXT_INDEX))


def render_item(kind: str, item: Any, autogen: Any) -> str | bool:
    """Migrations stand by themselves: types of ours are written as what they are."""
    if kind == "type" and isinstance(item, UtcTime):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.String(32).with_variant(postgresql.TIMESTAMP(timezone=True), "postgresql")'
    return False


def run() -> None:
    url = context.config.attributes.get("url") or load_config().database_url
    engine = make_engine(url, writer=True, migrating=True)
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has done as much
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ONE_AT_A_TIME})"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            compare_type=True,
            include_name=include_name,
            render_item=render_item,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
