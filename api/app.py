"""The application: all areas under /api/v1, with what holds for every request."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog
from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.types import Message, Scope

from api import auth, cameras, events, notifications, stats, stream, system, users, web
from api.guard import Principals, authorise
from api.openapi import router
from api.problems import ApiRequest, exception_handlers, request_id
from api.services import Services
from api.stream.events import EventHub
from api.stream.frames import FrameHub
from api.stream.viewers import Viewers

__all__ = ["ROUTES", "create_app"]

log = structlog.get_logger()

ROUTES = (
    Router(
        "/api/v1",
        route_handlers=[
            auth.router,
            users.router,
            cameras.router,
            stream.router,
            events.router,
            stats.router,
            notifications.router,
            system.router,
        ],
    ),
    system.health_router,
)
"""What the OpenAPI document tells of."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
    b"content-security-policy": (
        b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
        b"style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'"
    ),
}
HSTS = b"max-age=31536000"


def create_app(services: Services) -> Litestar:
    """An ASGI application around `services`, which it closes at its end."""
    principals = Principals(services)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        app.state.services, app.state.principals = services, principals
        app.state.refusals = {}
        app.state.viewers = viewers = Viewers(services, principals)
        app.state.event_hub = event_hub = EventHub(services)
        app.state.frame_hub = frame_hub = FrameHub(services, viewers)
        services.measures += [event_hub.samples, frame_hub.samples]
        services.ending.append(partial(viewers.end_all, "restarting", "the server stops"))
        yield
        await viewers.close()
        await event_hub.close()
        await frame_hub.close()
        services.close()

    origins = list(services.config.api.origins)
    return Litestar(
        [*ROUTES, stream.socket_router, router(ROUTES), web.router],
        guards=[authorise],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "principals": Provide(lambda: principals, sync_to_thread=False),
        },
        exception_handlers=exception_handlers(),
        before_send=[_finish],
        cors_config=CORSConfig(allow_origins=origins, allow_credentials=False, max_age=600) if origins else None,
        lifespan=[lifespan],
        logging_config=None,
        middleware=[_identified],
        openapi_config=None,
        request_class=ApiRequest,
        request_max_body_size=services.config.api.body_kb * 1000,
    )


def _identified(app: Any) -> Any:
    """Puts the request's id into every line that is logged for it."""

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        scope.setdefault("user", None)  # type: ignore[typeddict-item]
        with structlog.contextvars.bound_contextvars(request_id=request_id(scope)):
            await app(scope, receive, send)

    return middleware


async def _finish(message: Message, scope: Scope) -> None:
    """Headers of every answer, which is counted."""
    if message["type"] != "http.response.start":
        return
    scope["app"].state.services.answered[message["status"] // 100] += 1
    headers = list(message["headers"])
    present = {name.lower() for name, _ in headers}
    headers += [one for one in HEADERS.items() if one[0] not in present]
    headers.append((b"x-request-id", request_id(scope).encode()))
    if scope["scheme"] == "https":
        headers.append((b"strict-transport-security", HSTS))
    if b"cache-control" not in present:
        headers.append((b"cache-control", b"no-store"))
    message["headers"] = headers
