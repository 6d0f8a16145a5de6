"""Users in the database: who they are, what they may see, and how often a login failed.

Whoever changes something hands in the connection of its transaction; each reader takes an engine.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.clock import later_utc
from core.db.engine import upsert
from core.db.sessions import revoke_sessions
from core.db.tables import CameraGrantRow, CameraGroupMemberRow, CameraGroupRow, CameraRow, LoginDelayRow, UserRow
from core.errors import ConfigError, Conflict, NotFound
from core.ids import CameraId, uuid7
from core.security.permissions import Role

__all__ = [
    "Grants",
    "Login",
    "User",
    "add_user",
    "change_user",
    "check_known",
    "check_user_name",
    "find_user",
    "get_user",
    "grants_of",
    "is_first",
    "list_users",
    "login_allowed",
    "login_failed",
    "login_succeeded",
    "remove_user",
    "set_grants",
    "visible_cameras",
]

DELAY_FREE = 3
"""Failed logins that cost nothing: people mistype."""
DELAY_MAX_S = 900.0


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account, without what it logs in with."""

    id: str
    name: str
    role: Role
    all_cameras: bool
    enabled: bool
    token_version: int
    language: str
    time_zone: str
    preferences: dict[str, Any]
    second_factor: bool
    created_at: str
    last_login_at: str | None


class Grants(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody sees: all cameras, or these and those of these groups."""

    all_cameras: bool = False
    cameras: tuple[CameraId, ...] = ()
    groups: tuple[str, ...] = ()


def check_user_name(name: str) -> str:
    """The name as it is stored: NFKC, lower case; raises ConfigError for what cannot be one."""
    plain = unicodedata.normalize("NFKC", name).strip().casefold()
    if not 2 <= len(plain) <= 64 or not all(sign.isalnum() or sign in "._@+-" for sign in plain):
        raise ConfigError(f"not a user name: {name[:80]!r}", "2 to 64 letters, digits and . _ @ + -")
    return plain


_USER = (
    UserRow.id,
    UserRow.name,
    UserRow.role,
    UserRow.all_cameras,
    UserRow.enabled,
    UserRow.token_version,
    UserRow.language,
    UserRow.time_zone,
    UserRow.preferences,
    (UserRow.totp_secret != "").label("second_factor"),
    UserRow.created_at,
    UserRow.last_login_at,
)


def _user(row: Any) -> User:
    return msgspec.convert(dict(row), User, strict=False)


def is_first(connection: Connection) -> bool:
    """Whether there is no account yet."""
    return connection.execute(select(UserRow.id).limit(1)).first() is None


def list_users(engine: Engine) -> list[User]:
    with engine.connect() as connection:
        return [_user(row) for row in connection.execute(select(*_USER).order_by(UserRow.name)).mappings()]


def get_user(connection: Connection, user_id: str) -> User:
    """Raises NotFound."""
    row = connection.execute(select(*_USER).where(UserRow.id == user_id)).mappings().first()
    if row is None:
        raise NotFound("there is no such user")
    return _user(row)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What a login is checked against."""

    user: User
    password_hash: str
    totp_secret: str
    totp_step: int
    totp_recovery: tuple[str, ...]


def find_user(connection: Connection, name: str) -> Login | None:
    """By name, as it was typed."""
    try:
        plain = check_user_name(name)
    except ConfigError:
        return None
    more = (UserRow.password_hash, UserRow.totp_secret, UserRow.totp_step, UserRow.totp_recovery)
    row = connection.execute(select(*_USER, *more).where(UserRow.name == plain)).mappings().first()
    if row is None:
        return None
    return Login(
        user=_user({name: row[name] for name in User.__struct_fields__}),
        password_hash=row["password_hash"],
        totp_secret=row["totp_secret"],
        totp_step=row["totp_step"],
        totp_recovery=tuple(row["totp_recovery"]),
    )


def add_user(
    connection: Connection,
    *,
    name: str,
    password_hash: str,
    role: Role,
    at: str,
    language: str = "en",
    time_zone: str = "",
) -> User:
    """Raises ConfigError for a name that cannot be one, Conflict for one that is taken."""
    user_id = str(uuid7())
    values: dict[str, Any] = {
        "id": user_id,
        "name": check_user_name(name),
        "password_hash": password_hash,
        "role": str(role),
        "enabled": True,
        "token_version": 1,
        "language": language,
        "time_zone": time_zone,
        "preferences": {},
        "totp_recovery": [],
        "failed_logins": 0,
        "login_after": None,
        "created_at": at,
        "updated_at": at,
        "last_login_at": None,
    }
    try:
        with connection.begin_nested():
            connection.execute(insert(UserRow).values(**values))
    except IntegrityError as error:
        raise Conflict(f"there is a user {values['name']!r} already") from error
    return get_user(connection, user_id)


def change_user(connection: Connection, user_id: str, *, at: str, revoke: bool = False, **values: Any) -> User:
    """Sets columns of a user; `revoke` makes void every token that they hold. Raises NotFound.

    Raises Conflict where no enabled administrator would be left.
    """
    if revoke:
        values["token_version"] = UserRow.token_version + 1
    done = connection.execute(update(UserRow).where(UserRow.id == user_id).values(updated_at=at, **values))
    if not done.rowcount:
        raise NotFound("there is no such user")
    if revoke:
        revoke_sessions(connection, user_id, at=at, reason="account changed")
    if values.keys() & {"role", "enabled"}:
        _keep_an_admin(connection)
    return get_user(connection, user_id)


def remove_user(connection: Connection, user_id: str) -> None:
    """Raises NotFound; Conflict for the last administrator."""
    if not connection.execute(delete(UserRow).where(UserRow.id == user_id)).rowcount:
        raise NotFound("there is no such user")
    _keep_an_admin(connection)


def _keep_an_admin(connection: Connection) -> None:
    left = select(UserRow.id).where(UserRow.role == str(Role.ADMIN), UserRow.enabled.is_(True)).limit(1)
    if connection.execute(left).first() is None:
        raise Conflict("nobody could administer Haetae any more", "make somebody else an administrator first")


# ---- what they see


def grants_of(connection: Connection, user_id: str) -> Grants:
    rows = connection.execute(
        select(CameraGrantRow.camera_id, CameraGrantRow.group_id).where(CameraGrantRow.user_id == user_id)
    ).all()
    everything = connection.execute(select(UserRow.all_cameras).where(UserRow.id == user_id)).scalar()
    return Grants(
        all_cameras=bool(everything),
        cameras=tuple(sorted(CameraId(row.camera_id) for row in rows if row.camera_id)),
        groups=tuple(sorted(row.group_id for row in rows if row.group_id)),
    )


def set_grants(connection: Connection, user_id: str, grants: Grants, *, at: str) -> None:
    """Raises NotFound for a user, camera or group that is not there."""
    check_known(connection, grants)
    change_user(connection, user_id, at=at, all_cameras=grants.all_cameras)
    connection.execute(delete(CameraGrantRow).where(CameraGrantRow.user_id == user_id))
    rows = [{"camera_id": one, "group_id": None} for one in sorted(set(grants.cameras))]
    rows += [{"camera_id": None, "group_id": one} for one in sorted(set(grants.groups))]
    if rows:
        connection.execute(insert(CameraGrantRow), [{"id": str(uuid7()), "user_id": user_id, **one} for one in rows])


def check_known(connection: Connection, grants: Grants) -> None:
    """Raises NotFound for a camera or group that is not there."""
    given: tuple[tuple[Any, Sequence[str], str], ...] = (
        (CameraRow.camera_id, grants.cameras, "camera"),
        (CameraGroupRow.id, grants.groups, "group"),
    )
    for column, wanted, what in given:
        known = set(connection.execute(select(column).where(column.in_(wanted))).scalars()) if wanted else set[str]()
        for one in wanted:
            if one not in known:
                raise NotFound(f"there is no {what} {one!r}")


def visible_cameras(connection: Connection, user: User) -> frozenset[CameraId] | None:
    """None: all. Administrators see all; whoever may change who sees what could grant it to themselves."""
    if user.all_cameras or user.role is Role.ADMIN:
        return None
    own = select(CameraGrantRow.camera_id).where(
        CameraGrantRow.user_id == user.id, CameraGrantRow.camera_id.is_not(None)
    )
    grouped = (
        select(CameraGroupMemberRow.camera_id)
        .join(CameraGrantRow, CameraGrantRow.group_id == CameraGroupMemberRow.group_id)
        .where(CameraGrantRow.user_id == user.id)
    )
    return frozenset(CameraId(one) for one in connection.execute(own.union(grouped)).scalars() if one)


# ---- logging in


def login_allowed(connection: Connection, name: str, network: str, now: str) -> str | None:
    """Until when no login is tried, for this name or from this network; None: now is fine."""
    until = connection.execute(select(LoginDelayRow.login_after).where(LoginDelayRow.network == network)).scalar()
    found = find_user(connection, name)
    own = None
    if found:
        own = connection.execute(select(UserRow.login_after).where(UserRow.id == found.user.id)).scalar()
    delays: list[str] = [one for one in (until, own) if one and one > now]
    return max(delays, default=None)


def _delayed(now: str, failed: int) -> str:
    """1 s after the fourth failure, doubling up to 15 minutes; never for ever: that would lock the owner out."""
    from_now = min(DELAY_MAX_S, 2.0 ** min(failed - DELAY_FREE - 1, 20)) if failed > DELAY_FREE else 0.0
    return later_utc(now, from_now)


def login_failed(connection: Connection, name: str, network: str, now: str) -> str | None:
    """Counts a failure against the name, which it returns if there is one, and against the network."""
    statement = upsert(connection, LoginDelayRow).values(network=network, failed=1, login_after=now)
    statement = statement.on_conflict_do_update(
        index_elements=[LoginDelayRow.network], set_={"failed": LoginDelayRow.failed + 1}
    )
    failed = connection.execute(statement.returning(LoginDelayRow.failed)).scalar_one()
    # A network may hold many people: it is slowed later than a name is.
    after = _delayed(now, failed // 4)
    connection.execute(update(LoginDelayRow).where(LoginDelayRow.network == network).values(login_after=after))
    found = find_user(connection, name)
    if found:
        mine = UserRow.id == found.user.id
        counted = update(UserRow).where(mine).values(failed_logins=UserRow.failed_logins + 1)
        failed = connection.execute(counted.returning(UserRow.failed_logins)).scalar_one()
        connection.execute(update(UserRow).where(mine).values(login_after=_delayed(now, failed)))
    return found.user.name if found else None


def login_succeeded(connection: Connection, user_id: str, network: str, now: str) -> None:
    connection.execute(
        update(UserRow).where(UserRow.id == user_id).values(failed_logins=0, login_after=None, last_login_at=now)
    )
    connection.execute(delete(LoginDelayRow).where(LoginDelayRow.network == network))
