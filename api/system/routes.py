"""Routes under /system, and /healthz and /readyz for whoever supervises."""

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api.guard import PUBLIC, needs
from api.problems import Refused, documented
from api.services import Services
from core.config_fields import ConfigField, config_fields
from core.db.events import last_sequence
from core.db.transfer import revision_of
from core.errors import BusError, HaetaeError
from core.exposition import gather
from core.frames import RingReader, list_rings
from core.heartbeat import list_heartbeats
from core.logs import redact
from core.process import EXPECTED
from core.rest.system import DatabaseOut, DiskOut, Health, LogTail, ProcessOut, Readiness, RingOut, SystemOut
from core.security.permissions import Role, Scope
from core.version import VERSION
from core.wire.messages import GetCameras, GetStatistics, Ping

__all__ = ["health_router", "router"]

READ = needs(Role.ADMIN, Scope.SYSTEM_READ)
TAIL_BYTES = 256 * 1024
PACKAGES = ("torch", "av", "numpy", "opencv-python-headless", "pyzmq", "litestar", "sqlalchemy")


@get("/healthz", opt=PUBLIC, sync_to_thread=False, responses=documented(), operation_id="getHealth")
def healthz() -> Health:
    """The API process lives."""
    return Health(status="ok")


@get("/readyz", opt=PUBLIC, sync_to_thread=True, responses=documented(), operation_id="getReadiness")
def readyz(services: NamedDependency[Services]) -> Response[Readiness]:
    """Whether everything that answering needs is there; 503 where it is not."""
    states = {role: _answers(services, role) for role in ("manager", "inference", "logger")}
    try:
        with services.reader.connect() as connection:
            connection.execute(text("SELECT 1"))
        database = "ok"
    except DBAPIError:
        database = "does not answer"
    ready = database == "ok" and all(state == "ok" for state in states.values())
    found = Readiness(ready=ready, database=database, **states)
    if services.closing.is_set():
        found = msgspec.structs.replace(found, ready=False)
    if not found.ready:
        raise Refused(
            503,
            "not_ready",
            "; ".join(f"{name}: {state}" for name, state in {"database": database, **states}.items() if state != "ok"),
            headers={"Retry-After": "5"},
        )
    return Response(found)


def _answers(services: Services, role: str) -> str:
    try:
        services.peers[role].call(Ping(), 0.5)
    except HaetaeError:
        return "does not answer"
    return "ok"


@get("/", opt=READ, sync_to_thread=True, responses=documented(), operation_id="getSystem")
def get_system(services: NamedDependency[Services]) -> SystemOut:
    """Processes, rings, models, database and disks, as they are now."""
    config, processes = services.config, _processes(services)
    return SystemOut(
        version=VERSION,
        node_id=config.node_id,
        time_zone=config.site.time_zone,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        processes=processes,
        missing=[name for name in EXPECTED if name not in {one.name for one in processes}],
        rings=_rings(services),
        inference=_inference(services),
        database=_database(services),
        disks=_disks(services),
    )


def _processes(services: Services) -> list[ProcessOut]:
    try:
        reply = services.peers["manager"].call(GetCameras(), 1.0)
        ends = {f"camera-{one.camera_id}": one.restarts for one in reply.cameras}
    except HaetaeError:
        ends = {}
    return [
        ProcessOut(
            name=name,
            pid=beat.pid,
            phase=beat.phase,
            reason=beat.reason,
            count=beat.count,
            age_s=round(beat.age_s, 3),
            uptime_s=round((time.monotonic_ns() - beat.started_ns) / 1e9, 1),
            restarts=ends.get(name, beat.restarts),
            memory_mb=_private_mb(beat.pid),
        )
        for name, beat in list_heartbeats(services.config.run_dir)
    ]


def _private_mb(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return round(kilobytes / 1000, 1)


def _rings(services: Services) -> list[RingOut]:
    found: list[RingOut] = []
    for info in list_rings(services.config.run_dir):
        try:
            reader = RingReader(services.config.run_dir, info)
        except BusError:
            continue
        try:
            latest, counted = reader.latest(), reader.statistics()
            found.append(
                RingOut(
                    camera_id=info.camera_id,
                    stream=info.stream,
                    width=info.format.width,
                    height=info.format.height,
                    slots=info.n_slots,
                    size_mb=round(info.n_slots * info.format.nbytes / 1e6, 1),
                    frames=latest.seq if latest else 0,
                    age_s=round(counted.age_s, 3) if latest else None,
                    torn=counted.all_torn,
                    leases_denied=counted.all_denied,
                )
            )
        finally:
            reader.close()
    return found


def _inference(services: Services) -> dict[str, Any] | None:
    try:
        return msgspec.to_builtins(services.peers["inference"].call(GetStatistics(), 1.0))
    except HaetaeError:
        return None


def _database(services: Services) -> DatabaseOut:
    engine = services.reader
    size = None
    if engine.dialect.name == "sqlite" and engine.url.database:
        size = sum(
            path.stat().st_size for suffix in ("", "-wal") if (path := Path(engine.url.database + suffix)).exists()
        )
    else:
        with engine.connect() as connection:
            size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return DatabaseOut(
        kind=engine.dialect.name,
        revision=revision_of(engine),
        size_mb=round(size / 1e6, 1) if size is not None else None,
        sequence=last_sequence(engine),
    )


def _disks(services: Services) -> list[DiskOut]:
    found: list[DiskOut] = []
    places = {"data": services.config.data_dir, "backups": services.config.backups_dir, "frames": Path("/dev/shm")}
    for what, folder in places.items():
        if folder.exists():
            usage = shutil.disk_usage(folder)
            found.append(DiskOut(what=what, free_gb=round(usage.free / 1e9, 2), size_gb=round(usage.total / 1e9, 2)))
    return found


@get(
    "/metrics",
    opt=READ,
    sync_to_thread=True,
    media_type="text/plain",
    responses=documented(),
    operation_id="getMetrics",
)
def metrics(services: NamedDependency[Services]) -> Response[bytes]:
    """What all processes measure, in Prometheus' text format; for a key with the scope system:read."""
    return Response(gather(services.config), media_type=CONTENT_TYPE_PLAIN_0_0_4)


@get("/config", opt=READ, sync_to_thread=True, responses=documented(), operation_id="getConfig")
def get_config(services: NamedDependency[Services]) -> list[ConfigField]:
    """The configuration in force: each field with what it is for, its unit and its bounds."""
    return config_fields(services.config)


@get("/logs/{process:str}", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="getLog")
def get_log(
    services: NamedDependency[Services],
    process: Annotated[str, PathParameter(pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$")],
    lines: Annotated[int, QueryParameter(ge=1, le=2000)] = 200,
) -> LogTail:
    """The last lines that a process logged."""
    path = services.config.logs_dir / f"{process}.log"
    if not path.is_file():
        raise Refused(404, "not_found", "there is no such log")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        found = file.read().decode(errors="replace").splitlines()
    return LogTail(process=process, lines=[redact(line) for line in found[-lines:]])


router = Router("/system", tags=["system"], route_handlers=[get_system, get_config, get_log])
health_router = Router("/", tags=["system"], route_handlers=[healthz, readyz, metrics])
