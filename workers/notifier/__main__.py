"""The notifier process: one thread takes in what happens, one event loop delivers what comes of it."""

import asyncio
import fcntl
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import zmq
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from core.clock import Clock, SystemClock
from core.config import Config
from core.db import make_engine
from core.db.events import last_sequence
from core.db.notifications import list_channels
from core.db.outbox import outbox_statistics, release, take_position
from core.db.push import PushTarget, push_targets, remove_subscription
from core.db.transfer import known_revisions, revision_of
from core.errors import ConfigError, DatabaseError, HaetaeError
from core.events.committed import CommittedEvents
from core.heartbeat import Heartbeat
from core.ids import CameraId, NodeId
from core.metrics import MetricsFile, Sample, counter, gauge
from core.notifications.channels import Channel, ChannelSecrets
from core.security.secrets import SecretBox
from workers.notifier.channels import Sender, make_sender
from workers.notifier.channels.mqtt import House
from workers.notifier.channels.webpush import Targets
from workers.notifier.delivery import Dispatcher
from workers.notifier.house import camera_states_now, switch_camera
from workers.notifier.intake import Intake
from workers.notifier.messages import Composer
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["main"]

log = structlog.get_logger()

LISTEN_S = 0.5
HEALTH_S = 2.0
AGAIN_S = 1.0
"""Pause after the database failed, or while it is being migrated."""
STUCK_S = 30.0
"""An intake that gives no sign of life for so long is not spoken for: whoever watches the heartbeat sees it."""


class Listener:
    """The thread that takes in events and looks after cameras; `told` is called when it queued something."""

    def __init__(
        self, config: Config, writer: Engine, clock: Clock, stop: StopFlag, told: Callable[[], object]
    ) -> None:
        self._config, self._writer, self._clock = config, writer, clock
        self._stop, self._told = stop, told
        self._reader = make_engine(config.database_url)
        self._thread = threading.Thread(target=self._run, name="intake")
        self.alive_at = time.monotonic()
        self.failure: HaetaeError | None = None

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()
        self._reader.dispose()

    def _run(self) -> None:
        with zmq.Context() as context:
            try:
                self._listen(context)
            except HaetaeError as error:
                self.failure = error
                self._stop.set()
            except Exception as error:
                log.exception("intake_failed")
                self.failure = HaetaeError(f"the intake failed: {type(error).__name__}", "its log says why")
                self._stop.set()

    def _listen(self, context: "zmq.Context[Any]") -> None:
        intake = Intake(self._config, self._writer, self._reader, self._clock)
        position = self._begin()
        events = CommittedEvents(context, self._config.endpoint("logger-feed"), self._reader, position)
        looked_at = float("-inf")
        try:
            while not self._stop.is_set():
                self.alive_at = time.monotonic()
                try:
                    found = events.receive(LISTEN_S)
                    intake.reload()
                    if found:
                        intake.take(found)
                        position = events.sequence
                        self._told()
                    if time.monotonic() >= looked_at + HEALTH_S:
                        looked_at = time.monotonic()
                        if intake.look_after():
                            self._told()
                except DBAPIError as error:
                    log.error("intake_delayed", reason=str(error.orig))
                    events.sequence = position  # what was handed out was not taken
                    self._stop.wait(AGAIN_S)
        finally:
            events.close()
            log.info("intake_ended", queued=intake.queued, held=intake.held)

    def _begin(self) -> int:
        """Where the notifiers are; the very first one begins with what comes next."""
        while not self._stop.is_set():
            try:
                last = last_sequence(self._reader)
                with self._writer.begin() as connection:
                    position = take_position(connection)
                    if position < 0:
                        take_position(connection, last)
                return last if position < 0 else position
            except DBAPIError as error:
                log.error("intake_delayed", reason=str(error.orig))
                self._stop.wait(AGAIN_S)
        return 0


class Lock:
    """One notifier per run folder; the kernel lets go of it however we end."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ConfigError where another one holds it."""
        self._fd = os.open(run_dir / "notifier.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("another notifier serves this data folder", "stop it first") from error


def _wait_migrated(engine: Engine, stop: StopFlag) -> None:
    """Until the database is at the newest revision, to which the logger brings it."""
    while not stop.is_set():
        try:
            if revision_of(engine) == known_revisions()[0]:
                return
        except DatabaseError as error:
            log.warning("database_away", reason=str(error))
        stop.wait(AGAIN_S)


def _samples(dispatcher: Dispatcher, reader: Engine) -> list[Sample]:
    """What the notifier measures; [] while the database is away."""
    told = dispatcher.statistics()
    try:
        names = {channel.id: channel.name for channel in list_channels(reader)}
        queues = outbox_statistics(reader)
    except DBAPIError:
        return []
    samples = [
        counter("notification_attempts", "Messages that were tried to be sent.", told.attempts),
        counter("notifications_sent", "Messages that were taken.", told.sent),
        counter("notifications_failed", "Attempts that failed.", told.failed),
        gauge("notification_channels_broken", "Channels that keep failing.", told.broken),
    ]
    for queue in queues:
        name = names.get(queue.channel_id, queue.channel_id)
        samples += [
            gauge("notifications_waiting", "Messages that are still to be sent.", queue.waiting, channel=name),
            gauge("notifications_given_up", "Messages that were given up.", queue.dead, channel=name),
        ]
    return samples


async def deliver(
    config: Config, writer: Engine, clock: Clock, stop: StopFlag, heartbeat: Heartbeat
) -> HaetaeError | None:
    """Delivers, with the intake beside it, until `stop` is set; returns what made it end early."""
    loop = asyncio.get_running_loop()
    reader = make_engine(config.database_url)
    box = SecretBox(config.secrets_dir)
    composer = Composer(config, reader)

    def forget(subscription_id: str) -> None:
        with writer.begin() as connection:
            remove_subscription(connection, subscription_id)

    def find(camera_id: CameraId | None, users: tuple[str, ...]) -> list[PushTarget]:
        return push_targets(reader, box, camera_id, users)

    house = House(
        lambda: camera_states_now(reader),
        composer.picture,
        lambda camera_id, enabled: switch_camera(config, writer, camera_id, enabled=enabled),
    )

    def make(channel: Channel, secrets: ChannelSecrets) -> Sender:
        return make_sender(channel, secrets, config, house, Targets(find, forget))

    dispatcher = Dispatcher(config, writer, reader, box, clock, make, random.Random())
    listener = Listener(config, writer, clock, stop, lambda: loop.call_soon_threadsafe(dispatcher.wake))
    listener.start()
    metrics = MetricsFile(config.run_dir, "notifier")
    log.info("notifier_ready")
    while not stop.is_set():
        if not await dispatcher.turn():
            await dispatcher.wait()
        if time.monotonic() - listener.alive_at < STUCK_S:
            heartbeat.beat("running", dispatcher.statistics().attempts)
        if metrics.due:
            metrics.write(await asyncio.to_thread(_samples, dispatcher, reader))
    metrics.close()
    await asyncio.to_thread(listener.join)
    await dispatcher.close()
    reader.dispose()
    log.info("notifier_stopped", statistics=dispatcher.statistics())
    return listener.failure


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM; exit code 78 where another notifier serves this data folder."""
    stop = StopFlag()
    _, config = parse_role_args("notifier", argv)
    heartbeat = Heartbeat(config.run_dir, "notifier")
    try:
        lock = Lock(config.run_dir)
        writer = make_engine(config.database_url, writer=True)
        _wait_migrated(writer, stop)
        if not stop.is_set():
            with writer.begin() as connection:
                released = release(connection, NodeId(config.node_id))
            log.info("claims_released", messages=released)
            failure = asyncio.run(deliver(config, writer, SystemClock(), stop, heartbeat))
            if failure:
                return fail(failure)
    except HaetaeError as error:
        return fail(error)
    writer.dispose()
    heartbeat.close()
    del lock
    return 0


if __name__ == "__main__":
    sys.exit(main())
