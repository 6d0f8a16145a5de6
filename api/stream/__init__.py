"""Live: the sockets for events and frames, and pictures for other programs."""

from api.stream.routes import router, socket_router

__all__ = ["router", "socket_router"]
