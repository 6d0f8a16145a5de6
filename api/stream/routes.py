"""The routes of the sockets, and of pictures for other programs."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from litestar import Router, WebSocket, get, websocket
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Stream

from api.guard import PUBLIC, Principals, needs
from api.problems import Refused, documented
from api.services import Call, Services, caller
from api.stream.events import EventViewer
from api.stream.frames import FrameViewer, StreamKey
from api.stream.viewers import serve
from core.ids import CameraId
from core.rest.base import CameraKey
from core.rest.stream import Credit, FrameSize, Watch
from core.security.permissions import Need, Role, Scope

__all__ = ["router", "socket_router"]

EVENTS = Need(Role.VIEWER, Scope.EVENTS_READ)
FRAMES = Need(Role.VIEWER, Scope.MEDIA_READ)
BOUNDARY = "haetae-frame"


@websocket("/events", opt=PUBLIC)
async def events(socket: WebSocket[Any, Any, Any]) -> None:
    """Events, cameras and statistics as they change; see docs/api.md."""
    state = socket.app.state
    make = partial(EventViewer, hub=state.event_hub)
    await serve(socket, state.viewers, state.principals, EVENTS, make, None)


@websocket("/frames", opt=PUBLIC)
async def frames(socket: WebSocket[Any, Any, Any]) -> None:
    """Live pictures; see docs/api.md."""
    state = socket.app.state
    make = partial(FrameViewer, hub=state.frame_hub)
    await serve(socket, state.viewers, state.principals, FRAMES, make, Watch | Credit)


@get(
    "/cameras/{camera_id:str}/mjpeg",
    opt={**needs(Role.VIEWER, Scope.MEDIA_READ, media=True), "content": ["multipart/x-mixed-replace"]},
    operation_id="getMjpeg",
    responses={
        **documented(404),
        200: ResponseSpec(bytes, media_type="multipart/x-mixed-replace", description="JPEG after JPEG, without end"),
    },
)
async def mjpeg(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    camera_id: FromPath[CameraKey],
    size: FromQuery[FrameSize] = "full",
    fps: Annotated[float, QueryParameter(ge=0.1, le=60, description="At most so many frames a second")] = 5.0,
) -> Stream:
    """Live pictures for programs that know nothing better; those that do use the socket."""
    principal = caller(request)
    if not principal.sees(camera_id) or not await services.page(services.knows_camera, camera_id):
        raise Refused(404, "not_found", f"there is no camera {camera_id!r}")
    secret = request.headers.get("authorization", "").partition(" ")[2].strip()
    again = partial(principals.of_key, secret) if principal.key_id else partial(principals.of_session, principal)
    hub = request.app.state.frame_hub
    rate = min(fps, services.config.api.frames_per_s_max)
    pictures = hub.pictures(principal, again, StreamKey(CameraId(camera_id), size), rate)

    async def parts() -> AsyncGenerator[bytes]:
        async for picture in pictures:
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
            head += f"X-Frame-Captured-At: {picture.captured_at_ns / 1e9:.3f}\r\n\r\n"
            yield head.encode() + picture.jpeg + b"\r\n"

    if not hub.has_ring(camera_id):
        raise Refused(503, "no_picture", "the camera is not running", headers={"Retry-After": "5"})
    if not hub.admits(principal):
        raise Refused(429, "too_many_requests", "you have too many streams open", headers={"Retry-After": "10"})
    hub.audit(request, CameraId(camera_id))
    return Stream(parts(), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")


router = Router("/", tags=["cameras"], route_handlers=[mjpeg])
socket_router = Router("/api/v1/ws", route_handlers=[events, frames])
