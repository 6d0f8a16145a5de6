"""CameraConfig, the desired state of a camera, and CameraStatus, what is observed of it."""

import enum

import msgspec

from core.ids import CameraId

__all__ = ["CameraConfig", "CameraPhase", "CameraStatus"]


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The desired state of one camera, as stored in the database.

    `url` is a file path, a `file://` URL or `demo://SCENE?seed=N`; it may hold a secret and is never logged.
    `enabled` is what should run now; `autostart` is whether a restart of the machine starts it.
    """

    camera_id: CameraId
    name: str
    url: str
    enabled: bool = True
    autostart: bool = True
    vad_type: str = "motion_stats"
    learn_s: float = 600.0
    """Seconds of footage to learn from before the camera counts as learned."""
    analysis_fps: float = 10.0
    """Frames per second that are analysed at most; the source's rate where that is lower."""
    loop: bool = True
    """A file begins again at its end."""


class CameraPhase(enum.StrEnum):
    """Where a camera is in its life; `stopped` and `backoff` are the manager's words, the rest the camera's."""

    STOPPED = "stopped"
    STARTING = "starting"
    CONNECTING = "connecting"
    LEARNING = "learning"
    PROVISIONAL = "provisional"
    WATCHING = "watching"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    FAILED = "failed"


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
