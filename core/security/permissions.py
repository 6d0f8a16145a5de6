"""Who may do what: roles, scopes of API keys, and the cameras that somebody sees."""

import enum

import msgspec

from core.ids import CameraId

__all__ = ["Need", "Principal", "Role", "Scope"]


class Role(enum.StrEnum):
    """From least to most: look; acknowledge, start and stop; change everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


class Scope(enum.StrEnum):
    """What an API key may be used for; never more than its user may do."""

    CAMERAS_READ = "cameras:read"
    CAMERAS_WRITE = "cameras:write"
    EVENTS_READ = "events:read"
    EVENTS_WRITE = "events:write"
    MEDIA_READ = "media:read"
    """Pictures and clips, live and of events."""
    STATS_READ = "stats:read"
    NOTIFICATIONS_READ = "notifications:read"
    NOTIFICATIONS_WRITE = "notifications:write"
    SYSTEM_READ = "system:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"


class Need(msgspec.Struct, frozen=True):
    """What a route asks of whoever calls it. Without a scope it is for people: no API key will do, or any."""

    role: Role
    scope: Scope | None = None
    any_key: bool = False


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever is calling: a user, by password or by one of their API keys."""

    user_id: str
    name: str
    role: Role
    cameras: frozenset[CameraId] | None
    """Those that may be seen; None: all, those to come included."""
    scopes: frozenset[Scope] | None = None
    """Of an API key; None: a person."""
    session_id: str = ""
    key_id: str = ""

    def may(self, need: Need) -> bool:
        if self.scopes is not None and not need.any_key and need.scope not in self.scopes:
            return False
        return self.role.rank >= need.role.rank

    def sees(self, camera_id: str) -> bool:
        return self.cameras is None or camera_id in self.cameras

    def visible(self, wanted: tuple[CameraId, ...] | None) -> tuple[CameraId, ...] | None:
        """Of the cameras asked for (None: all), those that may be seen; None: all there are."""
        if self.cameras is None:
            return wanted
        return tuple(sorted(self.cameras if wanted is None else self.cameras & set(wanted)))

    @property
    def actor(self) -> str:
        """As the audit log names them."""
        return f"{self.name} (key {self.key_id})" if self.key_id else self.name
