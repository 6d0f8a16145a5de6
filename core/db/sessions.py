"""Sessions in the database: families of refresh tokens, each token used once."""

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, select, update

from core.clock import later_utc
from core.db.tables import PushSubscriptionRow, RefreshTokenRow, TokenFamilyRow
from core.errors import NotFound, TokenRefused
from core.ids import uuid7

__all__ = [
    "Rotated",
    "RotatedTwice",
    "Session",
    "create_session",
    "revoke_session",
    "revoke_sessions",
    "rotate_refresh_token",
    "session_is_good",
    "sessions_of",
]

RACE_S = 10.0
"""Two pages of one browser may refresh at once: the second is told so, not taken for a thief."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A login on one device."""

    id: str
    created_at: str
    last_used_at: str
    expires_at: str
    address: str
    user_agent: str


class RotatedTwice(TokenRefused):
    """The refresh token was used a moment ago: by another page of the same browser, most likely."""


def create_session(
    connection: Connection, user_id: str, *, token_hash: str, now: str, expires_at: str, address: str, user_agent: str
) -> str:
    """A family of refresh tokens with its first; returns its id."""
    family_id = str(uuid7())
    connection.execute(
        insert(TokenFamilyRow).values(
            id=family_id,
            user_id=user_id,
            created_at=now,
            expires_at=expires_at,
            last_used_at=now,
            revoked_at=None,
            revoked_reason="",
            address=address[:64],
            user_agent=user_agent[:400],
        )
    )
    _add_refresh_token(connection, family_id, token_hash, now, expires_at)
    return family_id


def _add_refresh_token(connection: Connection, family_id: str, token_hash: str, now: str, expires_at: str) -> None:
    connection.execute(
        insert(RefreshTokenRow).values(
            token_hash=token_hash, family_id=family_id, created_at=now, expires_at=expires_at, used_at=None
        )
    )


class Rotated(msgspec.Struct, frozen=True):
    """`reused`: the token came a second time, and its session was revoked; it is the user who should hear of it.

    The caller commits in either case: an exception here would take the revocation back.
    """

    session_id: str
    user_id: str
    reused: bool


def rotate_refresh_token(connection: Connection, token_hash: str, new_hash: str, *, now: str, idle_s: float) -> Rotated:
    """Uses up a refresh token and puts the next in its place, by one atomic statement: of two, one wins.

    Raises RotatedTwice for one that was used up to `RACE_S` ago, TokenRefused for one that is unknown, expired or of a
    revoked session. A used one that comes later than that is theft: its session is revoked, which `reused` tells.
    """
    good = select(TokenFamilyRow.id).where(
        TokenFamilyRow.id == RefreshTokenRow.family_id,
        TokenFamilyRow.revoked_at.is_(None),
        TokenFamilyRow.expires_at > now,
    )
    used = (
        update(RefreshTokenRow)
        .where(
            RefreshTokenRow.token_hash == token_hash,
            RefreshTokenRow.used_at.is_(None),
            RefreshTokenRow.expires_at > now,
            good.exists(),
        )
        .values(used_at=now)
        .returning(RefreshTokenRow.family_id)
    )
    family_id = connection.execute(used).scalar()
    if family_id is None:
        return _refuse_refresh(connection, token_hash, now)
    family = connection.execute(
        update(TokenFamilyRow)
        .where(TokenFamilyRow.id == family_id)
        .values(last_used_at=now)
        .returning(TokenFamilyRow.user_id, TokenFamilyRow.expires_at)
    ).one()
    expires_at = min(family.expires_at, later_utc(now, idle_s))
    _add_refresh_token(connection, family_id, new_hash, now, expires_at)
    return Rotated(family_id, family.user_id, reused=False)


def _refuse_refresh(connection: Connection, token_hash: str, now: str) -> Rotated:
    query = (
        select(RefreshTokenRow.used_at, TokenFamilyRow.id, TokenFamilyRow.user_id, TokenFamilyRow.revoked_at)
        .join(TokenFamilyRow, TokenFamilyRow.id == RefreshTokenRow.family_id)
        .where(RefreshTokenRow.token_hash == token_hash)
    )
    row = connection.execute(query).first()
    if row is None or row.revoked_at is not None or row.used_at is None:
        raise TokenRefused("the session is over")
    if row.used_at > later_utc(now, -RACE_S):
        raise RotatedTwice("this refresh token was used a moment ago")
    revoke_session(connection, row.user_id, row.id, at=now, reason="refresh token used twice")
    return Rotated(row.id, row.user_id, reused=True)


def session_is_good(connection: Connection, session_id: str, now: str) -> bool:
    query = select(TokenFamilyRow.id).where(
        TokenFamilyRow.id == session_id, TokenFamilyRow.revoked_at.is_(None), TokenFamilyRow.expires_at > now
    )
    return connection.execute(query).first() is not None


def sessions_of(engine: Engine, user_id: str, now: str) -> list[Session]:
    """Those that are not over, the last used first."""
    columns = [getattr(TokenFamilyRow, name) for name in Session.__struct_fields__]
    query = select(*columns).where(
        TokenFamilyRow.user_id == user_id, TokenFamilyRow.revoked_at.is_(None), TokenFamilyRow.expires_at > now
    )
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(TokenFamilyRow.last_used_at.desc()))
        return [Session(**row) for row in rows.mappings()]


def revoke_session(connection: Connection, user_id: str, session_id: str, *, at: str, reason: str) -> None:
    """Its browser is told of no more alarms. Raises NotFound where the user has no such session, or it is over."""
    mine = (TokenFamilyRow.id == session_id, TokenFamilyRow.user_id == user_id, TokenFamilyRow.revoked_at.is_(None))
    done = connection.execute(update(TokenFamilyRow).where(*mine).values(revoked_at=at, revoked_reason=reason))
    if not done.rowcount:
        raise NotFound("there is no such session")
    told = (PushSubscriptionRow.user_id == user_id, PushSubscriptionRow.session_id == session_id)
    connection.execute(delete(PushSubscriptionRow).where(*told))


def revoke_sessions(connection: Connection, user_id: str, *, at: str, reason: str, but: str = "") -> int:
    """All of a user's, `but` one, and what tells their browsers, of sessions long over too; returns how many."""
    mine = [TokenFamilyRow.user_id == user_id, TokenFamilyRow.revoked_at.is_(None)]
    if but:
        mine.append(TokenFamilyRow.id != but)
    done = connection.execute(update(TokenFamilyRow).where(*mine).values(revoked_at=at, revoked_reason=reason))
    told = (PushSubscriptionRow.user_id == user_id, PushSubscriptionRow.session_id != but)
    connection.execute(delete(PushSubscriptionRow).where(*told))
    return done.rowcount
