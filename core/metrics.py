"""What every process measures, for Prometheus: each writes its samples into a file (core.exposition gathers them).

No process has to be asked, so that one which hangs does not hold up the others' figures.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["MetricsFile", "Sample", "counter", "gauge", "read_samples"]

EVERY_S = 2.0
STALE_S = 30.0
"""Samples older than this are of a process that is gone."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One figure; `labels` say whose it is."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: dict[str, str] = {}


def counter(name: str, help_text: str, value: float, **labels: str) -> Sample:
    """Something that only grows until its process ends; named without _total."""
    return Sample(name=f"haetae_{name}", kind="counter", help=help_text, value=float(value), labels=labels)


def gauge(name: str, help_text: str, value: float, **labels: str) -> Sample:
    """Something that goes up and down."""
    return Sample(name=f"haetae_{name}", kind="gauge", help=help_text, value=float(value), labels=labels)


def _folder(run_dir: Path) -> Path:
    return run_dir / "metrics"


class MetricsFile:
    """The samples of this process, written now and then by its loop."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self._path = _folder(run_dir) / f"{name}.json"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() >= self._due

    def write(self, samples: Iterable[Sample]) -> None:
        """Replaces what was written before; where the disk refuses that, what was written stays."""
        self._due = time.monotonic() + EVERY_S
        aside = self._path.with_suffix(".part")
        with contextlib.suppress(OSError):
            aside.write_bytes(msgspec.json.encode(list(samples)))
            aside.replace(self._path)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)


def read_samples(run_dir: Path) -> Iterator[Sample]:
    """What the processes that live wrote last."""
    for path in sorted(_folder(run_dir).glob("*.json")):
        try:
            if time.time() - path.stat().st_mtime < STALE_S:
                yield from msgspec.json.decode(path.read_bytes(), type=list[Sample])
        except (OSError, msgspec.DecodeError):
            continue
