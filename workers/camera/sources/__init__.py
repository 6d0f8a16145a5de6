"""Which source a camera's URL means."""

from core.cameras.urls import CameraUrl, SourceKind, parse_url
from core.errors import ConfigError, SourceError
from workers.camera.sources.base import Source, SourceFrame, SourceInfo, SourceOptions
from workers.camera.sources.demo import DemoSource
from workers.camera.sources.device import open_device
from workers.camera.sources.file import FileSource
from workers.camera.sources.folder import FolderSource
from workers.camera.sources.rtsp import open_rtsp

__all__ = ["LIVE", "Source", "SourceFrame", "SourceInfo", "SourceOptions", "open_source", "source_url"]

LIVE = frozenset({SourceKind.RTSP, SourceKind.HTTP, SourceKind.DEVICE})
"""What comes and goes by itself, so that it is connected to again."""


def source_url(url: str) -> CameraUrl:
    """As core.cameras.urls.parse_url, raising SourceError."""
    try:
        return parse_url(url)
    except ConfigError as error:
        raise SourceError(str(error), error.hint) from error


def open_source(url: str | CameraUrl, options: SourceOptions | None = None) -> Source:
    """Open a camera's URL, credentials included, or a path.

    Blocks until the first frame was decoded, `options.open_s` and `read_s` together at worst. Raises SourceError or
    AddressRefused, with a hint, for whatever cannot be played; the message never repeats a URL.
    """
    options = options or SourceOptions()
    found = source_url(url) if isinstance(url, str) else url
    if found.kind is SourceKind.RTSP:
        return open_rtsp(found, options)
    if found.kind is SourceKind.HTTP:
        # httpx takes a quarter of a camera's start, and most cameras have no use for it
        from workers.camera.sources.http import open_http  # noqa: PLC0415

        return open_http(found, options)
    if found.kind is SourceKind.DEMO:
        return DemoSource(found.full)
    assert found.path
    if found.kind is SourceKind.DEVICE:
        return open_device(found, options)
    if found.kind is SourceKind.FOLDER:
        return FolderSource(found.path, options)
    return FileSource(found.path, options)
