"""Subscriptions of browsers in the database: added by users, told by the notifier, forgotten when they are over."""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta
from sqlalchemy import Connection, Engine, delete, select

from core.db.accounts import list_users, visible_cameras
from core.db.engine import upsert
from core.db.tables import PushSubscriptionRow
from core.ids import CameraId, uuid7
from core.security.secrets import SecretBox

__all__ = [
    "PushTarget",
    "Subscription",
    "add_subscription",
    "forget_oldest",
    "push_targets",
    "remove_subscription",
    "subscriptions_of",
]

Base64 = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+=*$(?!\n)", max_length=200)]


class Subscription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a browser hands over when its user asks to be told (PushSubscription.toJSON)."""

    endpoint: Annotated[str, Meta(pattern=r"^https://[^\s@#]+$(?!\n)", max_length=2000)]
    p256dh: Base64
    auth: Base64


class PushTarget(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription, opened, for whoever sends."""

    id: str
    user_id: str
    endpoint: str
    p256dh: str
    auth: str


def add_subscription(
    connection: Connection, box: SecretBox, user_id: str, wanted: Subscription, *, session_id: str, at: str
) -> str:
    """Keeps a browser's subscription for a user, in the place of what that browser had before; returns its id.

    It ends with `session_id` where that is revoked.
    """
    row = PushSubscriptionRow
    values = {
        "id": str(uuid7()),
        "user_id": user_id,
        "endpoint_hash": hashlib.sha256(wanted.endpoint.encode()).hexdigest(),
        "sealed": box.seal_json(wanted),
        "session_id": session_id,
        "created_at": at,
        "failed_at": None,
    }
    statement = upsert(connection, row).values(**values)
    taken = {name: statement.excluded[name] for name in ("user_id", "sealed", "session_id", "created_at", "failed_at")}
    statement = statement.on_conflict_do_update(index_elements=[row.endpoint_hash], set_=taken)
    return connection.execute(statement.returning(row.id)).scalar_one()


def remove_subscription(connection: Connection, subscription_id: str, *, user_id: str | None = None) -> bool:
    """Forgets one, of this user only where one is named; False where there is none."""
    gone = delete(PushSubscriptionRow).where(PushSubscriptionRow.id == subscription_id)
    if user_id is not None:
        gone = gone.where(PushSubscriptionRow.user_id == user_id)
    return bool(connection.execute(gone).rowcount)


def forget_oldest(connection: Connection, user_id: str, most: int) -> None:
    """Keeps the newest `most` subscriptions of a user: a browser that was reset leaves its old one behind."""
    row = PushSubscriptionRow
    mine = select(row.id).where(row.user_id == user_id).order_by(row.created_at.desc(), row.id.desc())
    old = connection.execute(mine.offset(most)).scalars().all()
    if old:
        connection.execute(delete(row).where(row.id.in_(old)))


def subscriptions_of(connection: Connection, user_id: str) -> list[tuple[str, str]]:
    """(id, time it was added) of a user's browsers."""
    row = PushSubscriptionRow
    found = connection.execute(select(row.id, row.created_at).where(row.user_id == user_id).order_by(row.created_at))
    return [(one.id, one.created_at) for one in found]


def push_targets(
    engine: Engine, box: SecretBox, camera_id: CameraId | None, users: tuple[str, ...] = ()
) -> list[PushTarget]:
    """Subscriptions of enabled users who may see the camera, of these users only where some are named."""
    row = PushSubscriptionRow
    wanted = {user.id: user for user in list_users(engine) if user.enabled and (not users or user.id in users)}
    with engine.connect() as connection:
        if camera_id is not None:
            for user in list(wanted.values()):
                seen = visible_cameras(connection, user)
                if seen is not None and camera_id not in seen:
                    del wanted[user.id]
        rows = connection.execute(select(row.id, row.user_id, row.sealed).order_by(row.id))
        return [
            PushTarget(id=one.id, user_id=one.user_id, **box.open_json(one.sealed))
            for one in rows
            if one.user_id in wanted
        ]
