"""Records of cameras, their zones, groups and states."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, structs

from core.cameras import CameraConfig, CameraPhase, CameraStatus, Light
from core.cameras.history import CameraStateChange, NormalityVersion
from core.cameras.live import LiveView, Stage
from core.cameras.model import CameraSettings, Fault
from core.cameras.onvif import OnvifDevice, OnvifFound, OnvifPreset, Token
from core.cameras.probe import Probe
from core.cameras.zones import Zone
from core.db.cameras import CameraGroup
from core.events.promise import Promise
from core.rest.base import CameraKey, Line, Record
from core.wire.messages import LearnedReply

__all__ = [
    "CameraChange",
    "CameraGroup",
    "CameraIn",
    "CameraOut",
    "CameraStateChange",
    "DeviceIn",
    "GroupIn",
    "Learning",
    "MinuteOut",
    "NormalityOut",
    "Observed",
    "OnvifDevice",
    "OnvifFound",
    "OnvifPreset",
    "PresetIn",
    "Probe",
    "ProbeIn",
    "Promise",
    "SensitivityOut",
    "TriedEvent",
    "VersionIn",
    "ZonesIn",
]

Name = Annotated[Line, Meta(min_length=1)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Credential = Annotated[str, Meta(max_length=256)]
VadType = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
LearnS = Annotated[float, Meta(gt=0, le=30 * 86_400)]
Fps = Annotated[float, Meta(gt=0, le=60)]


class CameraIn(Record, frozen=True, kw_only=True):
    """A camera as it should be. Credentials, in the URLs or apart, are stored sealed and never shown."""

    id: CameraKey
    name: Name
    url: Url
    sub_url: Annotated[str, Meta(max_length=2048)] = ""
    """Of a smaller stream of the same camera, which is analysed and shown in the place of `url`."""
    username: Credential = ""
    password: Credential = ""
    enabled: bool = True
    """Whether it should run now."""
    autostart: bool = True
    """Whether a restart of the machine starts it."""
    vad_type: VadType = "motion_stats"
    learn_s: LearnS = 600.0
    analysis_fps: Fps = 10.0
    loop: bool = True
    settings: CameraSettings = CameraSettings()


class CameraChange(Record, frozen=True, kw_only=True):
    """What is left out stays; so do the credentials, where no URL and no credentials are given."""

    name: Name | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    sub_url: Annotated[str, Meta(max_length=2048)] | UnsetType = UNSET
    username: Credential | UnsetType = UNSET
    password: Credential | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    autostart: bool | UnsetType = UNSET
    vad_type: VadType | UnsetType = UNSET
    learn_s: LearnS | UnsetType = UNSET
    analysis_fps: Fps | UnsetType = UNSET
    loop: bool | UnsetType = UNSET
    settings: CameraSettings | UnsetType = UNSET


class Learning(Record, frozen=True, kw_only=True):
    """How far a camera is with learning what is normal."""

    percent: float
    learned_s: float
    """Seconds of footage that it has learned from."""
    wanted_s: float
    left_s: float | None
    """Seconds until it is done, by its pace of late; null where that cannot be told yet."""


class Observed(Record, frozen=True, kw_only=True):
    """What is seen of a camera; apart from what is desired of it."""

    phase: CameraPhase
    stage: Stage | None
    """What its judgement is worth; null where it does not run, or does not know yet."""
    fault: Fault | None
    """What is wrong with its pictures; `reason` says it in words."""
    night: bool
    """Whether it sees by infra-red, of which it learns apart from the day."""
    learning: Learning | None
    """Null unless it learns now."""
    score: float | None
    """Of its newest picture, -log10 P; null where none was judged."""
    open_score: float | None
    """From this score on an event begins."""
    event_id: str | None
    """Of the event that goes on."""
    restarts: int
    frames: int
    age_s: float | None
    """Since its newest frame."""
    reason: str

    @classmethod
    def of(cls, status: CameraStatus, live: LiveView | None) -> "Observed":
        learning = None
        if live and live.stage == "learning":
            learning = Learning(
                percent=round(100 * live.learned_share, 1),
                learned_s=round(live.learned_s, 1),
                wanted_s=live.wanted_s,
                left_s=round(live.left_s, 1) if live.left_s is not None else None,
            )
        return cls(
            phase=status.phase,
            stage=live.stage if live else None,
            fault=live.fault if live else None,
            night=bool(live and live.night),
            learning=learning,
            score=round(live.score, 3) if live and live.score is not None else None,
            open_score=live.open_score if live else None,
            event_id=(live.event_id or None) if live else None,
            restarts=status.restarts,
            frames=status.frames,
            age_s=round(status.age_s, 3) if status.age_s is not None else None,
            reason=status.reason,
        )


class CameraOut(Record, frozen=True, kw_only=True):
    """Desired and observed. URLs, without credentials, are told to administrators alone."""

    id: str
    name: str
    url: str
    sub_url: str
    has_credentials: bool
    enabled: bool
    autostart: bool
    vad_type: str
    learn_s: float
    analysis_fps: float
    loop: bool
    settings: CameraSettings
    observed: Observed | None
    """Null where the manager does not answer: what is desired is carried out when it is back."""

    @classmethod
    def of(
        cls, camera: CameraConfig, status: CameraStatus | None, live: LiveView | None, *, with_url: bool
    ) -> "CameraOut":
        return cls(
            id=camera.camera_id,
            name=camera.name,
            url=camera.url if with_url else "",
            sub_url=camera.sub_url if with_url else "",
            has_credentials=bool(camera.sealed_url or camera.sealed_sub_url),
            enabled=camera.enabled,
            autostart=camera.autostart,
            vad_type=camera.vad_type,
            learn_s=camera.learn_s,
            analysis_fps=camera.analysis_fps,
            loop=camera.loop,
            settings=camera.settings if with_url else structs.replace(camera.settings, onvif_url=""),
            observed=Observed.of(status, live) if status else None,
        )


class ProbeIn(Record, frozen=True, kw_only=True):
    """A source to look at before it is added."""

    url: Url
    username: Credential = ""
    password: Credential = ""
    settings: CameraSettings = CameraSettings()


class DeviceIn(Record, frozen=True, kw_only=True):
    """A device on the network to be asked what it offers: its address, its ONVIF URL or that of one of its streams."""

    url: Url
    username: Credential = ""
    password: Credential = ""


class PresetIn(Record, frozen=True, kw_only=True):
    """Where a camera is to turn to, by the preset's name or token."""

    preset: Token


class ZonesIn(Record, frozen=True, kw_only=True):
    """All zones of a camera."""

    zones: Annotated[list[Zone], Meta(max_length=64)]


class GroupIn(Record, frozen=True, kw_only=True):
    name: Name
    cameras: Annotated[tuple[CameraKey, ...], Meta(max_length=1000)] = ()


class MinuteOut(Record, frozen=True, kw_only=True):
    """One minute of a camera's scores, -log10 P."""

    at: str
    highest: float | None
    """Null where nothing was judged in it."""
    mean: float | None


class TriedEvent(Record, frozen=True, kw_only=True):
    """An event that there would have been."""

    began_at: str
    duration_s: float
    peak_score: float


class SensitivityOut(Record, frozen=True, kw_only=True):
    """What a camera's threshold stands for, and what another would have meant for the scores that are kept."""

    per_day: float | None
    """False events a day that this camera may raise; null: as many as the site's cameras may."""
    site_per_day: float
    now: Promise | None
    """The threshold that holds; null where the camera never watched on this machine."""
    tried: Promise
    """The threshold that was asked for, by these scores; `stage` is "learning" where they are too few to say."""
    watched_s: float
    """Of the time that was looked at."""
    before: int
    """Events with the threshold that holds, found in these scores."""
    after: int
    """Events with the one that was asked for."""
    events: list[TriedEvent]
    """Those of `after`, the newest first, 200 at most."""
    histogram: list[float]
    """Seconds whose highest score lay in each bin; the last takes all that is beyond."""
    bin_width: float


class VersionIn(Record, frozen=True, kw_only=True):
    """A version of what a camera learned in one light, of the type of detection that it has."""

    version: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    light: Light = Light.DAY


class NormalityOut(Record, frozen=True, kw_only=True):
    """One version of what a camera learned; by day and by infra-red each have their own, counted from 1."""

    vad_type: str
    light: Light
    version: int
    created_at: str
    learned_s: float
    frames: int
    reason: str
    """"learned", "drift" (it followed what slowly changed), or what was asked for."""
    in_use: bool | None
    """Whether it is judged by in that light; null where inference does not answer."""
    kept: bool | None
    """Whether its file is there, to go back to."""

    @classmethod
    def of(cls, one: NormalityVersion, used: LearnedReply | None) -> "NormalityOut":
        """`used` is what inference says of this type of detection and this light."""
        return cls(
            vad_type=one.vad_type,
            light=one.light,
            version=one.version,
            created_at=one.created_at,
            learned_s=one.learned_s,
            frames=one.frames,
            reason=one.reason,
            in_use=used.state_version == one.version if used else None,
            kept=one.version in used.versions if used else None,
        )
