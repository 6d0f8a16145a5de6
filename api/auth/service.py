"""What logging in does, apart from HTTP: set-up token, passwords, second factors, tokens."""

import secrets
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from api.problems import Refused
from api.services import Call, Services, address_of, network_of
from core.clock import later_utc
from core.config import make_private_dir
from core.db.accounts import (
    Login,
    User,
    add_user,
    change_user,
    check_user_name,
    find_user,
    get_user,
    is_first,
    login_allowed,
    login_failed,
    login_succeeded,
    set_grants,
)
from core.db.keys import use_invitation
from core.db.sessions import RotatedTwice, create_session, revoke_sessions, rotate_refresh_token
from core.errors import TokenRefused
from core.rest.accounts import LoginIn, RegisterIn, Tokens
from core.security.passwords import check_new_password
from core.security.permissions import Role
from core.security.tokens import Claims, TokenKind, hash_token, new_token
from core.security.totp import accept_code, recovery_hash

__all__ = [
    "change_password",
    "check_own_password",
    "log_in",
    "media_token",
    "refresh",
    "register",
    "set_up_token",
    "tokens_for",
]

log = structlog.get_logger()

SET_UP_FILE = "setup.token"
DAY_S = 86_400.0
_first_account = threading.Lock()


def set_up_token(services: Services) -> str:
    """The token that makes the first account; "" once there is one. Made where there is none, in a file of ours."""
    path = _set_up_file(services)
    with services.reader.connect() as connection:
        needed = is_first(connection)
    if not needed:
        path.unlink(missing_ok=True)
        return ""
    if not path.exists():
        make_private_dir(path.parent)
        path.touch(0o600)
        path.write_text(new_token("setup"))
    return path.read_text().strip()


def _set_up_file(services: Services) -> Path:
    return services.config.secrets_dir / SET_UP_FILE


def register(services: Services, request: Call, data: RegisterIn) -> User:
    """The first account by the set-up token, an administrator; others as `api.registration` says."""
    password_hash = services.passwords.hash(check_new_password(data.password, check_user_name(data.name)))
    now = services.now()
    with _first_account, services.writer.begin() as connection:
        if is_first(connection):
            right = secrets.compare_digest(set_up_token(services), data.token)
            if not right or not data.token:
                raise Refused(
                    403,
                    "set_up_token_needed",
                    "the first account needs the set-up token",
                    hint="haetae up shows it; or: haetae user add NAME",
                )
            role, grants = Role.ADMIN, None
        elif data.token and services.config.api.registration != "closed":
            invitation = use_invitation(connection, hash_token(data.token), now)
            role, grants = invitation.role, invitation.grants
        elif services.config.api.registration == "open":
            role, grants = Role.VIEWER, None
        else:
            raise Refused(403, "registration_closed", "nobody can register here", hint="ask an administrator")
        user = add_user(
            connection,
            name=data.name,
            password_hash=password_hash,
            role=role,
            at=now,
            language=data.language,
            time_zone=services.config.site.time_zone,
        )
        if grants:
            set_grants(connection, user.id, grants, at=now)
        services.audit(connection, request, "user.registered", user.name, {"role": str(role)}, actor=user.name)
    _set_up_file(services).unlink(missing_ok=True)
    return user


def log_in(services: Services, request: Call, data: LoginIn) -> tuple[User, Tokens, str]:
    """The user, tokens without the refresh token, and that; raises Refused.

    What failed is committed before it is answered. A wrong name costs as much time as a wrong password, and is
    answered alike.
    """
    now, network = services.now(), network_of(address_of(request))
    with services.reader.connect() as connection:
        until = login_allowed(connection, data.name, network, now)
        found = find_user(connection, data.name)
    if until:
        raise _delayed(until, now)
    right = services.passwords.verify(found.password_hash if found else None, data.password)
    if not right or found is None or not found.user.enabled:
        _fail(services, request, data.name, network, now)
        raise Refused(401, "login_failed", "the name or the password is wrong")
    if found.totp_secret:
        _check_second_factor(services, request, found, data.code, network, now)
    return found.user, *_open_session(services, request, found, network, now, data.password)


def _delayed(until: str, now: str) -> Refused:
    wait_s = max(1, int(_seconds(until) - _seconds(now)) + 1)
    return Refused(429, "login_delayed", "too many failed logins: wait a little", headers={"Retry-After": str(wait_s)})


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _fail(services: Services, request: Call, name: str, network: str, now: str) -> None:
    with services.writer.begin() as connection:
        known = login_failed(connection, name, network, now)
        # People type their password where the name belongs: what is no name is not written down.
        services.audit(connection, request, "login.failed", known or "(unknown name)", actor="")


def _check_second_factor(services: Services, request: Call, found: Login, code: str, network: str, now: str) -> None:
    """Uses the code up; raises Refused where it is missing or wrong."""
    if not code:
        raise Refused(401, "second_factor_needed", "the second factor's code is missing")
    step = accept_code(
        services.box.open(found.totp_secret), code, now_s=services.clock.now().timestamp(), last_step=found.totp_step
    )
    hashed = recovery_hash(code)
    left = tuple(one for one in found.totp_recovery if one != hashed)
    if step is None and len(left) == len(found.totp_recovery):
        _fail(services, request, found.user.name, network, now)
        raise Refused(401, "second_factor_wrong", "the second factor's code is wrong, or was used")
    with services.writer.begin() as connection:
        again = find_user(connection, found.user.name)
        if again is None or (again.totp_step, again.totp_recovery) != (found.totp_step, found.totp_recovery):
            raise Refused(401, "second_factor_wrong", "the second factor's code was used")
        used: dict[str, Any] = {"totp_step": step} if step is not None else {"totp_recovery": list(left)}
        change_user(connection, found.user.id, at=now, **used)


def _open_session(
    services: Services, request: Call, found: Login, network: str, now: str, password: str
) -> tuple[Tokens, str]:
    refresh_token = new_token("haetae_refresh")
    rehashed = services.passwords.hash(password) if services.passwords.is_outdated(found.password_hash) else ""
    with services.writer.begin() as connection:
        login_succeeded(connection, found.user.id, network, now)
        session_id = create_session(
            connection,
            found.user.id,
            token_hash=hash_token(refresh_token),
            now=now,
            expires_at=later_utc(now, services.config.api.session_days * DAY_S),
            address=address_of(request),
            user_agent=request.headers.get("user-agent", ""),
        )
        if rehashed:
            change_user(connection, found.user.id, at=now, password_hash=rehashed)
        services.audit(connection, request, "login.succeeded", found.user.name, actor=found.user.name)
    return tokens_for(services, found.user, session_id), refresh_token


def tokens_for(services: Services, user: User, session_id: str) -> Tokens:
    """A fresh access token."""
    return Tokens(
        access_token=_sign(services, TokenKind.ACCESS, user, session_id),
        expires_in=int(services.config.api.access_minutes * 60),
    )


def media_token(services: Services, user: User, session_id: str) -> str:
    return _sign(services, TokenKind.MEDIA, user, session_id)


def _sign(services: Services, kind: TokenKind, user: User, session_id: str) -> str:
    return services.keys.sign(
        kind,
        Claims(user.id, session_id, user.token_version),
        now_s=services.clock.now().timestamp(),
        lifetime_s=services.config.api.access_minutes * 60,
    )


def refresh(services: Services, request: Call, token: str) -> tuple[User, Tokens, str]:
    """The next tokens; the one that was given is used up. Raises TokenRefused, Refused.

    A token that comes a second time revokes its session, and that is committed before it is answered.
    """
    fresh, now = new_token("haetae_refresh"), services.now()
    try:
        with services.writer.begin() as connection:
            rotated = rotate_refresh_token(
                connection,
                hash_token(token),
                hash_token(fresh),
                now=now,
                idle_s=services.config.api.session_idle_days * DAY_S,
            )
            user = get_user(connection, rotated.user_id)
            if rotated.reused:
                services.audit(connection, request, "session.reused", user.name, {"session": rotated.session_id})
    except RotatedTwice as error:
        raise Refused(409, "refreshed_already", str(error), hint="use the tokens of that answer") from error
    if rotated.reused or not user.enabled:
        log.warning("refresh_token_reused", user=user.name, session=rotated.session_id)
        raise TokenRefused("the session is over")
    return user, tokens_for(services, user, rotated.session_id), fresh


def check_own_password(services: Services, request: Call, name: str, password: str) -> None:
    """For what somebody must prove again who is logged in; raises Refused, and counts as a failed login does."""
    now, network = services.now(), network_of(address_of(request))
    with services.reader.connect() as connection:
        found = find_user(connection, name)
        until = login_allowed(connection, name, network, now)
    if until:
        raise _delayed(until, now)
    if not services.passwords.verify(found.password_hash if found else None, password):
        _fail(services, request, name, network, now)
        raise Refused(403, "password_wrong", "the password is wrong")


def change_password(services: Services, request: Call, user: User, current: str, new: str, session_id: str) -> None:
    """Ends all other sessions; raises Refused where the current one is wrong, ConfigError where the new one is weak."""
    check_own_password(services, request, user.name, current)
    hashed = services.passwords.hash(check_new_password(new, user.name))
    now = services.now()
    with services.writer.begin() as connection:
        change_user(connection, user.id, at=now, password_hash=hashed)
        revoke_sessions(connection, user.id, at=now, reason="password changed", but=session_id)
        services.audit(connection, request, "password.changed", user.name)
