"""Delivery: takes what is due, most urgent first, sends it, and writes down what came of it.

One transaction a turn records what ended and claims what comes next. Each channel has places of its own, so that a slow
one keeps nobody else waiting, and a breaker, so that a dead one is left in peace.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from core.clock import Clock, utc_iso
from core.config import Config
from core.db.notifications import list_channels, notifications_version, open_secrets
from core.db.outbox import Delivery, Outcome, Queued, claim, due_channels, queue, record, suppress
from core.errors import HaetaeError
from core.ids import NodeId, uuid7
from core.logs import redact
from core.notifications.channels import (
    Channel,
    ChannelSecrets,
    EmailSettings,
    WebhookSettings,
)
from core.notifications.model import Notice, Occasion, State
from core.security.secrets import SecretBox
from workers.notifier.channels import DeliveryFailed, Message, Sender, Sent
from workers.notifier.channels.mqtt import MqttSender
from workers.notifier.messages import Composer, Known, Ready
from workers.notifier.patience import Breaker, retry_after_s

__all__ = ["Dispatcher", "DispatcherStatistics", "MakeSender"]

log = structlog.get_logger()

POLL_S = 0.5
"""How long something that becomes due, or is queued by another process, may go unseen."""
LEASE_S = 120.0
"""How long another node leaves alone what this one has claimed."""
AWAY_S = 1.0
"""Pause after the database failed."""
TELL_EVERY_MS = 3_600_000
"""How often it is told that the same channel keeps failing."""
CLOSE_S = 5.0

MakeSender = Callable[[Channel, ChannelSecrets], Sender]


class DispatcherStatistics(msgspec.Struct, frozen=True):
    attempts: int
    sent: int
    failed: int
    under_way: int
    broken: int
    """Channels that are left in peace."""


class _Work:
    """A channel at work."""

    def __init__(self, channel: Channel, sender: Sender, breaker: Breaker) -> None:
        self.channel, self.sender, self.breaker = channel, sender, breaker
        self.under_way: set[asyncio.Task[None]] = set()

    @property
    def wants_picture(self) -> bool:
        settings = self.channel.settings
        return isinstance(settings, EmailSettings | WebhookSettings) and settings.snapshot


class _Turn(msgspec.Struct, frozen=True):
    """What a turn at the database brought."""

    ready: list[Ready]
    dropped: list[Outcome]
    channels: list[tuple[Channel, ChannelSecrets | HaetaeError]] | None
    """All that are enabled, where something changed."""
    version: int


class Dispatcher:
    """Runs in one event loop; the database is spoken to in a thread beside it, one turn at a time."""

    def __init__(
        self,
        config: Config,
        writer: Engine,
        reader: Engine,
        box: SecretBox,
        clock: Clock,
        make: MakeSender,
        luck: random.Random,
    ) -> None:
        self._config, self._writer, self._reader = config, writer, reader
        self._box, self._clock, self._make, self._luck = box, clock, make, luck
        self._composer = Composer(config, reader)
        self._node_id = NodeId(config.node_id)
        self._work: dict[str, _Work] = {}
        self._version = -1
        self._ended: list[Outcome] = []
        self._broke: list[tuple[Channel, str]] = []
        """Channels that broke, and why: to be told."""
        self._woken = asyncio.Event()
        self._attempts = self._sent = self._failed = 0

    def wake(self) -> None:
        """Says that something was queued; to be called in the loop."""
        self._woken.set()
        for work in self._work.values():
            if isinstance(work.sender, MqttSender):
                work.sender.refresh()

    def statistics(self) -> DispatcherStatistics:
        return DispatcherStatistics(
            attempts=self._attempts,
            sent=self._sent,
            failed=self._failed,
            under_way=sum(len(work.under_way) for work in self._work.values()),
            broken=sum(work.breaker.is_broken for work in self._work.values()),
        )

    async def turn(self) -> bool:
        """Records, claims and starts what can be started; returns whether there was anything."""
        ended, self._ended = self._ended, []
        broke, self._broke = self._broke, []
        now = self._clock.monotonic()
        free = {key: work.breaker.slots(now, len(work.under_way)) for key, work in self._work.items()}
        pictures = {key for key, work in self._work.items() if work.wants_picture}
        try:
            turn = await asyncio.to_thread(self._at_database, ended, broke, free, pictures)
        except DBAPIError as error:
            self._ended, self._broke = ended + self._ended, broke + self._broke
            log.error("outbox_away", reason=str(error.orig))
            await asyncio.sleep(AWAY_S)
            return False
        self._ended += turn.dropped
        if turn.channels is not None:
            await self._reload(turn.channels)
        self._version = turn.version
        for ready in turn.ready:
            self._start(ready)
        return bool(ended or turn.ready or turn.dropped)

    async def wait(self) -> None:
        """Until there may be something to do, `POLL_S` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        self._woken.clear()

    async def close(self) -> None:
        """Waits a little for what is under way and records what came of it; the rest is sent at the next start."""
        tasks = [task for work in self._work.values() for task in work.under_way]
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._ended:
            with contextlib.suppress(DBAPIError):
                await asyncio.to_thread(self._at_database, self._ended, [], {}, set())
        for work in self._work.values():
            await work.sender.close()

    # ---- at the database, in a thread

    def _at_database(
        self, ended: list[Outcome], broke: list[tuple[Channel, str]], free: dict[str, int], pictures: set[str]
    ) -> _Turn:
        now = self._clock.now()
        with self._reader.connect() as connection:
            version = notifications_version(connection)
            due = [one for one in due_channels(connection, now) if free.get(one, 0) > 0]
        channels = self._open_channels() if version != self._version else None
        claimed: list[Queued] = []
        # nothing may fail after this is committed: what ended would be written twice, what was claimed forgotten
        if ended or broke or due:
            with self._writer.begin() as connection:
                record(connection, ended, now)
                for channel, reason in broke:
                    self._tell_broken(connection, channel, reason, now)
                for channel_id in due:
                    claimed += claim(
                        connection,
                        channel_id,
                        free[channel_id],
                        node_id=self._node_id,
                        now=now,
                        lease_s=LEASE_S,
                        starved_before=now - timedelta(seconds=self._config.notifier.starved_s),
                    )
        composed = self._compose(claimed, pictures)
        return _Turn(
            ready=[one for one in composed if isinstance(one, Ready)],
            dropped=[one for one in composed if isinstance(one, Outcome)],
            channels=channels,
            version=version,
        )

    def _compose(self, claimed: list[Queued], pictures: set[str]) -> list[Ready | Outcome]:
        """Never fails: what cannot be composed goes back."""
        if not claimed:
            return []
        try:
            with self._composer.reading(claimed) as known:
                return [self._compose_one(known, one, picture=one.channel_id in pictures) for one in claimed]
        except DBAPIError as error:
            log.error("outbox_away", reason=str(error.orig))
            return [self._put_back(one) for one in claimed]

    def _compose_one(self, known: Known, queued: Queued, *, picture: bool) -> Ready | Outcome:
        try:
            return self._composer.compose(known, queued, picture=picture)
        except DBAPIError:
            raise
        except Exception:
            log.exception("message_not_composed", outbox_id=queued.id)
            return self._put_back(queued)

    def _put_back(self, queued: Queued) -> Outcome:
        due_at = self._clock.now() + timedelta(seconds=AWAY_S)
        return Outcome(outbox_id=queued.id, state=State.WAITING, due_at=utc_iso(due_at), targets=queued.targets)

    def _open_channels(self) -> list[tuple[Channel, ChannelSecrets | HaetaeError]]:
        found: list[tuple[Channel, ChannelSecrets | HaetaeError]] = []
        for channel in list_channels(self._reader):
            if not channel.enabled:
                continue
            try:
                with self._reader.connect() as connection:
                    found.append((channel, open_secrets(connection, self._box, channel.id)))
            except HaetaeError as error:
                found.append((channel, error))
        return found

    def _tell_broken(self, connection: Connection, channel: Channel, reason: str, now: datetime) -> None:
        """Has another channel tell that this one keeps failing, once an hour at most."""
        backup = channel.settings.backup
        others = [
            work.channel.id
            for work in self._work.values()
            if work.channel.id != channel.id and not work.breaker.is_broken
        ]
        chosen = backup if backup in self._work else next(iter(others), None)
        if chosen is None:
            log.error("nobody_can_be_told", channel=channel.name, reason=reason)
            return
        now_ms = int(now.timestamp() * 1000)
        key = f"channel|{channel.id}"
        if suppress(connection, key, priority=1, now_ms=now_ms, window_ms=TELL_EVERY_MS).passes:
            notice = Notice(occasion=Occasion.CHANNEL, channel_name=channel.name, error=reason)
            queue(
                connection,
                dedup_key=f"{key}|{chosen}|{uuid7()}",
                channel_id=chosen,
                notice=notice,
                priority=1,
                now=now,
            )

    # ---- in the loop

    async def _reload(self, channels: list[tuple[Channel, ChannelSecrets | HaetaeError]]) -> None:
        """Closes what is gone or changed, and makes what is new or changed; a breaker starts anew with its channel."""
        wanted = {channel.id: channel for channel, _ in channels}
        for key, work in list(self._work.items()):
            if wanted.get(key) != work.channel:
                del self._work[key]
                await work.sender.close()
        for channel, secrets in channels:
            if channel.id in self._work:
                continue
            try:
                if isinstance(secrets, HaetaeError):
                    raise secrets
                sender = self._make(channel, secrets)
            except HaetaeError as error:
                sender = _Unusable(str(error))
            self._work[channel.id] = _Work(channel, sender, Breaker(self._config.notifier))
        self._woken.set()

    def _start(self, ready: Ready) -> None:
        work = self._work.get(ready.queued.channel_id)
        if work is None:  # taken away a moment ago
            self._ended.append(_again(ready.queued, self._clock.now(), 0.0))
            return
        task = asyncio.create_task(self._deliver(work, ready))
        work.under_way.add(task)

        def over(done: "asyncio.Task[None]") -> None:
            work.under_way.discard(done)
            self._woken.set()

        task.add_done_callback(over)

    async def _deliver(self, work: _Work, ready: Ready) -> None:
        queued = ready.queued
        begun = time.perf_counter()
        at = self._clock.now()
        self._attempts += 1
        failed: DeliveryFailed | None = None
        detail, deferred = "", ()
        try:
            async with asyncio.timeout(self._config.notifier.send_s):
                sent = await work.sender.send(ready.message)
            detail, deferred = sent.detail, sent.deferred
        except DeliveryFailed as error:
            failed = error
        except TimeoutError:
            failed = DeliveryFailed(f"no answer within {self._config.notifier.send_s:g} s")
        except Exception as error:
            log.exception("channel_failed", channel=work.channel.name)
            failed = DeliveryFailed(f"unexpected: {type(error).__name__}")
        delivery = Delivery(
            id=str(uuid7()),
            outbox_id=queued.id,
            channel_id=queued.channel_id,
            event_id=queued.event_id,
            node_id=self._node_id,
            at=utc_iso(at),
            ok=failed is None,
            detail=redact(str(failed) if failed else detail)[:500],
            took_ms=round((time.perf_counter() - begun) * 1000),
        )
        outcome = self._judge(work, ready, failed, deferred)
        self._ended.append(msgspec.structs.replace(outcome, delivery=delivery))

    def _judge(self, work: _Work, ready: Ready, failed: DeliveryFailed | None, deferred: tuple[str, ...]) -> Outcome:
        """What becomes of the message, and of the channel."""
        queued, now = ready.queued, self._clock.now()
        if failed is None:
            self._sent += 1
            if work.breaker.succeeded():
                log.info("channel_works_again", channel=work.channel.name)
            if not deferred:
                return Outcome(outbox_id=queued.id, state=State.SENT, told=ready.told)
        else:
            self._failed += 1
            log.warning("not_delivered", channel=work.channel.name, outbox_id=queued.id, reason=str(failed))
            if work.breaker.failed(self._clock.monotonic()):
                self._broke.append((work.channel, redact(str(failed))[:300]))
        too_old = now - datetime.fromisoformat(queued.created_at) > timedelta(hours=self._config.notifier.give_up_h)
        if too_old or (failed and failed.permanent):
            return Outcome(outbox_id=queued.id, state=State.DEAD, targets=queued.targets)
        asked_s = failed.after_s if failed else 0.0
        pause_s = retry_after_s(queued.attempts + 1, self._config.notifier, self._luck, asked_s)
        again = _again(queued, now, pause_s)
        return msgspec.structs.replace(again, targets=deferred) if deferred else again


class _Unusable:
    """Stands for a channel that cannot be made; its messages wait until it is put right."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def send(self, _message: Message, /) -> Sent:
        raise DeliveryFailed(self._reason)

    async def close(self) -> None:
        pass


def _again(queued: Queued, now: datetime, pause_s: float) -> Outcome:
    due_at = utc_iso(now + timedelta(seconds=pause_s))
    return Outcome(outbox_id=queued.id, state=State.WAITING, due_at=due_at, targets=queued.targets)
