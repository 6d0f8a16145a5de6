"""What a camera is: its configuration (desired), its status (observed), its zones, and how its URL is read."""

from core.cameras.model import CameraConfig, CameraPhase, CameraSettings, CameraStatus, Light, Transport, normality_id
from core.cameras.zones import Weekly, Zone, ZoneKind

__all__ = [
    "CameraConfig",
    "CameraPhase",
    "CameraSettings",
    "CameraStatus",
    "Light",
    "Transport",
    "Weekly",
    "Zone",
    "ZoneKind",
    "normality_id",
]
