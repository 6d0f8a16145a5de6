"""Identifiers: what they look like and how they are made."""

import os
import re
import threading
import time
import uuid
from typing import NewType

from core.errors import ConfigError

__all__ = ["CameraId", "EventId", "NodeId", "camera_id_from_name", "check_camera_id", "night_id", "uuid7", "uuid_text"]

CameraId = NewType("CameraId", str)
EventId = NewType("EventId", str)
NodeId = NewType("NodeId", str)

_CAMERA_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7), strictly increasing within a process.

    The 12 bits after the millisecond hold its fraction (method 3 of section 6.2).
    """
    global _last
    with _lock:
        stamp = time.time_ns() * 4096 // 1_000_000
        _last = stamp = max(stamp, _last + 1)
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62
    return uuid.UUID(int=value | int.from_bytes(os.urandom(8)) >> 2)


def check_camera_id(text: str) -> CameraId:
    """`text` as a camera id; raises ConfigError unless it is safe in file names, sockets and URLs."""
    if not _CAMERA_ID.fullmatch(text):
        raise ConfigError(
            f"not a camera name: {text[:80]!r}",
            "use 1 to 63 of a-z, 0-9, '_' and '-', beginning with a letter or a digit",
        )
    return CameraId(text)


def camera_id_from_name(name: str) -> CameraId:
    """A camera id made from any text, such as a file's name: 'Gate 1.mp4' -> 'gate-1-mp4'."""
    return CameraId(re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:63] or "camera")


def night_id(camera_id: CameraId) -> str:
    """Under which a camera's infra-red pictures have their state, threshold and evidence, beside those of its day."""
    return f"{camera_id[:56]}--night"


def uuid_text(text: str) -> str:
    """`text` where it is a UUID as we write them, else the nil UUID, which nothing has; PostgreSQL refuses the rest."""
    return text if _UUID.fullmatch(text) else str(uuid.UUID(int=0))
