"""What a camera is: its configuration (desired), its status (observed), and how its URL is read."""

from core.cameras.model import CameraConfig, CameraPhase, CameraStatus

__all__ = ["CameraConfig", "CameraPhase", "CameraStatus"]
