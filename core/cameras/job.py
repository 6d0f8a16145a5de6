"""CameraJob: what one camera process is to do; it comes as a line of JSON on standard input, and so do changes."""

import msgspec

from core.cameras.model import CameraConfig
from core.cameras.zones import Zone
from core.events.judgements import Judgement

__all__ = ["CameraJob", "JobResult"]


class CameraJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One camera's work. With the defaults it runs as `haetae up` wants it: paced, for ever, newest frame wins."""

    camera: CameraConfig
    zones: tuple[Zone, ...] = ()
    judgements: tuple[Judgement, ...] = ()
    """What people said of its events, the newest first."""
    more_urls: list[str] = []
    """Further files, played after the camera's own as one stream with gaps."""
    added_at: str = ""
    """When the camera was added, RFC 3339: what was learned before under its name is another's. "" where unknown."""
    normality_id: str = ""
    """The state it is scored with and learns into; "" is the camera's own."""
    lossless: bool = False
    """As fast as it goes, each frame waits for its score (credit); ends with the input."""
    learn_only: bool = False
    """Only feeds what the state is learned from; whoever started it finishes the learning."""
    annotated: str = ""
    """Path of an annotated MP4; "" for none."""
    scores: str = ""
    """Path of an .npz with `score` and `time_s`, a row for each frame; "" for none."""
    result: str = ""
    """Path of a JobResult as JSON, written at the end; "" for none."""


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. Monotonic nanoseconds; 0 where nothing was scored."""

    frames: int
    first_scored_ns: int
    last_scored_ns: int
    event_ids: list[str]
    warnings: list[str] = []
    age_p50_ms: float = 0.0
    """From a frame's capture to its score, of the last scores; 0 where nothing was scored."""
    age_p99_ms: float = 0.0
