"""The messages between processes, one tagged union per conversation; msgpack on the wire.

Every request gets exactly one reply: of its conversation, or `ErrorReply`. Pixels never travel: `FrameRef` does.
"""

from typing import Annotated

import msgspec

from core.cameras.history import HistoryRecord
from core.cameras.model import CameraStatus
from core.events.analysis import Analysis
from core.events.evidence import Evidence
from core.events.model import AnomalyEvent, EventStep, Severity
from core.ids import CameraId

__all__ = [
    "AnalyzeReply",
    "AnalyzeRequest",
    "ApplyCameras",
    "CameraStatuses",
    "Committed",
    "Done",
    "ErrorReply",
    "FinishLearning",
    "ForgetState",
    "FrameRef",
    "GetCameras",
    "GetState",
    "GetStatistics",
    "InferenceStatistics",
    "InterruptOpen",
    "LearnedReply",
    "LogEvents",
    "LogHistory",
    "Ping",
    "Pong",
    "ScoreReply",
    "ScoreRequest",
    "UseVersion",
]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages; the tag is the class's name."""


class FrameRef(msgspec.Struct, frozen=True, array_like=True):
    """Where a frame's pixels lie: `core.frames.RingReader.open_ref` finds them, or raises FrameGone."""

    camera_id: CameraId
    stream: str
    """"main" or "analysis"."""
    epoch: int
    seq: int


# ---- any conversation


class Ping(Message, frozen=True, kw_only=True):
    pass


class Pong(Message, frozen=True, kw_only=True):
    pid: int
    instance: str
    """Another value after each start of the process."""


class Done(Message, frozen=True, kw_only=True):
    """Nothing more to say than that it was done."""


class ErrorReply(Message, frozen=True, kw_only=True):
    code: str
    """Stable name: "bad_request", "unknown_type", "no_state", "busy", "deadline", "gone", "internal"…"""
    message: str


# ---- camera -> inference


class ScoreRequest(Message, frozen=True, kw_only=True):
    """Score one analysed frame, learn from it, or both.

    `media_s` is the frame's time on the source's time line, in seconds: what speeds are measured against.
    `normality_id` names the state it is scored with: the camera's own id, or one that several cameras share.
    `learn` adds it to what that state is being learned from. `lossless` requests are never superseded.
    `priority` is 0 (somebody waits for the answer), 1 (something goes on at this camera), 2 (watching) or 3 (may wait).
    `weight` is the camera's share among those of its priority when not all can be served: its analysed frames a second.
    """

    frame: FrameRef
    media_s: float
    vad_type: str
    normality_id: str
    learn: bool = False
    lossless: bool = False
    priority: Annotated[int, msgspec.Meta(ge=0, le=3)] = 2
    weight: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    ordinary_below: float = 0.0
    """The score under which the frame is ordinary, to be learned on from; 0 where something unusual goes on."""


class ScoreReply(Message, frozen=True, kw_only=True):
    """`status` is "scored", "learning" (taken in, no state to score with yet), "superseded", "late" or "gone".

    `map` is the location map: `map_rows` x `map_cols` bytes, row by row, 0..255 for -log10 P of 0..6 at that place.
    `peak_x`, `peak_y` are fractions 0..1 of the frame. `state` is "learning", "provisional" or "armed".
    """

    status: str
    score: float = 0.0
    peak_x: float = 0.5
    peak_y: float = 0.5
    map: bytes = b""
    map_rows: int = 0
    map_cols: int = 0
    reason: str = ""
    state: str = "learning"
    state_version: int = 0
    learned_s: float = 0.0
    """Seconds of footage that the state was learned from, or has taken in so far."""


class FinishLearning(Message, frozen=True, kw_only=True):
    """Fit the state from all that was taken in, save it as the next version, and use it from now on.

    Where a type trains for minutes, the answer comes at once ("provisional", version 0) and the new version is used
    when it is ready, unless `whole`: then the answer comes when it is.
    """

    vad_type: str
    normality_id: str
    whole: bool = False


class ForgetState(Message, frozen=True, kw_only=True):
    """What was learned does not fit the camera any more: it is scored with no longer, its files stay.

    Answered by LearnedReply.
    """

    vad_type: str
    normality_id: str


class UseVersion(Message, frozen=True, kw_only=True):
    """Score with a version that was saved before, from now on. Answered by LearnedReply."""

    vad_type: str
    normality_id: str
    version: Annotated[int, msgspec.Meta(ge=1)]


class GetState(Message, frozen=True, kw_only=True):
    """Is there a normality state? Answered by LearnedReply, with state "learning" and version 0 where there is none."""

    vad_type: str
    normality_id: str
    since: str = ""
    """Of what was learned before this time nothing is used: another camera had this name. RFC 3339; "" for any."""


class LearnedReply(Message, frozen=True, kw_only=True):
    state: str
    state_version: int
    learned_s: float
    frames: int
    warning: str = ""
    """What a person should know, e.g. that the footage was short; "" for nothing."""
    file: str = ""
    """Of the version in use, beneath the states folder; "" where none is."""
    sha256: str = ""
    made_at: str = ""
    """When that file was written, RFC 3339 UTC."""
    reason: str = "learned"
    """Why this version was made, or is used again: "learned", "drift", "rolled back"."""
    versions: tuple[int, ...] = ()
    """All that are kept, the oldest first."""


class AnalyzeRequest(Message, frozen=True, kw_only=True):
    """What is it, how bad, what to do: asked of the VLM analyzer and the camera's flow."""

    event: AnomalyEvent
    evidence: Evidence
    flow: str = "sequential"
    attempt: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    """1 where a flow asked for another look, and this is it."""


class AnalyzeReply(Message, frozen=True, kw_only=True):
    analysis: Analysis
    severity: Severity
    steps: list[EventStep] = []
    """The audit trail, with what each step took in and gave out."""
    recheck_s: float = 0.0
    """Ask once more after so many seconds, with newer key frames; 0: it is decided."""
    turn_to: str = ""
    """The preset that the camera is to be turned to for `turn_s` seconds; "" where it is to stay."""
    turn_s: float = 0.0


class GetStatistics(Message, frozen=True, kw_only=True):
    pass


class InferenceStatistics(Message, frozen=True, kw_only=True):
    """Counters since the start, and what the pool holds."""

    scored: int
    learned: int
    superseded: int
    late: int
    gone: int
    errors: int
    batches: int
    largest_batch: int
    refused: int = 0
    """Requests of cameras that had too many waiting."""
    waiting: int = 0
    retried: int = 0
    """Batches that failed whole and were run again in halves."""
    batch_ms: dict[str, dict[int, float]] = {}
    """VAD type -> rows -> what a batch of that size takes."""
    vad_types: tuple[str, ...] = ()
    """Types of detection that there are."""
    models: dict[str, dict[str, float]]
    """Model key -> bytes and seconds by name."""


# ---- camera -> logger


class LogEvents(Message, frozen=True, kw_only=True):
    """A camera's events, in their order; answered by Done once all of them are in the journal on disk.

    Then each will be in the database exactly once.
    """

    events: list[AnomalyEvent]


class Committed(Message, frozen=True, kw_only=True):
    """Told on the feed: this event is in the database, in this revision."""

    event: AnomalyEvent


class LogHistory(Message, frozen=True, kw_only=True):
    """What is to be remembered of cameras; answered by Done once it is in the journal."""

    records: list[HistoryRecord]


class InterruptOpen(Message, frozen=True, kw_only=True):
    """Close what is still open of a camera (its process died) as `interrupted`, at its last update.

    Only what began before `before` (RFC 3339 UTC), the asking process's start. Answered by Done once it is journaled.
    """

    camera_id: CameraId
    before: str


# ---- anyone -> manager (command channel)


class ApplyCameras(Message, frozen=True, kw_only=True):
    """The desired state in the database has changed: read it again now."""


class GetCameras(Message, frozen=True, kw_only=True):
    pass


class CameraStatuses(Message, frozen=True, kw_only=True):
    cameras: list[CameraStatus]


InferenceRequest = (
    ScoreRequest | FinishLearning | ForgetState | UseVersion | GetState | AnalyzeRequest | GetStatistics | Ping
)
InferenceReply = ScoreReply | LearnedReply | AnalyzeReply | InferenceStatistics | Pong | ErrorReply
LoggerRequest = LogEvents | LogHistory | InterruptOpen | Ping
LoggerReply = Done | Pong | ErrorReply
ManagerRequest = ApplyCameras | GetCameras | Ping
ManagerReply = CameraStatuses | Done | Pong | ErrorReply
