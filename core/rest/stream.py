"""Messages of the WebSockets /api/v1/ws/events and /api/v1/ws/frames: JSON, told apart by `type`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.cameras.model import CameraPhase, Fault
from core.rest.base import CameraKey, Record
from core.rest.cameras import Observed
from core.rest.events import EventOut
from core.rest.statistics import PeriodOut

__all__ = [
    "CLIENT",
    "SERVER",
    "AckNews",
    "CameraNews",
    "CameraView",
    "Credit",
    "EventNews",
    "FrameSize",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Ready",
    "Reset",
    "StatisticsNews",
    "Watch",
    "WatchedCamera",
    "Watching",
]

FrameSize = Literal["tile", "full"]
What = Literal[
    "opened", "updated", "closed", "analysed", "acknowledged", "acknowledgement_undone", "locked", "unlocked", "changed"
]


class _FromClient(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    pass


class _FromServer(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type"):
    pass


# ---- from the client


class Hello(_FromClient, frozen=True, kw_only=True, tag="hello"):
    """The first message of both sockets, within five seconds."""

    ticket: Annotated[str, Meta(max_length=200)] = ""
    """Of POST /auth/ticket; "" where the handshake carried an Authorization header."""
    after: Annotated[int, Meta(ge=0)] | None = None
    """Events: the sequence of the last message that was seen; what changed since comes first."""


class CameraView(Record, frozen=True, kw_only=True):
    """A camera to be shown, how large and how often."""

    camera_id: CameraKey
    size: FrameSize = "tile"
    fps: Annotated[float, Meta(ge=0.1, le=60)] | None = None
    """At most so many frames a second; the site's default where it is left out, its limit where it is higher."""
    heat: bool = False
    """Also the location map of the scores, to be laid over the picture."""


class Watch(_FromClient, frozen=True, kw_only=True, tag="watch"):
    """Frames: all that is to be shown from now on; what is not named any more ends."""

    cameras: Annotated[list[CameraView], Meta(max_length=256)]


class Credit(_FromClient, frozen=True, kw_only=True, tag="credit"):
    """Frames: so many more may be sent. Give one back for each that was drawn, one by one or several at once."""

    frames: Annotated[int, Meta(ge=1, le=1000)]


# ---- from the server


class Ready(_FromServer, frozen=True, kw_only=True, tag="ready"):
    """The answer to Hello."""

    sequence: int
    """Events: the newest change that there is."""
    heartbeat_s: float
    """A socket that is silent for twice as long is dead: open another."""


class AckNews(Record, frozen=True, kw_only=True):
    at: str
    actor: str
    reason: str
    note: str
    assignee: str


class EventNews(_FromServer, frozen=True, kw_only=True, tag="event"):
    """An event as it is now, and what became of it. After a resumption `what` is "changed": several may be in one."""

    sequence: int
    what: list[What]
    event: EventOut
    acknowledgement: AckNews | None
    """The one in force."""


class CameraNews(_FromServer, frozen=True, kw_only=True, tag="camera"):
    """A camera as it is observed: first of all that may be seen, then whenever that changes."""

    camera_id: str
    observed: Observed | None
    """Null where the manager does not answer."""
    gone: bool = False
    """It was removed, or may not be seen any more."""


class StatisticsNews(_FromServer, frozen=True, kw_only=True, tag="statistics"):
    """Today, in the site's time zone, over the cameras that may be seen; whatever else is shown may be asked for anew.

    At most once a second, and within two seconds of a change.
    """

    version: int
    time_zone: str
    today: PeriodOut


class Heartbeat(_FromServer, frozen=True, kw_only=True, tag="heartbeat"):
    """Says that the socket lives, and how far it is."""

    at: str
    sequence: int = 0
    skipped: int = 0
    """Frames: those that were left out since the last heartbeat, for want of credit or room."""


class Reset(_FromServer, frozen=True, kw_only=True, tag="reset"):
    """Events: `after` lies too far back. Read the list anew; what changes after `sequence` comes."""

    sequence: int


class Goodbye(_FromServer, frozen=True, kw_only=True, tag="goodbye"):
    """The last message: why this socket ends. Codes as in docs/api.md."""

    code: str
    message: str


class WatchedCamera(Record, frozen=True, kw_only=True):
    """A camera that is shown: its frames carry `channel`."""

    camera_id: str
    size: FrameSize
    channel: int
    """0 where there are none to come: `problem` says why."""
    problem: Literal["", "not_found", "no_picture"]
    """"no_picture": the camera does not run, or gives none; frames come as soon as there are any."""
    fps: float
    heat: bool
    phase: CameraPhase | None = None
    fault: Fault | None = None


class Watching(_FromServer, frozen=True, kw_only=True, tag="watching"):
    """Frames: the answer to Watch, and again whenever something of it changes."""

    channels: list[WatchedCamera]


CLIENT = (Hello, Watch, Credit)
SERVER = (Ready, EventNews, CameraNews, StatisticsNews, Heartbeat, Reset, Goodbye, Watching)
