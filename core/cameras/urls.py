"""Camera URLs: which there are, what may be shown of them, and which may be used at all."""

import contextlib
import enum
import re
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from core.config import Config
from core.errors import ConfigError
from core.security.networks import AllowedNetworks, resolve_now
from core.security.secrets import SecretBox

__all__ = [
    "HIDDEN",
    "CameraUrl",
    "SourceKind",
    "check_address",
    "check_url",
    "open_url",
    "parse_url",
    "seal_url",
    "without_addresses",
]

HIDDEN = "***"
"""Stands in a shown URL for a value that is kept secret."""
MAX_LENGTH = 2048
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
HINT = "give rtsp://HOST/PATH, http://HOST/PATH, a video file, a folder of them, /dev/video0 or demo://plaza?seed=1"

_NAMED_VALUE = re.compile(
    r"(?i)((?:^|[?&;/_])[\w.-]{0,40}"
    r"(?:passw(?:or)?d|pass|pwd|psw|secret|token|api_?key|access_?key|auth|signature|credential)"
    r"[\w.-]{0,40}=)[^&;/?#]*"
)
"""Cameras take passwords in queries, and in paths such as /user=admin_password=1234_channel=1.sdp."""


class SourceKind(enum.StrEnum):
    """What stands behind a URL."""

    RTSP = "rtsp"
    HTTP = "http"
    """MJPEG, snapshots, HLS or a video: what it is turns out when it answers."""
    FILE = "file"
    FOLDER = "folder"
    DEVICE = "device"
    DEMO = "demo"


class CameraUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that was understood; it is never printed as a whole, since `full` may hold a password."""

    kind: SourceKind
    shown: str
    """Without credentials, secret values as ***."""
    full: str
    """To be sealed where it differs from `shown`."""
    host: str = ""
    port: int = 0
    path: Path | None = None
    """Of files, folders and devices."""

    @property
    def secret(self) -> bool:
        return self.full != self.shown

    def __repr__(self) -> str:
        return f"CameraUrl({self.shown})"

    __str__ = __repr__


def without_addresses(text: str, *urls: str) -> str:
    """A message for people who may see a camera but not where it is: hosts of `urls`, and IPv4 addresses, left out."""
    hosts: set[str | None] = set()
    for url in urls:
        with contextlib.suppress(ValueError):  # no URL: it is never called either
            hosts.add(urlsplit(url).hostname)
    for host in sorted((host for host in hosts if host), key=len, reverse=True):
        text = re.sub(rf"(?i)(?<![\w.-])\[?{re.escape(host)}\]?(?::\d+)?(?![\w-])", "the camera", text)
    return _IPV4.sub("the camera", text)


_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\d.]*\d)")


def parse_url(text: str) -> CameraUrl:
    """What a path or URL means, from its text alone (and whether a path is a folder).

    Raises ConfigError, with a hint, for what is malformed; no message repeats anything that may be a password.
    """
    text = text.strip()
    if not text:
        raise ConfigError("the camera's URL is empty", HINT)
    if len(text) > MAX_LENGTH or not text.isprintable():
        raise ConfigError(f"the camera's URL is longer than {MAX_LENGTH} characters, or holds unprintable ones", HINT)
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower() if separator else ""
    if scheme in DEFAULT_PORTS:
        return _network_url(scheme, text)
    if scheme == "demo":
        return CameraUrl(kind=SourceKind.DEMO, shown=text, full=text)
    if scheme in {"", "file", "v4l2"}:
        return _local_url(scheme, text)
    shown = scheme if re.fullmatch(r"[a-z][a-z0-9+.-]{0,15}", scheme) else "that"
    raise ConfigError(f"there is no source of the kind {shown}://", HINT)


def _network_url(scheme: str, text: str) -> CameraUrl:
    if HIDDEN in text:
        raise ConfigError(
            f"{HIDDEN} stands for a value that is not shown", "write the whole URL anew, or leave it out to keep it"
        )
    if any(one.isspace() for one in text):
        raise ConfigError("the camera's URL holds a space", "write it as %20")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _malformed(text) from error
    if not host or not re.fullmatch(r"[A-Za-z0-9._:%\[\]-]+", host):
        raise _malformed(text)
    if port == 0:
        raise ConfigError("a port lies between 1 and 65535", HINT)
    credentials, _, address = parts.netloc.rpartition("@")
    if credentials:
        user, colon, password = credentials.partition(":")
        credentials = f"{_encoded(user)}{colon}{_encoded(password)}@"
    full = SplitResult(scheme, credentials + address, parts.path, parts.query, "").geturl()
    path, query = _without_secrets(parts.path), _without_secrets(parts.query)
    shown = SplitResult(scheme, address, path, query, "").geturl()
    kind = SourceKind.RTSP if scheme.startswith("rtsp") else SourceKind.HTTP
    return CameraUrl(kind=kind, shown=shown, full=full, host=host, port=port or DEFAULT_PORTS[scheme])


def _malformed(text: str) -> ConfigError:
    hint = f"{HINT}; in a password write / as %2F, @ as %40 and : as %3A" if "@" in text else HINT
    return ConfigError("the camera's URL has no host that can be understood", hint)


def _encoded(text: str) -> str:
    """Percent-encoded once: what is so already stays."""
    return quote(unquote(text), safe="")


def _without_secrets(text: str) -> str:
    return _NAMED_VALUE.sub(rf"\1{HIDDEN}", text)


def _local_url(scheme: str, text: str) -> CameraUrl:
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~name of nobody
        raise ConfigError(f"nobody here is called {text.partition('/')[0][1:]!r}", HINT) from error
    if scheme:
        parts = urlsplit(text.replace("#", "%23").replace("?", "%3F"))
        if parts.netloc not in {"", "localhost"}:
            raise ConfigError(
                f"{scheme}:// names something of this machine, not of another host",
                f"write {scheme}:///PATH, three slashes",
            )
        path = Path(unquote(parts.path))
    if "\0" in str(path):
        raise ConfigError("a path cannot hold a null byte", HINT)
    if scheme == "v4l2" or re.fullmatch(r"/dev/video\d+", str(path)):
        shown = f"v4l2://{path}"
        return CameraUrl(kind=SourceKind.DEVICE, shown=shown, full=shown, path=path)
    try:
        kind = SourceKind.FOLDER if path.is_dir() else SourceKind.FILE
    except OSError as error:
        raise ConfigError(f"that path cannot be looked at: {error.strerror}", "check the path") from error
    return CameraUrl(kind=kind, shown=str(path), full=str(path), path=path)


def check_url(text: str, *, from_api: bool, config: Config) -> CameraUrl:
    """A URL that someone wants a camera to have: understood, and allowed.

    Its host must lie in networks.cameras; this asks the name server, which blocks for some seconds at worst. A file, a
    folder or a device must be there and, when it comes `from_api`, lie beneath one of cameras.roots. Raises ConfigError
    or AddressRefused.
    """
    url = parse_url(text)
    if url.host:
        check_address(url, config)
    if url.path:
        if from_api:
            _check_root(url.path, config)
        if not url.path.exists():
            raise ConfigError(f"there is no {url.path.name or url.path} at that place", "check the path")
        if url.kind is SourceKind.DEVICE and not url.path.is_char_device():
            raise ConfigError(f"{url.path} is not a video device", "v4l2-ctl --list-devices shows those there are")
        if url.kind is SourceKind.FILE and not url.path.is_file():
            raise ConfigError(f"{url.path} is not a file", "give the path of a video file")
    return url


def check_address(url: CameraUrl, config: Config) -> list[str]:
    """The addresses of its host; raises AddressRefused unless networks.cameras allows all of them."""
    return resolve_now(url.host, url.port, AllowedNetworks(config.networks.cameras), purpose="cameras")


def _check_root(path: Path, config: Config) -> None:
    roots = [Path(root).expanduser().resolve() for root in config.cameras.roots]
    found = path.resolve()
    if not any(found.is_relative_to(root) for root in roots):
        raise ConfigError(
            "that path lies outside the folders that cameras may be added from",
            "an administrator of the machine names them with cameras.roots, or uses haetae camera add",
        )


def seal_url(url: CameraUrl, box: SecretBox) -> str:
    """What is stored beside `url.shown`: "" where that says it all."""
    return box.seal(url.full) if url.secret else ""


def open_url(shown: str, sealed: str, box: SecretBox | None) -> str:
    """The URL to connect to, for the camera's own process alone; `box` is needed where something is sealed."""
    if not sealed:
        return shown
    assert box
    return box.open(sealed)
