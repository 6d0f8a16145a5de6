"""Routes under /events. An event of a camera that the caller may not see is not there (404)."""

import contextlib
import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency, Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream
from sqlalchemy import Engine

from api.files import answer_file
from api.guard import needs
from api.problems import Refused, documented
from api.services import Call, Services, caller
from core.clock import DAY, later_utc, local_day, normal_utc, time_zone, utc_iso
from core.db.event_pages import EventFilter, iterate_events, page_events
from core.db.events import (
    EventDetail,
    acknowledge,
    add_feedback,
    cameras_of,
    get_detail,
    set_locked,
    undo_acknowledgement,
    undo_feedback,
)
from core.db.history import score_curve
from core.errors import ConfigError, HaetaeError
from core.events.model import EventState, Severity
from core.ids import CameraId, EventId
from core.rest.base import CameraKey, Uuid
from core.rest.events import (
    AckedMany,
    AckIn,
    AckMany,
    EventDetailOut,
    EventOut,
    EventPageOut,
    ExportFormat,
    FeedbackIn,
    LockIn,
    MediaKind,
    ScorePoint,
    exported,
)
from core.security.permissions import Principal, Role, Scope
from core.wire.messages import ApplyCameras

__all__ = ["router"]

READ = needs(Role.VIEWER, Scope.EVENTS_READ)
WRITE = needs(Role.OPERATOR, Scope.EVENTS_WRITE)
AROUND_S = 60.0
CURVE_MAX_S = 3600.0


def _filter(
    services: NamedDependency[Services],
    request: Call,
    camera_id: Annotated[list[CameraKey] | None, QueryParameter(max_items=200)] = None,
    since: Annotated[
        str | None, QueryParameter(name="from", max_length=40, description="RFC 3339: events that began then or later")
    ] = None,
    until: Annotated[str | None, QueryParameter(name="to", max_length=40, description="RFC 3339: before then")] = None,
    day: Annotated[
        str | None,
        QueryParameter(name="date", pattern=DAY, description="A day of `time_zone`, in place of from and to"),
    ] = None,
    time_zone: Annotated[
        str | None, QueryParameter(max_length=64, description="IANA name; the site's by default")
    ] = None,
    vlm_type: Annotated[list[str] | None, QueryParameter(max_items=50)] = None,
    severity: Annotated[list[Severity] | None, QueryParameter(max_items=10)] = None,
    event_state: Annotated[list[EventState] | None, QueryParameter(name="state", max_items=10)] = None,
    min_score: Annotated[float, QueryParameter(ge=0, le=1000)] = 0.0,
    acknowledged: FromQuery[Literal["true", "false", ""]] = "",
    text: Annotated[str, QueryParameter(max_length=200, description="Part of the description or the reason")] = "",
) -> EventFilter:
    """What a list of events is asked for, cut down to what the caller may see."""
    if day is not None:
        if since or until:
            raise ConfigError("date stands in the place of from and to", "give either")
        since, until = _day(local_day(day), time_zone or services.config.site.time_zone)
    wanted = tuple(map(CameraId, camera_id)) if camera_id else None
    return EventFilter(
        cameras=caller(request).visible(wanted),
        since=normal_utc(since) if since else None,
        until=normal_utc(until) if until else None,
        types=tuple(vlm_type or ()),
        severities=tuple(severity or ()),
        states=tuple(event_state or ()),
        min_score=min_score or None,
        acknowledged={"true": True, "false": False}.get(acknowledged),
        text=text,
    )


def _day(day: date, zone: str) -> tuple[str, str]:
    try:
        place = time_zone(zone)
        begin = datetime.combine(day, time(), place)
        return utc_iso(begin.astimezone(UTC)), utc_iso(
            datetime.combine(day + timedelta(days=1), time(), place).astimezone(UTC)
        )
    except OverflowError as error:
        raise ConfigError(f"not a day that can be looked at: {day}") from error


@get("/", opt=READ, responses=documented(), operation_id="listEvents")
async def list_events(
    services: NamedDependency[Services],
    wanted: NamedDependency[EventFilter],
    limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
    cursor: Annotated[
        str | None, QueryParameter(max_length=400, description="Of the page before, for the same filters")
    ] = None,
) -> EventPageOut:
    """A page of events, the newest first, of the cameras that the caller may see."""
    return await services.page(_page, services.reader, wanted, limit, cursor)


def _page(reader: Engine, wanted: EventFilter, limit: int, cursor: str | None) -> EventPageOut:
    page = page_events(reader, wanted, limit=limit, cursor=cursor)
    return EventPageOut(events=[EventOut.of(one) for one in page.events], cursor=page.cursor)


COLUMNS = EventOut.__struct_fields__


@get(
    "/export",
    opt={**READ, "content": ["application/x-ndjson", "text/csv"]},
    sync_to_thread=True,
    operation_id="exportEvents",
    responses={
        **documented(),
        200: ResponseSpec(str, media_type="application/x-ndjson", description="All events of the filter"),
    },
)
def export_events(
    services: NamedDependency[Services],
    request: Call,
    wanted: NamedDependency[EventFilter],
    export_format: Annotated[ExportFormat, QueryParameter(name="format")] = ExportFormat.JSONL,
) -> Stream:
    """All events of a filter, the newest first, as CSV or as a JSON object a line; streamed, however many there are."""
    detail = {"format": str(export_format), **msgspec.to_builtins(wanted)}
    services.audit_now(request, "events.exported", "", detail)
    if export_format is ExportFormat.CSV:
        return Stream(_csv(services, wanted), media_type="text/csv", headers=_as_file("events.csv"))
    return Stream(_lines(services, wanted), media_type="application/x-ndjson", headers=_as_file("events.jsonl"))


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _lines(services: Services, wanted: EventFilter) -> Iterator[bytes]:
    for stored in iterate_events(services.reader, wanted, page=500):
        yield msgspec.json.encode(exported(stored)) + b"\n"


def _csv(services: Services, wanted: EventFilter) -> Iterator[bytes]:
    held = io.StringIO()
    writer = csv.writer(held)
    writer.writerow(COLUMNS)
    for stored in iterate_events(services.reader, wanted, page=500):
        writer.writerow([_cell(value) for value in exported(stored).values()])
        yield held.getvalue().encode()
        held.seek(0)
        held.truncate()
    yield held.getvalue().encode()


def _cell(value: Any) -> Any:
    """Spreadsheets take text that begins so for a formula, and carry it out."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


@post("/ack", opt=WRITE, sync_to_thread=True, status_code=200, responses=documented(), operation_id="acknowledgeEvents")
def acknowledge_many(services: NamedDependency[Services], request: Call, data: JSONBody[AckMany]) -> AckedMany:
    """Takes note of up to 500 events at once."""
    principal = caller(request)
    known = cameras_of(services.reader, map(EventId, data.ids))
    visible = [event_id for event_id, camera_id in known.items() if principal.sees(camera_id)]
    done = _acknowledge(services, request, visible, data)
    return AckedMany(acknowledged=sorted(done), left_out=sorted(set(data.ids) - set(done)))


def _acknowledge(services: Services, request: Call, event_ids: list[EventId], data: AckIn) -> list[EventId]:
    principal = caller(request)
    done = acknowledge(
        services.writer,
        event_ids,
        actor=principal.actor,
        at=services.now(),
        user_id=principal.user_id,
        reason=data.reason,
        note=data.note,
        assignee=data.assignee,
    )
    if done:
        detail = {"events": list(done), "reason": data.reason, "assignee": data.assignee}
        services.audit_now(request, "events.acknowledged", done[0] if len(done) == 1 else f"{len(done)} events", detail)
    return done


def _visible_detail(services: Services, principal: Principal, event_id: str) -> EventDetail:
    detail = get_detail(services.reader, EventId(event_id))
    if detail is None or not principal.sees(detail.stored.event.camera_id):
        raise Refused(404, "not_found", "there is no such event")
    return detail


def _check_visible(services: Services, request: Call, event_id: str) -> CameraId:
    camera_id = cameras_of(services.reader, [EventId(event_id)]).get(EventId(event_id))
    if camera_id is None or not caller(request).sees(camera_id):
        raise Refused(404, "not_found", "there is no such event")
    return camera_id


@get("/{event_id:str}", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="getEvent")
def get_event(services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid]) -> EventDetailOut:
    """One event with its steps, files, score curve and what people said of it."""
    return _detail_out(services, _visible_detail(services, caller(request), event_id))


def _detail_out(services: Services, detail: EventDetail) -> EventDetailOut:
    event = detail.stored.event
    since = later_utc(event.began_at, -AROUND_S)
    until = later_utc(event.began_at, min(CURVE_MAX_S, max(0.0, event.end_s - event.begin_s)) + AROUND_S)
    curve = score_curve(services.reader, event.camera_id, since, until)
    points = [
        ScorePoint(at=utc_iso(datetime.fromtimestamp(second, UTC)), score=round(score, 3)) for second, score in curve
    ]
    return EventDetailOut.of(detail, points)


@post(
    "/{event_id:str}/ack",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404, 409),
    operation_id="acknowledgeEvent",
)
def acknowledge_one(
    services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid], data: JSONBody[AckIn]
) -> EventDetailOut:
    """Takes note of an event: who, when, why, and who sees to it."""
    _check_visible(services, request, event_id)
    if not _acknowledge(services, request, [EventId(event_id)], data):
        raise Refused(409, "acknowledged_already", "somebody has taken note of it already")
    return _detail_out(services, _visible_detail(services, caller(request), event_id))


@delete(
    "/{event_id:str}/ack",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404, 409),
    operation_id="undoAcknowledgement",
)
def undo_ack(services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid]) -> EventDetailOut:
    """Takes an acknowledgement back; its trace stays."""
    _check_visible(services, request, event_id)
    if not undo_acknowledgement(services.writer, EventId(event_id), actor=caller(request).actor, at=services.now()):
        raise Refused(409, "not_acknowledged", "nobody has taken note of it")
    services.audit_now(request, "event.acknowledgement_undone", event_id)
    return _detail_out(services, _visible_detail(services, caller(request), event_id))


@put("/{event_id:str}/lock", opt=WRITE, sync_to_thread=True, responses=documented(404), operation_id="lockEvent")
def lock(
    services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid], data: JSONBody[LockIn]
) -> EventDetailOut:
    """Keeps an event and its files as evidence, or no longer."""
    _check_visible(services, request, event_id)
    set_locked(services.writer, EventId(event_id), locked=data.locked)
    services.audit_now(request, "event.locked" if data.locked else "event.unlocked", event_id)
    return _detail_out(services, _visible_detail(services, caller(request), event_id))


@post(
    "/{event_id:str}/feedback", opt=WRITE, sync_to_thread=True, responses=documented(404), operation_id="giveFeedback"
)
def give_feedback(
    services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid], data: JSONBody[FeedbackIn]
) -> EventDetailOut:
    """Says that it was normal, or real; what was said before of the same event counts no more.

    What was normal lowers the camera's score at that place from now on; neither counts as a false event any longer.
    """
    _check_visible(services, request, event_id)
    principal = caller(request)
    add_feedback(
        services.writer,
        EventId(event_id),
        verdict=data.verdict,
        actor=principal.actor,
        at=services.now(),
        user_id=principal.user_id,
        note=data.note,
    )
    services.audit_now(request, "event.feedback", event_id, {"verdict": data.verdict})
    _tell_manager(services)
    return _detail_out(services, _visible_detail(services, principal, event_id))


@delete(
    "/{event_id:str}/feedback",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404, 409),
    operation_id="undoFeedback",
)
def undo_said(services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid]) -> EventDetailOut:
    """Takes back what was said of an event, and what the camera made of it; its trace stays."""
    _check_visible(services, request, event_id)
    principal = caller(request)
    if not undo_feedback(services.writer, EventId(event_id), actor=principal.actor, at=services.now()):
        raise Refused(409, "nothing_said", "nothing was said of it, or that was taken back already")
    services.audit_now(request, "event.feedback_undone", event_id)
    _tell_manager(services)
    return _detail_out(services, _visible_detail(services, principal, event_id))


def _tell_manager(services: Services) -> None:
    with contextlib.suppress(HaetaeError):  # it reads the database when it is back
        services.peers["manager"].call(ApplyCameras(), 2.0)


@get(
    "/{event_id:str}/media/{kind:str}",
    opt={**needs(Role.VIEWER, Scope.MEDIA_READ, media=True), "content": ["image/jpeg", "video/mp4"]},
    sync_to_thread=True,
    operation_id="getEventMedia",
    responses={
        **documented(404, 416),
        200: ResponseSpec(bytes, media_type="application/octet-stream", description="The picture or clip"),
        206: ResponseSpec(bytes, media_type="application/octet-stream", description="The part that Range asked for"),
        304: ResponseSpec(None, description="Unchanged since it was read last"),
    },
)
def get_media(
    services: NamedDependency[Services], request: Call, event_id: FromPath[Uuid], kind: FromPath[MediaKind]
) -> Response[Any]:
    """A picture or the clip of an event; parts of it by Range."""
    event = _visible_detail(services, caller(request), event_id).stored.event
    for media in event.media:
        if media.kind == kind:
            answer = answer_file(
                request,
                services.config.media_dir,
                media.file,
                tag=media.sha256,
                download_as=f"{event.camera_id}-{event.id}",
            )
            services.audit_view(request, event_id, str(kind))
            return answer
    raise Refused(404, "not_found", f"this event has no {kind}")


router = Router(
    "/events",
    tags=["events"],
    dependencies={"wanted": Provide(_filter, sync_to_thread=False)},
    route_handlers=[
        list_events,
        export_events,
        acknowledge_many,
        get_event,
        acknowledge_one,
        undo_ack,
        lock,
        give_feedback,
        undo_said,
        get_media,
    ],
)
