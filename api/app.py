"""The application: all areas under /api/v1, with what holds for every request."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler, Message, Scope

from api import auth, cameras, events, stats, system, users
from api.guard import PUBLIC, Principals, authorise
from api.problems import exception_handlers, request_id
from api.services import Services
from core.version import VERSION

__all__ = ["create_app"]

log = structlog.get_logger()

AREAS: Sequence[ControllerRouterHandler] = [
    auth.router,
    users.router,
    cameras.router,
    events.router,
    stats.router,
    system.router,
]
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


def create_app(services: Services, areas: Sequence[ControllerRouterHandler] = AREAS) -> Litestar:
    """An ASGI application around `services`, which it closes at its end."""
    principals = Principals(services)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        app.state.services, app.state.principals = services, principals
        app.state.refusals = {}
        yield
        services.close()

    origins = list(services.config.api.origins)
    return Litestar(
        [Router("/api/v1", route_handlers=list(areas)), system.health_router],
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
        openapi_config=_openapi(),
        request_max_body_size=services.config.api.body_kb * 1000,
    )


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Haetae",
        version=VERSION,
        description="Cameras, events, statistics and everything around them.",
        openapi_router=Router("/api/v1/schema", route_handlers=[], opt=PUBLIC),
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An access token from /api/v1/auth/login, or an API key's secret.",
                )
            }
        ),
        security=[{"bearer": []}],
    )


def _identified(app: Any) -> Any:
    """Puts the request's id into every line that is logged for it."""

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        scope.setdefault("user", None)  # type: ignore[typeddict-item]
        with structlog.contextvars.bound_contextvars(request_id=request_id(scope)):
            await app(scope, receive, send)

    return middleware


async def _finish(message: Message, scope: Scope) -> None:
    """Headers of every answer."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    present = {name.lower() for name, _ in headers}
    headers += [one for one in HEADERS.items() if one[0] not in present]
    headers.append((b"x-request-id", request_id(scope).encode()))
    if scope["scheme"] == "https":
        headers.append((b"strict-transport-security", HSTS))
    if b"cache-control" not in present:
        headers.append((b"cache-control", b"no-store"))
    message["headers"] = headers
