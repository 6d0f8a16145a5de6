"""RTSP and RTSPS, with RTP inside the connection (TCP) or beside it (UDP)."""

import time
from urllib.parse import urlsplit

import av
import av.error

from core.cameras.urls import CameraUrl
from core.errors import SourceError
from workers.camera.sources.base import SourceOptions, trusted_authorities
from workers.camera.sources.hardware import accelerator
from workers.camera.sources.stream import StreamSource, explain

__all__ = ["open_rtsp"]

PROBE_US = "2000000"
"""How much of a stream is looked at to learn what it is; cameras say most of it beforehand."""


def open_rtsp(url: CameraUrl, options: SourceOptions) -> StreamSource:
    """Connects and waits for the first picture; raises SourceError or AddressRefused.

    Connects to the address that was checked, except with TLS, where the name is needed.
    """
    options.activity.begin("open")
    address = options.addresses(url)[0]
    transport = options.settings.transport
    begun = time.monotonic()
    try:
        container = av.open(
            _at(url, address),
            format="rtsp",
            options={
                "rtsp_transport": str(transport.value),
                "allowed_media_types": "video",
                "protocol_whitelist": "rtsp,rtsps,rtp,udp,tcp,tls,crypto",
                "timeout": str(round(options.open_s * 1e6)),
                "analyzeduration": PROBE_US,
                "fpsprobesize": "2",
                "tls_verify": str(int(options.settings.verify_tls)),
                "ca_file": trusted_authorities() if options.settings.verify_tls else "",
            },
            timeout=(options.open_s, options.read_s),
            hwaccel=accelerator(options.hardware),
        )
    except (av.error.FFmpegError, OSError, ValueError) as error:
        silent = f"did not answer within {options.open_s:g} s"
        if transport == "udp":
            silent += " over UDP"
        if time.monotonic() - begun >= 0.9 * options.open_s:
            raise explain(TimeoutError(), url.host, silent) from error  # FFmpeg calls an answer cut off bad data
        if (
            options.settings.verify_tls
            and url.full.startswith("rtsps")
            and not isinstance(error, ConnectionRefusedError)
        ):
            raise SourceError(
                f"{url.host} has no certificate that is trusted, or does not answer with TLS",
                "give it one for its name, or do not verify it",
            ) from error
        raise explain(error, url.host, silent) from error
    return StreamSource(url.host, container, options)


def _at(url: CameraUrl, address: str) -> str:
    parts = urlsplit(url.full)
    if parts.scheme != "rtsp":
        return url.full
    credentials, at, _ = parts.netloc.rpartition("@")
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{credentials}{at}{host}:{url.port}").geturl()
