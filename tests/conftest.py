"""Fixtures that all tests share: a configuration of their own, and the real videos."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine

from bench.postgres import ScratchPostgres, find_postgres
from core.config import Config, load_config
from core.db import make_engine, upgrade

# The same examples each time, however slow the machine; HYPOTHESIS_PROFILE=search looks for others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("steady", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """Folders of this test's own; the run folder's path is short, since sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        made = load_config(REPOSITORY / "tests" / "haetae.toml", environ={}, paths={"data": str(tmp_path), "run": run})
        made.make_dirs()
        yield made


@pytest.fixture(scope="session")
def postgres() -> Iterator[ScratchPostgres]:
    """A PostgreSQL server of this session's own."""
    if find_postgres() is None:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with ScratchPostgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: the test runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return request.getfixturevalue("postgres").create_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """A migrated database, writable; the test runs on both."""
    upgrade(database_url)
    engine = make_engine(database_url, writer=True)
    yield engine
    engine.dispose()


def _videos(folder: str) -> Path:
    root = Path(os.environ.get("HAETAE_DATA") or REPOSITORY.parent / "shared" / "data")
    found = root / folder
    if not found.is_dir():
        reason = f"no videos at {found}: set HAETAE_DATA to the folder that holds {folder}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def ped2() -> Path:
    """UCSD Ped2: train/01..16.mp4, test/01..12.mp4, labels.json."""
    return _videos("ped2")


@pytest.fixture
def clips() -> Path:
    """Two fixed-camera clips."""
    return _videos("clips")
