"""Probing a camera before it is added: what it sends, in a process of its own that cannot take longer than it may."""

import subprocess
import sys

import msgspec

from core.cameras.model import CameraSettings
from core.cameras.urls import CameraUrl
from core.config import Config
from core.process import process_environment

__all__ = ["Probe", "ProbeJob", "probe"]

WATCH_S = 3.0
"""How long the pictures are looked at."""


class ProbeJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the probing process is told on standard input; `url` holds the credentials."""

    url: str
    settings: CameraSettings
    watch_s: float = WATCH_S


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; of no picture at all, `ok` is false and `says` why."""

    ok: bool
    says: str
    """For a person, without any URL."""
    advice: list[str] = []
    """What to do about it."""
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    """As counted, not as claimed."""
    claimed_fps: float = 0.0
    key_interval_s: float = 0.0
    """Longest time between two key frames; 0 where no two were seen."""
    open_s: float = 0.0
    """To the first picture."""
    jpeg: bytes = b""
    """A picture, 640 pixels wide at most."""


def probe(config: Config, url: CameraUrl, settings: CameraSettings | None = None) -> Probe:
    """Looks at a source for some seconds; blocks for cameras.open_s and read_s and five seconds more at worst.

    For a URL that core.cameras.urls.check_url let through.
    """
    job = ProbeJob(url=url.full, settings=settings or CameraSettings())
    limit_s = config.cameras.open_s + config.cameras.read_s + WATCH_S + 5.0
    try:
        done = subprocess.run(
            [sys.executable, "-m", "workers.camera.probe"],
            input=msgspec.json.encode(job),
            capture_output=True,
            timeout=limit_s,
            check=False,
            env=process_environment(config),
        )
        return msgspec.json.decode(done.stdout, type=Probe)
    except subprocess.TimeoutExpired:
        return Probe(ok=False, says=f"nothing came within {limit_s:.0f} s", advice=["check its power and its network"])
    except msgspec.DecodeError:
        return Probe(ok=False, says="its video ended the program that looked at it", advice=["set it to H.264"])
