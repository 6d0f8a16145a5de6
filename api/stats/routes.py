"""Routes under /stats: of the cameras that the caller may see, and of no others."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Router, get
from litestar.di import NamedDependency
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
from core.rest.statistics import StatisticsOut, TrendOut
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


router = Router("/stats", tags=["stats"], route_handlers=[get_statistics, get_trends])
