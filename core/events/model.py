"""AnomalyEvent: one stretch of time in which a camera showed something that is not normal there."""

import enum
from typing import Any

import msgspec

from core.events.analysis import Analysis
from core.ids import CameraId, EventId, NodeId

__all__ = ["AnomalyEvent", "EventMedia", "EventState", "EventStep", "Place", "Severity"]


class EventState(enum.StrEnum):
    """`open` while it goes on; `closed` at its end; `interrupted` if its camera process died under it."""

    OPEN = "open"
    CLOSED = "closed"
    INTERRUPTED = "interrupted"


class Severity(enum.StrEnum):
    """How bad it is, from least to most."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class EventMedia(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an event, its path beneath the media folder."""

    kind: str
    """"snapshot", "clean", "heatmap", "turned", "clip", "evidence" or a key frame, "key1".."key8"; one of each."""
    file: str
    sha256: str
    size_bytes: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where something was unusual, as fractions of the frame, and how much there, -log10 P."""

    x: float
    y: float
    score: float


class EventStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of how an event was judged: part of its audit trail."""

    kind: str
    """Who did it, e.g. "analysis", "flow", "policy"."""
    at: str
    text: str
    data: dict[str, Any] = {}


class AnomalyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it travels, is journaled and is stored.

    The same id comes several times with rising `revision`: at its opening, with updates, at its end.
    Times: `began_at`, `ended_at`, `peak_at` are RFC 3339 UTC; `begin_s`, `end_s`, `peak_s` are seconds of the
    source's own time line (video time). Scores are calibrated tail probabilities, -log10 P, not clipped.
    `peak_x`, `peak_y` are pixels of the source's frame (`frame_width` x `frame_height`).
    """

    id: EventId
    revision: int
    camera_id: CameraId
    node_id: NodeId
    state: EventState
    began_at: str
    ended_at: str | None
    begin_s: float
    end_s: float
    """The last moment known to belong to it: its end once it is closed."""
    peak_score: float
    peak_at: str
    peak_s: float
    peak_x: float
    peak_y: float
    frame_width: int
    frame_height: int
    vad_type: str
    state_version: int
    provisional: bool
    """The camera had not learned enough yet when it was raised."""
    severity: Severity = Severity.LOW
    reason: str = ""
    """What was unusual, as measured: "3.1 x the usual speed here"."""
    vlm_type: str = "unusual_motion"
    description: str = ""
    source: str = ""
    """Which describer wrote type and description, e.g. "rules/1"; "" before any did."""
    snapshot: str = ""
    """File name beneath the media folder; "" while there is none."""
    media: tuple[EventMedia, ...] = ()
    """Empty in lists of events."""
    steps: tuple[EventStep, ...] = ()
    """In order; empty in lists of events."""
    path: tuple[Place, ...] = ()
    """Where it was most unusual, frame by frame, a tenth of the frame's height apart; empty in lists of events."""
    analysis: Analysis | None = None
    """What it was taken to be; None before anything looked, and in lists of events."""
