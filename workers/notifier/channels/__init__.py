"""Channels at work, a file for each kind. A new kind is a file here, a settings struct, and a line below."""

from core.config import Config
from core.notifications.channels import (
    AppriseSecrets,
    Channel,
    ChannelSecrets,
    EmailSecrets,
    EmailSettings,
    MqttSecrets,
    MqttSettings,
    WebhookSecrets,
    WebhookSettings,
    WebPushSettings,
)
from core.notifications.vapid import VapidKey
from workers.notifier.channels.apprise import AppriseSender
from workers.notifier.channels.base import DeliveryFailed, Message, Sender, Sent
from workers.notifier.channels.email import EmailSender
from workers.notifier.channels.mqtt import House, MqttSender
from workers.notifier.channels.webhook import WebhookSender
from workers.notifier.channels.webpush import Targets, WebPushSender

__all__ = ["DeliveryFailed", "Message", "Sender", "Sent", "make_sender"]


def make_sender(channel: Channel, secrets: ChannelSecrets, config: Config, house: House, targets: Targets) -> Sender:
    """The channel, ready to send; to be called in the event loop. Raises ConfigError or SecretError."""
    match channel.settings, secrets:
        case EmailSettings() as settings, EmailSecrets():
            return EmailSender(settings, secrets, config)
        case WebhookSettings() as settings, WebhookSecrets():
            return WebhookSender(settings, secrets, config)
        case MqttSettings() as settings, MqttSecrets():
            return MqttSender(settings, secrets, house, config)
        case WebPushSettings() as settings, _:
            return WebPushSender(settings, VapidKey(config.secrets_dir), targets, config)
        case _, AppriseSecrets():
            return AppriseSender(secrets)
        case _:
            raise AssertionError("settings and secrets are of one kind")
