"""What all tables share: names of constraints, and the few column types that differ between the databases."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Dialect, MetaData, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator, TypeEngine

from core.clock import utc_iso

__all__ = ["Base", "Json", "Key", "UtcTime"]


class UtcTime(TypeDecorator[str]):
    """A moment: RFC 3339 UTC text in Python and on SQLite, where it sorts; TIMESTAMPTZ on PostgreSQL."""

    impl = String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(32))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return datetime.fromisoformat(value) if value and dialect.name == "postgresql" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return utc_iso(value) if isinstance(value, datetime) else value


Key = String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
"""A UUIDv7, as text in Python and on SQLite, as UUID on PostgreSQL."""

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
