"""Records of channels, rules, messages and deliveries."""

from typing import Annotated

from msgspec import Meta

from core.db.outbox import ChannelStatistics, Delivery, Queued
from core.notifications.channels import Channel, ChannelSecrets, ChannelSettings
from core.notifications.dry_run import DryRun
from core.notifications.model import Name, Rule, RuleDraft
from core.rest.base import Record, Uuid

__all__ = [
    "Channel",
    "ChannelChange",
    "ChannelIn",
    "ChannelStatistics",
    "Delivery",
    "DryRun",
    "DryRunIn",
    "MoveIn",
    "Queued",
    "QueuedTest",
    "ReplayIn",
    "Replayed",
    "Rule",
    "RuleDraft",
]


class ChannelIn(Record, frozen=True, kw_only=True):
    """A new channel; `kind` of settings and secrets must be the same. Secrets are stored sealed and never shown."""

    name: Name
    enabled: bool = True
    settings: ChannelSettings
    secrets: ChannelSecrets | None = None


class ChannelChange(Record, frozen=True, kw_only=True):
    """What is left out stays, each secret by itself; "" takes a secret away."""

    name: Name | None = None
    enabled: bool | None = None
    settings: ChannelSettings | None = None
    secrets: ChannelSecrets | None = None


class QueuedTest(Record, frozen=True, kw_only=True):
    """The delivery log tells under this id what became of it."""

    message_id: str


class MoveIn(Record, frozen=True, kw_only=True):
    """Asked as the so-manieth rule, from 0 on."""

    position: Annotated[int, Meta(ge=0, le=100_000)]


class DryRunIn(Record, frozen=True, kw_only=True):
    """A rule to try on what happened; without times, on the last week."""

    rule: RuleDraft
    since: Annotated[str, Meta(max_length=40)] = ""
    until: Annotated[str, Meta(max_length=40)] = ""


class ReplayIn(Record, frozen=True, kw_only=True):
    """Dead messages to try again; null: all."""

    ids: Annotated[list[Uuid], Meta(max_length=500)] | None = None


class Replayed(Record, frozen=True, kw_only=True):
    replayed: int
