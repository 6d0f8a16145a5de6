"""Runs migrations on the database of the caller, or of the configuration."""

from alembic import context

from core.config import load_config
from core.db.engine import make_engine
from core.db.tables import Base


def run() -> None:
    url = context.config.attributes.get("url") or load_config().database_url
    engine = make_engine(url, writer=True)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=connection.dialect.name == "sqlite",
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


run()
