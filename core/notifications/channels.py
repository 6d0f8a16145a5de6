"""Channels: where messages go, with settings that may be shown and secrets that never are."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "AppriseSecrets",
    "AppriseSettings",
    "Channel",
    "ChannelSecrets",
    "ChannelSettings",
    "EmailSecrets",
    "EmailSettings",
    "MqttSecrets",
    "MqttSettings",
    "WebPushSecrets",
    "WebPushSettings",
    "WebhookSecrets",
    "WebhookSettings",
    "kind_of",
]

Host = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[^\s/@?#]+$(?!\n)")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Address = Annotated[
    str, Meta(min_length=3, max_length=254, pattern=r"^[^\s@<>,;\"\x00-\x1f\x7f]+@[^\s@<>,;\"\x00-\x1f\x7f]+$(?!\n)")
]
Secret = Annotated[str, Meta(max_length=4096)]
Topic = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$(?!\n)")]
File = Annotated[str, Meta(max_length=4096)]


class _Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind has."""

    limit_per_hour: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Messages in any hour, at most; 0 is no limit. The last fifth is kept for critical ones."""
    backup: Annotated[str, Meta(max_length=36)] = ""
    """Id of the channel that is told when this one keeps failing; "" is any other that works."""


class _Secrets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What is left out of a change stays as it is; "" takes it away."""


class EmailSettings(_Settings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="email"):
    """A mail server (SMTP) that takes messages for `recipients`."""

    host: Host
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    """"none" sends everything readable, and no password."""
    ca_file: File = ""
    """PEM file of the authorities that the server's certificate is held against; "" is the system's."""
    username: Annotated[str, Meta(max_length=256)] = ""
    sender: Address
    recipients: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=50)]
    snapshot: bool = True
    """Whether the picture comes with it."""

    def __post_init__(self) -> None:
        if self.security == "none" and self.username:
            raise ValueError("a password is not sent in the clear: use starttls or tls, or no username")


class EmailSecrets(_Secrets, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="email"):
    password: Secret | UnsetType = UNSET


class WebhookSettings(
    _Settings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="webhook"
):
    """An HTTP server that is sent JSON by POST; where it may be is `networks.webhooks`."""

    url: Annotated[str, Meta(min_length=8, max_length=2048, pattern=r"^https?://[^\s@/?#]+([/?][^\s#]*)?$(?!\n)")]
    """Without credentials: a token belongs into `headers` of the secrets."""
    ca_file: File = ""
    snapshot: bool = False
    """Whether the picture comes with it, in base64."""


class WebhookSecrets(_Secrets, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="webhook"):
    signing_key: Secret | UnsetType = UNSET
    """Of the HMAC-SHA256 in `X-Haetae-Signature`; without one nothing is signed."""
    authorization: Annotated[str, Meta(max_length=4096, pattern=r"^[\x20-\x7e]*$(?!\n)")] | UnsetType = UNSET
    """The value of the header `Authorization`, such as "Bearer ..."."""


class MqttSettings(_Settings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mqtt"):
    """An MQTT broker: messages of rules, and, retained, the state of every camera."""

    host: Host
    port: Port = 1883
    tls: bool = False
    ca_file: File = ""
    username: Annotated[str, Meta(max_length=256)] = ""
    prefix: Topic = "haetae"
    """Topics begin with it."""
    discovery_prefix: Annotated[str, Meta(max_length=100, pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$(?!\n)")] = (
        "homeassistant"
    )
    """Where Home Assistant looks for devices; "" announces none."""
    switches: bool = False
    """Whether whoever may write to the broker may start and stop cameras."""


class MqttSecrets(_Secrets, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mqtt"):
    password: Secret | UnsetType = UNSET


class WebPushSettings(
    _Settings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="webpush"
):
    """The browsers in which users asked to be told; each hears only of cameras that its user may see."""

    contact: Annotated[str, Meta(max_length=300, pattern=r"^(mailto:[^\s@]+@[^\s@]+|https://\S+)$(?!\n)")]
    """Whom the push service may turn to (RFC 8292): mailto:... or https://..."""
    users: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
    """Ids of the users that are told; () is all."""


class WebPushSecrets(_Secrets, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="webpush"):
    """None: the key of this site lies in a file (core.notifications.vapid)."""


class AppriseSettings(
    _Settings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="apprise"
):
    """Any service that Apprise knows; it has to be installed: pip install haetae[apprise]."""


class AppriseSecrets(_Secrets, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="apprise"):
    url: Annotated[str, Meta(max_length=4096, pattern=r"^[a-z0-9]+://\S*$|^$(?!\n)")] | UnsetType = UNSET
    """As Apprise writes it, such as tgram://TOKEN/CHAT; it holds secrets throughout."""


ChannelSettings = EmailSettings | WebhookSettings | MqttSettings | WebPushSettings | AppriseSettings
ChannelSecrets = EmailSecrets | WebhookSecrets | MqttSecrets | WebPushSecrets | AppriseSecrets


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as it may be shown: of its secrets only which are set."""

    id: str
    name: str
    enabled: bool
    settings: ChannelSettings
    secrets_set: tuple[str, ...]
    created_at: str
    updated_at: str

    @property
    def kind(self) -> str:
        return kind_of(self.settings)


def kind_of(part: ChannelSettings | ChannelSecrets) -> str:
    """The name of its kind: "email", "webhook", "mqtt", "webpush" or "apprise"."""
    return str(part.__struct_config__.tag)
