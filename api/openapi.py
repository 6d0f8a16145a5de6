"""The API's OpenAPI document, and a page to read it.

Litestar knows the routes; msgspec knows the records, and the bounds of each parameter, exactly. So the paths are
Litestar's, and whatever says what is valid comes from msgspec.
"""

import types
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import ParameterKwarg
from litestar.types import ControllerRouterHandler

from api.guard import MEDIA_COOKIE, PUBLIC
from core.rest.stream import CLIENT, SERVER
from core.version import VERSION

__all__ = ["document", "router"]

REFS = "#/components/schemas/{name}"
STATIC = Path(__file__).parent / "static"
_BOUNDS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "description")


@cache
def document(areas: tuple[ControllerRouterHandler, ...]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routers."""
    given = {name: Provide(lambda: None, sync_to_thread=False) for name in ("services", "principals")}
    app = Litestar(list(areas), openapi_config=_config(), logging_config=None, dependencies=given)
    made: dict[str, Any] = app.openapi_schema.to_schema()
    made["paths"] = {path: item for path, item in made["paths"].items() if not path.startswith("/api/v1/schema")}
    components = made["components"]["schemas"]
    structs: list[Any] = []
    for handler in _handlers(app):
        hints = _hints(handler)
        structs += _structs([hints.get("data"), hints["return"]])
        operation = made["paths"][_documented_path(handler)][next(iter(handler.http_methods - {"HEAD"})).lower()]
        _correct_parameters(operation, handler, components)
        operation["summary"] = operation.get("description", operation["summary"]).split("\n")[0].rstrip(".")
        if kinds := handler.opt.get("content"):
            for status in operation["responses"].keys() & {"200", "206"}:
                content = {"schema": {"type": "string", "contentEncoding": "binary"}}
                operation["responses"][status]["content"] = dict.fromkeys(kinds, content)
        if handler.opt.get("public"):
            operation["security"] = []
        elif handler.opt.get("media"):
            operation["security"] = [{"bearer": []}, {"media": []}]
    structs += [*CLIENT, *SERVER]  # of the sockets, so that clients have their types too
    _, exact = msgspec.json.schema_components(list(dict.fromkeys(structs)), ref_template=REFS)
    components.update(exact)
    return made


def _config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Haetae",
        version=VERSION,
        description="Cameras, events, statistics and everything around them.",
        path="/api/v1/schema",
        render_plugins=[JsonRenderPlugin()],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An access token from /api/v1/auth/login, or an API key's secret.",
                ),
                "media": SecurityScheme(
                    type="apiKey",
                    name=MEDIA_COOKIE,
                    security_scheme_in="cookie",
                    description="Set by a login with `cookie`; reads pictures and clips.",
                ),
            }
        ),
        security=[{"bearer": []}],
    )


def _handlers(app: Litestar) -> Iterable[HTTPRouteHandler]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and handler.operation_id and "/schema" not in route.path:
                handler.documented_path = route.path_format  # type: ignore[attr-defined]
                yield handler


def _documented_path(handler: HTTPRouteHandler) -> str:
    return handler.documented_path  # type: ignore[attr-defined]


def _hints(called: Any) -> dict[str, Any]:
    """Annotations of a handler or a provider, as they are written."""
    signature = called.parsed_fn_signature
    return {name: field.raw for name, field in signature.parameters.items()} | {"return": signature.return_type.raw}


def _structs(annotations: Iterable[Any]) -> Iterable[Any]:
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            if annotation.__module__.startswith("core."):
                yield annotation
        else:
            yield from _structs(get_args(annotation))


def _correct_parameters(operation: dict[str, Any], handler: HTTPRouteHandler, components: dict[str, Any]) -> None:
    """A parameter's schema is that of its annotation; None means that it may be left out, not that null is a value."""
    known: dict[str, Any] = {}
    for called in (handler, *handler.resolve_dependencies().values()):
        for name, annotation in _hints(called).items():
            if name != "return":
                known[_alias(name, annotation)] = annotation
    for parameter in operation.get("parameters", ()):
        annotation = known.get(parameter["name"])
        if annotation is not None:
            default = parameter["schema"].get("default")
            (schema,), found = msgspec.json.schema_components([_plain(annotation)], ref_template=REFS)
            components.update(found)
            parameter["schema"] = {**schema, **({"default": default} if default not in {None, ""} else {})}
        for noise in ("deprecated", "allowEmptyValue", "allowReserved"):
            parameter.pop(noise, None)


def _alias(name: str, annotation: Any) -> str:
    for part in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        if isinstance(part, ParameterKwarg) and part.name:
            return part.name
    return name


def _plain(annotation: Any) -> Any:
    """The annotation as msgspec reads it: without None, with Litestar's bounds as msgspec's."""
    bounds: dict[str, Any] = {}
    while get_origin(annotation) is Annotated:
        annotation, *parts = get_args(annotation)
        for part in parts:
            if isinstance(part, ParameterKwarg):
                bounds |= {name: value for name in _BOUNDS if (value := getattr(part, name)) is not None}
                if part.max_items is not None:
                    bounds["max_length"] = part.max_items
            elif isinstance(part, msgspec.Meta):
                annotation = Annotated[annotation, part]
                if bounds:
                    return Annotated[annotation, msgspec.Meta(**bounds)]
                return annotation
    if get_origin(annotation) in {Union, types.UnionType}:
        left = [one for one in get_args(annotation) if one is not types.NoneType]
        annotation = left[0]
    return Annotated[annotation, msgspec.Meta(**bounds)] if bounds else annotation


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Haetae API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<script type="module" src="/api/v1/schema/rapidoc.js"></script></head>
<body><rapi-doc spec-url="/api/v1/schema/openapi.json" render-style="read" load-fonts="false" allow-try="true"
 show-header="false" schema-description-expanded="true" theme="light"></rapi-doc></body></html>
"""


def router(areas: tuple[ControllerRouterHandler, ...]) -> Router:
    """/schema: the document, a page that shows it, and the script of that page: nothing comes from elsewhere."""

    @get("/openapi.json", opt=PUBLIC, sync_to_thread=True, include_in_schema=False)
    def openapi_json() -> Response[dict[str, Any]]:
        return Response(document(areas), headers={"Cache-Control": "no-cache"})

    @get("/", opt=PUBLIC, sync_to_thread=False, include_in_schema=False)
    def page() -> Response[str]:
        return Response(PAGE, media_type="text/html; charset=utf-8")

    @get("/rapidoc.js", opt=PUBLIC, sync_to_thread=True, include_in_schema=False)
    def script() -> Response[bytes]:
        return Response(
            (STATIC / "rapidoc-min.js").read_bytes(),
            media_type="text/javascript; charset=utf-8",
            headers={"Cache-Control": "public, max-age=86400"},
        )

    return Router("/api/v1/schema", route_handlers=[openapi_json, page, script])
