"""Evidence: what was measured of an event beside its score, and the key frames that show it."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from core.cameras.zones import ZoneKind
from core.events.analysis import VlmType

__all__ = ["Earlier", "Evidence", "FrameRole", "KeyFrame", "Scene", "Track", "ZoneEvidence"]


class FrameRole(enum.StrEnum):
    """What a key frame shows; `crop` is the part of the peak that moves, enlarged."""

    BASELINE = "baseline"
    ONSET = "onset"
    DURING = "during"
    PEAK = "peak"
    AFTER = "after"
    CROP = "crop"


class KeyFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A JPEG beneath the media folder."""

    role: FrameRole
    at_s: float
    """Seconds from the event's beginning; negative before it."""
    file: str
    sha256: str
    width: int
    height: int


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that moved while the event went on. Speeds are in its own heights a second, which is about the same
    near and far; places are fractions of the picture, of the middle of its foot.
    """

    age_s: float
    x: float
    y: float
    width: float
    height: float
    """Of its box, fractions of the picture."""
    speed: float
    """The highest that it kept for 0.7 s."""
    heading: float
    """Degrees clockwise from the top, of where it went while it was fastest."""
    travelled: float
    """From its first place to the farthest, in widths of the picture."""
    dwell_s: float
    """How long it stayed within one height of a place, at most."""
    still_s: float
    """How long it did not move at all, at most."""
    flattened: float = 1.0
    """How many times wider its box became, for its height, within a second, and stayed."""


class ZoneEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A zone in which something moved."""

    name: str
    kind: ZoneKind
    direction: float | None = None
    inside_s: float
    """How long one thing's foot was in it, at most."""
    against: float = 0.0
    """How far one thing went against the right way, in widths of the picture, at most."""
    against_s: float = 0.0


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture while the event went on, and what is usual there."""

    usual_speed: float = 0.0
    """Median of what moved before, own heights a second; 0 where too little was seen."""
    usual_spread: float = 0.0
    """Median absolute deviation of it."""
    usual_size: float = 0.0
    """Median share of the picture of one moving thing."""
    usual_count: float = 0.0
    largest: float = 0.0
    """Share of the picture of the largest moving thing."""
    count_begin: int = 0
    count_peak: int = 0
    count_end: int = 0
    outward: int = 0
    """How many went fast away from one place in different directions at the same time, at most."""
    stayed_s: float = 0.0
    """How long something was at one place without a break, at most, where usually nothing stays."""
    changed: float = 0.0
    """Share of the picture that was not as usual, that it kept for 2 s, at most."""
    blinded_s: float = 0.0
    """How long most of the picture was changed, without detail, or of one brightness, at most."""
    sharpness: float = 1.0
    """Detail over what is usual, the least that it kept for 2 s."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier event of the camera."""

    ago_s: float
    vlm_type: VlmType
    x: float
    y: float


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that travels with a request to judge an event."""

    duration_s: float = 0.0
    scene: Scene = Scene()
    tracks: Annotated[tuple[Track, ...], Meta(max_length=8)] = ()
    """Those that stand out: the fastest, the longest staying, those near the peak."""
    zones: tuple[ZoneEvidence, ...] = ()
    frames: Annotated[tuple[KeyFrame, ...], Meta(max_length=8)] = ()
    """In order of time, near-duplicates left out."""
    earlier: Annotated[tuple[Earlier, ...], Meta(max_length=8)] = ()
    """The newest first."""
    fault: str = ""
    """What the camera's own check found wrong with its view (core.cameras.Fault), where the event was raised for that;
    nothing is scored or measured meanwhile."""
    fault_s: float = 0.0
    """For how long, so far."""
    local_time: str = ""
    """At the camera, such as "Monday 23:10"."""
    armed: bool = False
    """Some zone of detection with a schedule holds now: nothing is to be in it."""
    normal_here: str = ""
    dwell_limit_s: float = 60.0
    crowd_limit: int = 15
    ptz_preset: str = ""
    """Where the camera can be turned now; "" where it cannot, or is turned already."""
    ptz_hold_s: float = 20.0
