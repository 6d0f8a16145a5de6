"""Which source a camera's URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.errors import SourceError
from workers.camera.sources.base import Source, SourceFrame, SourceInfo
from workers.camera.sources.demo import DemoSource
from workers.camera.sources.file import FileSource

__all__ = ["Source", "SourceFrame", "SourceInfo", "open_source"]


def open_source(url: str) -> Source:
    """Open a path, a `file://` URL or `demo://SCENE?seed=N`.

    Blocks until the first frame of a file was decoded. Raises SourceError, with a hint, for whatever cannot be
    played; the message never repeats a URL that may hold a password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url.strip():
            raise SourceError("the source is empty", hint="give a video file, or demo://plaza?seed=1")
        return FileSource(Path(url))
    if scheme.lower() == "file":
        return FileSource(_path_of(url))
    if scheme.lower() == "demo":
        return DemoSource(url)
    raise SourceError(
        f"sources of the kind {scheme}:// are unknown", hint="give a video file, file:///PATH or demo://plaza?seed=1"
    )


def _path_of(url: str) -> Path:
    parts = urlsplit(url.replace("#", "%23").replace("?", "%3F"))
    if parts.netloc not in {"", "localhost"}:
        raise SourceError(
            f"file:// URLs name files of this machine, not of {parts.netloc}", hint="write file:///PATH, three slashes"
        )
    return Path(unquote(parts.path))
