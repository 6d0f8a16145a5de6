"""CameraConfig, the desired state of a camera, and CameraStatus, what is observed of it."""

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.ids import CameraId, night_id

__all__ = [
    "CameraConfig",
    "CameraPhase",
    "CameraSettings",
    "CameraStatus",
    "Fault",
    "Light",
    "Transport",
    "needs_restart",
    "normality_id",
]


Seconds = Annotated[float, Meta(ge=0, le=60)]


class Transport(enum.StrEnum):
    """How RTP comes: within the RTSP connection, or beside it as datagrams."""

    TCP = "tcp"
    UDP = "udp"


class Light(enum.StrEnum):
    """In which light a camera sees: what it shows differs so much that each is learned apart from the other."""

    DAY = "day"
    NIGHT = "night"
    """Infra-red."""


def normality_id(camera_id: CameraId, light: Light) -> str:
    """Under which a camera's own state of that light is kept."""
    return night_id(camera_id) if light is Light.NIGHT else camera_id


class CameraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What else can be set of a camera; each has a default that suits most."""

    transport: Annotated[Transport, Meta(title="RTP transport", description="of RTSP; UDP loses what TCP repeats")] = (
        Transport.TCP
    )
    rotation: Annotated[
        Literal[0, 90, 180, 270], Meta(title="Rotation", description="clockwise degrees by which the picture is turned")
    ] = 0
    verify_tls: Annotated[
        bool, Meta(title="Verify TLS", description="of rtsps and https; few cameras have a certificate to be verified")
    ] = False
    record: Annotated[bool, Meta(title="Clips", description="each event gets a video clip")] = True
    pre_s: Annotated[Seconds, Meta(title="Before", description="seconds of a clip before its event")] = 5.0
    post_s: Annotated[Seconds, Meta(title="After", description="seconds of a clip after its event")] = 5.0
    snapshot_s: Annotated[
        float, Meta(ge=0.1, le=3600, title="Snapshot interval", description="seconds between pictures that are fetched")
    ] = 1.0
    frozen_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            title="Frozen after",
            description="seconds of the very same picture; 0 never calls it frozen",
        ),
    ] = 30.0
    normal_here: Annotated[
        str,
        Meta(max_length=500, title="Normal here", description="what analysts are told is ordinary in this picture"),
    ] = ""
    flow: Annotated[
        Literal["sequential", "hierarchical", "collaborative"],
        Meta(title="Agent flow", description="how it is decided what an event is worth, and what is done"),
    ] = "sequential"
    onvif_url: Annotated[
        str,
        Meta(
            max_length=500,
            pattern=r"^(https?://[^\s?#@]+)?$",
            title="ONVIF",
            description="where its presets are asked for; empty is /onvif/device_service at its host",
        ),
    ] = ""
    ptz_home: Annotated[
        str,
        Meta(
            max_length=256,
            title="Home preset",
            description="name or token of the ONVIF preset at which it watches; empty: no flow turns it",
        ),
    ] = ""
    ptz_preset: Annotated[
        str,
        Meta(
            max_length=256,
            title="Preset for alarms",
            description="where a flow may turn it when measurements confirm an event; it watches nothing meanwhile",
        ),
    ] = ""
    ptz_hold_s: Annotated[
        float, Meta(ge=2, le=300, title="Turned for", description="seconds until it is turned back to its home preset")
    ] = 20.0
    false_events_per_day: Annotated[
        Annotated[float, Meta(ge=0, le=10_000)] | None,
        Meta(
            title="False alarms a day",
            description="that are tolerable; none is the site's tracker.false_events_per_day",
        ),
    ] = None
    dwell_s: Annotated[
        float, Meta(ge=5, le=3600, title="Loitering after", description="seconds of staying at one place")
    ] = 60.0
    crowd: Annotated[
        int, Meta(ge=2, le=99, title="Crowd from", description="so many things that move at once count as a crowd")
    ] = 15


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The desired state of one camera, as stored in the database.

    `url` and `sub_url` are as they may be shown (core.cameras.urls); where they need credentials, the whole URL is
    sealed beside them, and only the camera's own process opens it. With a `sub_url` that stream is analysed and shown,
    and `url` is what clips are made of.
    `enabled` is what should run now; `autostart` is whether a restart of the machine starts it.
    """

    camera_id: CameraId
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    url: str
    sealed_url: str = ""
    sub_url: str = ""
    sealed_sub_url: str = ""
    enabled: bool = True
    autostart: bool = True
    vad_type: str = "motion_stats"
    learn_s: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 600.0
    """Seconds of footage to learn from before the camera counts as learned."""
    analysis_fps: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Frames per second that are analysed at most; the source's rate where that is lower."""
    loop: bool = True
    """A file begins again at its end."""
    settings: CameraSettings = CameraSettings()


LIVE_FIELDS = {"name", "autostart", "learn_s", "analysis_fps"}
LIVE_SETTINGS = {
    "record",
    "pre_s",
    "post_s",
    "frozen_s",
    "normal_here",
    "flow",
    "onvif_url",
    "ptz_home",
    "ptz_preset",
    "ptz_hold_s",
    "dwell_s",
    "crowd",
    "false_events_per_day",
}


def needs_restart(before: CameraConfig, after: CameraConfig) -> bool:
    """Whether a camera's process must be started anew for `after`; else it takes it over while it runs."""
    changes = {name: getattr(before, name) for name in LIVE_FIELDS}
    settings = {name: getattr(before.settings, name) for name in LIVE_SETTINGS}
    kept = msgspec.structs.replace(after.settings, **settings)
    return msgspec.structs.replace(after, settings=kept, **changes) != before


class CameraPhase(enum.StrEnum):
    """Where a camera is in its life; `stopped`, `starting`, `backoff`, `stopping` and `failed` are the manager's words.

    `disconnected`: the source gives nothing, and is tried again. `degraded`: pictures come, but are of no use (the same
    one over and over, say).
    """

    STOPPED = "stopped"
    STARTING = "starting"
    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    LEARNING = "learning"
    PROVISIONAL = "provisional"
    WATCHING = "watching"
    DEGRADED = "degraded"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FAILED = "failed"


class Fault(enum.StrEnum):
    """What can be wrong with pictures that come; each makes a camera `degraded`."""

    FROZEN = "frozen"
    BLACK = "black"
    WHITE = "white"
    COVERED = "covered"
    BLURRED = "blurred"
    MOVED = "moved"
    LIGHT = "light"
    """The light, or the camera's night sight, was just switched: it settles within seconds."""
    CORRUPT = "corrupt"
    TURNED = "turned"
    """To another preset, by Haetae itself and for a while: until it is back there is nothing to compare with."""


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is observed of one camera; `age_s` is the seconds since its last frame (None: none yet)."""

    camera_id: CameraId
    desired: str
    """"running" or "stopped"."""
    phase: CameraPhase
    pid: int | None = None
    restarts: int = 0
    frames: int = 0
    age_s: float | None = None
    reason: str = ""
