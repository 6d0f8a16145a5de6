"""Incidents to be judged, with pictures."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from core.events.evidence import Evidence, FrameRole, KeyFrame, Scene, Track
from tests.events import make_event
from workers.inference.vlm import Incident

__all__ = ["make_incident", "make_track", "written_frame"]


def written_frame(media: Path, text: str = "", role: FrameRole = FrameRole.PEAK, at_s: float = 0.5) -> KeyFrame:
    """A JPEG in the media folder, with `text` rendered on it as on a sign."""
    picture = np.full((180, 320, 3), 120, np.uint8)
    cv2.rectangle(picture, (40 + round(20 * at_s), 60), (80, 170), (30, 60, 90), -1)
    for number, line in enumerate(text.splitlines()):
        cv2.putText(picture, line, (8, 24 + 20 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    file = f"gate/{sha256[:16]}.jpg"
    (media / file).parent.mkdir(parents=True, exist_ok=True)
    (media / file).write_bytes(data)
    return KeyFrame(role=role, at_s=at_s, file=file, sha256=sha256, width=320, height=180)


def make_track(**changes: Any) -> Track:
    track = Track(
        age_s=5, x=0.5, y=0.8, width=0.05, height=0.2, speed=0.8, heading=90, travelled=0.3, dwell_s=2, still_s=0
    )
    return msgspec.structs.replace(track, **changes)


def make_incident(*frames: KeyFrame, evidence: Evidence | None = None, **changes: Any) -> Incident:
    event = make_event(**{"reason": "2.0 x the usual speed here", **changes})
    found = evidence or Evidence(
        duration_s=2.0,
        scene=Scene(usual_speed=0.8, usual_spread=0.05, count_peak=2),
        tracks=(make_track(),),
    )
    return Incident(event=event, evidence=msgspec.structs.replace(found, frames=frames))
