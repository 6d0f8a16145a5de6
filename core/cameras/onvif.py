"""ONVIF: which cameras there are on the local network, what they offer, and their presets.

Devices are asked in a process of its own: the library for it takes most of a second and 75 MB to be at hand, and what
is asked of a device that lies or hangs ends with that process.
"""

import subprocess
import sys
from typing import Annotated

import msgspec
from msgspec import Meta

from core.cameras.model import CameraConfig
from core.cameras.turned import note_turned_by_hand
from core.cameras.urls import CameraUrl, parse_url
from core.config import Config
from core.errors import AddressRefused, ConfigError, HaetaeError, SourceError
from core.process import process_environment

__all__ = [
    "Describe",
    "Find",
    "GoTo",
    "OnvifDevice",
    "OnvifFailure",
    "OnvifFound",
    "OnvifJob",
    "OnvifLogin",
    "OnvifPreset",
    "OnvifReply",
    "OnvifStream",
    "Presets",
    "Token",
    "WentTo",
    "describe_device",
    "discover",
    "go_to_preset",
    "list_presets",
    "onvif_url",
    "turn_by_hand",
]

WAIT_S = 3.0
"""How long answers to a probe are awaited; devices answer within half a second, and some need a second question."""
START_S = 10.0
"""What starting the asking process may take on a busy machine."""
CALLS_S = 20.0
"""All that is asked of one device together."""

Token = Annotated[str, Meta(min_length=1, max_length=256)]


class OnvifLogin(msgspec.Struct, frozen=True, kw_only=True):
    """Which device, and with whose name: the URL as shown, and, sealed, one whose credentials are used."""

    url: str
    """Of its device service, with credentials where they are not sealed."""
    sealed: str = ""

    def __repr__(self) -> str:
        return "OnvifLogin(...)"


class Find(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Who is there?"""

    wait_s: float
    interface: str = ""
    """"" is each of them."""


class Describe(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What does it send?"""

    login: OnvifLogin


class GoTo(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Turn to a preset, by its name or token; with "" only say which there are."""

    login: OnvifLogin
    preset: str = ""


class OnvifFound(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A device that answered. What it says of itself was not checked."""

    url: str
    """Of its device service; "" where none of those that it named can be called."""
    host: str
    name: str = ""
    hardware: str = ""
    location: str = ""
    says: str = ""
    """Why it cannot be used as it is; "" where nothing is known against it."""


class OnvifStream(msgspec.Struct, frozen=True, kw_only=True):
    """One of its profiles. URLs without credentials, secret values as ***."""

    name: str
    url: str
    snapshot_url: str = ""
    codec: str = ""
    """As ONVIF calls it: H264, H265, JPEG, MPEG4."""
    width: int = 0
    height: int = 0
    fps: float = 0.0


class OnvifPreset(msgspec.Struct, frozen=True, kw_only=True):
    token: Token
    name: str


class OnvifDevice(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a device offers; `streams` the largest first."""

    url: str
    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    streams: list[OnvifStream] = []
    presets: list[OnvifPreset] = []
    advice: list[str] = []


class Presets(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    presets: list[OnvifPreset]


class WentTo(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The device was told, and agreed; it may take seconds to get there."""

    preset: OnvifPreset


class OnvifFailure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Why nothing came of it; `kind` is the name of the error's class."""

    kind: str
    message: str
    hint: str = ""


class FoundAll(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    devices: list[OnvifFound]


OnvifJob = Find | Describe | GoTo
OnvifReply = FoundAll | OnvifDevice | Presets | WentTo | OnvifFailure

_ERRORS: dict[str, type[HaetaeError]] = {one.__name__: one for one in (AddressRefused, ConfigError, SourceError)}


def discover(config: Config, wait_s: float = WAIT_S, interface: str = "") -> list[OnvifFound]:
    """The devices that answer WS-Discovery on this machine's networks within `wait_s`; blocks for as long."""
    reply = _ask(config, Find(wait_s=wait_s, interface=interface), wait_s)
    assert isinstance(reply, FoundAll)
    return reply.devices


def describe_device(config: Config, url: CameraUrl) -> OnvifDevice:
    """Its streams and presets, at its device service (onvif_url) with the credentials in `url`.

    Raises AddressRefused, or SourceError where it refuses, does not answer or speaks no ONVIF; blocks for 30 s at most.
    """
    reply = _ask(config, Describe(login=OnvifLogin(url=url.full)), CALLS_S)
    assert isinstance(reply, OnvifDevice)
    return reply


def list_presets(config: Config, camera: CameraConfig) -> list[OnvifPreset]:
    """The presets of a camera; raises as describe_device does, and ConfigError for what is no network camera."""
    reply = _ask(config, GoTo(login=_login(camera)), CALLS_S)
    assert isinstance(reply, Presets)
    return reply.presets


def go_to_preset(config: Config, camera: CameraConfig, preset: str) -> OnvifPreset:
    """Turns a camera to one of its presets, named by its name or token; raises as list_presets does.

    Does not wait until it is there. Where there is no such preset, SourceError names those there are. The camera's
    process must know of it, lest it takes the new view for tampering: people use turn_by_hand.
    """
    if not preset:
        raise ConfigError("no preset was named", "haetae camera preset NAME lists them")
    reply = _ask(config, GoTo(login=_login(camera), preset=preset), CALLS_S)
    assert isinstance(reply, WentTo)
    return reply.preset


def turn_by_hand(config: Config, camera: CameraConfig, preset: str) -> OnvifPreset:
    """As go_to_preset, for somebody who wants it so: the camera's process waits until it sees its own view again."""
    try:
        note_turned_by_hand(config, camera.camera_id)
    except OSError as error:
        raise ConfigError(f"the camera cannot be told that it is turned: {error.strerror}", "free some disk") from error
    return go_to_preset(config, camera, preset)


def onvif_url(text: str) -> CameraUrl:
    """Where a device is asked: an http(s) URL as it is, of anything else its host at ONVIF's usual path.

    Credentials in it are kept. Raises ConfigError for what has no host.
    """
    url = parse_url(text if "://" in text else f"http://{text.strip()}")
    if not url.host:
        raise ConfigError("only a camera on the network can be asked", "give its address, such as 192.168.1.20")
    scheme, _, rest = url.full.partition("://")
    address, slash, path = rest.partition("/")
    if scheme in {"http", "https"} and path:
        return url
    if scheme not in {"http", "https"}:
        credentials, at, _ = address.rpartition("@")
        literal = f"[{url.host}]" if ":" in url.host else url.host
        address = f"{credentials}{at}{literal}"
        scheme = "http"
    return parse_url(f"{scheme}://{address}{slash or '/'}onvif/device_service")


def _login(camera: CameraConfig) -> OnvifLogin:
    """A camera's credentials go to its own host alone, whatever else was entered as its ONVIF address."""
    place = camera.settings.onvif_url or onvif_url(camera.url).full
    own = parse_url(place).host == parse_url(camera.url).host
    return OnvifLogin(url=place, sealed=camera.sealed_url if own else "")


def _ask(config: Config, job: OnvifJob, limit_s: float) -> OnvifReply:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workers.camera.onvif"],
            input=msgspec.json.encode(job),
            capture_output=True,
            timeout=limit_s + START_S,
            check=False,
            env=process_environment(config),
        )
        reply = msgspec.json.decode(done.stdout, type=OnvifReply)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"it did not answer within {limit_s + START_S:.0f} s", "try again") from error
    except msgspec.DecodeError as error:
        raise SourceError("what it answered ended the program that asked", "give its stream's URL by hand") from error
    if isinstance(reply, OnvifFailure):
        raise _ERRORS.get(reply.kind, SourceError)(reply.message, reply.hint)
    return reply
