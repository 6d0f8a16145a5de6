"""Apprise: the hundred other services, where it is installed. Its answer is yes or no, and no more."""

import asyncio
import importlib
from typing import Any

from msgspec import UNSET

from core.errors import ConfigError
from core.notifications.channels import AppriseSecrets
from workers.notifier.channels.base import DeliveryFailed, Message, Sent

__all__ = ["AppriseSender"]

REFUSED = {"file", "syslog", "dbus", "glib", "gnome", "kde", "macosx", "windows"}
"""What acts on this machine instead of sending something away."""
TYPES = ("failure", "failure", "warning", "info", "info")


class AppriseSender:
    def __init__(self, secrets: AppriseSecrets) -> None:
        """Raises ConfigError where Apprise is not installed, or does not know the URL."""
        try:
            apprise: Any = importlib.import_module("apprise")
        except ImportError as error:
            raise ConfigError("Apprise is not installed", "pip install 'haetae[apprise]'") from error
        url = secrets.url if secrets.url is not UNSET else ""
        if url.partition(":")[0].lower() in REFUSED:
            raise ConfigError("this kind of Apprise URL acts on this machine, and is refused")
        asset = apprise.AppriseAsset(async_mode=False, storage_mode="memory")
        self._apprise = apprise.Apprise(asset=asset)
        if not url or not self._apprise.add(url):
            raise ConfigError("Apprise does not know this URL", "see its list of services for how it is written")

    async def send(self, message: Message) -> Sent:
        text = message.text + (f"\n{message.link}" if message.link else "")
        kind = TYPES[message.priority]
        if not await asyncio.to_thread(self._apprise.notify, body=text, title=message.subject, notify_type=kind):
            raise DeliveryFailed("the service did not take it")
        return Sent("taken")

    async def close(self) -> None:
        pass
