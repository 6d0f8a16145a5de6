"""What is remembered of a camera besides its events: changes of its phase, and its scores second by second."""

import struct
from collections.abc import Sequence

import msgspec

from core.cameras.model import CameraPhase
from core.ids import CameraId, NodeId

__all__ = ["CameraStateChange", "ScoreMinute", "pack_scores", "unpack_scores"]


class CameraStateChange(msgspec.Struct, frozen=True, kw_only=True, tag="camera_state", tag_field="record"):
    """A camera came into another phase, and why; `at` is RFC 3339 UTC."""

    id: str
    camera_id: CameraId
    node_id: NodeId
    at: str
    phase: CameraPhase
    reason: str = ""


class ScoreMinute(msgspec.Struct, frozen=True, kw_only=True, tag="score_minute", tag_field="record"):
    """One minute (UTC, counted since 1970) of a camera: the highest score of each second.

    `seconds` is 60 float16, little-endian, NaN for a second that was not watched. `up_s` counts the seconds in which
    pictures came, `watched_s` those of them that were judged by a learned state. Minutes of which a part is
    known come again when more is; the one with the higher `up_s` holds.
    """

    camera_id: CameraId
    node_id: NodeId
    minute: int
    up_s: int
    watched_s: int
    seconds: bytes


def pack_scores(scores: Sequence[float]) -> bytes:
    """60 scores, NaN for those that are not known, as float16."""
    return struct.pack("<60e", *scores)


def unpack_scores(seconds: bytes) -> list[float]:
    """The 60 scores again; raises ValueError where it is anything else."""
    try:
        return list(struct.unpack("<60e", seconds))
    except struct.error as error:
        raise ValueError(f"a minute of scores is 120 bytes, not {len(seconds)}") from error
