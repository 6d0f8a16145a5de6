"""Cameras: desired and observed state, zones, groups, pictures."""

from api.cameras.routes import router

__all__ = ["router"]
