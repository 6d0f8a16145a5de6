"""Users, what they may see, API keys, invitations, groups of cameras, and the audit log."""

from api.users.routes import router

__all__ = ["router"]
