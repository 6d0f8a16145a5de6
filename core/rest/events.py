"""Records of events and what people do with them."""

import enum
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from core.db.events import Acknowledgement, EventDetail, Feedback, StoredEvent
from core.events.analysis import Analysis
from core.events.model import AnomalyEvent, EventMedia, EventState, EventStep, Severity
from core.rest.base import Line, Record, Text, Uuid

__all__ = [
    "AckIn",
    "AckMany",
    "AckedMany",
    "EventDetailOut",
    "EventMediaOut",
    "EventOut",
    "EventPageOut",
    "ExportFormat",
    "FeedbackIn",
    "LockIn",
    "MediaKind",
    "ScorePoint",
    "exported",
]


class MediaKind(enum.StrEnum):
    SNAPSHOT = "snapshot"
    CLEAN = "clean"
    """The picture without the heat map on it."""
    HEATMAP = "heatmap"
    TURNED = "turned"
    CLIP = "clip"
    EVIDENCE = "evidence"
    """What was measured, as JSON."""
    KEY1 = "key1"
    """Key frames, in order of time: what an analyst looks at."""
    KEY2 = "key2"
    KEY3 = "key3"
    KEY4 = "key4"
    KEY5 = "key5"
    KEY6 = "key6"
    KEY7 = "key7"
    KEY8 = "key8"


class ExportFormat(enum.StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


class EventOut(Record, frozen=True, kw_only=True):
    """An event in a list. Scores are -log10 P; `peak_x`, `peak_y` are pixels of the source's frame."""

    id: str
    sequence: int
    """Grows with each change of any event: where a follower goes on."""
    camera_id: str
    node_id: str
    state: EventState
    began_at: str
    ended_at: str | None
    duration_s: float
    severity: Severity
    vlm_type: str
    reason: str
    description: str
    source: str
    peak_score: float
    peak_at: str
    peak_x: float
    peak_y: float
    frame_width: int
    frame_height: int
    vad_type: str
    provisional: bool
    acknowledged_at: str | None
    locked: bool
    has_snapshot: bool

    @classmethod
    def of(cls, stored: StoredEvent) -> "EventOut":
        event = stored.event
        return cls(
            sequence=stored.sequence,
            duration_s=round(event.end_s - event.begin_s, 3),
            acknowledged_at=stored.acknowledged_at,
            locked=stored.locked,
            has_snapshot=bool(event.snapshot),
            **dict(zip(_SAME, _same(event), strict=True)),
        )


_SAME = tuple(name for name in EventOut.__struct_fields__ if name in set(AnomalyEvent.__struct_fields__))
_same = attrgetter(*_SAME)


class EventPageOut(Record, frozen=True, kw_only=True):
    """The newest first. Fewer events than asked for, with a cursor, mean that the search goes on."""

    events: list[EventOut]
    cursor: str | None


class EventMediaOut(Record, frozen=True, kw_only=True):
    kind: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, media: EventMedia) -> "EventMediaOut":
        return cls(kind=media.kind, sha256=media.sha256, size_bytes=media.size_bytes)


class ScorePoint(Record, frozen=True, kw_only=True):
    """The highest score of one second."""

    at: str
    score: float


class EventDetailOut(Record, frozen=True, kw_only=True):
    """One event and all that hangs on it; the scores are those from a minute before it to a minute after."""

    event: EventOut
    analysis: Analysis | None
    """What it was taken to be, by whom, and how sure; null before anything looked."""
    media: list[EventMediaOut]
    steps: list[EventStep]
    scores: list[ScorePoint]
    acknowledgements: list[Acknowledgement]
    feedback: list[Feedback]

    @classmethod
    def of(cls, detail: EventDetail, scores: list[ScorePoint]) -> "EventDetailOut":
        event = detail.stored.event
        return cls(
            event=EventOut.of(detail.stored),
            media=[EventMediaOut.of(one) for one in event.media],
            analysis=event.analysis,
            steps=list(event.steps),
            scores=scores,
            acknowledgements=detail.acknowledgements,
            feedback=detail.feedback,
        )


class AckIn(Record, frozen=True, kw_only=True):
    """Why, in a word ("delivery", "false alarm"); more words; and who sees to it."""

    reason: Annotated[str, Meta(max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    note: Text = ""
    assignee: Line = ""


class AckMany(AckIn, frozen=True, kw_only=True):
    ids: Annotated[list[Uuid], Meta(min_length=1, max_length=500)]


class AckedMany(Record, frozen=True, kw_only=True):
    """Those that were acknowledged now; and those that were already, or are not there."""

    acknowledged: list[str]
    left_out: list[str]


class LockIn(Record, frozen=True, kw_only=True):
    """Locked as evidence, an event and its files are never deleted."""

    locked: bool


class FeedbackIn(Record, frozen=True, kw_only=True):
    verdict: Literal["normal", "real"]
    note: Text = ""


def exported(stored: StoredEvent) -> dict[str, Any]:
    """An event as a flat row of an export."""
    return msgspec.to_builtins(EventOut.of(stored))
