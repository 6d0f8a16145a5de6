"""Alembic, for the few programs that migrate: importing it is a seventh of a process's start."""

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

__all__ = ["CommandError", "alembic_config", "current_revision", "known_revisions", "upgrade_to_head"]

_REPOSITORY = Path(__file__).resolve().parents[2]


def alembic_config(url: str) -> AlembicConfig:
    """Alembic's configuration for this database, wherever the program runs."""
    config = AlembicConfig(_REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(_REPOSITORY / "migrations"))
    config.attributes["url"] = url
    return config


def upgrade_to_head(url: str) -> None:
    """Raises CommandError for a database that a newer program upgraded."""
    command.upgrade(alembic_config(url), "head")


def current_revision(connection: Connection) -> str | None:
    """The migration that a database is at; None where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def known_revisions() -> list[str]:
    """The migrations that this program knows, the newest first."""
    return [one.revision for one in ScriptDirectory.from_config(alembic_config("")).walk_revisions()]
