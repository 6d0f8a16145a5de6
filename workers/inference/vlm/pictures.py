"""The key frames that a model is shown: which, in which order, and whether they are still what was kept."""

import hashlib
from pathlib import Path

import msgspec

from core.events.evidence import FrameRole, KeyFrame
from workers.inference.vlm.base import Incident, Question

__all__ = ["Picture", "chosen_pictures", "fewer"]

_FIRST = {FrameRole.PEAK: 0, FrameRole.BASELINE: 1, FrameRole.ONSET: 2, FrameRole.AFTER: 3}


class Picture(msgspec.Struct, frozen=True):
    """A key frame and its JPEG."""

    frame: KeyFrame
    data: bytes

    @property
    def sha256(self) -> str:
        return self.frame.sha256


def chosen_pictures(media_dir: Path, incident: Incident, question: Question, most: int, room: int) -> list[Picture]:
    """At most `most` key frames of `room` bytes together, those that say most; in order of time, the crop last.

    Files that changed or went are left out.
    """
    wanted = [one for one in incident.evidence.frames if one.role is not FrameRole.CROP]
    crops = [one for one in incident.evidence.frames if one.role is FrameRole.CROP]
    chosen = sorted(wanted, key=lambda one: _FIRST.get(one.role, 4))[:most]
    if crops and most > 1 and (question.crop or len(chosen) < most):
        chosen = [*chosen[: most - 1], crops[0]]
    found: list[Picture] = []
    for frame in chosen:
        data = _read(media_dir, frame)
        if data is not None and len(data) <= room:
            room -= len(data)
            found.append(Picture(frame, data))
    return sorted(found, key=lambda one: (one.frame.role is FrameRole.CROP, one.frame.at_s))


def fewer(pictures: list[Picture]) -> list[Picture]:
    """About half of them; one at least."""
    return pictures[::2] if len(pictures) > 2 else pictures[:1]


def _read(media_dir: Path, frame: KeyFrame) -> bytes | None:
    path = (media_dir / frame.file).resolve()
    if not path.is_relative_to(media_dir):
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == frame.sha256 else None
