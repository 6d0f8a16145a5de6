"""The web page: the files that its build left (api/static/ui), at the root of the server.

They hold nothing that is secret, so that everybody gets them; what they show comes from the API.
"""

import gzip
import hashlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from litestar import HttpMethod, Response, Router, route
from litestar.params import FromPath

from api.guard import FREE
from api.problems import Refused
from api.services import Call

__all__ = ["BUILT", "router"]

BUILT = Path(__file__).parent / "static" / "ui"
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
PACKED = {".css", ".html", ".js", ".json", ".svg", ".txt", ".webmanifest"}
LEAST_PACKED = 1000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""Of the page: nothing from elsewhere, and no script or style that is not a file of ours."""
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Haetae</title></head><body>
<h1>Haetae runs, but its web page is not built</h1>
<p>Build it with <code>make ui</code>. The API is there without it: <a href="/api/v1/schema">its reference</a>.</p>
</body></html>
"""


class _File(msgspec.Struct, frozen=True):
    whole: bytes
    packed: bytes | None
    """Gzipped, where that is worth it."""
    tag: str


@lru_cache(512)
def _load(path: Path, changed_ns: int) -> _File:  # noqa: ARG001 - another time is another file
    whole = path.read_bytes()
    packed = gzip.compress(whole, 6, mtime=0) if path.suffix in PACKED and len(whole) >= LEAST_PACKED else None
    return _File(whole, packed, hashlib.sha256(whole).hexdigest()[:32])


def _find(built: Path, name: str) -> Path | None:
    """The file of that name; the page itself for what is no file's name: the page knows its own paths."""
    if PurePosixPath(name).suffix:
        path = (built / name).resolve()
        return path if path.is_relative_to(built.resolve()) and path.is_file() else None
    index = built / "index.html"
    return index if index.is_file() else None


def _answer(request: Call, name: str) -> Response[bytes]:
    try:
        path = _find(BUILT, name)
        file = _load(path, path.stat().st_mtime_ns) if path else None
    except (OSError, ValueError):  # it is built anew at this moment, or the name is none
        path = file = None
    if path is None or file is None:
        if PurePosixPath(name).suffix:
            raise Refused(404, "not_found", "there is nothing here")
        return Response(NOT_BUILT.encode(), media_type="text/html", headers=_headers(ASK_AGAIN))
    lasting = path.parent.name == "assets"
    headers = {**_headers(FOR_EVER if lasting else ASK_AGAIN), "ETag": f'"{file.tag}"', "Vary": "Accept-Encoding"}
    kind = TYPES.get(path.suffix, "application/octet-stream")
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers, media_type=kind)
    body = file.whole
    if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(body, headers=headers, media_type=kind)


def _headers(cache: str) -> dict[str, str]:
    return {"Cache-Control": cache, "Content-Security-Policy": POLICY}


METHODS: Any = [HttpMethod.GET, HttpMethod.HEAD]


@route("/", http_method=METHODS, opt=FREE, sync_to_thread=False, include_in_schema=False, operation_id="getPage")
def page(request: Call) -> Response[bytes]:
    """The page itself."""
    return _answer(request, "")


@route(
    "/{file:path}",
    http_method=METHODS,
    opt=FREE,
    sync_to_thread=False,
    include_in_schema=False,
    operation_id="getPageFile",
)
def page_file(request: Call, file: FromPath[Path]) -> Response[bytes]:
    """A file of the page, or the page for one of its own paths."""
    name = file.as_posix().lstrip("/")
    if name.split("/", 1)[0] == "api":
        raise Refused(404, "not_found", "there is nothing here")
    return _answer(request, name)


router = Router("/", route_handlers=[page, page_file])
