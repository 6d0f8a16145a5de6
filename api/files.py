"""Files in answers: whole, or the part that a Range header asks for (RFC 9110, section 14)."""

import re
from collections.abc import Iterator
from pathlib import Path

from litestar import Response
from litestar.response import Stream

from api.problems import Refused
from api.services import Call

__all__ = ["answer_file"]

CHUNK_BYTES = 256 * 1024
TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def answer_file(request: Call, root: Path, name: str, *, tag: str, download_as: str) -> Response[bytes] | Stream:
    """The file `name` beneath `root`; raises Refused (404, 416). `tag` is its hash, for caches.

    Several ranges at once are answered with the whole, as is allowed.
    """
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise Refused(404, "not_found", "the file is not here any more", hint="retention may have deleted it")
    size = path.stat().st_size
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "ETag": f'"{tag[:32]}"',
        "Content-Disposition": f'inline; filename="{download_as}{path.suffix}"',
    }
    kind = TYPES.get(path.suffix, "application/octet-stream")
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(b"", status_code=304, headers=headers, media_type=kind)
    begin, end, status = 0, size, 200
    asked = _ONE_RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked and (asked[1] or asked[2]):
        begin = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        end = min(size, int(asked[2]) + 1) if asked[1] and asked[2] else size
        if begin >= size or begin >= end:
            raise Refused(416, "range_not_satisfiable", "no such range", headers={"Content-Range": f"bytes */{size}"})
        status = 206
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - begin)
    return Stream(_parts(path, begin, end), status_code=status, headers=headers, media_type=kind)


def _parts(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while begin < end and (part := file.read(min(CHUNK_BYTES, end - begin))):
            begin += len(part)
            yield part
