"""The database: tables, engines for SQLite and PostgreSQL, migrations, queries."""

from core.db.engine import make_engine, upgrade

__all__ = ["make_engine", "upgrade"]
