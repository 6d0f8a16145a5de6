"""Rules: what must be true for somebody to be told, and who is told how; the messages that come of them."""

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.cameras.model import CameraPhase
from core.cameras.zones import Weekly
from core.events.model import Severity
from core.ids import CameraId, EventId

__all__ = [
    "Actions",
    "Conditions",
    "Escalation",
    "EventConditions",
    "HealthConditions",
    "HealthNote",
    "Language",
    "Name",
    "Notice",
    "Occasion",
    "Repeat",
    "Rule",
    "RuleDraft",
    "State",
    "Template",
    "priority_of",
]

Language = Literal["en", "ko"]
Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)")]
CameraKey = Annotated[CameraId, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$(?!\n)")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
Type = Annotated[str, Meta(min_length=1, max_length=64)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Repeat(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Only what happens again and again: the so-manieth event of a camera that meets all the rest."""

    count: Annotated[int, Meta(ge=2, le=100)]
    within_s: Annotated[float, Meta(gt=0, le=86_400)]


class _Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="about"):
    """What both kinds of rules may ask for; what is left out does not matter."""

    cameras: Annotated[tuple[CameraKey, ...], Meta(max_length=1000)] = ()
    groups: Annotated[tuple[Key, ...], Meta(max_length=100)] = ()
    """Ids of groups of cameras. With neither cameras nor groups, all cameras are meant."""
    schedule: Annotated[tuple[Weekly, ...], Meta(max_length=28)] = ()
    """Only then, in the site's time zone; () is always."""
    quiet: Annotated[tuple[Weekly, ...], Meta(max_length=28)] = ()
    """Not then, except for what is critical."""


class EventConditions(
    _Conditions, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="about", tag="events"
):
    """What an event must be; asked each time that it changes, until it is met."""

    types: Annotated[tuple[Type, ...], Meta(max_length=100)] = ()
    min_severity: Severity = Severity.INFO
    min_score: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    min_duration_s: Seconds = 0.0
    """Told once it has gone on for so long."""
    zones: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    """Names of zones: the highest score lies within one of them."""
    provisional: bool = True
    """Whether events count that a camera raised while it had not learned enough."""
    repeat: Repeat | None = None


class HealthConditions(
    _Conditions, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="about", tag="health"
):
    """A camera that does not watch, though it should, for `for_s` seconds on end."""

    phases: Annotated[tuple[CameraPhase, ...], Meta(min_length=1, max_length=20)] = (
        CameraPhase.DISCONNECTED,
        CameraPhase.CONNECTING,
        CameraPhase.DEGRADED,
        CameraPhase.BACKOFF,
        CameraPhase.FAILED,
    )
    """Those that count as trouble. It ends when the camera learns or watches again, or is stopped."""
    for_s: Seconds = 60.0
    recovery: bool = True
    """Whether its end is told as well."""


Conditions = EventConditions | HealthConditions


class Template(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Own words in the place of the usual ones, with $camera, $type, $severity, $score, $time, $reason,
    $description, $duration, $rule, $link and $similar in them; "" keeps the usual.
    """

    subject: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")] = ""
    text: Annotated[str, Meta(max_length=4000)] = ""


class Escalation(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to tell where nobody took note of the event in time."""

    after_minutes: Annotated[float, Meta(gt=0, le=1440)]
    channels: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=20)]


class Actions(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule does once it is met."""

    channels: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=20)]
    priority: Severity | None = None
    """None: as severe as the event is; a camera that does not watch counts as high."""
    language: Language | None = None
    """None: `notifier.language`."""
    template: Template = Template()
    escalation: Escalation | None = None
    digest_minutes: Annotated[float, Meta(ge=0, le=10_080)] = 0.0
    """Collect what is not critical, and tell it together after so long; 0 tells each at once."""
    limit_per_hour: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Messages of this rule to each channel in any hour, at most; 0 is no limit."""
    updates: bool = True
    """Whether a message is amended when the event's type, severity or description changes."""
    stop: bool = False
    """Whether the rules after it are not asked any more."""


class RuleDraft(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as somebody writes it."""

    name: Name
    enabled: bool = True
    conditions: Conditions = EventConditions()
    actions: Actions


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is stored; the lowest position is asked first."""

    id: str
    position: int
    name: str
    enabled: bool
    conditions: Conditions
    actions: Actions
    created_at: str
    updated_at: str


# ---- messages


def priority_of(severity: Severity) -> int:
    """0 for what is critical to 4 for information: what is lower goes first."""
    return _PRIORITY[severity]


_PRIORITY = {severity: priority for priority, severity in enumerate(reversed(Severity))}


class Occasion(enum.StrEnum):
    """Why a message is sent."""

    EVENT = "event"
    UPDATE = "update"
    """The verdict on an event changed after it was told."""
    ESCALATION = "escalation"
    """Nobody took note of an event in time."""
    DIGEST = "digest"
    DOWN = "down"
    """A camera does not watch."""
    UP = "up"
    PROCESS = "process"
    """One of Haetae's own processes keeps ending, or does not run."""
    PROCESS_UP = "process_up"
    CHANNEL = "channel"
    """Another channel keeps failing."""
    TEST = "test"


class State(enum.StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"
    """Given up; may be replayed."""
    HELD = "held"
    """Not sent: too much like the one before, or beyond a limit."""
    DROPPED = "dropped"
    """Not sent: what it would have told was over, or had been told already."""


class HealthNote(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of a camera that does not watch, or does again."""

    phase: str
    since: str
    reason: str = ""


class Notice(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a message until it is sent; the event itself is read when it is."""

    occasion: Occasion
    rule_name: str = ""
    camera_id: CameraId | None = None
    language: Language | None = None
    template: Template = Template()
    similar: int = 0
    """How many like it were held back since the last one was sent."""
    held: str = ""
    """Why it was held back: "similar", "limit" or "digest" (it is told with others); "" otherwise."""
    health: HealthNote | None = None
    events: tuple[EventId, ...] = ()
    """Of a digest, the first ones."""
    count: int = 0
    """Of a digest, all of them."""
    channel_name: str = ""
    """Of the channel that keeps failing, or of the process that is in trouble."""
    error: str = ""
