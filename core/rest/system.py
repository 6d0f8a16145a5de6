"""Records of the system: processes, rings, models, disk, database, configuration."""

from typing import Any

from core.config_fields import ConfigField
from core.rest.base import Record

__all__ = [
    "ConfigField",
    "DatabaseOut",
    "DiskOut",
    "Health",
    "LogTail",
    "ProcessOut",
    "Readiness",
    "RingOut",
    "SystemOut",
]


class Health(Record, frozen=True, kw_only=True):
    status: str


class Readiness(Record, frozen=True, kw_only=True):
    """`ready` where all that answering needs is there; what is not says why."""

    ready: bool
    database: str
    manager: str
    inference: str
    logger: str


class ProcessOut(Record, frozen=True, kw_only=True):
    """A process by its heartbeat; `age_s` is how long ago it last did a round of its work."""

    name: str
    pid: int
    phase: str
    reason: str
    """Why it is in that phase; "" where that needs no saying."""
    count: int
    age_s: float
    uptime_s: float
    restarts: int
    """How often it began again after an end that nobody asked for, since the last start that somebody did."""
    memory_mb: float | None
    """Private memory; null where the process is gone."""


class RingOut(Record, frozen=True, kw_only=True):
    """A frame ring; `age_s` is the age of its newest frame, null before the first."""

    camera_id: str
    stream: str
    width: int
    height: int
    slots: int
    size_mb: float
    frames: int
    age_s: float | None
    torn: int
    leases_denied: int


class DatabaseOut(Record, frozen=True, kw_only=True):
    kind: str
    revision: str | None
    size_mb: float | None
    sequence: int
    """Changes of events so far."""


class DiskOut(Record, frozen=True, kw_only=True):
    what: str
    free_gb: float
    size_gb: float


class SystemOut(Record, frozen=True, kw_only=True):
    version: str
    node_id: str
    time_zone: str
    versions: dict[str, str]
    processes: list[ProcessOut]
    missing: list[str]
    """Processes that should run and have not said so: without them, what looks quiet may not be looked at."""
    rings: list[RingOut]
    inference: dict[str, Any] | None
    """Counters and models; null where the inference process does not answer."""
    database: DatabaseOut
    disks: list[DiskOut]


class LogTail(Record, frozen=True, kw_only=True):
    process: str
    lines: list[str]
