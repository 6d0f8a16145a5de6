"""Who calls, and whether they may: asked before every handler; a route that does not say what it needs is closed."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog
from anyio import to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.problems import Refused
from api.services import Services, address_of
from core.db.accounts import get_user, visible_cameras
from core.db.keys import find_key, touch_key
from core.db.sessions import session_is_good
from core.errors import NotFound, TokenRefused
from core.security.permissions import Need, Principal, Role, Scope
from core.security.tokens import Claims, TokenKind, hash_token

__all__ = ["FREE", "MEDIA_COOKIE", "PUBLIC", "Principals", "authorise", "identify", "needs"]

log = structlog.get_logger()

PUBLIC = {"public": True}
FREE = {"public": True, "free": True}
"""Public, and however often: the files of the web page."""
MEDIA_COOKIE = "haetae_media"
"""An HttpOnly, SameSite=Strict cookie that reads pictures and clips: what <img> and <video> can send."""
KEY_PREFIX = "haetae_key_"
CACHED_S = 2.0
"""A change of role, grants or session is in force after so long."""
CACHED = 2_000
REFUSALS_S = 60.0
"""The same refusal is written to the audit log once in so long."""


def needs(role: Role, scope: Scope | None = None, *, media: bool = False, any_key: bool = False) -> dict[str, Any]:
    """For a route's `opt`: what it asks of its caller; `media` also takes the cookie for pictures."""
    return {"need": Need(role, scope, any_key), "media": media}


class Principals:
    """Who stands behind a token or key, remembered for `CACHED_S`; safe from several threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._known: OrderedDict[str, tuple[float, Principal | None]] = OrderedDict()
        self._lock = threading.Lock()
        self._touched: dict[str, float] = {}
        self.on_forget: Callable[[], object] | None = None
        """Called, in any thread, after a change of accounts."""

    def cached(self, mark: str) -> tuple[bool, Principal | None]:
        with self._lock:
            until, principal = self._known.get(mark, (0.0, None))
        return until > self._services.clock.monotonic(), principal

    def forget(self) -> None:
        """After a change of accounts: it is in force at once."""
        with self._lock:
            self._known.clear()
        if self.on_forget:
            self.on_forget()

    def _remember(self, mark: str, principal: Principal | None) -> None:
        with self._lock:
            self._known[mark] = self._services.clock.monotonic() + CACHED_S, principal
            if len(self._known) > CACHED:
                self._known.popitem(last=False)

    def of_claims(self, mark: str, claims: Claims) -> Principal | None:
        """None where the user is gone or switched off, the session over, or the token void."""
        principal = self._of_session(claims.user_id, claims.session_id, claims.token_version)
        self._remember(mark, principal)
        return principal

    def of_session(self, principal: Principal) -> Principal | None:
        """Whoever was let in once, as they are now; None where the session is over."""
        return self._of_session(principal.user_id, principal.session_id, None)

    def _of_session(self, user_id: str, session_id: str, token_version: int | None) -> Principal | None:
        with self._services.reader.connect() as connection:
            try:
                user = get_user(connection, user_id)
            except NotFound:
                return None
            void = token_version is not None and user.token_version != token_version
            if not user.enabled or void or not session_is_good(connection, session_id, self._services.now()):
                return None
            cameras = visible_cameras(connection, user)
        return Principal(user_id=user.id, name=user.name, role=user.role, cameras=cameras, session_id=session_id)

    def of_key(self, secret: str) -> Principal | None:
        """None where the key is unknown, revoked or over, or its user switched off."""
        mark = hash_token(secret)
        now = self._services.now()
        with self._services.reader.connect() as connection:
            found = find_key(connection, mark, now)
            principal = None
            if found and found[1].enabled:
                key, user = found
                cameras = visible_cameras(connection, user)
                if key.camera_ids is not None:
                    own = frozenset(key.camera_ids)
                    cameras = own if cameras is None else cameras & own
                principal = Principal(
                    user_id=user.id,
                    name=user.name,
                    role=user.role,
                    cameras=cameras,
                    scopes=frozenset(key.scopes),
                    key_id=key.id,
                )
        if principal:
            self._touch(principal.key_id, now)
        self._remember(mark, principal)
        return principal

    def _touch(self, key_id: str, now: str) -> None:
        at = self._services.clock.monotonic()
        if at - self._touched.get(key_id, -60.0) >= 60.0:
            self._touched[key_id] = at
            with self._services.writer.begin() as connection:
                touch_key(connection, key_id, now)


async def identify(connection: ASGIConnection[Any, Any, Any, Any], *, media: bool) -> Principal | None:
    """Whoever the Authorization header, or for media the cookie, names; None where there is neither.

    Raises Refused (401) for one that is not good.
    """
    services: Services = connection.app.state.services
    principals: Principals = connection.app.state.principals
    header = connection.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    kind = TokenKind.ACCESS
    if not header and media and MEDIA_COOKIE in connection.cookies:
        kind, token = TokenKind.MEDIA, connection.cookies[MEDIA_COOKIE]
    elif not header:
        return None
    elif scheme.lower() != "bearer" or not token.strip():
        raise Refused(401, "token_refused", "the Authorization header is not of the form: Bearer TOKEN")
    token = token.strip()
    if token.startswith(KEY_PREFIX):
        fresh, principal = principals.cached(hash_token(token))
        if not fresh:
            principal = await to_thread.run_sync(principals.of_key, token)
    else:
        try:
            claims = services.keys.read(kind, token)
        except TokenRefused as error:
            raise Refused(401, "token_refused", str(error)) from error
        mark = f"{claims.user_id} {claims.session_id} {claims.token_version}"
        fresh, principal = principals.cached(mark)
        if not fresh:
            principal = await to_thread.run_sync(principals.of_claims, mark, claims)
    if principal is None:
        raise Refused(401, "token_refused", "this token or key is not good any more")
    return principal


async def authorise(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar guard of the whole application. Raises Refused."""
    services: Services = connection.app.state.services
    public, need = handler.opt.get("public"), handler.opt.get("need")
    if public and handler.opt.get("free"):
        return
    if public:
        _limit(services.strangers.take(f"@{address_of(connection)}"))
        return
    try:
        principal = await identify(connection, media=bool(handler.opt.get("media")))
    except Refused:
        _limit(services.strangers.take(f"@{address_of(connection)}"))
        raise
    if principal is None:
        _limit(services.strangers.take(f"@{address_of(connection)}"))
        raise Refused(401, "not_logged_in", "log in first", hint="POST /api/v1/auth/login")
    connection.scope["user"] = principal
    _limit(services.limiter.take(principal.key_id or principal.user_id))
    if need is None or not principal.may(need):
        await _remember_refusal(connection, principal, services)
        raise Refused(403, "forbidden", _why(principal, need))


def _limit(wait_s: float) -> None:
    if wait_s > 0:
        raise Refused(
            429, "too_many_requests", "too many requests at once", headers={"Retry-After": str(max(1, round(wait_s)))}
        )


def _why(principal: Principal, need: Need | None) -> str:
    if need is None:
        return "this route is closed"
    if principal.role.rank < need.role.rank:
        return f"this needs the role {need.role}"
    if need.scope is None:
        return "an API key cannot do this: log in"
    return f"this key lacks the scope {need.scope}"


async def _remember_refusal(
    connection: ASGIConnection[Any, Any, Any, Any], principal: Principal, services: Services
) -> None:
    written: dict[str, float] = connection.app.state.refusals
    target = f"{connection.scope.get('method', 'WS')} {connection.url.path}"
    mark = f"{principal.actor} {target}"
    now = services.clock.monotonic()
    if now - written.get(mark, -REFUSALS_S) < REFUSALS_S:
        return
    if len(written) >= 1000:
        written.clear()
    written[mark] = now
    try:
        await to_thread.run_sync(services.audit_now, connection, "access.refused", target)
    except Exception:
        log.exception("refusal_not_audited", target=target)
