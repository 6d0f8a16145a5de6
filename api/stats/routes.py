"""Routes under /stats: of the cameras that the caller may see, and of no others."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, QueryParameter

from api.guard import needs
from api.problems import documented
from api.services import Call, Services, caller
from core import clock
from core.clock import DAY, local_day
from core.db.cameras import list_cameras
from core.db.statistics import Period, StatisticsQuery
from core.errors import ConfigError
from core.ids import CameraId
from core.rest.base import CameraKey
from core.rest.events import ExportFormat
from core.rest.statistics import PeriodOut, StatisticsOut, TrendOut
from core.security.permissions import Role, Scope

__all__ = ["router"]

READ = needs(Role.VIEWER, Scope.STATS_READ)
BACK = {Period.DAY: 14, Period.WEEK: 84, Period.MONTH: 365}
"""Days that are shown where nobody says since when."""
EACH = 64
"""Cameras whose own trends are told."""

Since = Annotated[str | None, QueryParameter(name="from", pattern=DAY, description="First local day")]
Until = Annotated[str | None, QueryParameter(name="to", pattern=DAY, description="Last local day; today by default")]
Zone = Annotated[str | None, QueryParameter(max_length=64, description="IANA name; the site's by default")]
Cameras = Annotated[list[CameraKey] | None, QueryParameter(max_items=200)]


def _query(
    services: Services,
    request: Call,
    period: Period,
    since: str | None,
    until: str | None,
    time_zone: str | None,
    camera_id: list[str] | None,
) -> StatisticsQuery:
    zone = time_zone or services.config.site.time_zone
    try:
        last = local_day(until) if until else datetime.now(UTC).astimezone(clock.time_zone(zone)).date()
        first = local_day(since) if since else last - timedelta(days=BACK[period] - 1)
    except OverflowError as error:
        raise ConfigError(f"not a range that can be looked at: up to {until}") from error
    if not first.year >= 1971 or not last.year <= 2200:
        raise ConfigError("statistics reach from 1971 to 2200")
    wanted = tuple(map(CameraId, camera_id)) if camera_id else None
    return StatisticsQuery(
        first=first, last=last, period=period, time_zone=zone, cameras=caller(request).visible(wanted)
    )


@get("/", opt=READ, sync_to_thread=True, responses=documented(), operation_id="getStatistics")
def get_statistics(
    services: NamedDependency[Services],
    request: Call,
    period: FromQuery[Period] = Period.DAY,
    since: Since = None,
    until: Until = None,
    time_zone: Zone = None,
    camera_id: Cameras = None,
) -> StatisticsOut:
    """Events, watched time and coverage by day, week or month of a time zone."""
    query = _query(services, request, period, since, until, time_zone, camera_id)
    return StatisticsOut.of(services.statistics.read(query), query.time_zone)


@get("/trends", opt=READ, sync_to_thread=True, responses=documented(), operation_id="getTrends")
def get_trends(
    services: NamedDependency[Services],
    request: Call,
    period: FromQuery[Period] = Period.DAY,
    since: Since = None,
    until: Until = None,
    time_zone: Zone = None,
    camera_id: Cameras = None,
) -> TrendOut:
    """Against the range before, and against what is usual on such weekdays."""
    query = _query(services, request, period, since, until, time_zone, camera_id)
    found = services.statistics.read(query)
    cameras = query.cameras
    if cameras is None:
        cameras = tuple(camera.camera_id for camera in list_cameras(services.reader))
    each = {
        one: services.statistics.read(
            StatisticsQuery(
                first=query.first, last=query.last, period=query.period, time_zone=query.time_zone, cameras=(one,)
            )
        ).trend
        for one in cameras[:EACH]
    }
    return TrendOut(
        time_zone=query.time_zone,
        first=query.first.isoformat(),
        last=query.last.isoformat(),
        all=found.trend,
        by_camera={str(name): trend for name, trend in each.items()},
        version=found.version,
    )


@get(
    "/export",
    opt={**READ, "content": ["text/csv", "application/x-ndjson"]},
    sync_to_thread=True,
    responses={
        **documented(),
        200: ResponseSpec(str, media_type="text/csv", description="A line a period; the last is all of them"),
    },
    operation_id="exportStatistics",
)
def export_statistics(
    services: NamedDependency[Services],
    request: Call,
    period: FromQuery[Period] = Period.DAY,
    since: Since = None,
    until: Until = None,
    time_zone: Zone = None,
    camera_id: Cameras = None,
    export_format: Annotated[ExportFormat, QueryParameter(name="format")] = ExportFormat.CSV,
) -> Response[bytes]:
    """The same numbers as CSV, or as a JSON object a line."""
    query = _query(services, request, period, since, until, time_zone, camera_id)
    found = StatisticsOut.of(services.statistics.read(query), query.time_zone)
    services.audit_now(request, "statistics.exported", "", {"format": str(export_format), "period": str(period)})
    name = f"statistics-{query.first}-{query.last}.{export_format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if export_format is ExportFormat.JSONL:
        lines = b"".join(msgspec.json.encode(one) + b"\n" for one in found.periods)
        return Response(lines, media_type="application/x-ndjson", headers=headers)
    return Response(_csv(found), media_type="text/csv", headers=headers)


def _csv(found: StatisticsOut) -> bytes:
    """A column for each type, severity and camera there is, prefixed with what it is."""
    held = io.StringIO()
    writer = csv.writer(held)
    groups = {"type": "by_type", "severity": "by_severity", "camera": "by_camera"}
    columns = [(kind, field, name) for kind, field in groups.items() for name in sorted(getattr(found.total, field))]
    plain = [name for name in PeriodOut.__struct_fields__ if name not in groups.values()]
    writer.writerow(["time_zone", *plain, *(f"{kind}:{name}" for kind, _, name in columns)])
    for one in (*found.periods, msgspec.structs.replace(found.total, begin="total")):
        counted = [getattr(one, field).get(name, 0) for _, field, name in columns]
        writer.writerow([found.time_zone, *(getattr(one, name) for name in plain), *counted])
    return held.getvalue().encode()


router = Router("/stats", tags=["stats"], route_handlers=[get_statistics, get_trends, export_statistics])
