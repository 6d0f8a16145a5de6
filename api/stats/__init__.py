"""Statistics: counts and trends."""

from api.stats.routes import router

__all__ = ["router"]
