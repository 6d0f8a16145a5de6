"""What is remembered of a camera besides its events: changes of its phase, and its scores second by second."""

import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from core.cameras.model import CameraPhase, Light
from core.ids import CameraId, NodeId

__all__ = [
    "CameraStateChange",
    "HistoryRecord",
    "NormalityVersion",
    "ScoreMinute",
    "pack_scores",
    "unpack_scores",
]


class CameraStateChange(msgspec.Struct, frozen=True, kw_only=True, tag="camera_state", tag_field="record"):
    """A camera came into another phase, and why; `at` is RFC 3339 UTC."""

    id: str
    camera_id: CameraId
    node_id: NodeId
    at: str
    phase: CameraPhase
    reason: str = ""


class NormalityVersion(msgspec.Struct, frozen=True, kw_only=True, tag="normality", tag_field="record"):
    """A camera learned anew what is normal; `file` lies beneath the states folder of its node."""

    camera_id: CameraId
    vad_type: str
    version: int
    node_id: NodeId
    created_at: str
    learned_s: float
    frames: int
    reason: str
    """Why: "learned", or what was asked for."""
    file: str
    sha256: str
    light: Light = Light.DAY
    """Which of the camera's two states it is a version of."""


class ScoreMinute(msgspec.Struct, frozen=True, kw_only=True, tag="score_minute", tag_field="record"):
    """One minute (UTC, counted since 1970) of a camera, or what one process saw of it: parts are laid together.

    Bit n of `up` says that pictures came in second n. `seconds` is 60 float16, little-endian: the highest score of each
    second, NaN where none was judged by a learned state.
    """

    camera_id: CameraId
    node_id: NodeId
    minute: int
    up: Annotated[int, Meta(ge=0, lt=1 << 60)]
    seconds: Annotated[bytes, Meta(min_length=120, max_length=120)]


HistoryRecord = CameraStateChange | NormalityVersion | ScoreMinute


def pack_scores(scores: Sequence[float]) -> bytes:
    """60 scores, NaN for those that are not known, as float16."""
    return struct.pack("<60e", *scores)


def unpack_scores(seconds: bytes) -> list[float]:
    """The 60 scores again."""
    return list(struct.unpack("<60e", seconds))
