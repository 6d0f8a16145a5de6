"""Webhooks: JSON by POST, signed with HMAC-SHA256 over "timestamp.body"; the same id for the same message."""

import base64
import hashlib
import hmac
import time
from typing import Any

import msgspec
from msgspec import UNSET

from core.config import Config
from core.notifications.channels import WebhookSecrets, WebhookSettings
from core.security.networks import AllowedNetworks
from core.version import VERSION
from workers.notifier.channels.base import Message, Sent
from workers.notifier.channels.http import CheckedClient

__all__ = ["WebhookSender", "payload", "sign"]


def sign(key: str, timestamp: str, body: bytes) -> str:
    """What stands in X-Haetae-Signature: "sha256=" and the hexadecimal HMAC of "timestamp.body"."""
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def payload(message: Message, *, snapshot: bool = False) -> dict[str, Any]:
    """A message as programs get it."""
    return {
        "id": message.id,
        "occasion": message.occasion,
        "created_at": message.created_at,
        "priority": message.priority,
        "subject": message.subject,
        "text": message.text,
        "link": message.link,
        "rule": {"id": message.rule_id, "name": message.rule_name} if message.rule_name else None,
        "camera": {"id": message.camera_id, "name": message.camera_name} if message.camera_id else None,
        "event": _event(message) if message.event else None,
        "health": message.health,
        "similar": message.similar,
        "count": message.count,
        **({"snapshot_jpeg": base64.b64encode(message.snapshot).decode()} if snapshot and message.snapshot else {}),
    }


def _event(message: Message) -> dict[str, Any]:
    event = msgspec.to_builtins(message.event)
    for name in ("steps", "media", "snapshot"):
        del event[name]
    return {**event, "acknowledged": message.acknowledged}


class WebhookSender:
    def __init__(self, settings: WebhookSettings, secrets: WebhookSecrets, config: Config) -> None:
        allowed = AllowedNetworks(config.networks.webhooks)
        self._settings, self._secrets = settings, secrets
        self._client = CheckedClient(allowed, "webhooks", connect_s=config.notifier.connect_s, ca_file=settings.ca_file)

    async def send(self, message: Message) -> Sent:
        body = msgspec.json.encode(payload(message, snapshot=self._settings.snapshot))
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"haetae/{VERSION}",
            "Idempotency-Key": message.id,
            "X-Haetae-Timestamp": timestamp,
        }
        if self._secrets.signing_key is not UNSET:
            headers["X-Haetae-Signature"] = sign(self._secrets.signing_key, timestamp, body)
        if self._secrets.authorization is not UNSET:
            headers["Authorization"] = self._secrets.authorization
        return Sent(f"answered {await self._client.post(self._settings.url, body, headers)}")

    async def close(self) -> None:
        await self._client.close()
