"""MQTT: messages of rules, and beside them, retained, the state of every camera, as Home Assistant discovers it.

The state is not queued: whenever something changed, and after each connection, what the broker should hold is worked
out from the database, and what differs is published. A broker that starts anew is so told everything again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiomqtt
import msgspec
import structlog
from msgspec import UNSET

from core.config import Config
from core.errors import AddressRefused
from core.ids import CameraId
from core.notifications.channels import MqttSecrets, MqttSettings
from core.security.networks import AllowedNetworks, resolve
from workers.notifier.channels.base import DeliveryFailed, Message, Sent, tls_context
from workers.notifier.channels.webhook import payload

__all__ = ["CameraState", "House", "MqttSender", "topics"]

log = structlog.get_logger()

AGAIN_S = (0.5, 30.0)
"""First and longest pause before connecting again."""
REFRESH_S = 15.0
"""How often the state is looked at although nobody said that it changed."""
KEEPALIVE_S = 15


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of one camera."""

    camera_id: CameraId
    name: str
    enabled: bool
    phase: str
    anomaly: bool
    """Whether an event is going on."""
    score: float
    """The highest of the event that goes on, or of the last one."""
    event: dict[str, Any]
    """Attributes of that event; {} where there was none."""
    snapshot: str
    """Its picture, a name beneath the media folder; "" where there is none."""


class House(msgspec.Struct, frozen=True):
    """What the broker is told, and what it may ask for; all three block."""

    states: Callable[[], list[CameraState]]
    picture: Callable[[str], bytes | None]
    switch: Callable[[CameraId, bool], None]


def topics(settings: MqttSettings, state: CameraState, node_id: str) -> dict[str, str]:
    """The retained topics of one camera but the picture, and what they hold: state, and Home Assistant's devices."""
    base = f"{settings.prefix}/{state.camera_id}"
    found = {
        f"{base}/anomaly": "ON" if state.anomaly else "OFF",
        f"{base}/score": f"{state.score:.2f}",
        f"{base}/state": state.phase,
        f"{base}/enabled": "ON" if state.enabled else "OFF",
        f"{base}/event": msgspec.json.encode(state.event).decode(),
    }
    if settings.discovery_prefix:
        found |= _discovery(settings, state, node_id, base)
    return found


def _discovery(settings: MqttSettings, state: CameraState, node_id: str, base: str) -> dict[str, str]:
    device = f"haetae_{node_id}_{state.camera_id}".replace(".", "_")
    entities: dict[tuple[str, str], dict[str, Any]] = {
        ("binary_sensor", "anomaly"): {
            "name": "Anomaly",
            "state_topic": f"{base}/anomaly",
            "json_attributes_topic": f"{base}/event",
            "device_class": "problem",
        },
        ("sensor", "score"): {"name": "Score", "state_topic": f"{base}/score", "state_class": "measurement"},
        ("sensor", "state"): {"name": "State", "state_topic": f"{base}/state", "icon": "mdi:cctv"},
        ("image", "image"): {"name": "Last event", "image_topic": f"{base}/image", "content_type": "image/jpeg"},
    }
    if settings.switches:
        entities["switch", "enabled"] = {
            "name": "Watch",
            "state_topic": f"{base}/enabled",
            "command_topic": f"{base}/enabled/set",
        }
    common = {
        "availability_topic": f"{settings.prefix}/status",
        "device": {"identifiers": [device], "name": state.name, "manufacturer": "Haetae", "model": "Camera"},
        "origin": {"name": "Haetae"},
    }
    return {
        f"{settings.discovery_prefix}/{component}/{device}/{name}/config": msgspec.json.encode(
            {**one, **common, "unique_id": f"{device}_{name}"}
        ).decode()
        for (component, name), one in entities.items()
    }


class MqttSender:
    """Keeps a connection; what is sent while there is none fails, and is tried again by the outbox."""

    def __init__(self, settings: MqttSettings, secrets: MqttSecrets, house: House, config: Config) -> None:
        self._settings, self._house, self._config = settings, house, config
        self._password = secrets.password if secrets.password is not UNSET else None
        self._tls = tls_context(settings.ca_file) if settings.tls else None
        self._allowed = AllowedNetworks(config.networks.servers)
        self._client: aiomqtt.Client | None = None
        self._why = "not connected yet"
        self._changed = asyncio.Event()
        self._held: dict[str, str] = {}
        """What was published since the connection was made, by topic."""
        self._task = asyncio.create_task(self._run())

    async def send(self, message: Message) -> Sent:
        if self._client is None:
            raise DeliveryFailed(f"no connection to the broker: {self._why}")
        body = msgspec.json.encode(payload(message))
        try:
            await self._client.publish(f"{self._settings.prefix}/notifications", body, qos=1)
        except aiomqtt.MqttError as error:
            raise DeliveryFailed(f"the broker did not take it: {error}") from error
        return Sent("acknowledged by the broker")

    def refresh(self) -> None:
        """Says that something changed."""
        self._changed.set()

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # ---- the connection

    async def _run(self) -> None:
        pause_s = AGAIN_S[0]
        while True:
            try:
                async with self._connected() as client:
                    pause_s = AGAIN_S[0]
                    await self._serve(client)
            except (aiomqtt.MqttError, AddressRefused, OSError, TimeoutError) as error:
                self._why = str(error) or type(error).__name__
            except Exception as error:
                self._why = type(error).__name__
                log.exception("mqtt_failed")
            log.warning("mqtt_away", host=self._settings.host, reason=self._why, again_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_S[1])

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiomqtt.Client]:
        """A connection; that it is gone is told by the broker, however it ends."""
        settings = self._settings
        status = f"{settings.prefix}/status"
        connect_s = self._config.notifier.connect_s
        found = await resolve(settings.host, settings.port, self._allowed, purpose="servers", timeout_s=connect_s)
        client = aiomqtt.Client(
            # over TLS the certificate says who it is, and must be held against the name
            settings.host if self._tls else found[0],
            settings.port,
            username=settings.username or None,
            password=self._password,
            identifier=f"haetae-{self._config.node_id}-{settings.prefix.replace('/', '-')}",
            will=aiomqtt.Will(status, "offline", qos=1, retain=True),
            tls_context=self._tls,
            timeout=connect_s,
            keepalive=KEEPALIVE_S,
        )
        async with client:
            log.info("mqtt_connected", host=settings.host)
            self._held.clear()
            self._changed.set()
            try:
                await client.publish(status, "online", qos=1, retain=True)
                self._client = client
                yield client
            finally:
                self._client = None
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.publish(status, "offline", qos=1, retain=True)

    async def _serve(self, client: aiomqtt.Client) -> None:
        if self._settings.switches:
            await client.subscribe(f"{self._settings.prefix}/+/enabled/set", qos=1)
        work = [asyncio.create_task(self._mirror(client)), asyncio.create_task(self._obey(client))]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _obey(self, client: aiomqtt.Client) -> None:
        """Starts and stops cameras; what the broker had kept is an order of the past, and is not obeyed."""
        async for message in client.messages:
            camera_id = str(message.topic).removeprefix(f"{self._settings.prefix}/").split("/")[0]
            order = message.payload.decode(errors="replace") if isinstance(message.payload, bytes) else ""
            if message.retain or order not in {"ON", "OFF"}:
                continue
            log.info("camera_switched", camera_id=camera_id, order=order, by="mqtt")
            try:
                await asyncio.to_thread(self._house.switch, CameraId(camera_id), order == "ON")
            except Exception as error:
                log.warning("camera_not_switched", camera_id=camera_id, reason=str(error))
            self.refresh()

    async def _mirror(self, client: aiomqtt.Client) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._changed.wait()
            self._changed.clear()
            try:
                states = await asyncio.to_thread(self._house.states)
            except Exception as error:
                log.warning("mqtt_state_not_read", reason=str(error))
                continue
            await self._publish(client, states)

    async def _publish(self, client: aiomqtt.Client, states: list[CameraState]) -> None:
        wanted: dict[str, str] = {}
        for state in states:
            wanted |= topics(self._settings, state, self._config.node_id)
            image = f"{self._settings.prefix}/{state.camera_id}/image"
            wanted[image] = state.snapshot
        for topic in self._held.keys() - wanted.keys():  # of cameras that are gone
            await client.publish(topic, b"", qos=1, retain=True)
            del self._held[topic]
        for topic, value in wanted.items():
            if self._held.get(topic) == value:
                continue
            body: bytes | None = value.encode()
            if topic.endswith("/image"):
                body = await asyncio.to_thread(self._house.picture, value) if value else None
            if body is not None:
                await client.publish(topic, body, qos=1, retain=True)
            self._held[topic] = value
