"""E-mail by SMTP: text and HTML with the picture in it, one thread for each event, encrypted unless said otherwise."""

import asyncio
import html
import socket
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime, make_msgid

import aiosmtplib
from msgspec import UNSET

from core.clock import SystemClock
from core.config import Config
from core.errors import AddressRefused
from core.notifications.channels import EmailSecrets, EmailSettings
from core.notifications.model import Occasion
from core.security.networks import AllowedNetworks, resolve
from workers.notifier.channels.base import DeliveryFailed, Message, Sent, tls_context

__all__ = ["EmailSender", "compose"]

POLICY = SMTP_POLICY.clone(max_line_length=200)
PICTURE = "snapshot"
URGENT = 1
"""Messages of this priority or a higher one are marked so."""


def compose(message: Message, sender: str, recipients: tuple[str, ...]) -> EmailMessage:
    """The mail; the policy refuses line breaks in headers, whatever the event's texts hold."""
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=POLICY)
    mail["From"] = f"Haetae <{sender}>"
    mail["To"] = ", ".join(recipients)
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(SystemClock().now())
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Haetae-Occasion"] = message.occasion
    if message.priority <= URGENT:
        mail["Importance"] = "high"
    if message.event_id:
        # no mail has this id: it is the root that all mails of the event hang from
        mail["In-Reply-To"] = mail["References"] = f"<event.{message.event_id}@{domain}>"
    text = message.text + (f"\n\n{message.link}" if message.link else "")
    mail.set_content(text, cte="base64")
    picture = message.snapshot is not None and message.occasion is not Occasion.DIGEST
    content_id = make_msgid(PICTURE, domain=domain)
    mail.add_alternative(_html(message, content_id[1:-1] if picture else ""), subtype="html", cte="base64")
    if picture:
        body = mail.get_payload()[1]  # type: ignore[index]
        body.add_related(  # type: ignore[union-attr]
            message.snapshot, "image", "jpeg", cid=content_id, filename="snapshot.jpg", disposition="inline"
        )
    return mail


def _html(message: Message, content_id: str) -> str:
    parts = [f"<h2>{html.escape(message.subject)}</h2>"]
    if content_id:
        parts.append(f'<p><img src="cid:{content_id}" alt="" style="max-width:100%"></p>')
    parts += [f"<p>{html.escape(line)}</p>" for line in message.text.splitlines()]
    if message.link:
        link = html.escape(message.link, quote=True)
        parts.append(f'<p><a href="{link}">{link}</a></p>')
    return f'<!doctype html><html lang="{message.language}"><body>{"".join(parts)}</body></html>'


class EmailSender:
    """Connects for each mail: mails are few, and a connection that is kept is one that may be dead."""

    def __init__(self, settings: EmailSettings, secrets: EmailSecrets, config: Config) -> None:
        self._settings = settings
        self._password = secrets.password if secrets.password is not UNSET else None
        self._tls = tls_context(settings.ca_file)
        self._allowed = AllowedNetworks(config.networks.servers)
        self._connect_s = config.notifier.connect_s
        self._send_s = config.notifier.send_s

    async def send(self, message: Message) -> Sent:
        recipients = message.targets or self._settings.recipients
        mail = compose(message, self._settings.sender, recipients)
        connection = await self._connect()
        smtp = aiosmtplib.SMTP(
            hostname=self._settings.host,
            sock=connection,
            use_tls=self._settings.security == "tls",
            start_tls=self._settings.security == "starttls",
            tls_context=self._tls if self._settings.security != "none" else None,
            username=self._settings.username or None,
            password=self._password if self._settings.username else None,
            timeout=self._send_s,
        )
        try:
            async with smtp:
                refused, answer = await smtp.send_message(
                    mail, sender=self._settings.sender, recipients=list(recipients)
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            return self._some(recipients, {one.recipient: one for one in error.recipients}, "")
        except aiosmtplib.SMTPResponseException as error:
            # a password that is wrong is put right some time: the message need not be lost for it
            final = _final(error.code) and not isinstance(error, aiosmtplib.SMTPAuthenticationError)
            said = f"the mail server said {error.code} {_line(error.message)}"
            raise DeliveryFailed(said, permanent=final) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise DeliveryFailed(f"the mail server: {_line(str(error)) or type(error).__name__}") from error
        finally:
            connection.close()
        return self._some(recipients, refused, answer)

    def _some(
        self,
        recipients: tuple[str, ...],
        refused: "dict[str, aiosmtplib.SMTPResponse] | dict[str, aiosmtplib.SMTPRecipientRefused]",
        answer: str,
    ) -> Sent:
        """Of several recipients some may be refused, for now or for good."""
        deferred = tuple(one for one in recipients if one in refused and not _final(refused[one].code))
        lost = {one: refused[one] for one in recipients if one in refused and one not in deferred}
        if len(refused) == len(recipients):
            code, said = next(
                (one.code, one.message) for one in refused.values() if not deferred or not _final(one.code)
            )
            raise DeliveryFailed(f"the mail server said {code} {_line(said)}", permanent=not deferred)
        parts = [f"{len(recipients) - len(refused)} of {len(recipients)} recipients: {_line(answer)}"]
        parts += [f"{one} refused: {lost[one].code} {_line(lost[one].message)}" for one in lost]
        return Sent("; ".join(parts), deferred)

    async def _connect(self) -> socket.socket:
        """A connection to an address that was checked."""
        host, port = self._settings.host, self._settings.port
        try:
            addresses = await resolve(host, port, self._allowed, purpose="servers", timeout_s=self._connect_s)
        except AddressRefused as error:
            raise DeliveryFailed(str(error)) from error
        failed: Exception | None = None
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setblocking(False)
            try:
                async with asyncio.timeout(self._connect_s):
                    await asyncio.get_running_loop().sock_connect(made, (address, port))
                return made
            except (OSError, TimeoutError) as error:
                made.close()
                failed = error
            except BaseException:
                made.close()
                raise
        raise DeliveryFailed(f"cannot connect to {host}:{port}: {failed or 'no address'}")

    async def close(self) -> None:
        pass


def _final(code: int) -> bool:
    return code >= 500


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
