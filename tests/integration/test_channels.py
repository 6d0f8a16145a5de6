"""Each channel against a real server that takes, refuses, delays, redirects, or is not there."""

import asyncio
import base64
import contextlib
import email
import socket
from collections.abc import Awaitable, Callable
from email import policy
from pathlib import Path
from typing import Any

import aiomqtt
import http_ece
import jwt
import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.config import Config
from core.db.push import PushTarget
from core.errors import ConfigError
from core.ids import CameraId, uuid7
from core.notifications.channels import (
    AppriseSecrets,
    EmailSecrets,
    EmailSettings,
    MqttSecrets,
    MqttSettings,
    WebhookSecrets,
    WebhookSettings,
    WebPushSettings,
)
from core.notifications.model import Occasion
from core.notifications.vapid import VapidKey
from core.security.networks import AllowedNetworks
from tests.events import make_event
from tests.servers import Broker, Certificate, HookServer, MailServer, Request, find_mosquitto, refused_port
from workers.notifier.channels import DeliveryFailed, Message, Sent
from workers.notifier.channels.apprise import AppriseSender
from workers.notifier.channels.email import EmailSender
from workers.notifier.channels.http import CheckedClient
from workers.notifier.channels.mqtt import CameraState, House, MqttSender
from workers.notifier.channels.webhook import WebhookSender
from workers.notifier.channels.webpush import Targets, WebPushSender
from workers.notifier.messages import shrink


@pytest.fixture
def here(config: Config) -> Config:
    """Webhooks and push services may be on this machine."""
    networks = msgspec.structs.replace(config.networks, webhooks=("loopback",), push=("loopback",))
    notifier = msgspec.structs.replace(config.notifier, connect_s=30.0, send_s=60.0)
    return msgspec.structs.replace(config, networks=networks, notifier=notifier)


def message(**changes: Any) -> Message:
    event = make_event(description='<script>"사람이 쓰러짐"</script>')
    made = Message(
        id=str(uuid7()),
        occasion=Occasion.EVENT,
        priority=1,
        created_at=event.began_at,
        language="ko",
        subject="[높음] 정문: 쓰러짐",
        text=f"카메라: 정문\n설명: {event.description}",
        link="https://haetae.example/events/1",
        rule_name="r",
        camera_id=CameraId("gate"),
        camera_name="정문",
        event_id=event.id,
        event=event,
    )
    return msgspec.structs.replace(made, **changes)


def failure(run: Callable[[], Awaitable[Sent]]) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as found:
        asyncio.run(run())  # type: ignore[arg-type]
    return found.value


# ---- webhooks


async def hook(config: Config, url: str, one: Message | None = None, **settings: Any) -> Sent:
    sender = WebhookSender(WebhookSettings(url=url, **settings), WebhookSecrets(authorization="Bearer t"), config)
    try:
        async with asyncio.timeout(config.notifier.send_s):
            return await sender.send(one or message())
    finally:
        await sender.close()


def test_a_webhook_is_tried_again_under_the_same_key(here):
    one = message()
    with HookServer() as server:
        server.answer = 500
        for _ in range(2):
            error = failure(lambda: hook(here, server.url(), one))
            assert not error.permanent
            assert "500" in str(error)
    assert {request.headers["idempotency-key"] for request in server.requests} == {one.id}
    assert server.requests[0].headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("status", "permanent"), [(400, True), (404, True), (401, False), (408, False), (429, False), (503, False)]
)
def test_what_a_server_answers_decides_whether_it_is_tried_again(here, status, permanent):
    with HookServer() as server:
        server.answer = status
        server.headers["Retry-After"] = "7"
        error = failure(lambda: hook(here, server.url()))
    assert (error.permanent, error.after_s) == (permanent, 7.0)


def test_a_redirect_is_not_followed_wherever_it_leads(here):
    with HookServer() as server, HookServer() as other:
        server.answer = 307
        server.headers["Location"] = other.url()
        assert failure(lambda: hook(here, server.url())).permanent
        server.headers["Location"] = "http://169.254.169.254/latest/meta-data"
        assert failure(lambda: hook(here, server.url())).permanent
    assert other.requests == []


def test_a_slow_server_and_one_that_is_not_there_are_given_up_in_time(here):
    quick = msgspec.structs.replace(here, notifier=msgspec.structs.replace(here.notifier, send_s=0.3))
    with HookServer() as server:
        server.hold.clear()
        with pytest.raises(TimeoutError):
            asyncio.run(hook(quick, server.url()))
    with refused_port() as port:
        assert not failure(lambda: hook(here, f"http://127.0.0.1:{port}/")).permanent


def test_addresses_that_may_not_be_called_are_not_called(config):
    """The default: public addresses only, and the metadata services of clouds never."""
    with HookServer() as server:
        for url in (server.url(), "http://169.254.169.254/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://0/"):
            assert "may not be" in str(failure(lambda url=url: hook(config, url)))
    assert server.requests == []


def test_a_name_that_turns_into_another_address_is_not_followed_there(here, monkeypatch):
    """DNS rebinding: the first answer of the name server is what is checked, and what is connected to."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *args, **more)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return real(address, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with HookServer() as server:
        url = server.url(host="rebind.example")
        assert asyncio.run(hook(here, url)).detail == "answered 204"
        assert len(asked) == 1  # the name was not asked again between check and connection
        assert server.requests[0].headers["host"] == f"rebind.example:{server.port}"
        assert "10.0.0.1" in str(failure(lambda: hook(here, url)))  # and is checked anew at the next message
    assert len(server.requests) == 1


def test_a_certificate_is_held_against_the_name_not_the_address(here, tmp_path: Path):
    good, other = Certificate(tmp_path), Certificate(tmp_path, "other.example")
    with HookServer(good.context()) as server:
        url = server.url(scheme="https", host="localhost")
        assert asyncio.run(hook(here, url, ca_file=str(good.cert))).detail == "answered 204"
        assert "connect" in str(failure(lambda: hook(here, url)))
    with HookServer(other.context()) as server:
        url = server.url(scheme="https", host="localhost")
        assert "connect" in str(failure(lambda: hook(here, url, ca_file=str(other.cert))))
        assert server.requests == []


# ---- e-mail


def mail(server: MailServer, config: Config, one: Message | None = None, **changes: Any) -> Sent:
    settings = {
        "host": "localhost",
        "port": server.port,
        "sender": "haetae@site.example",
        "recipients": ("guard@site.example", "boss@site.example"),
        **changes,
    }
    password = settings.pop("password", "")
    sender = EmailSender(EmailSettings(**settings), EmailSecrets(password=password), config)
    return asyncio.run(sender.send(one or message()))


def mail_failure(*args: Any, **changes: Any) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as found:
        mail(*args, **changes)
    return found.value


def parsed(server: MailServer) -> email.message.EmailMessage:
    content = server.mails[-1].content
    assert isinstance(content, bytes)
    return email.message_from_bytes(content, policy=policy.default)  # type: ignore[return-value]


def jpeg(width: int, height: int) -> bytes:
    import cv2

    picture = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def test_a_mail_is_encrypted_authenticated_threaded_and_carries_its_picture(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    picture = jpeg(64, 48)
    one = message(snapshot=picture)
    again = message(occasion=Occasion.UPDATE, event_id=one.event_id)
    options = {"username": "haetae", "password": "right", "ca_file": str(certificate.cert)}
    with MailServer(tls=certificate.context(), password="right") as server:
        assert mail(server, here, one, **options).detail.startswith("2 of 2 recipients")
        first = parsed(server)
        mail(server, here, again, **options)
        second = parsed(server)
    assert server.encrypted == [True, True]
    assert first["Subject"] == one.subject
    assert first["Message-ID"] == f"<{one.id}@site.example>"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["References"] == second["References"] == f"<event.{one.event_id}@site.example>"
    assert first["Message-ID"] != second["Message-ID"]
    text, page = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert page is not None
    assert one.link in text.get_content()
    assert "<script>" not in page.get_content()
    images = [part for part in first.walk() if part.get_content_type() == "image/jpeg"]
    assert [image.get_content() for image in images] == [picture]
    assert f"cid:{images[0]['Content-ID'][1:-1]}" in page.get_content()


def test_a_header_cannot_be_smuggled_in(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    with MailServer(tls=certificate.context()) as server, pytest.raises(ValueError, match="linefeed"):
        mail(server, here, message(subject="x\r\nBcc: thief@evil.example"), ca_file=str(certificate.cert))


def test_tls_from_the_start_and_none_at_all(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    with MailServer(tls=certificate.context(), implicit=True) as server:
        mail(server, here, security="tls", ca_file=str(certificate.cert))
        assert server.encrypted == [True]
    with MailServer() as server:
        mail(server, here, security="none")
        assert "STARTTLS" in str(mail_failure(server, here)).upper()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(
            {
                "kind": "email",
                "host": "h",
                "sender": "a@b.c",
                "recipients": ["a@b.c"],
                "security": "none",
                "username": "u",
            },
            EmailSettings,
        )


def test_a_wrong_password_and_a_wrong_certificate_are_tried_again(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    with MailServer(tls=certificate.context(), password="right") as server:
        options = {"username": "haetae", "ca_file": str(certificate.cert)}
        wrong = mail_failure(server, here, password="wrong-password", **options)
        assert not wrong.permanent
        assert "wrong-password" not in str(wrong)
        assert not mail_failure(server, here, username="haetae", password="right").permanent
    assert server.mails == []


def test_greylisting_refusals_and_broken_servers(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    options = {"ca_file": str(certificate.cert)}
    with MailServer(tls=certificate.context()) as server:
        server.rcpt = lambda _address: "451 greylisted, come back"
        grey = mail_failure(server, here, **options)
        assert (grey.permanent, "451" in str(grey)) == (False, True)
        server.rcpt = lambda _address: "550 unknown"
        assert mail_failure(server, here, **options).permanent
        server.rcpt = lambda address: "451 later" if address.startswith("boss") else "250 OK"
        half = mail(server, here, **options)
        assert half.deferred == ("boss@site.example",)
        server.rcpt = lambda _address: "250 OK"
        mail(server, here, message(targets=half.deferred), **options)
        assert server.mails[-1].rcpt_tos == ["boss@site.example"]
        server.rcpt = lambda address: "550 gone" if address.startswith("boss") else "250 OK"
        lost = mail(server, here, **options)
        assert lost.deferred == ()
        assert "boss@site.example refused: 550" in lost.detail
        server.rcpt = lambda _address: "250 OK"
        for answer, permanent in (("452 full", False), ("554 spam", True)):
            server.data = lambda _envelope, answer=answer: answer
            assert mail_failure(server, here, **options).permanent is permanent
    with refused_port() as port:
        sender = EmailSender(
            EmailSettings(host="localhost", port=port, sender="a@b.c", recipients=("a@b.c",)), EmailSecrets(), here
        )
        assert not failure(lambda: sender.send(message())).permanent


def test_a_slow_mail_server_is_given_up_in_time(here, tmp_path: Path):
    certificate = Certificate(tmp_path)
    quick = msgspec.structs.replace(here, notifier=msgspec.structs.replace(here.notifier, send_s=0.3))
    with MailServer(tls=certificate.context(), slow_s=3.0) as server:
        assert not mail_failure(server, quick, ca_file=str(certificate.cert)).permanent


def test_pictures_are_made_small_enough():
    large = jpeg(1280, 720)
    assert len(large) > 200_000
    small = shrink(large, 200_000)
    assert small
    assert len(small) <= 200_000
    assert shrink(b"no picture" * 100_000, 1000) is None


# ---- Web Push


class Browser:
    """A subscription, with the keys that only the browser has."""

    def __init__(self, endpoint: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.secret = b"0123456789abcdef"
        form = serialization.PublicFormat.UncompressedPoint
        point = self.key.public_key().public_bytes(serialization.Encoding.X962, form)
        self.target = PushTarget(
            id=str(uuid7()),
            user_id=str(uuid7()),
            endpoint=endpoint,
            p256dh=base64.urlsafe_b64encode(point).rstrip(b"=").decode(),
            auth=base64.urlsafe_b64encode(self.secret).rstrip(b"=").decode(),
        )

    def read(self, request: Request) -> Any:
        return msgspec.json.decode(
            http_ece.decrypt(request.body, private_key=self.key, auth_secret=self.secret, version="aes128gcm")
        )


def push(config: Config, browsers: list[Browser], one: Message, forget: Callable[[str], None]) -> Sent:
    async def run() -> Sent:
        targets = Targets(lambda _camera, _users: [browser.target for browser in browsers], forget)
        settings = WebPushSettings(contact="mailto:admin@site.example")
        sender = WebPushSender(settings, VapidKey(config.secrets_dir), targets, config)
        # a push service speaks TLS; this one is held against a certificate of its own
        sender._client = CheckedClient(
            AllowedNetworks(("loopback",)), "push", connect_s=30.0, ca_file=str(config.data_dir / "localhost.crt")
        )
        try:
            return await sender.send(one)
        finally:
            await sender.close()

    return asyncio.run(run())


def test_a_push_is_encrypted_for_the_browser_and_signed_for_the_site(here):
    certificate = Certificate(here.data_dir)
    with HookServer(certificate.context()) as server:
        browsers = [Browser(server.url(f"/{n}", "https", "localhost")) for n in range(3)]
        answers = {"/0": 201, "/1": 410, "/2": 503}
        server.answer = lambda request: answers[request.path]
        gone: list[str] = []
        one = message()
        sent = push(here, browsers, one, gone.append)
        assert gone == [browsers[1].target.id]
        assert sent.deferred == (browsers[2].target.id,)
        answers["/2"] = 201
        push(here, browsers, msgspec.structs.replace(one, targets=sent.deferred), gone.append)
        first = next(request for request in server.requests if request.path == "/0")
        assert [request.path for request in server.requests].count("/0") == 1
        assert browsers[0].read(first)["title"] == one.subject
        token, public = first.headers["authorization"].removeprefix("vapid t=").split(", k=")
        assert public == VapidKey(here.secrets_dir).public
        key = VapidKey(here.secrets_dir)._key.public_key()
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=f"https://localhost:{server.port}")
        assert claims["sub"] == "mailto:admin@site.example"
        assert first.headers["content-encoding"] == "aes128gcm"
        assert len(first.headers["topic"]) == 32


# ---- MQTT

needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="apt-get install mosquitto")


class Cameras:
    """What the broker is told; a switch flips it."""

    def __init__(self) -> None:
        self.state = CameraState(
            camera_id=CameraId("gate"),
            name="정문",
            enabled=True,
            phase="watching",
            anomaly=False,
            score=0.0,
            event={},
            snapshot="",
        )
        self.pictures = {"a.jpg": b"jpeg a", "b.jpg": b"jpeg b"}

    def house(self) -> House:
        return House(lambda: [self.state], self.pictures.get, self._switch)

    def _switch(self, camera_id: CameraId, enabled: bool) -> None:
        assert camera_id == "gate"
        self.state = msgspec.structs.replace(self.state, enabled=enabled)


@contextlib.asynccontextmanager
async def listening(port: int, seen: dict[str, bytes], **more: Any):
    """What a subscriber of everything hears, newest by topic."""
    async with aiomqtt.Client("127.0.0.1", port, **more) as client:
        await client.subscribe("#", qos=1)

        async def listen() -> None:
            with contextlib.suppress(aiomqtt.MqttError):
                async for heard in client.messages:
                    seen[str(heard.topic)] = heard.payload  # type: ignore[assignment]

        task = asyncio.create_task(listen())
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def eventually(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(60):
        while not (found := condition()):  # noqa: ASYNC110 - what others do sets no event here
            await asyncio.sleep(0.02)
        return found


async def sent_in_the_end(sender: MqttSender, one: Message) -> None:
    """As the outbox does: again until it is taken."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(DeliveryFailed):
                await sender.send(one)
                return
            await asyncio.sleep(0.05)


def settings_of(broker: Broker, **more: Any) -> MqttSettings:
    return MqttSettings(host="localhost", port=broker.port, switches=True, **more)


@needs_mosquitto
def test_home_assistant_finds_the_cameras_sees_their_state_and_switches_them(here):
    async def run() -> None:
        cameras, seen = Cameras(), dict[str, bytes]()
        with Broker() as broker:
            async with aiomqtt.Client("127.0.0.1", broker.port) as before:
                await before.publish("haetae/gate/enabled/set", "OFF", retain=True)  # an order of the past
            sender = MqttSender(settings_of(broker), MqttSecrets(), cameras.house(), here)
            async with listening(broker.port, seen) as client:
                await eventually(lambda: seen.get("haetae/status") == b"online")
                await eventually(lambda: seen.get("haetae/gate/state") == b"watching")
                found = msgspec.json.decode(
                    await eventually(lambda: seen.get("homeassistant/binary_sensor/haetae_local_gate/anomaly/config"))
                )
                assert found["state_topic"] == "haetae/gate/anomaly"
                assert found["availability_topic"] == "haetae/status"
                assert found["device"]["name"] == "정문"
                wanted = {"binary_sensor", "sensor", "image", "switch"}
                await eventually(
                    lambda: {topic.split("/")[1] for topic in seen if topic.startswith("homeassistant/")} == wanted
                )
                cameras.state = msgspec.structs.replace(
                    cameras.state, anomaly=True, score=3.5, snapshot="a.jpg", event={"severity": "high"}
                )
                sender.refresh()
                await eventually(lambda: seen.get("haetae/gate/anomaly") == b"ON")
                await eventually(lambda: seen.get("haetae/gate/image") == b"jpeg a")
                await eventually(lambda: seen.get("haetae/gate/score") == b"3.50")
                await client.publish("haetae/gate/enabled/set", "OFF", qos=1)
                await eventually(lambda: seen.get("haetae/gate/enabled") == b"OFF")
                one = message()
                assert (await sender.send(one)).detail == "acknowledged by the broker"
                heard = msgspec.json.decode(await eventually(lambda: seen.get("haetae/notifications")))
                assert heard["id"] == one.id
                await sender.close()
                await eventually(lambda: seen.get("haetae/status") == b"offline")

    asyncio.run(run())


@needs_mosquitto
def test_a_broker_that_restarts_is_told_everything_again_and_loses_no_message(here):
    async def run() -> None:
        cameras, seen = Cameras(), dict[str, bytes]()
        with Broker() as broker:
            sender = MqttSender(settings_of(broker), MqttSecrets(), cameras.house(), here)
            await sent_in_the_end(sender, message())
            broker.stop()
            waiting = [asyncio.create_task(sent_in_the_end(sender, message(id=f"m{n}"))) for n in range(5)]
            await eventually(lambda: sender._client is None)
            broker.start()
            async with listening(broker.port, seen):
                await asyncio.gather(*waiting)
                await eventually(lambda: seen.get("haetae/gate/state") == b"watching")
                await eventually(lambda: seen.get("haetae/status") == b"online")
            await sender.close()

    asyncio.run(run())


@needs_mosquitto
def test_a_notifier_that_is_killed_is_told_to_be_offline_by_the_broker(here):
    async def run() -> None:
        seen: dict[str, bytes] = {}
        with Broker() as broker:
            sender = MqttSender(settings_of(broker), MqttSecrets(), Cameras().house(), here)
            async with listening(broker.port, seen):
                await eventually(lambda: seen.get("haetae/status") == b"online")
                await eventually(lambda: sender._client)
                assert sender._client
                sock = sender._client._client.socket()
                assert sock
                sock.shutdown(socket.SHUT_RDWR)  # as when its process dies: no word of farewell
                await eventually(lambda: seen.get("haetae/status") == b"offline")
            await sender.close()

    asyncio.run(run())


@needs_mosquitto
def test_mqtt_over_tls_holds_the_certificate_against_the_name(here, tmp_path: Path):
    certificate = Certificate(tmp_path)

    async def run() -> None:
        with Broker(certificate) as broker:
            good = settings_of(broker, tls=True, ca_file=str(certificate.cert))
            sender = MqttSender(good, MqttSecrets(), Cameras().house(), here)
            await sent_in_the_end(sender, message())
            await sender.close()
            unknown = MqttSender(settings_of(broker, tls=True), MqttSecrets(), Cameras().house(), here)
            await eventually(lambda: unknown._why != "not connected yet")
            with pytest.raises(DeliveryFailed, match=r"(?i)certificate|not connected|operation"):
                await unknown.send(message())
            await unknown.close()

    asyncio.run(run())


# ---- Apprise


def test_apprise_is_refused_where_it_is_not_installed_or_acts_on_this_machine(monkeypatch):
    import sys

    with pytest.raises(ConfigError):
        AppriseSender(AppriseSecrets(url="file:///etc/passwd"))
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match="not installed"):
        AppriseSender(AppriseSecrets(url="json://localhost"))
