"""Events: found, looked at, acknowledged, exported."""

from api.events.routes import router

__all__ = ["router"]
