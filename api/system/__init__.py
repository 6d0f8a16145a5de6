"""The system: health, processes, rings, logs, configuration."""

from api.system.routes import health_router, router

__all__ = ["health_router", "router"]
