"""The small tree of errors that Haetae raises on purpose.

Each has one reason, a sentence for a person, and, where there is one, a hint that says what to do.
"""

__all__ = [
    "AddressRefused",
    "BusError",
    "ConfigError",
    "Conflict",
    "DatabaseError",
    "FrameGone",
    "HaetaeError",
    "ModelError",
    "NotFound",
    "RemoteError",
    "RequestTimeout",
    "SecretError",
    "SegmentTooLarge",
    "SourceError",
    "StateError",
    "TokenRefused",
    "WireError",
]


class HaetaeError(Exception):
    """Base of all; `hint` says what the user can do about it ("" where nothing)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(HaetaeError):
    """The configuration, or an argument on the command line, cannot be used."""


class NotFound(HaetaeError):
    """What was asked for is not there, or is not to be seen by whoever asks."""


class Conflict(HaetaeError):
    """It cannot be done as things are: a name is taken, or somebody else was first."""


class TokenRefused(HaetaeError):
    """A token or ticket is not valid, not of this kind, used up, or over."""


class SecretError(HaetaeError):
    """A sealed secret cannot be opened, or the keys for it cannot be read."""


class AddressRefused(HaetaeError):
    """A host has no address, or one that may not be called for this purpose."""


class SourceError(HaetaeError):
    """A video source cannot be opened or read (missing, not a video, no frames)."""


class BusError(HaetaeError):
    """A frame ring cannot be created, opened or used."""


class SegmentTooLarge(BusError):
    """/dev/shm has no room for the segment; raised instead of a later SIGBUS."""


class FrameGone(BusError):
    """The frame referred to was overwritten, or its ring belongs to another epoch."""


class WireError(HaetaeError):
    """A message cannot be sent, decoded or answered."""


class RequestTimeout(WireError):
    """No reply came within the time allowed."""


class RemoteError(WireError):
    """The other side answered with an error reply; `code` is its stable name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DatabaseError(HaetaeError):
    """The database cannot be opened, migrated or used."""


class ModelError(HaetaeError):
    """A model cannot be loaded: unknown type, wrong weights, no memory."""


class StateError(ModelError):
    """A normality state does not fit: another type, version or frame size."""
