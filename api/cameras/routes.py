"""Routes under /cameras and /groups. A camera that the caller may not see is not there (404).

What is desired is written to the database first; then the manager is nudged. Where it does not answer, 202 says that
the change is carried out when it is back.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import BoundedSemaphore
from typing import Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

from litestar import Response, Router, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, structs

from api.cameras.pictures import latest_jpeg
from api.cameras.sensitivity import try_sensitivity
from api.guard import Principals, needs
from api.problems import Refused, documented
from api.services import Call, Services, caller
from core.cameras import CameraConfig, CameraStatus, Light, Zone, normality_id
from core.cameras.live import read_live
from core.cameras.onvif import describe_device, discover, list_presets, onvif_url, turn_by_hand
from core.cameras.probe import probe
from core.cameras.urls import CameraUrl, check_address, check_url, open_url, seal_url, without_addresses
from core.clock import normal_utc, utc_iso
from core.db.cameras import (
    add_camera,
    add_group,
    get_camera,
    list_cameras,
    list_groups,
    list_zones,
    remove_camera,
    remove_group,
    replace_group,
    replace_zones,
    set_enabled,
    update_camera,
)
from core.db.history import camera_states, normality_versions, score_minutes
from core.errors import ConfigError, HaetaeError, RemoteError
from core.frames import ring_budget
from core.ids import CameraId
from core.rest.base import CameraKey, Uuid
from core.rest.cameras import (
    CameraChange,
    CameraGroup,
    CameraIn,
    CameraOut,
    CameraStateChange,
    DeviceIn,
    GroupIn,
    MinuteOut,
    NormalityOut,
    OnvifDevice,
    OnvifFound,
    OnvifPreset,
    PresetIn,
    Probe,
    ProbeIn,
    SensitivityOut,
    VersionIn,
    ZonesIn,
)
from core.security.permissions import Principal, Role, Scope
from core.wire.messages import ApplyCameras, ForgetState, GetCameras, GetState, LearnedReply, UseVersion

__all__ = ["router"]

READ = needs(Role.VIEWER, Scope.CAMERAS_READ)
SWITCH = needs(Role.OPERATOR, Scope.CAMERAS_WRITE)
WRITE = needs(Role.ADMIN, Scope.CAMERAS_WRITE)
PICTURE = needs(Role.VIEWER, Scope.MEDIA_READ, media=True)
MAX_MINUTES = 7 * 24 * 60
LATER = {
    202: ResponseSpec(CameraOut, generate_examples=False, description="Written; carried out when the manager is back")
}
JPEG = {200: ResponseSpec(bytes, media_type="image/jpeg", description="JPEG; X-Frame-Age tells its age in seconds")}


# ---- what is observed


def _statuses(services: Services) -> dict[CameraId, CameraStatus] | None:
    """Of all cameras; None where the manager does not answer."""
    try:
        reply = services.peers["manager"].call(GetCameras(), 1.0)
    except HaetaeError:
        return None
    return {status.camera_id: status for status in reply.cameras}


def _out(
    services: Services, principal: Principal, camera: CameraConfig, statuses: dict[CameraId, CameraStatus] | None
) -> CameraOut:
    status = (statuses or {}).get(camera.camera_id)
    live = read_live(services.config.run_dir, camera.camera_id)
    return CameraOut.of(camera, status, live, with_url=principal.role is Role.ADMIN)


def _applied(services: Services, principal: Principal, camera_id: CameraId, status_code: int) -> Response[CameraOut]:
    """What is desired and observed after a change; 202 where the manager did not hear of it yet."""
    try:
        services.peers["manager"].call(ApplyCameras(), 2.0)
        statuses = _statuses(services)
    except HaetaeError:
        statuses = None
    camera = get_camera(services.reader, camera_id)
    return Response(_out(services, principal, camera, statuses), status_code=202 if statuses is None else status_code)


def _visible(services: Services, request: Call, camera_id: str) -> CameraConfig:
    if not caller(request).sees(camera_id):
        raise Refused(404, "not_found", f"there is no camera {camera_id!r}")
    return get_camera(services.reader, CameraId(camera_id))


# ---- cameras


@get("/cameras", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listCameras")
def list_all(services: NamedDependency[Services], request: Call) -> list[CameraOut]:
    """The cameras that the caller may see, desired and observed."""
    principal = caller(request)
    statuses = _statuses(services)
    return [
        _out(services, principal, camera, statuses)
        for camera in list_cameras(services.reader)
        if principal.sees(camera.camera_id)
    ]


@get("/cameras/{camera_id:str}", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="getCamera")
def get_one(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> CameraOut:
    """One camera, desired and observed."""
    return _out(services, caller(request), _visible(services, request, camera_id), _statuses(services))


@post(
    "/cameras",
    opt=WRITE,
    sync_to_thread=True,
    responses={**documented(409), **LATER},
    operation_id="createCamera",
)
def create(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    data: JSONBody[CameraIn],
) -> Response[CameraOut]:
    """Adds a camera; it runs from now on unless `enabled` is false."""
    camera = _camera_of(services, data)
    if camera.enabled:
        _check_memory(services, camera.camera_id)
    add_camera(services.writer, camera)
    services.audit_now(request, "camera.created", camera.camera_id, {"url": camera.url})
    principals.forget()
    return _applied(services, caller(request), camera.camera_id, 201)


def _check_memory(services: Services, camera_id: CameraId) -> None:
    """Raises SegmentTooLarge where its frames have no room beside those of all cameras that are to run."""
    config = services.config
    wanted = {camera.camera_id for camera in list_cameras(services.reader) if camera.enabled}
    ring_budget(config.bus, config.run_dir, wanted | {camera_id}).check()


def _camera_of(services: Services, data: CameraIn) -> CameraConfig:
    urls = _sealed(services, "url", _checked(services, data.url, data.username, data.password))
    if data.sub_url:
        urls |= _sealed(services, "sub_url", _checked(services, data.sub_url, data.username, data.password))
    values = structs.asdict(data)
    for name in ("id", "url", "sub_url", "username", "password"):
        del values[name]
    return CameraConfig(camera_id=CameraId(data.id), **urls, **values)


def _checked(services: Services, url: str, username: str, password: str) -> CameraUrl:
    return check_url(_with_credentials(url, username, password), from_api=True, config=services.config)


def _with_credentials(url: str, username: str, password: str) -> str:
    if not username and not password:
        return url
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError("the camera's URL cannot be understood") from error
    if parts.scheme not in {"rtsp", "rtsps", "http", "https"}:
        raise ConfigError(f"a {parts.scheme or 'file'} source takes no credentials")
    address = parts.netloc.rpartition("@")[2]
    given = f"{quote(username, safe='')}:{quote(password, safe='')}@"
    return urlunsplit(parts._replace(netloc=given + address))


def _sealed(services: Services, name: str, url: CameraUrl) -> dict[str, str]:
    return {name: url.shown, f"sealed_{name}": seal_url(url, services.box)}


@put(
    "/cameras/{camera_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses={**documented(404), **LATER},
    operation_id="replaceCamera",
)
def replace(
    services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey], data: JSONBody[CameraIn]
) -> Response[CameraOut]:
    """All of a camera's configuration anew; its id stays. A URL as it is shown keeps its credentials."""
    before = _visible(services, request, camera_id)
    if data.id != camera_id:
        raise ConfigError("the id of a camera stays", "add another, and remove this one")
    change = CameraChange(**{name: getattr(data, name) for name in CameraChange.__struct_fields__ if name in _KEPT})
    change = structs.replace(
        change,
        url=data.url,
        sub_url=data.sub_url,
        username=data.username or UNSET,
        password=data.password or UNSET,
    )
    return _change(services, request, before, change)


_KEPT = {"name", "enabled", "autostart", "vad_type", "learn_s", "analysis_fps", "loop", "settings"}


@patch(
    "/cameras/{camera_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses={**documented(404), **LATER},
    operation_id="changeCamera",
)
def change(
    services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey], data: JSONBody[CameraChange]
) -> Response[CameraOut]:
    """Changes what is given and leaves the rest, credentials included, as it is."""
    return _change(services, request, _visible(services, request, camera_id), data)


def _change(services: Services, request: Call, before: CameraConfig, data: CameraChange) -> Response[CameraOut]:
    given = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
    values = {name: value for name, value in given.items() if name in _KEPT}
    for name in ("url", "sub_url"):
        values |= _changed_url(services, before, name, given)
    after = structs.replace(before, **values)
    if after != before:
        update_camera(services.writer, after)
        told = {name: value for name, value in given.items() if name in _KEPT - {"settings"}}
        told |= {"url": after.url} if "url" in values else {}
        services.audit_now(request, "camera.changed", before.camera_id, told)
    return _applied(services, caller(request), before.camera_id, 200)


def _changed_url(services: Services, before: CameraConfig, name: str, given: dict[str, Any]) -> dict[str, str]:
    """The columns of one URL that change; a URL as it is shown, without credentials beside it, is no change."""
    shown, sealed = getattr(before, name), getattr(before, f"sealed_{name}")
    new = given.get(name, shown)
    credentials = {"username", "password"} & given.keys()
    if new == shown and not credentials:
        return {}
    if not new:
        return {name: "", f"sealed_{name}": ""}
    full = open_url(shown, sealed, services.box) if new == shown else new
    return _sealed(services, name, _checked(services, full, given.get("username", ""), given.get("password", "")))


@delete(
    "/cameras/{camera_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="removeCamera",
)
def remove(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    camera_id: FromPath[CameraKey],
) -> None:
    """Forgets the camera, not its events."""
    camera = _visible(services, request, camera_id)
    remove_camera(services.writer, camera.camera_id)
    services.audit_now(request, "camera.removed", camera.camera_id)
    principals.forget()
    try:
        services.peers["manager"].call(ApplyCameras(), 2.0)
    except HaetaeError:
        pass  # the manager reads the database when it is back


def _switched(services: Services, request: Call, camera_id: str, *, enabled: bool) -> Response[CameraOut]:
    camera = _visible(services, request, camera_id)
    if enabled:
        _check_memory(services, camera.camera_id)
    set_enabled(services.writer, camera.camera_id, enabled=enabled)
    services.audit_now(request, "camera.started" if enabled else "camera.stopped", camera.camera_id)
    return _applied(services, caller(request), camera.camera_id, 200)


@post(
    "/cameras/{camera_id:str}/start",
    opt=SWITCH,
    sync_to_thread=True,
    status_code=200,
    responses={**documented(404), **LATER},
    operation_id="startCamera",
)
def start(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> Response[CameraOut]:
    """Lets it run; one that had failed is tried again."""
    return _switched(services, request, camera_id, enabled=True)


@post(
    "/cameras/{camera_id:str}/stop",
    opt=SWITCH,
    sync_to_thread=True,
    status_code=200,
    responses={**documented(404), **LATER},
    operation_id="stopCamera",
)
def stop(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> Response[CameraOut]:
    """Lets it rest until it is started again."""
    return _switched(services, request, camera_id, enabled=False)


@post(
    "/cameras/{camera_id:str}/learn",
    opt=SWITCH,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404),
    operation_id="learnCamera",
)
def learn(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> CameraOut:
    """What it learned, by day and by night, is put aside, and it learns anew; until then it raises no events."""
    camera = _visible(services, request, camera_id)
    for light in Light:
        told = ForgetState(vad_type=camera.vad_type, normality_id=normality_id(camera.camera_id, light))
        services.peers["inference"].call(told, 5.0)
    services.audit_now(request, "camera.learns_anew", camera.camera_id)
    return _out(services, caller(request), camera, _statuses(services))


@post(
    "/cameras/probe",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(),
    operation_id="probeCamera",
)
def probe_url(services: NamedDependency[Services], request: Call, data: JSONBody[ProbeIn]) -> Probe:
    """Looks at a source for some seconds: codec, size, rate, a picture (base64), and what to do about it."""
    url = _checked(services, data.url, data.username, data.password)
    with _looking(services):
        found = probe(services.config, url, data.settings)
    services.audit_now(request, "camera.probed", url.shown, {"ok": found.ok})
    return found


@contextmanager
def _holding(places: BoundedSemaphore, busy: str) -> Iterator[None]:
    """Holds one of few places; whoever finds none is told to come again."""
    if not places.acquire(blocking=False):
        raise Refused(429, "too_many_requests", busy, headers={"Retry-After": "10"})
    try:
        yield
    finally:
        places.release()


def _looking(services: Services) -> AbstractContextManager[None]:
    """For looking at what is no camera of ours yet."""
    return _holding(services.probing, "other sources are being looked at")


@contextmanager
def _turning(services: Services, camera: CameraConfig, principal: Principal) -> Iterator[None]:
    """For asking a camera where it can be turned to; errors name its address to administrators alone."""
    with _holding(services.turning, "other cameras are being turned"):
        try:
            yield
        except HaetaeError as error:
            if principal.role is Role.ADMIN:
                raise
            shown = without_addresses(str(error), camera.url, camera.sub_url, camera.settings.onvif_url)
            raise type(error)(shown, error.hint) from None


# ---- ONVIF


@get(
    "/cameras/discover",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(),
    operation_id="discoverCameras",
)
def find_devices(
    services: NamedDependency[Services],
    request: Call,
    wait_s: Annotated[float, QueryParameter(ge=0.2, le=5, description="How long answers are awaited")] = 3.0,
) -> list[OnvifFound]:
    """The ONVIF devices that answer on the networks of this machine; each is asked for more with POST."""
    with _looking(services):
        found = discover(services.config, wait_s)
    services.audit_now(request, "camera.discovered", "", {"devices": len(found)})
    return found


@post(
    "/cameras/discover",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(),
    operation_id="describeDevice",
)
def describe(services: NamedDependency[Services], request: Call, data: JSONBody[DeviceIn]) -> OnvifDevice:
    """Streams, pictures and presets of one ONVIF device; credentials are used and not kept."""
    url = onvif_url(_with_credentials(onvif_url(data.url).full, data.username, data.password))
    check_address(url, services.config)
    with _looking(services):
        found = describe_device(services.config, url)
    services.audit_now(request, "camera.described", url.shown, {"streams": len(found.streams)})
    return found


@get(
    "/cameras/{camera_id:str}/presets",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="listPresets",
)
def presets(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> list[OnvifPreset]:
    """Where a camera that can be turned can be turned to (ONVIF)."""
    camera = _visible(services, request, camera_id)
    with _turning(services, camera, caller(request)):
        return list_presets(services.config, camera)


@post(
    "/cameras/{camera_id:str}/presets",
    opt=SWITCH,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404),
    operation_id="goToPreset",
)
def turn(
    services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey], data: JSONBody[PresetIn]
) -> OnvifPreset:
    """Turns a camera to one of its presets; it gets there by itself, within seconds."""
    camera = _visible(services, request, camera_id)
    with _turning(services, camera, caller(request)):
        preset = turn_by_hand(services.config, camera, data.preset)
    services.audit_now(request, "camera.turned", camera.camera_id, {"preset": preset.name})
    return preset


# ---- pictures


@get(
    "/cameras/{camera_id:str}/snapshot",
    opt=PICTURE,
    sync_to_thread=True,
    media_type="image/jpeg",
    responses={**documented(404), **JPEG},
    operation_id="getSnapshot",
)
def snapshot(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> Response[bytes]:
    """The newest picture, in its full size."""
    return _picture(services, request, camera_id, None)


@get(
    "/cameras/{camera_id:str}/frame",
    opt=PICTURE,
    sync_to_thread=True,
    media_type="image/jpeg",
    responses={**documented(404), **JPEG},
    operation_id="getFrame",
)
def frame(
    services: NamedDependency[Services],
    request: Call,
    camera_id: FromPath[CameraKey],
    width: Annotated[int, QueryParameter(ge=16, le=3840, description="At most so many pixels wide")] = 640,
) -> Response[bytes]:
    """The newest picture, small."""
    return _picture(services, request, camera_id, width)


def _picture(services: Services, request: Call, camera_id: str, width: int | None) -> Response[bytes]:
    camera = _visible(services, request, camera_id)
    data, age_s = latest_jpeg(services, camera.camera_id, width)
    services.audit_view(request, camera.camera_id, "live")
    return Response(data, media_type="image/jpeg", headers={"X-Frame-Age": f"{age_s:.3f}"})


# ---- zones, history


@get(
    "/cameras/{camera_id:str}/zones", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="listZones"
)
def zones(services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey]) -> list[Zone]:
    """The polygons on its picture: detect, ignore, privacy and direction."""
    return list_zones(services.reader, _visible(services, request, camera_id).camera_id)


@put(
    "/cameras/{camera_id:str}/zones", opt=WRITE, sync_to_thread=True, responses=documented(404), operation_id="setZones"
)
def set_zones(
    services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey], data: JSONBody[ZonesIn]
) -> list[Zone]:
    """Replaces all zones of a camera."""
    camera = _visible(services, request, camera_id)
    replace_zones(services.writer, camera.camera_id, data.zones)
    told = {"zones": [f"{zone.kind} {zone.name}" for zone in data.zones]}
    services.audit_now(request, "camera.zones_changed", camera.camera_id, told)
    try:
        services.peers["manager"].call(ApplyCameras(), 2.0)
    except HaetaeError:
        pass  # the manager reads the database when it is back
    return list_zones(services.reader, camera.camera_id)


@get(
    "/cameras/{camera_id:str}/states",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="listCameraStates",
)
def states(
    services: NamedDependency[Services],
    request: Call,
    camera_id: FromPath[CameraKey],
    limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
) -> list[CameraStateChange]:
    """The last changes of its phase, with reasons, the newest first."""
    return camera_states(services.reader, _visible(services, request, camera_id).camera_id, limit=limit)


@get(
    "/cameras/{camera_id:str}/scores",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="listScores",
)
def scores(
    services: NamedDependency[Services],
    request: Call,
    camera_id: FromPath[CameraKey],
    since: Annotated[str | None, QueryParameter(name="from", max_length=40, description="A day ago by default")] = None,
    until: Annotated[str | None, QueryParameter(name="to", max_length=40, description="Now by default")] = None,
) -> list[MinuteOut]:
    """The highest and the mean score of each minute that is known, up to a week of them."""
    camera = _visible(services, request, camera_id)
    now = services.clock.now()
    first = _minute(normal_utc(since) if since else utc_iso(now - timedelta(days=1)))
    last = _minute(normal_utc(until) if until else utc_iso(now))
    found = score_minutes(services.reader, camera.camera_id, max(first, last - MAX_MINUTES), last)
    return [
        MinuteOut(at=utc_iso(datetime.fromtimestamp(minute * 60, UTC)), highest=highest, mean=mean)
        for minute, highest, mean in found
    ]


@get(
    "/cameras/{camera_id:str}/sensitivity",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="getSensitivity",
)
def sensitivity(
    services: NamedDependency[Services],
    request: Call,
    camera_id: FromPath[CameraKey],
    per_day: Annotated[
        float, QueryParameter(ge=-1, le=10_000, description="False events a day to be tried; -1: those in force")
    ] = -1.0,
    days: Annotated[float, QueryParameter(gt=0, le=31)] = 7.0,
) -> SensitivityOut:
    """What the camera's threshold stands for, and the events that another one would have made in the last days."""
    camera = _visible(services, request, camera_id)
    with _holding(services.replaying, "other cameras' weeks are being replayed"):
        return try_sensitivity(services, camera, per_day if per_day >= 0 else None, days)


def _minute(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp()) // 60


@get(
    "/cameras/{camera_id:str}/normality",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="listNormality",
)
def normality(
    services: NamedDependency[Services],
    request: Call,
    camera_id: FromPath[CameraKey],
    light: Annotated[Light | None, QueryParameter(description="Only what it learned in this light")] = None,
) -> list[NormalityOut]:
    """The versions of what it learned to be normal, by day and by infra-red, the newest first."""
    return _versions(services, _visible(services, request, camera_id), light)


def _versions(services: Services, camera: CameraConfig, light: Light | None = None) -> list[NormalityOut]:
    used: dict[tuple[str, Light], LearnedReply | None] = {}
    found = [one for one in normality_versions(services.reader, camera.camera_id) if light in {None, one.light}]
    for key in {(one.vad_type, one.light) for one in found}:
        used[key] = None
        with suppress(HaetaeError):
            asked = GetState(vad_type=key[0], normality_id=normality_id(camera.camera_id, key[1]))
            used[key] = services.peers["inference"].call(asked, 2.0)
    return [NormalityOut.of(one, used[one.vad_type, one.light]) for one in found]


@post(
    "/cameras/{camera_id:str}/normality/use",
    opt=SWITCH,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404, 409),
    operation_id="useNormality",
)
def use_normality(
    services: NamedDependency[Services], request: Call, camera_id: FromPath[CameraKey], data: JSONBody[VersionIn]
) -> list[NormalityOut]:
    """Judges by an earlier version from now on, or by a later one again; what it learned on meanwhile is dropped.

    Of the two states of a camera, by day and by infra-red, only that of `light` changes.
    """
    camera = _visible(services, request, camera_id)
    state = normality_id(camera.camera_id, data.light)
    wanted = UseVersion(vad_type=camera.vad_type, normality_id=state, version=data.version)
    try:
        services.peers["inference"].call(wanted, 10.0)
    except RemoteError as error:
        raise Refused(409, "not_usable", str(error)) from error
    services.audit_now(request, "camera.version_used", camera.camera_id, {"version": data.version, "light": data.light})
    return _versions(services, camera)


# ---- groups


@get("/groups", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listGroups")
def groups(services: NamedDependency[Services], request: Call) -> list[CameraGroup]:
    """Groups of cameras, as far as the caller may see them."""
    principal = caller(request)
    seen = [
        structs.replace(group, cameras=tuple(one for one in group.cameras if principal.sees(one)))
        for group in list_groups(services.reader)
    ]
    return [group for group in seen if group.cameras or principal.cameras is None]


@post("/groups", opt=WRITE, sync_to_thread=True, responses=documented(409), operation_id="createGroup")
def create_group(
    services: NamedDependency[Services], principals: NamedDependency[Principals], request: Call, data: JSONBody[GroupIn]
) -> CameraGroup:
    """Makes a group of cameras, to grant or to filter by."""
    return _regrouped(
        services, principals, request, "group.created", lambda: add_group(services.writer, data.name, _ids(data))
    )


def _ids(data: GroupIn) -> list[CameraId]:
    return list(map(CameraId, data.cameras))


def _regrouped(
    services: Services, principals: Principals, request: Call, action: str, do: Callable[[], CameraGroup]
) -> CameraGroup:
    group = do()
    services.audit_now(request, action, group.name, {"cameras": list(group.cameras)})
    principals.forget()
    return group


@put(
    "/groups/{group_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404, 409),
    operation_id="replaceGroup",
)
def change_group(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    group_id: FromPath[Uuid],
    data: JSONBody[GroupIn],
) -> CameraGroup:
    """Another name, other cameras: whoever was granted the group sees these from now on."""
    group = CameraGroup(id=group_id, name=data.name, cameras=tuple(sorted(set(_ids(data)))))

    def do() -> CameraGroup:
        replace_group(services.writer, group)
        return group

    return _regrouped(services, principals, request, "group.changed", do)


@delete("/groups/{group_id:str}", opt=WRITE, sync_to_thread=True, responses=documented(404), operation_id="removeGroup")
def delete_group(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    group_id: FromPath[Uuid],
) -> None:
    """Forgets a group, not its cameras; what was granted by it is not any more."""
    remove_group(services.writer, group_id)
    services.audit_now(request, "group.removed", group_id)
    principals.forget()


router = Router(
    "/",
    tags=["cameras"],
    route_handlers=[
        list_all,
        get_one,
        create,
        replace,
        change,
        remove,
        start,
        stop,
        learn,
        probe_url,
        find_devices,
        describe,
        presets,
        turn,
        snapshot,
        frame,
        zones,
        set_zones,
        states,
        scores,
        sensitivity,
        normality,
        use_normality,
        groups,
        create_group,
        change_group,
        delete_group,
    ],
)
