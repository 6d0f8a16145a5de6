"""Engines: the one place where SQLite and PostgreSQL differ in how they are opened, and migrations."""

import contextlib
import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from core.errors import DatabaseError

__all__ = ["execute_many", "make_engine", "quarter_of", "upgrade", "upsert"]

BUSY_MS = 10_000
_POSTGRESQL = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "options": "-c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
}
"""A server that is gone is noticed within some 10 s instead of the kernel's minutes."""


def make_engine(url: str, *, writer: bool = False, migrating: bool = False) -> Engine:
    """An engine that has connected to nothing yet; raises DatabaseError for a URL that cannot be one.

    On SQLite a `writer` begins with BEGIN IMMEDIATE and syncs each commit to the disk; others may only read.
    `migrating` is for whoever makes tables anew, or reflects them: on SQLite foreign keys would empty those that refer
    to them, on PostgreSQL the catalogue is read as text.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
            raise NoSuchModuleError(f"there is no support for {parsed.get_backend_name()}")
        if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() != "sqlite":
            engine = create_engine(parsed, pool_pre_ping=True, pool_size=2, connect_args=_POSTGRESQL)
            if not migrating:
                _set_up_postgresql(engine)
            return engine
        engine = create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})
    except (ArgumentError, NoSuchModuleError) as error:
        raise DatabaseError(f"not a database URL: {error}", "sqlite:///FILE or postgresql://USER@HOST/NAME") from error
    _set_up_sqlite(engine, writer=writer, foreign_keys=not migrating)
    return engine


def _set_up_postgresql(engine: Engine) -> None:
    """Results come in binary: half the bytes of what is packed, and times that need not be read as text."""
    import psycopg  # noqa: PLC0415 - whoever uses SQLite does without

    class BinaryCursor(psycopg.Cursor[Any]):
        def __init__(self, connection: "psycopg.Connection[Any]", **more: Any) -> None:
            super().__init__(connection, **more)
            self.format = psycopg.pq.Format.BINARY

    @event.listens_for(engine, "connect")
    def on_connect(connection: "psycopg.Connection[Any]", _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.cursor_factory = BinaryCursor


def _set_up_sqlite(engine: Engine, *, writer: bool, foreign_keys: bool) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        connection.execute("PRAGMA synchronous = FULL" if writer else "PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")


def upsert(connection: Connection, row: Any) -> Any:
    """INSERT that can say ON CONFLICT, in the connection's dialect."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(row)


def execute_many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    """Executes an INSERT for many rows, the fastest way that the database has.

    On SQLite that is one statement of many rows (which RETURNING makes of it): its work is done in one piece, without
    Python's lock. psycopg sends row after row without waiting between them, which costs less than so long a statement.
    """
    if connection.dialect.name == "sqlite":
        statement = statement.returning(text("1"))
    connection.execute(statement, rows)


def quarter_of(connection: Connection, column: str) -> str:
    """SQL for the quarter of an hour since 1970, UTC, in which the time in `column` lies."""
    if connection.dialect.name == "postgresql":
        return f"CAST(floor(extract(epoch FROM {column}) / 900) AS integer)"
    return f"(CAST(strftime('%s', {column}) AS integer) / 900)"


def upgrade(url: str) -> None:
    """Brings the database to the newest revision; on SQLite sets WAL once. Raises DatabaseError."""
    from core.db.migrations import CommandError, upgrade_to_head  # noqa: PLC0415 - Alembic is a seventh of a start

    engine = make_engine(url, writer=True)
    try:
        if engine.dialect.name == "sqlite":
            with contextlib.closing(sqlite3.connect(engine.url.database or ":memory:", timeout=BUSY_MS / 1000)) as raw:
                raw.execute("PRAGMA journal_mode = WAL")
        else:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        upgrade_to_head(url)
    except CommandError as error:
        raise DatabaseError(
            f"the database {engine.url.render_as_string(hide_password=True)} is of another version: {error}",
            "it was upgraded by a newer Haetae: run that one, or restore a backup from before",
        ) from error
    except (DBAPIError, sqlite3.Error) as error:
        reason = getattr(error, "orig", None) or error
        raise DatabaseError(
            f"cannot open the database {engine.url.render_as_string(hide_password=True)}: {reason}",
            "check that it exists, is no other file, and may be written",
        ) from error
    finally:
        engine.dispose()
