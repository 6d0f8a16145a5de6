"""Routes under /users, /keys, /invitations and /audit."""

from typing import Annotated

from litestar import Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET

from api.guard import KEY_PREFIX, Principals, needs
from api.problems import documented
from api.services import Call, Services, caller
from core.clock import later_utc, normal_utc
from core.db.accounts import Grants, add_user, change_user, get_user, grants_of, list_users, remove_user, set_grants
from core.db.audit import list_audit
from core.db.keys import (
    ApiKey,
    Invitation,
    create_invitation,
    create_key,
    keys_of,
    list_invitations,
    remove_invitation,
    revoke_key,
)
from core.errors import ConfigError, Conflict
from core.ids import CameraId
from core.rest.accounts import (
    AuditPage,
    ChangeUser,
    CreatedInvitation,
    CreatedKey,
    CreateInvitation,
    CreateKey,
    CreateUser,
    GrantsIn,
    UserOut,
)
from core.rest.base import UUID, Uuid
from core.security.passwords import check_new_password
from core.security.permissions import Role, Scope
from core.security.tokens import hash_token, new_token

__all__ = ["router"]

DAY_S = 86_400.0
READ = needs(Role.ADMIN, Scope.USERS_READ)
WRITE = needs(Role.ADMIN, Scope.USERS_WRITE)


def _grants(given: GrantsIn) -> Grants:
    return Grants(
        all_cameras=given.all_cameras, cameras=tuple(map(CameraId, given.cameras)), groups=tuple(given.groups)
    )


@get("/users", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listUsers")
def list_all(services: NamedDependency[Services]) -> list[UserOut]:
    """All users by name."""
    users = list_users(services.reader)
    with services.reader.connect() as connection:
        return [UserOut.of(user, grants_of(connection, user.id)) for user in users]


@post("/users", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="createUser")
def create(services: NamedDependency[Services], request: Call, data: JSONBody[CreateUser]) -> UserOut:
    """Adds a user; they should change the password."""
    hashed = services.passwords.hash(check_new_password(data.password, data.name))
    now = services.now()
    with services.writer.begin() as connection:
        user = add_user(
            connection,
            name=data.name,
            password_hash=hashed,
            role=data.role,
            at=now,
            language=data.language,
            time_zone=services.config.site.time_zone,
        )
        set_grants(connection, user.id, _grants(data.grants), at=now)
        detail = {"role": str(data.role), "grants": _told(data.grants)}
        services.audit(connection, request, "user.created", user.name, detail)
        return UserOut.of(user, grants_of(connection, user.id))


def _told(grants: GrantsIn) -> dict[str, object]:
    return {"all_cameras": grants.all_cameras, "cameras": grants.cameras, "groups": grants.groups}


@get("/users/{user_id:str}", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="getUser")
def get_one(services: NamedDependency[Services], user_id: FromPath[Uuid]) -> UserOut:
    with services.reader.connect() as connection:
        return UserOut.of(get_user(connection, user_id), grants_of(connection, user_id))


@patch(
    "/users/{user_id:str}", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="changeUser"
)
def change(
    services: NamedDependency[Services],
    principals: NamedDependency[Principals],
    request: Call,
    user_id: FromPath[Uuid],
    data: JSONBody[ChangeUser],
) -> UserOut:
    """What is left out stays; see ChangeUser for what ends the user's sessions."""
    now = services.now()
    with services.reader.connect() as connection:
        before = get_user(connection, user_id)
    values: dict[str, object] = {}
    if data.password is not UNSET:
        values["password_hash"] = services.passwords.hash(check_new_password(data.password, before.name))
    if data.role is not UNSET:
        values["role"] = str(data.role)
    if data.enabled is not UNSET:
        values["enabled"] = data.enabled
    if data.language is not UNSET:
        values["language"] = data.language
    if data.remove_second_factor:
        values |= {"totp_secret": "", "totp_recovery": []}
    revoke = bool(values.keys() & {"password_hash", "role"}) or data.enabled is False
    with services.writer.begin() as connection:
        user = change_user(connection, user_id, at=now, revoke=revoke, **values)
        if data.grants is not UNSET:
            set_grants(connection, user_id, _grants(data.grants), at=now)
        told = {name: value for name, value in values.items() if name in {"role", "enabled", "language"}}
        told |= {"password": "changed"} if "password_hash" in values else {}
        told |= {"grants": _told(data.grants)} if data.grants is not UNSET else {}
        told |= {"second_factor": "removed"} if data.remove_second_factor else {}
        services.audit(connection, request, "user.changed", user.name, told)
        found = UserOut.of(user, grants_of(connection, user_id))
    principals.forget()
    return found


@delete(
    "/users/{user_id:str}", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="removeUser"
)
def remove(
    services: NamedDependency[Services], principals: NamedDependency[Principals], request: Call, user_id: FromPath[Uuid]
) -> None:
    """Removes a user with sessions and keys; what they did stays in the audit log."""
    with services.writer.begin() as connection:
        name = get_user(connection, user_id).name
        remove_user(connection, user_id)
        services.audit(connection, request, "user.removed", name)
    principals.forget()


# ---- API keys: everybody's own


@get("/keys", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(), operation_id="listKeys")
def list_keys(services: NamedDependency[Services], request: Call) -> list[ApiKey]:
    """The caller's own keys."""
    return keys_of(services.reader, caller(request).user_id)


@post("/keys", opt=needs(Role.VIEWER), sync_to_thread=True, responses=documented(404), operation_id="createKey")
def make_key(services: NamedDependency[Services], request: Call, data: JSONBody[CreateKey]) -> CreatedKey:
    """A key for a program, which may do no more than its user; the secret is shown this once."""
    principal, now = caller(request), services.now()
    cameras = tuple(map(CameraId, data.camera_ids)) if data.camera_ids is not None else None
    with services.writer.begin() as connection:
        for camera_id in cameras or ():
            if not principal.sees(camera_id):
                raise ConfigError(f"there is no camera {camera_id!r}")
        secret = new_token(KEY_PREFIX.rstrip("_"))
        key = create_key(
            connection,
            principal.user_id,
            name=data.name,
            secret_hash=hash_token(secret),
            scopes=data.scopes,
            camera_ids=cameras,
            now=now,
            expires_at=later_utc(now, data.days * DAY_S) if data.days else None,
        )
        services.audit(connection, request, "key.created", key.name, {"id": key.id, "scopes": list(key.scopes)})
    return CreatedKey(key=key, secret=secret)


@delete(
    "/keys/{key_id:str}",
    opt=needs(Role.VIEWER),
    sync_to_thread=True,
    responses=documented(404),
    operation_id="revokeKey",
)
def remove_key(
    services: NamedDependency[Services], principals: NamedDependency[Principals], request: Call, key_id: FromPath[Uuid]
) -> None:
    """Revokes one of the caller's keys; it is refused from now on."""
    with services.writer.begin() as connection:
        revoke_key(connection, caller(request).user_id, key_id, at=services.now())
        services.audit(connection, request, "key.revoked", key_id)
    principals.forget()


# ---- invitations


@get("/invitations", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listInvitations")
def list_all_invitations(services: NamedDependency[Services]) -> list[Invitation]:
    return list_invitations(services.reader)


@post("/invitations", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="createInvitation")
def invite(services: NamedDependency[Services], request: Call, data: JSONBody[CreateInvitation]) -> CreatedInvitation:
    """Lets somebody make an account with this role and these cameras; the token is shown this once."""
    if services.config.api.registration == "closed":
        raise Conflict("registration is closed", 'set api.registration = "invitation"')
    token, now = new_token("haetae_invitation"), services.now()
    with services.writer.begin() as connection:
        invitation = create_invitation(
            connection,
            token_hash=hash_token(token),
            role=data.role,
            grants=_grants(data.grants),
            note=data.note,
            created_by=caller(request).name,
            now=now,
            expires_at=later_utc(now, data.days * DAY_S),
        )
        services.audit(connection, request, "invitation.created", invitation.id, {"role": str(data.role)})
    return CreatedInvitation(invitation=invitation, token=token)


@delete(
    "/invitations/{invitation_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="withdrawInvitation",
)
def withdraw(services: NamedDependency[Services], request: Call, invitation_id: FromPath[Uuid]) -> None:
    with services.writer.begin() as connection:
        remove_invitation(connection, invitation_id)
        services.audit(connection, request, "invitation.withdrawn", invitation_id)


# ---- audit log


@get("/audit", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listAudit")
def read_audit(
    services: NamedDependency[Services],
    since: Annotated[str | None, QueryParameter(name="from", max_length=40)] = None,
    until: Annotated[str | None, QueryParameter(name="to", max_length=40)] = None,
    actor: Annotated[str | None, QueryParameter(max_length=200)] = None,
    action: Annotated[str | None, QueryParameter(max_length=64)] = None,
    before: Annotated[
        str, QueryParameter(pattern=f"^$|{UUID}", description="Id of the last entry of the page before")
    ] = "",
    limit: Annotated[int, QueryParameter(ge=1, le=500)] = 100,
) -> AuditPage:
    """Who did what, the newest first: changes, refusals, and who viewed or exported footage."""
    entries = list_audit(
        services.reader,
        since=normal_utc(since) if since else None,
        until=normal_utc(until) if until else None,
        actor=actor,
        action=action,
        before=before or None,
        limit=limit,
    )
    return AuditPage(entries=entries, before=entries[-1].id if len(entries) == limit else None)


router = Router(
    "/",
    tags=["users"],
    route_handlers=[
        list_all,
        create,
        get_one,
        change,
        remove,
        list_keys,
        make_key,
        remove_key,
        list_all_invitations,
        invite,
        withdraw,
        read_audit,
    ],
)
