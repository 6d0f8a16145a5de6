"""Notifications: channels, rules, and what was delivered."""

from api.notifications.routes import router

__all__ = ["router"]
