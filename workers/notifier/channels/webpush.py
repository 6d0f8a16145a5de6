"""Web Push: to the browsers in which users asked for it, encrypted for each (RFC 8291), signed for the site (RFC 8292).

Each subscription hears only of cameras that its user may see.
"""

import asyncio
import base64
from collections.abc import Callable

import http_ece
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from core.config import Config
from core.db.push import PushTarget
from core.ids import CameraId
from core.notifications.channels import WebPushSettings
from core.notifications.vapid import VapidKey
from core.security.networks import AllowedNetworks
from workers.notifier.channels.base import DeliveryFailed, Message, Sent
from workers.notifier.channels.http import CheckedClient

__all__ = ["WebPushSender", "encrypt"]

TTL_S = 4 * 3600
"""How long the push service keeps it for a browser that is away: an older alarm is read on the page."""
MAX_TEXT = 600
"""Letters; a push service takes 4096 bytes."""
GONE = {404, 410}
URGENCY = ("high", "high", "normal", "low", "very-low")


def encrypt(target: PushTarget, content: bytes) -> bytes:
    """The body for one subscription (RFC 8291, aes128gcm)."""
    return http_ece.encrypt(
        content,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=_unbase64(target.p256dh),
        auth_secret=_unbase64(target.auth),
        version="aes128gcm",
    )


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Targets(msgspec.Struct, frozen=True):
    """The subscriptions of a site, and how one that is over is forgotten; both block."""

    find: Callable[[CameraId | None, tuple[str, ...]], list[PushTarget]]
    forget: Callable[[str], None]


class WebPushSender:
    def __init__(self, settings: WebPushSettings, key: VapidKey, targets: Targets, config: Config) -> None:
        self._settings, self._key, self._targets = settings, key, targets
        allowed = AllowedNetworks(config.networks.push)
        self._client = CheckedClient(allowed, "push", connect_s=config.notifier.connect_s)

    async def send(self, message: Message) -> Sent:
        found = await asyncio.to_thread(self._targets.find, message.camera_id, self._settings.users)
        if message.targets is not None:
            found = [one for one in found if one.id in message.targets]
        done = await asyncio.gather(*(self._send(message, one) for one in found), return_exceptions=True)
        told = sum(one is None for one in done)
        failed = {target.id: one for target, one in zip(found, done, strict=True) if isinstance(one, DeliveryFailed)}
        for one in done:
            if isinstance(one, BaseException) and not isinstance(one, DeliveryFailed):
                raise one
        deferred = tuple(key for key, error in failed.items() if not error.permanent)
        if failed and len(failed) == len(found):
            first = next(iter(failed.values()))
            raise DeliveryFailed(str(first), permanent=not deferred, after_s=first.after_s)
        return Sent(f"{told} of {len(found)} browsers", deferred)

    async def _send(self, message: Message, target: PushTarget) -> None:
        content = {
            "id": message.id,
            "occasion": message.occasion,
            "tag": message.event_id or message.id,
            "title": message.subject,
            "body": message.text[:MAX_TEXT],
            "link": message.link,
            "priority": message.priority,
            "camera_id": message.camera_id,
        }
        try:
            body = encrypt(target, msgspec.json.encode(content))
        except (ValueError, http_ece.ECEException) as error:
            raise DeliveryFailed("the subscription's keys cannot be used", permanent=True) from error
        headers = {
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(TTL_S),
            "Urgency": URGENCY[message.priority],
            # a later message of the same takes the place of one that was not fetched yet (RFC 8030, section 5.4)
            "Topic": message.id.replace("-", ""),
            "Authorization": self._key.authorization(target.endpoint, self._settings.contact),
        }
        try:
            await self._client.post(target.endpoint, body, headers)
        except DeliveryFailed as error:
            if error.status in GONE:
                await asyncio.to_thread(self._targets.forget, target.id)
                return
            raise

    async def close(self) -> None:
        await self._client.close()
