"""HTTP(S) cameras: MJPEG, snapshots fetched again and again, HLS, or a plain video; the answer says which it is.

All is fetched through httpx, so that every address is checked, redirections and playlists included, and Basic and
Digest credentials work alike; FFmpeg only sees bytes.
"""

import io
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import av
import av.error
import httpx
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from core.cameras.urls import CameraUrl, SourceKind, parse_url
from core.config import HardwareDecoding
from core.errors import ConfigError, SourceError
from workers.camera.sources.base import SourceInfo, SourceOptions, trusted_authorities
from workers.camera.sources.hardware import accelerator
from workers.camera.sources.pictures import shown_size
from workers.camera.sources.stream import LiveFrame, LiveTimeline, StreamSource, explain

__all__ = ["SnapshotSource", "open_http"]

REDIRECTS = 3
MAX_SNAPSHOT_BYTES = 32_000_000
MAX_SEGMENT_BYTES = 64_000_000


class _Fetcher:
    """GET with checked addresses, time-outs and the camera's credentials."""

    def __init__(self, url: CameraUrl, options: SourceOptions) -> None:
        self.url, self._options = url, options
        parts = urlsplit(url.full)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._digest: httpx.DigestAuth | None = None
        timeout = httpx.Timeout(options.read_s, connect=options.open_s)
        verify: ssl.SSLContext | bool = False
        if options.settings.verify_tls:
            verify = ssl.create_default_context(cafile=trusted_authorities())
        self._client = httpx.Client(timeout=timeout, verify=verify, trust_env=False)

    def open(self, address: str) -> httpx.Response:
        """A response whose body is still to be read; raises SourceError or AddressRefused."""
        for _ in range(REDIRECTS + 1):
            response = self._send(self._understood(address))
            if not response.is_redirect:
                return self._checked(response)
            response.close()
            address = urljoin(address, response.headers.get("location", ""))
        raise SourceError(f"{self.url.host} redirects again and again", "give the address that it ends at")

    def _understood(self, address: str) -> CameraUrl:
        try:
            url = parse_url(address)
        except ConfigError as error:
            raise SourceError(f"{self.url.host} leads to something that is no camera", error.hint) from error
        if url.kind is not SourceKind.HTTP:
            raise SourceError(f"{self.url.host} leads away from HTTP", "give the address that it ends at")
        return url

    def _send(self, url: CameraUrl) -> httpx.Response:
        host = self._options.addresses(url)[0]
        own = url.host == self.url.host
        auth: httpx.Auth | None = self._digest if own else None
        if own and self._user and auth is None:
            auth = httpx.BasicAuth(self._user, self._password)
        try:
            response = self._client.send(self._request(url, host), auth=auth, stream=True)
            asked = response.headers.get("www-authenticate", "").lower()
            if response.status_code == httpx.codes.UNAUTHORIZED and own and self._user and "digest" in asked:
                response.close()
                self._digest = httpx.DigestAuth(self._user, self._password)
                response = self._client.send(self._request(url, host), auth=self._digest, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._explain(error, f"did not answer within {self._options.open_s:g} s") from error
        return response

    def _explain(self, error: Exception, silent: str) -> SourceError:
        if isinstance(error, httpx.TimeoutException):
            return explain(TimeoutError(), self.url.host, silent)
        if "[SSL" in str(error):
            return SourceError(
                f"{self.url.host} has no certificate that is trusted, or does not answer with TLS",
                "give it one for its name, or do not verify it",
            )
        if isinstance(error, httpx.ConnectError):
            return explain(ConnectionRefusedError(), self.url.host, silent)
        return explain(ConnectionError(), self.url.host, silent)

    def _request(self, url: CameraUrl, host: str) -> httpx.Request:
        parts = urlsplit(url.full)
        address = parts.netloc.rpartition("@")[2]
        target = parts._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{url.port}").geturl()
        extensions = {"sni_hostname": url.host} if parts.scheme == "https" else {}
        headers = {"Host": address, "User-Agent": "haetae"}
        return self._client.build_request("GET", target, headers=headers, extensions=extensions)

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        response.close()
        host, code = self.url.host, response.status_code
        if code in {401, 403}:
            raise SourceError(f"{host} refuses the user name or the password", "enter them anew")
        if code == httpx.codes.NOT_FOUND:
            raise SourceError(f"{host} has no stream at that path", "look it up in the camera's manual")
        raise SourceError(f"{host} answers with HTTP status {code}", "look whether the camera itself works")

    def fetch(self, address: str, limit: int) -> bytes:
        """A whole body, of `limit` bytes at most."""
        response = self.open(address)
        try:
            data = bytearray()
            for chunk in self.body(response):
                data += chunk
                if len(data) > limit:
                    raise SourceError(f"{self.url.host} sends more than a camera would", "check the path")
            return bytes(data)
        finally:
            response.close()

    def body(self, response: httpx.Response) -> Generator[bytes, None, None]:
        """The body as it comes; raises SourceError."""
        try:
            yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise self._explain(error, f"sent nothing for {self._options.read_s:g} s") from error

    def close(self) -> None:
        self._client.close()


class _Body:
    """A response's body as it comes, for FFmpeg to read."""

    def __init__(self, chunks: Iterator[bytes], activity: Callable[[str], None]) -> None:
        self._chunks, self._activity = chunks, activity
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as many as there are; b"" at the end."""
        if not self._rest:
            self._activity("read")
            self._rest = next(self._chunks, b"")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class _HttpStream(StreamSource):
    """A stream whose connection is ours to close."""

    def __init__(self, fetcher: _Fetcher, container: Any, options: SourceOptions, *, stamped: bool = True) -> None:
        self._fetcher = fetcher
        super().__init__(fetcher.url.host, container, options, stamped=stamped)

    def close(self) -> None:
        super().close()
        self._fetcher.close()


class SnapshotSource:
    """A picture fetched every `snapshot_s` seconds."""

    def __init__(self, fetcher: _Fetcher, options: SourceOptions) -> None:
        self._fetcher, self._options = fetcher, options
        self._decoder = VideoCodecContext.create("mjpeg", "r")
        self._first = self._fetch()
        self.info = self._describe(self._first)

    def _describe(self, picture: VideoFrame) -> SourceInfo:
        settings, name = self._options.settings, self._fetcher.url.host
        width, height = shown_size(picture, settings.rotation)
        rate = 1 / settings.snapshot_s
        return SourceInfo(name, width, height, rate, None, None, simulated=False, live=True, codec="mjpeg")

    def _fetch(self) -> VideoFrame:
        name = self._fetcher.url.host
        self._options.activity.begin("read")
        data = self._fetcher.fetch(self._fetcher.url.full, MAX_SNAPSHOT_BYTES)
        self._options.activity.begin("decode")
        try:
            for picture in self._decoder.decode(av.Packet(data)):
                if isinstance(picture, VideoFrame) and min(picture.width, picture.height) >= 2:
                    return picture
        except av.error.FFmpegError as error:
            raise explain(error, name, "") from error
        finally:
            self._options.activity.begin("")
        raise SourceError(f"{name} sends a picture that cannot be decoded", "set the camera to JPEG")

    def frames(self) -> Iterator[LiveFrame]:
        """A picture each `snapshot_s`; raises SourceError where one cannot be had."""
        timeline, settings = LiveTimeline(), self._options.settings
        index, picture, due = 0, self._first, time.monotonic()
        while True:
            if shown_size(picture, settings.rotation) != (self.info.width, self.info.height):
                self.info = self._describe(picture)
            yield LiveFrame(picture, index, timeline.advance(None), settings.rotation)
            index += 1
            due = max(due + settings.snapshot_s, time.monotonic())
            if self._options.stopped.wait(max(0.0, due - time.monotonic())):
                return
            picture = self._fetch()

    def close(self) -> None:
        self._fetcher.close()


def open_http(url: CameraUrl, options: SourceOptions) -> StreamSource | SnapshotSource:
    """Asks what is there and opens it; raises SourceError or AddressRefused."""
    options.activity.begin("open")
    fetcher = _Fetcher(url, options)
    try:
        return _opened(fetcher, fetcher.open(url.full), options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        fetcher.close()
        raise explain(error, url.host, f"did not answer within {options.open_s:g} s") from error
    except BaseException:
        fetcher.close()
        raise


def _opened(fetcher: _Fetcher, response: httpx.Response, options: SourceOptions) -> StreamSource | SnapshotSource:
    kind = response.headers.get("content-type", "").lower()
    if kind.startswith("image/"):
        response.close()
        return SnapshotSource(fetcher, options)
    if "mpegurl" in kind or urlsplit(fetcher.url.full).path.endswith(".m3u8"):
        response.close()
        return _HttpStream(fetcher, _open_playlist(fetcher, options.hardware), options)
    if kind.startswith("text/"):
        response.close()
        raise SourceError(f"{fetcher.url.host} sends a page, not video", "look the path up in the camera's manual")
    body = _Body(fetcher.body(response), options.activity.begin)
    parts = kind.startswith("multipart/")
    return _HttpStream(fetcher, av.open(body, format="mpjpeg" if parts else None), options, stamped=not parts)


def _open_playlist(fetcher: _Fetcher, hardware: HardwareDecoding) -> Any:
    def opened(address: str, _flags: int, _options: dict[str, str]) -> io.BytesIO:
        return io.BytesIO(fetcher.fetch(address, MAX_SEGMENT_BYTES))

    options = {"http_persistent": "0", "http_multiple": "0"}
    return av.open(fetcher.url.full, format="hls", io_open=opened, options=options, hwaccel=accelerator(hardware))
