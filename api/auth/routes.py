"""Routes under /auth: what a person needs before and around everything else."""

from typing import Any
from zoneinfo import available_timezones

from litestar import Response, Router, delete, get, patch, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, structs

from api.auth.service import change_password, check_own_password, log_in, media_token, refresh, register
from api.guard import MEDIA_COOKIE, PUBLIC, Principals, needs
from api.problems import Refused, documented
from api.services import Call, Services, caller
from core.db.accounts import User, change_user, find_user, get_user, grants_of, is_first
from core.db.notifications import list_channels
from core.db.push import add_subscription, forget_oldest, remove_subscription, subscriptions_of
from core.db.sessions import revoke_session, revoke_sessions, sessions_of
from core.errors import ConfigError
from core.notifications.vapid import VapidKey
from core.rest.accounts import (
    Browser,
    Browsers,
    ChangeMe,
    ChangePassword,
    LoginIn,
    Me,
    RecoveryCodes,
    RefreshIn,
    RegisterIn,
    SecondFactorCode,
    SecondFactorSetUp,
    Session,
    SetUpState,
    Subscription,
    Ticket,
    Tokens,
    UserOut,
)
from core.rest.base import Uuid
from core.security.permissions import Principal, Role
from core.security.tokens import TokenKind
from core.security.totp import accept_code, new_recovery_codes, new_secret, provisioning_uri, recovery_hash
from core.version import VERSION

__all__ = ["router"]

REFRESH_COOKIE = "haetae_refresh"
REFRESH_PATH = "/api/v1/auth"
MEDIA_PATH = "/api/v1"
MOST_BROWSERS = 20
"""In which a user may be told; the oldest makes room."""


def _cookies(services: Services, request: Call, user: User, session_id: str, token: str) -> list[Cookie]:
    """The refresh token for this browser, and the token that its <img> and <video> send."""
    secure = request.url.scheme == "https"
    api = services.config.api
    common: dict[str, Any] = {"httponly": True, "secure": secure, "samesite": "strict"}
    media = media_token(services, user, session_id)
    return [
        Cookie(REFRESH_COOKIE, REFRESH_PATH, token, int(api.session_idle_days * 86_400), **common),
        Cookie(MEDIA_COOKIE, MEDIA_PATH, media, int(api.access_minutes * 60), **common),
    ]


def _no_cookies() -> list[Cookie]:
    return [Cookie(name, path, "", 0) for name, path in ((REFRESH_COOKIE, REFRESH_PATH), (MEDIA_COOKIE, MEDIA_PATH))]


def _check_origin(services: Services, request: Call) -> None:
    """A cookie comes by itself, also when another site's page asks: that one says where it is from."""
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin and origin != own and origin not in services.config.api.origins:
        raise Refused(403, "foreign_origin", "this page may not use the session of another one")


@get("/state", opt=PUBLIC, sync_to_thread=True, responses=documented(), operation_id="getSetUpState")
def set_up_state(services: NamedDependency[Services]) -> SetUpState:
    """Whether the first account is still to be made; needs no login."""
    with services.reader.connect() as connection:
        first = is_first(connection)
    return SetUpState(needs_first_account=first, registration=services.config.api.registration, version=VERSION)


@post("/register", opt=PUBLIC, sync_to_thread=True, responses=documented(409), operation_id="register")
def register_account(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    data: JSONBody[RegisterIn],
) -> UserOut:
    """Makes an account: the first with the set-up token, later ones by invitation, or freely where that is allowed."""
    user = register(services, request, data)
    principals.forget()
    with services.reader.connect() as connection:
        return UserOut.of(user, grants_of(connection, user.id))


@post("/login", opt=PUBLIC, sync_to_thread=True, status_code=200, responses=documented(), operation_id="logIn")
def log_in_account(services: NamedDependency[Services], request: Call, data: JSONBody[LoginIn]) -> Response[Tokens]:
    """Tokens for a name and a password, and a second factor's code where there is one.

    After three failures each further one delays the next try, for the name and for the network; see Retry-After.
    """
    if data.cookie:
        _check_origin(services, request)
    user, tokens, token = log_in(services, request, data)
    session_id = services.keys.read(TokenKind.ACCESS, tokens.access_token).session_id
    if data.cookie:
        return Response(tokens, cookies=_cookies(services, request, user, session_id, token))
    return Response(structs.replace(tokens, refresh_token=token))


@post("/refresh", opt=PUBLIC, sync_to_thread=True, status_code=200, responses=documented(409), operation_id="refresh")
def refresh_tokens(services: NamedDependency[Services], request: Call, data: JSONBody[RefreshIn]) -> Response[Tokens]:
    """The next tokens. A refresh token is good once: the second use ends the session."""
    from_cookie = not data.refresh_token
    token = data.refresh_token or request.cookies.get(REFRESH_COOKIE, "")
    if from_cookie:
        _check_origin(services, request)
    if not token:
        raise Refused(401, "not_logged_in", "there is no refresh token")
    user, tokens, fresh = refresh(services, request, token)
    session_id = services.keys.read(TokenKind.ACCESS, tokens.access_token).session_id
    if from_cookie:
        return Response(tokens, cookies=_cookies(services, request, user, session_id, fresh))
    return Response(structs.replace(tokens, refresh_token=fresh))


@post(
    "/logout",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    status_code=204,
    responses=documented(404),
    operation_id="logOut",
)
def log_out(
    services: NamedDependency[Services], principals: NamedDependency[Principals], request: Call
) -> Response[None]:
    """Ends this session."""
    principal = caller(request)
    with services.writer.begin() as connection:
        revoke_session(connection, principal.user_id, principal.session_id, at=services.now(), reason="logged out")
        services.audit(connection, request, "logged.out", principal.name)
    principals.forget()
    return Response(None, status_code=204, cookies=_no_cookies())


@post(
    "/password",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    status_code=204,
    responses=documented(),
    operation_id="changePassword",
)
def change_own_password(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    data: JSONBody[ChangePassword],
) -> None:
    """Changes the password; all other sessions end."""
    principal = caller(request)
    with services.reader.connect() as connection:
        user = get_user(connection, principal.user_id)
    change_password(services, request, user, data.current, data.new, principal.session_id)
    principals.forget()


@get(
    "/me",
    opt=needs(Role.VIEWER, any_key=True),
    sync_to_thread=True,
    responses=documented(),
    operation_id="getMe",
)
def get_me(services: NamedDependency[Services], request: Call) -> Me:
    """Who is asking, and what they may see and do."""
    return _me(services, caller(request))


@patch("/me", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="changeMe")
def change_me(services: NamedDependency[Services], request: Call, data: JSONBody[ChangeMe]) -> Me:
    """Language, time zone, and what the page remembers."""
    values = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
    if values.get("time_zone") and values["time_zone"] not in available_timezones():
        raise ConfigError(f"not a time zone: {values['time_zone']!r}", "use an IANA name such as Asia/Seoul")
    principal = caller(request)
    if values:
        with services.writer.begin() as connection:
            change_user(connection, principal.user_id, at=services.now(), **values)
    return _me(services, principal)


def _me(services: Services, principal: Principal) -> Me:
    with services.reader.connect() as connection:
        user = get_user(connection, principal.user_id)
    return Me(
        id=user.id,
        name=user.name,
        role=user.role,
        language=user.language,
        time_zone=user.time_zone or services.config.site.time_zone,
        preferences=user.preferences,
        second_factor=user.second_factor,
        cameras=sorted(principal.cameras) if principal.cameras is not None else None,
        scopes=sorted(principal.scopes) if principal.scopes is not None else None,
    )


@get("/sessions", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="listSessions")
def list_sessions(services: NamedDependency[Services], request: Call) -> list[Session]:
    """Where this user is logged in."""
    return sessions_of(services.reader, caller(request).user_id, services.now())


@delete(
    "/sessions/{session_id:str}",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    responses=documented(404),
    operation_id="endSession",
)
def end_session(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    session_id: FromPath[Uuid],
) -> None:
    """Logs one device out."""
    principal = caller(request)
    with services.writer.begin() as connection:
        revoke_session(connection, principal.user_id, session_id, at=services.now(), reason="ended by its user")
        services.audit(connection, request, "session.ended", session_id)
    principals.forget()


@delete("/sessions", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="endSessions")
def end_sessions(services: NamedDependency[Services], principals: NamedDependency[Principals], request: Call) -> None:
    """Logs all other devices out."""
    principal = caller(request)
    with services.writer.begin() as connection:
        revoke_sessions(
            connection, principal.user_id, at=services.now(), reason="ended by its user", but=principal.session_id
        )
        services.audit(connection, request, "sessions.ended", principal.name)
    principals.forget()


@post("/ticket", opt=needs(Role.VIEWER), sync_to_thread=False, responses=documented(), operation_id="getTicket")
def get_ticket(services: NamedDependency[Services], request: Call) -> Ticket:
    """A ticket to open one WebSocket with: its first message."""
    return Ticket(ticket=services.tickets.issue(caller(request)), expires_in=30)


# ---- being told in a browser (Web Push)


@get("/browsers", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="listBrowsers")
def list_browsers(services: NamedDependency[Services], request: Call) -> Browsers:
    """The browsers in which this user is told of alarms, and the key with which one more asks."""
    with services.reader.connect() as connection:
        found = subscriptions_of(connection, caller(request).user_id)
    return Browsers(
        public_key=VapidKey(services.config.secrets_dir).public,
        served=any(one.enabled and one.kind == "webpush" for one in list_channels(services.reader)),
        browsers=[Browser(id=key, created_at=at) for key, at in found],
    )


@post("/browsers", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="addBrowser")
def add_browser(services: NamedDependency[Services], request: Call, data: JSONBody[Subscription]) -> Browser:
    """Tells this user in one more browser, of cameras that may be seen; whoever was told in it before is no more."""
    principal, at = caller(request), services.now()
    with services.writer.begin() as connection:
        key = add_subscription(
            connection, services.box, principal.user_id, data, session_id=principal.session_id, at=at
        )
        forget_oldest(connection, principal.user_id, MOST_BROWSERS)
        services.audit(connection, request, "browser.added", key)
    return Browser(id=key, created_at=at)


@delete(
    "/browsers/{browser_id:str}",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    responses=documented(404),
    operation_id="removeBrowser",
)
def remove_browser(services: NamedDependency[Services], request: Call, browser_id: FromPath[Uuid]) -> None:
    """Nothing more is told in this browser."""
    with services.writer.begin() as connection:
        if not remove_subscription(connection, browser_id, user_id=caller(request).user_id):
            raise Refused(404, "not_found", "you are not told in such a browser")
        services.audit(connection, request, "browser.removed", browser_id)


# ---- second factor


@post(
    "/second-factor",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    responses=documented(409),
    operation_id="beginSecondFactor",
)
def begin_second_factor(services: NamedDependency[Services], request: Call) -> SecondFactorSetUp:
    """A secret for an authenticator app; nothing changes until a code of it is confirmed."""
    principal = caller(request)
    with services.reader.connect() as connection:
        user = get_user(connection, principal.user_id)
    if user.second_factor:
        raise Refused(409, "conflict", "there is a second factor already", hint="remove it first")
    secret = new_secret()
    services.pending_factors[user.id] = secret
    return SecondFactorSetUp(secret=secret, uri=provisioning_uri(secret, user.name))


@post(
    "/second-factor/confirm",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    status_code=200,
    responses=documented(409),
    operation_id="confirmSecondFactor",
)
def confirm_second_factor(
    services: NamedDependency[Services], request: Call, data: JSONBody[SecondFactorCode]
) -> RecoveryCodes:
    """Puts the second factor in force; returns recovery codes, this once."""
    principal = caller(request)
    secret = services.pending_factors.get(principal.user_id)
    if secret is None:
        raise Refused(409, "conflict", "ask for a secret first", hint="POST /api/v1/auth/second-factor")
    check_own_password(services, request, principal.name, data.password)
    step = accept_code(secret, data.code, now_s=services.clock.now().timestamp(), last_step=0)
    if step is None:
        raise Refused(400, "second_factor_wrong", "the code is wrong: is the clock of the app right?")
    codes = new_recovery_codes()
    with services.writer.begin() as connection:
        change_user(
            connection,
            principal.user_id,
            at=services.now(),
            totp_secret=services.box.seal(secret),
            totp_step=step,
            totp_recovery=[recovery_hash(code) for code in codes],
        )
        services.audit(connection, request, "second_factor.added", principal.name)
    services.pending_factors.pop(principal.user_id, None)
    return RecoveryCodes(codes=codes)


@post(
    "/second-factor/remove",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    status_code=204,
    responses=documented(),
    operation_id="removeSecondFactor",
)
def remove_second_factor(services: NamedDependency[Services], request: Call, data: JSONBody[SecondFactorCode]) -> None:
    """Takes the second factor away; needs the password and a code."""
    principal = caller(request)
    check_own_password(services, request, principal.name, data.password)
    with services.reader.connect() as connection:
        found = find_user(connection, principal.name)
    now_s = services.clock.now().timestamp()
    if found and found.totp_secret:
        secret = services.box.open(found.totp_secret)
        wrong = accept_code(secret, data.code, now_s=now_s, last_step=found.totp_step) is None
        if wrong and recovery_hash(data.code) not in found.totp_recovery:
            raise Refused(400, "second_factor_wrong", "the code is wrong, or was used")
    with services.writer.begin() as connection:
        change_user(connection, principal.user_id, at=services.now(), totp_secret="", totp_recovery=[])
        services.audit(connection, request, "second_factor.removed", principal.name)


router = Router(
    "/auth",
    tags=["auth"],
    route_handlers=[
        set_up_state,
        register_account,
        log_in_account,
        refresh_tokens,
        log_out,
        change_own_password,
        get_me,
        change_me,
        list_sessions,
        end_session,
        end_sessions,
        get_ticket,
        list_browsers,
        add_browser,
        remove_browser,
        begin_second_factor,
        confirm_second_factor,
        remove_second_factor,
    ],
)
