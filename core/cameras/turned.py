"""What is known of a camera that Haetae turned: files by which its process and who turns it by hand tell each other."""

from pathlib import Path

from core.config import Config
from core.ids import CameraId

__all__ = ["by_hand_file", "note_turned_by_hand", "way_back_file"]


def way_back_file(config: Config, camera_id: CameraId) -> Path:
    """Names the preset that a camera is to be turned back to; there while it is turned for an event."""
    return config.data_dir / "turned" / camera_id


def by_hand_file(config: Config, camera_id: CameraId) -> Path:
    """As old as the last time that somebody turned the camera through Haetae."""
    return config.data_dir / "turned" / f"{camera_id}.hand"


def note_turned_by_hand(config: Config, camera_id: CameraId) -> None:
    """Tells the camera's process, before it is done, that a new view is no tampering. Raises OSError."""
    file = by_hand_file(config, camera_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
