"""Asking ONVIF devices: run as a process of its own by core.cameras.onvif, the job on standard input.

Whatever a device says of its addresses, this process connects to the one that was checked and to no other: an audit
hook of the interpreter refuses all else, libraries and redirections included.
"""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import select
import socket
import struct
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import aiohttp
import msgspec
import zeep.exceptions
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - lxml has no types
from onvif import ONVIFCamera
from onvif.exceptions import ONVIFError
from onvif.util import is_auth_error

from core.cameras.onvif import (
    Describe,
    Find,
    FoundAll,
    GoTo,
    OnvifDevice,
    OnvifFailure,
    OnvifFound,
    OnvifJob,
    OnvifLogin,
    OnvifPreset,
    OnvifReply,
    OnvifStream,
    Presets,
    WentTo,
)
from core.cameras.urls import HIDDEN, CameraUrl, check_address, parse_url
from core.config import Config, load_config
from core.errors import ConfigError, HaetaeError, SourceError
from core.security.secrets import SecretBox

__all__ = ["answer", "main"]

GROUP = ("239.255.255.250", 3702)
"""WS-Discovery, section 2.4 (OASIS, April 2005)."""
TTL = 1
ASK_AGAIN_S = 0.4
"""Datagrams get lost: the question is put twice."""
TYPES = (
    ("http://www.onvif.org/ver10/network/wsdl", "NetworkVideoTransmitter"),
    ("http://www.onvif.org/ver10/device/wsdl", "Device"),
)
"""Some devices answer to the one, some to the other (ONVIF core specification, 7.3.1)."""
MAX_ANSWERS = 2000
MAX_DEVICES = 256
MAX_PROFILES = 16
MAX_PRESETS = 256
MEMORY_BYTES = 2 << 30
"""Of address space; a device may answer with whatever it likes."""
SCOPE = "onvif://www.onvif.org/"
NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "d": "http://schemas.xmlsoap.org/ws/2005/04/discovery",
}
SPEAKS_NOT = "look in the camera's settings whether ONVIF is switched on, and at which port"
REFUSED = "many cameras keep users of their own for ONVIF: make one in the camera's settings"


# ---- who is there


def find(job: Find, config: Config) -> FoundAll:
    """Those that answer within `wait_s`."""
    found: dict[str, OnvifFound] = {}
    sockets = list(_sockets(job.interface))
    if not sockets:
        raise ConfigError(f"there is no network called {job.interface!r} here", "ip link shows those there are")
    try:
        for data, sender in _answers(sockets, job.wait_s):
            for key, device in _devices(data, sender, config):
                if len(found) < MAX_DEVICES:
                    found.setdefault(key, device)
    finally:
        for one in sockets:
            one.close()
    return FoundAll(devices=sorted(found.values(), key=lambda one: (one.host, one.url)))


def _sockets(interface: str) -> Iterator[socket.socket]:
    """One for each network of this machine: the question goes out by all of them."""
    for index, name in socket.if_nameindex():
        if interface in {"", name}:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            with contextlib.suppress(OSError):
                out = struct.pack("4s4si", bytes(4), bytes(4), index)
                one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
            yield one


def _answers(sockets: list[socket.socket], wait_s: float) -> Iterator[tuple[bytes, str]]:
    begun = time.monotonic()
    questions = [begun, begun + min(ASK_AGAIN_S, wait_s / 2)]
    for _ in range(MAX_ANSWERS):
        while questions and time.monotonic() >= questions[0]:
            questions.pop(0)
            for one in sockets:
                for namespace, name in TYPES:
                    with contextlib.suppress(OSError):  # of a network that is down, or has no address
                        one.sendto(_probe(namespace, name), GROUP)
        left = begun + wait_s - time.monotonic()
        if left <= 0:
            return
        until = min(left, max(0.0, questions[0] - time.monotonic())) if questions else left
        for one in select.select(sockets, [], [], until)[0]:
            with contextlib.suppress(OSError):
                data, sender = one.recvfrom(65535)
                yield data, str(sender[0])


def _probe(namespace: str, name: str) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<s:Envelope xmlns:s="{NS["s"]}" xmlns:a="{NS["a"]}" xmlns:d="{NS["d"]}"><s:Header>
<a:Action s:mustUnderstand="1">{NS["d"]}/Probe</a:Action><a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID>
<a:ReplyTo><a:Address>{NS["a"]}/role/anonymous</a:Address></a:ReplyTo>
<a:To s:mustUnderstand="1">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>
<s:Body><d:Probe><d:Types xmlns:t="{namespace}">t:{name}</d:Types></d:Probe></s:Body></s:Envelope>""".encode()


def _devices(data: bytes, sender: str, config: Config) -> Iterator[tuple[str, OnvifFound]]:
    """The devices that an answer tells of, by their name for themselves; nothing where it makes no sense."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        return
    for match in root.iterfind(".//d:ProbeMatch", NS):
        places = (match.findtext("d:XAddrs", "", NS) or "").split()
        scopes = _scopes((match.findtext("d:Scopes", "", NS) or "").split())
        key = (match.findtext("a:EndpointReference/a:Address", "", NS) or "").strip() or " ".join(places)
        url, host, says = _usable(places, sender, config)
        yield (
            key,
            OnvifFound(
                url=url,
                host=host,
                name=scopes.get("name", ""),
                hardware=scopes.get("hardware", ""),
                location=scopes.get("location", ""),
                says=says,
            ),
        )


def _scopes(scopes: Sequence[str]) -> dict[str, str]:
    """name, hardware, location... as the device tells them, made fit to be shown."""
    told: dict[str, str] = {}
    for scope in scopes:
        kind, slash, value = scope.removeprefix(SCOPE).partition("/")
        if scope.startswith(SCOPE) and slash:
            told.setdefault(kind.lower(), _line(unquote(value)))
    return told


def _line(text: Any) -> str:
    return "".join(one for one in str(text or "") if one.isprintable())[:200].strip()


def _usable(places: Sequence[str], sender: str, config: Config) -> tuple[str, str, str]:
    """URL and host of the first place that may be called, else "", who answered, and why not."""
    says = "it names no address"
    for place in places[:8]:
        try:
            url = _with_address(parse_url(place), sender)
            if url.host and url.full.startswith("http"):
                check_address(url, config)
                return url.shown, url.host, ""
        except HaetaeError as error:
            says = str(error)
    return "", sender, says


def _with_address(url: CameraUrl, sender: str) -> CameraUrl:
    """The URL with the address that answered in place of a name: whoever answers may have any number of names, and no
    name server is asked for each.
    """
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(url.host)
        return url
    parts = urlsplit(url.shown)
    return parse_url(parts._replace(netloc=f"{sender}:{parts.port}" if parts.port else sender).geturl())


# ---- what a device offers


class _Device(ONVIFCamera):
    """The library's client, held to one address."""

    def __init__(self, url: CameraUrl, address: str, user: str, password: str) -> None:
        super().__init__(address, url.port, user, password, no_cache=True, adjust_time=True)
        self._url, self._address = url, address
        self._user, self._password = user, password

    def _pinned(self, place: str) -> str:
        """The same path, at the address that was checked; another port only where the device names that address."""
        base, parts = urlsplit(self._url.shown), urlsplit(place)
        port = self._url.port
        with contextlib.suppress(ValueError):
            if parts.hostname in {self._address, self._url.host} and parts.scheme == base.scheme:
                port = parts.port or (443 if base.scheme == "https" else 80)
        literal = f"[{self._address}]" if ":" in self._address else self._address
        return SplitResult(base.scheme, f"{literal}:{port}", parts.path, parts.query, "").geturl()

    def get_definition(self, name: str, port_type: str | None = None) -> tuple[str, str, str]:
        if name == "devicemgmt":
            _, wsdl, binding = super().get_definition(name, port_type)
            return self._pinned(self._url.shown), wsdl, binding
        place, wsdl, binding = super().get_definition(name, port_type)
        return self._pinned(place), wsdl, binding

    def shown(self, place: Any) -> str:
        """A URL that the device names, without credentials, at the host by which it was asked; "" where there is none.

        Devices tell the address that they think they have, which behind a router, or after a move, is not theirs; and
        some write the password into it, with whatever characters it has.
        """
        text = _line(place)
        if self._user:
            text = text.replace(f"{self._user}:{self._password}@", "")
        for secret in {self._password, quote(self._password, safe="")} - {""}:
            text = text.replace(secret, HIDDEN)
        try:
            parts = urlsplit(text)
            host = self._url.host
            literal = f"[{host}]" if ":" in host else host
            address = f"{literal}:{parts.port}" if parts.port else literal
            text = parts._replace(netloc=address).geturl()
            return (text if HIDDEN in text else parse_url(text).shown) if parts.scheme else ""
        except (ConfigError, ValueError):
            return ""

    def offers(self, name: str) -> bool:
        try:
            self.get_definition(name)
        except ONVIFError:
            return False
        return True


@contextlib.asynccontextmanager
async def _connected(login: OnvifLogin, config: Config) -> AsyncIterator[tuple[CameraUrl, _Device]]:
    """A device that answered; its failures come as SourceError."""
    url = parse_url(login.url)
    user, password = _credentials(url, login, config)
    address = check_address(url, config)[0]
    _Pin.address = address
    device = _Device(url, address, user, password)
    limit_s = config.cameras.open_s + config.cameras.read_s
    try:
        async with asyncio.timeout(limit_s):
            await device.update_xaddrs()
            yield url, device
    except TimeoutError as error:
        raise SourceError(f"{url.host} did not answer within {limit_s:.0f} s", "check its network") from error
    except aiohttp.ClientConnectorError as error:
        raise SourceError(f"{url.host} refuses the connection at port {url.port}", SPEAKS_NOT) from error
    except zeep.exceptions.Fault as error:
        if is_auth_error(error):
            raise SourceError(f"{url.host} refuses the user name or the password", REFUSED) from error
        raise SourceError(f"{url.host} does not do that: {_line(error.message)}") from error
    except zeep.exceptions.TransportError as error:
        if error.status_code in {401, 403}:
            raise SourceError(f"{url.host} refuses the user name or the password", REFUSED) from error
        raise SourceError(f"{url.host} answers with HTTP status {error.status_code}", SPEAKS_NOT) from error
    except (zeep.exceptions.Error, aiohttp.ClientError, ONVIFError, OSError, ValueError) as error:
        raise SourceError(f"{url.host} speaks no ONVIF there", SPEAKS_NOT) from error
    finally:
        await device.close()


def _credentials(url: CameraUrl, login: OnvifLogin, config: Config) -> tuple[str, str]:
    full = SecretBox(config.secrets_dir).open(login.sealed) if login.sealed else url.full
    parts = urlsplit(full)
    return unquote(parts.username or ""), unquote(parts.password or "")


class _Pin:
    """Which address this process may connect to; None while that is not known."""

    address: str | None = None


def _refuse_others(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: those of the interpreter cannot be taken away again, and see what libraries do."""
    if event == "socket.connect" and _Pin.address is not None:
        target = arguments[1]
        if isinstance(target, tuple) and target[0] != _Pin.address:
            raise ConnectionRefusedError("another address than the one that was checked")


async def describe(job: Describe, config: Config) -> OnvifDevice:
    """Makes, models, streams, presets."""
    async with _connected(job.login, config) as (url, device):
        management = await device.create_devicemgmt_service()
        about = await management.GetDeviceInformation()
        media = await device.create_media_service()
        profiles = list(await media.GetProfiles() or [])[:MAX_PROFILES]
        streams = [await _stream(device, media, profile) for profile in profiles]
        streams = sorted((one for one in streams if one), key=lambda one: -one.width * one.height)
        presets = await _presets(device, profiles) if device.offers("ptz") else []
        return OnvifDevice(
            url=url.shown,
            manufacturer=_line(about.Manufacturer),
            model=_line(about.Model),
            firmware=_line(about.FirmwareVersion),
            streams=streams,
            presets=presets,
            advice=list(_advice(streams)),
        )


async def _stream(device: _Device, media: Any, profile: Any) -> OnvifStream | None:
    """A profile as a camera's URL; None for one that gives none."""
    setup = {"Stream": "RTP-Unicast", "Transport": {"Protocol": "RTSP"}}
    try:
        given = await media.GetStreamUri({"StreamSetup": setup, "ProfileToken": profile.token})
    except zeep.exceptions.Fault as error:
        if is_auth_error(error):
            raise
        return None
    encoder = profile.VideoEncoderConfiguration
    size = encoder.Resolution if encoder else None
    rate = encoder.RateControl if encoder else None
    return OnvifStream(
        name=_line(profile.Name) or _line(profile.token),
        url=device.shown(given.Uri),
        snapshot_url=device.shown(await device.get_snapshot_uri(profile.token)),
        codec=_line(encoder.Encoding) if encoder else "",
        width=int(size.Width) if size else 0,
        height=int(size.Height) if size else 0,
        fps=float(rate.FrameRateLimit or 0) if rate else 0.0,
    )


def _advice(streams: list[OnvifStream]) -> Iterator[str]:
    if not streams:
        yield "it offers no stream: look into its own settings"
    elif len(streams) > 1:
        yield f"add {streams[0].url} with --sub-url {_small(streams).url}"
    else:
        yield f"add {streams[0].url}"
    if any(HIDDEN in one.url for one in streams):
        yield "its URLs hold secrets, shown as ***: write these yourself"


def _small(streams: list[OnvifStream]) -> OnvifStream:
    """The smallest one that is still as large as what is analysed."""
    enough = [one for one in streams if one.height >= 360]
    return (enough or streams)[-1]


# ---- presets


async def _presets(device: _Device, profiles: list[Any]) -> list[OnvifPreset]:
    if not (token := _turning(profiles)):
        return []
    ptz = await device.create_ptz_service()
    given = list(await ptz.GetPresets({"ProfileToken": token}) or [])[:MAX_PRESETS]
    return [OnvifPreset(token=one.token, name=_line(one.Name) or one.token) for one in given if one.token]


def _turning(profiles: list[Any]) -> str:
    """The token of a profile that can turn the camera, "" where none says so."""
    return next((one.token for one in profiles if one.PTZConfiguration), "")


async def go_to(job: GoTo, config: Config) -> Presets | WentTo:
    """Lists presets, or turns to one."""
    async with _connected(job.login, config) as (url, device):
        if not device.offers("ptz"):
            raise SourceError(f"{url.host} cannot be turned", "only pan-tilt-zoom cameras have presets")
        media = await device.create_media_service()
        profiles = list(await media.GetProfiles() or [])
        presets = await _presets(device, profiles)
        if not job.preset:
            return Presets(presets=presets)
        named = [one for one in presets if job.preset in {one.token, one.name}]
        if not named:
            known = ", ".join(one.name for one in presets[:20]) or "none"
            raise SourceError(f"{url.host} has no preset of that name", f"it has: {known}")
        ptz = await device.create_ptz_service()
        await ptz.GotoPreset({"ProfileToken": _turning(profiles), "PresetToken": named[0].token})
        return WentTo(preset=named[0])


# ---- the process


def answer(job: OnvifJob, config: Config) -> OnvifReply:
    """What came of it; failures are answers too."""
    try:
        match job:
            case Find():
                return find(job, config)
            case Describe():
                return asyncio.run(describe(job, config))
            case GoTo():
                return asyncio.run(go_to(job, config))
    except HaetaeError as error:
        return OnvifFailure(kind=type(error).__name__, message=str(error), hint=error.hint)


def main() -> int:
    """Prints an OnvifReply as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    logging.disable(logging.CRITICAL)  # the library logs addresses and what devices answered
    sys.addaudithook(_refuse_others)
    config = load_config()
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=OnvifJob)
    sys.stdout.buffer.write(msgspec.json.encode(answer(job, config)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
