"""What a channel is: it sends a message, or says why it could not."""

import ssl
from typing import Protocol

import msgspec

from core.errors import ConfigError, HaetaeError
from core.events import AnomalyEvent
from core.ids import CameraId, EventId
from core.notifications.model import HealthNote, Language, Occasion

__all__ = ["DeliveryFailed", "Message", "Sender", "Sent", "tls_context"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told, ready to be sent."""

    id: str
    """Of the delivery; the same however often it is tried, so that a receiver can tell a repetition."""
    occasion: Occasion
    priority: int
    """0 is critical."""
    created_at: str
    language: Language
    subject: str
    text: str
    link: str = ""
    rule_id: str | None = None
    rule_name: str = ""
    camera_id: CameraId | None = None
    camera_name: str = ""
    event_id: EventId | None = None
    event: AnomalyEvent | None = None
    acknowledged: bool = False
    similar: int = 0
    count: int = 0
    health: HealthNote | None = None
    snapshot: bytes | None = None
    """A JPEG within `notifier.snapshot_kb`."""
    targets: tuple[str, ...] | None = None
    """Of several recipients those that are still to be told; None: all."""


class Sent(msgspec.Struct, frozen=True):
    """It is told; `deferred` recipients are to be tried again."""

    detail: str
    deferred: tuple[str, ...] = ()


class DeliveryFailed(HaetaeError):
    """A message was not taken. `permanent`: trying it again will not help; `after_s`: not before so long.

    `status` is what an HTTP server answered, 0 where there was none.
    """

    def __init__(self, message: str, *, permanent: bool = False, after_s: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.permanent = permanent
        self.after_s = after_s


class Sender(Protocol):
    """One channel at work; made and used in one event loop."""

    async def send(self, message: Message, /) -> Sent:
        """Sends within the caller's time-out; raises DeliveryFailed."""
        ...

    async def close(self) -> None: ...


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Certificates are always checked, against the system's authorities or those in `ca_file`."""
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot read the certificates in {ca_file}: {error}") from error
