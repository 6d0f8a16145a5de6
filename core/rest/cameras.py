"""Records of cameras, their zones, groups and states."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from core.cameras import CameraConfig, CameraPhase, CameraStatus
from core.cameras.history import CameraStateChange, NormalityVersion
from core.cameras.model import CameraSettings
from core.cameras.probe import Probe
from core.cameras.zones import Zone
from core.db.cameras import CameraGroup
from core.rest.base import CameraKey, Line, Record

__all__ = [
    "CameraChange",
    "CameraGroup",
    "CameraIn",
    "CameraOut",
    "CameraStateChange",
    "GroupIn",
    "MinuteOut",
    "NormalityOut",
    "Observed",
    "Probe",
    "ProbeIn",
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


class Observed(Record, frozen=True, kw_only=True):
    """What the manager sees of a camera; apart from what is desired of it."""

    phase: CameraPhase
    restarts: int
    frames: int
    age_s: float | None
    """Since its newest frame."""
    reason: str

    @classmethod
    def of(cls, status: CameraStatus) -> "Observed":
        age_s = round(status.age_s, 3) if status.age_s is not None else None
        return cls(
            phase=status.phase, restarts=status.restarts, frames=status.frames, age_s=age_s, reason=status.reason
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
    def of(cls, camera: CameraConfig, status: CameraStatus | None, *, with_url: bool) -> "CameraOut":
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
            settings=camera.settings,
            observed=Observed.of(status) if status else None,
        )


class ProbeIn(Record, frozen=True, kw_only=True):
    """A source to look at before it is added."""

    url: Url
    username: Credential = ""
    password: Credential = ""
    settings: CameraSettings = CameraSettings()


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


class NormalityOut(Record, frozen=True, kw_only=True):
    """One version of what a camera learned."""

    vad_type: str
    version: int
    created_at: str
    learned_s: float
    frames: int
    reason: str

    @classmethod
    def of(cls, one: NormalityVersion) -> "NormalityOut":
        return cls(
            vad_type=one.vad_type,
            version=one.version,
            created_at=one.created_at,
            learned_s=one.learned_s,
            frames=one.frames,
            reason=one.reason,
        )
