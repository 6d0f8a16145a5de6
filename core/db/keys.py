"""API keys and invitations in the database: secrets that somebody was given, kept as hashes."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, or_, select, update

from core.db.accounts import Grants, User, check_known, get_user
from core.db.tables import ApiKeyRow, InvitationRow
from core.errors import NotFound, TokenRefused
from core.ids import CameraId, uuid7
from core.security.permissions import Role, Scope

__all__ = [
    "ApiKey",
    "Invitation",
    "create_invitation",
    "create_key",
    "find_key",
    "keys_of",
    "list_invitations",
    "remove_invitation",
    "revoke_key",
    "touch_key",
    "use_invitation",
]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    scopes: tuple[Scope, ...]
    camera_ids: tuple[CameraId, ...] | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    role: Role
    grants: Grants
    note: str
    created_by: str
    created_at: str
    expires_at: str
    used_at: str | None


# ---- API keys


_KEY: list[Any] = [getattr(ApiKeyRow, name) for name in ApiKey.__struct_fields__]


def create_key(
    connection: Connection,
    user_id: str,
    *,
    name: str,
    secret_hash: str,
    scopes: Iterable[Scope],
    camera_ids: Sequence[CameraId] | None,
    now: str,
    expires_at: str | None,
) -> ApiKey:
    """Raises NotFound for a camera that is not there."""
    check_known(connection, Grants(cameras=tuple(camera_ids or ())))
    key = ApiKey(
        id=str(uuid7()),
        name=name,
        scopes=tuple(sorted(set(scopes))),
        camera_ids=tuple(sorted(set(camera_ids))) if camera_ids is not None else None,
        created_at=now,
        expires_at=expires_at,
        last_used_at=None,
    )
    values = {**msgspec.to_builtins(key), "user_id": user_id, "secret_hash": secret_hash, "revoked_at": None}
    connection.execute(insert(ApiKeyRow).values(**values))
    return key


def keys_of(engine: Engine, user_id: str) -> list[ApiKey]:
    """Those that were not revoked, expired ones included."""
    query = select(*_KEY).where(ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None)).order_by(ApiKeyRow.id)
    with engine.connect() as connection:
        return [msgspec.convert(dict(row), ApiKey) for row in connection.execute(query).mappings()]


def find_key(connection: Connection, secret_hash: str, now: str) -> tuple[ApiKey, User] | None:
    """A key that is good now, and its user."""
    query = select(*_KEY, ApiKeyRow.user_id).where(
        ApiKeyRow.secret_hash == secret_hash,
        ApiKeyRow.revoked_at.is_(None),
        or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now),
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    values = dict(row)
    user = get_user(connection, values.pop("user_id"))
    return msgspec.convert(values, ApiKey), user


def touch_key(connection: Connection, key_id: str, now: str) -> None:
    connection.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=now))


def revoke_key(connection: Connection, user_id: str, key_id: str, *, at: str) -> None:
    """Raises NotFound where the user has no such key."""
    mine = (ApiKeyRow.id == key_id, ApiKeyRow.user_id == user_id, ApiKeyRow.revoked_at.is_(None))
    if not connection.execute(update(ApiKeyRow).where(*mine).values(revoked_at=at)).rowcount:
        raise NotFound("there is no such key")


# ---- invitations


_INVITATION: list[Any] = [getattr(InvitationRow, name) for name in Invitation.__struct_fields__]


def create_invitation(
    connection: Connection,
    *,
    token_hash: str,
    role: Role,
    grants: Grants,
    note: str,
    created_by: str,
    now: str,
    expires_at: str,
) -> Invitation:
    """Raises NotFound for a camera or group that is not there."""
    check_known(connection, grants)
    invitation = Invitation(
        id=str(uuid7()),
        role=role,
        grants=grants,
        note=note,
        created_by=created_by,
        created_at=now,
        expires_at=expires_at,
        used_at=None,
    )
    connection.execute(insert(InvitationRow).values(**msgspec.to_builtins(invitation), token_hash=token_hash))
    return invitation


def list_invitations(engine: Engine) -> list[Invitation]:
    with engine.connect() as connection:
        rows = connection.execute(select(*_INVITATION).order_by(InvitationRow.id.desc()).limit(500))
        return [msgspec.convert(dict(row), Invitation) for row in rows.mappings()]


def use_invitation(connection: Connection, token_hash: str, now: str) -> Invitation:
    """Uses it up; raises TokenRefused where it is unknown, used or over."""
    good = (InvitationRow.token_hash == token_hash, InvitationRow.used_at.is_(None), InvitationRow.expires_at > now)
    used: Any = update(InvitationRow).where(*good).values(used_at=now)
    row = connection.execute(used.returning(*_INVITATION)).mappings().first()
    if row is None:
        raise TokenRefused("the invitation was used, withdrawn, or is too old")
    return msgspec.convert(dict(row), Invitation)


def remove_invitation(connection: Connection, invitation_id: str) -> None:
    """Raises NotFound."""
    if not connection.execute(delete(InvitationRow).where(InvitationRow.id == invitation_id)).rowcount:
        raise NotFound("there is no such invitation")
