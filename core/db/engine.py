"""Engines: the one place where SQLite and PostgreSQL differ in how they are opened, and migrations."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from core.errors import DatabaseError

__all__ = ["alembic_config", "make_engine", "upgrade"]

_REPOSITORY = Path(__file__).resolve().parents[2]
BUSY_MS = 10_000


def make_engine(url: str, *, writer: bool = False) -> Engine:
    """An engine that has connected to nothing yet; raises DatabaseError for a URL that cannot be one.

    On SQLite a `writer` begins with BEGIN IMMEDIATE and syncs each commit to the disk; others may only read.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True, pool_size=2, connect_args={"connect_timeout": 5})
        engine = create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})
    except (ArgumentError, NoSuchModuleError) as error:
        raise DatabaseError(f"not a database URL: {error}", "sqlite:///FILE or postgresql://USER@HOST/NAME") from error
    _set_up_sqlite(engine, writer=writer)
    return engine


def _set_up_sqlite(engine: Engine, *, writer: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL" if writer else "PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


def alembic_config(url: str) -> AlembicConfig:
    """Alembic's configuration for this database, wherever the program runs."""
    config = AlembicConfig(_REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(_REPOSITORY / "migrations"))
    config.attributes["url"] = url
    return config


def upgrade(url: str) -> None:
    """Brings the database to the newest revision; on SQLite sets WAL once. Raises DatabaseError."""
    engine = make_engine(url, writer=True)
    try:
        if engine.dialect.name == "sqlite":
            with contextlib.closing(sqlite3.connect(engine.url.database or ":memory:", timeout=BUSY_MS / 1000)) as raw:
                raw.execute("PRAGMA journal_mode = WAL")
        else:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        command.upgrade(alembic_config(url), "head")
    except (DBAPIError, sqlite3.Error) as error:
        reason = getattr(error, "orig", None) or error
        raise DatabaseError(
            f"cannot open the database {engine.url.render_as_string(hide_password=True)}: {reason}",
            "check that it exists, is no other file, and may be written",
        ) from error
    finally:
        engine.dispose()
