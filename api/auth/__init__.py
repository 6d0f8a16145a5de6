"""Logging in: accounts, sessions, second factors."""

from api.auth.routes import router

__all__ = ["router"]
