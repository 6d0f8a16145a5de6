"""Fixtures that all tests share: a configuration of their own, and the real videos."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import Config, load_config

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """Folders of this test's own; the run folder's path is short, since sockets live in it."""
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        made = load_config(REPOSITORY / "tests" / "haetae.toml", environ={}, paths={"data": str(tmp_path), "run": run})
        made.make_dirs()
        yield made


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
