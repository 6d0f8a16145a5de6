"""Records of logins, users, API keys, invitations and the audit log."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from core.db.accounts import Grants, User
from core.db.audit import AuditEntry
from core.db.keys import ApiKey, Invitation
from core.db.push import Subscription
from core.db.sessions import Session
from core.rest.base import CameraKey, Line, Record, Uuid
from core.security.permissions import Role, Scope

__all__ = [
    "ApiKey",
    "AuditEntry",
    "AuditPage",
    "Browser",
    "Browsers",
    "ChangeMe",
    "ChangePassword",
    "ChangeUser",
    "CreateInvitation",
    "CreateKey",
    "CreateUser",
    "CreatedInvitation",
    "CreatedKey",
    "GrantsIn",
    "Invitation",
    "Language",
    "LoginIn",
    "Me",
    "RecoveryCodes",
    "RefreshIn",
    "RegisterIn",
    "SecondFactorCode",
    "SecondFactorSetUp",
    "Session",
    "SetUpState",
    "Subscription",
    "Ticket",
    "Tokens",
    "UserOut",
]

UserName = Annotated[str, Meta(min_length=2, max_length=64)]
Password = Annotated[str, Meta(min_length=1, max_length=512)]
NewPassword = Annotated[str, Meta(min_length=12, max_length=128, description="12 to 128 characters, of any kind")]
Language = Literal["en", "ko"]
TokenIn = Annotated[str, Meta(max_length=200, pattern=r"^[A-Za-z0-9_-]*$")]
Preferences = Annotated[dict[str, Any], Meta(max_length=100)]


class SetUpState(Record, frozen=True, kw_only=True):
    """Whether the first account is still to be made, and who may make others."""

    needs_first_account: bool
    registration: Literal["closed", "invitation", "open"]
    version: str


class RegisterIn(Record, frozen=True, kw_only=True):
    """`token` is the set-up token for the first account, and an invitation's for later ones."""

    name: UserName
    password: NewPassword
    token: TokenIn = ""
    language: Language = "en"


class LoginIn(Record, frozen=True, kw_only=True):
    """`code` is the second factor's, where there is one. `cookie` puts the refresh token into a cookie."""

    name: UserName
    password: Password
    code: Annotated[str, Meta(max_length=40)] = ""
    cookie: bool = False


class RefreshIn(Record, frozen=True, kw_only=True):
    """Without a token, the cookie's is meant."""

    refresh_token: TokenIn = ""


class Tokens(Record, frozen=True, kw_only=True):
    """`refresh_token` is "" where it went into a cookie. Each refresh token is good once."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int
    refresh_token: str = ""


class Browser(Record, frozen=True, kw_only=True):
    """A browser in which this user asked to be told (Web Push)."""

    id: str
    created_at: str


class Browsers(Record, frozen=True, kw_only=True):
    """Where this user is told, and what a browser needs to be added."""

    public_key: str
    """Of this site, as browsers take it: base64url, uncompressed (RFC 8292)."""
    served: bool
    """Whether a channel for browsers is switched on; without one nothing is sent."""
    browsers: list[Browser]


class ChangePassword(Record, frozen=True, kw_only=True):
    """All other sessions end with it."""

    current: Password
    new: NewPassword


class Me(Record, frozen=True, kw_only=True):
    """Who is asking, and what they may see and do."""

    id: str
    name: str
    role: Role
    language: str
    time_zone: str
    preferences: dict[str, Any]
    second_factor: bool
    cameras: list[str] | None
    """None: all."""
    scopes: list[Scope] | None
    """Of an API key; None: a person."""


class ChangeMe(Record, frozen=True, kw_only=True):
    language: Language | UnsetType = UNSET
    time_zone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    preferences: Preferences | UnsetType = UNSET


class SecondFactorSetUp(Record, frozen=True, kw_only=True):
    """For an authenticator app; in force once a code of it was confirmed."""

    secret: str
    uri: str


class SecondFactorCode(Record, frozen=True, kw_only=True):
    code: Annotated[str, Meta(max_length=40)]
    password: Password


class RecoveryCodes(Record, frozen=True, kw_only=True):
    """Each is good once in the place of a code; shown this once."""

    codes: list[str]


class Ticket(Record, frozen=True, kw_only=True):
    """Good once, for half a minute: the first message on a WebSocket."""

    ticket: str
    expires_in: int


# ---- users


class GrantsIn(Record, frozen=True, kw_only=True):
    """What somebody sees: all cameras, or these and those of these groups."""

    all_cameras: bool = False
    cameras: Annotated[tuple[CameraKey, ...], Meta(max_length=1000)] = ()
    groups: Annotated[tuple[Uuid, ...], Meta(max_length=1000)] = ()


class CreateUser(Record, frozen=True, kw_only=True):
    name: UserName
    password: NewPassword
    role: Role = Role.VIEWER
    grants: GrantsIn = GrantsIn()
    language: Language = "en"


class ChangeUser(Record, frozen=True, kw_only=True):
    """What is left out stays. A new password, another role and `enabled: false` end all sessions of the user."""

    password: NewPassword | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    grants: GrantsIn | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    remove_second_factor: bool = False


class UserOut(Record, frozen=True, kw_only=True):
    id: str
    name: str
    role: Role
    enabled: bool
    grants: Grants
    language: str
    second_factor: bool
    created_at: str
    last_login_at: str | None

    @classmethod
    def of(cls, user: User, grants: Grants) -> "UserOut":
        return cls(
            id=user.id,
            name=user.name,
            role=user.role,
            enabled=user.enabled,
            grants=grants,
            language=user.language,
            second_factor=user.second_factor,
            created_at=user.created_at,
            last_login_at=user.last_login_at,
        )


class CreateKey(Record, frozen=True, kw_only=True):
    """`camera_ids` left out: all that the user sees."""

    name: Annotated[Line, Meta(min_length=1)]
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=50)]
    camera_ids: Annotated[list[CameraKey], Meta(max_length=1000)] | None = None
    days: Annotated[int, Meta(ge=1, le=3650)] | None = 365
    """Until it expires; null: never."""


class CreatedKey(Record, frozen=True, kw_only=True):
    """`secret` is shown this once: send it as `Authorization: Bearer`."""

    key: ApiKey
    secret: str


class CreateInvitation(Record, frozen=True, kw_only=True):
    role: Role = Role.VIEWER
    grants: GrantsIn = GrantsIn()
    note: Line = ""
    days: Annotated[int, Meta(ge=1, le=90)] = 7


class CreatedInvitation(Record, frozen=True, kw_only=True):
    """`token` is shown this once: whoever has it may register."""

    invitation: Invitation
    token: str


class AuditPage(Record, frozen=True, kw_only=True):
    entries: list[AuditEntry]
    before: str | None
    """Where the next page begins; null after the last."""
