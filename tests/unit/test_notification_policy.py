"""What is held back, what is never more than the limit, what goes first, and what a clock set back does."""

import asyncio
import random
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from core.clock import FakeClock, utc_iso
from core.config import Config, NotifierConfig
from core.db import make_engine
from core.db.events import StoredEvent, events_after, upsert_events
from core.db.notifications import create_channel, create_rule, update_channel
from core.db.outbox import list_deliveries, list_messages, queue, suppress
from core.events import AnomalyEvent, Severity
from core.ids import CameraId, uuid7
from core.notifications.channels import WebhookSettings
from core.notifications.model import Actions, Notice, Occasion, Rule, RuleDraft, State
from core.security.secrets import SecretBox
from tests.events import make_event
from workers.notifier.channels import DeliveryFailed, Message, Sent
from workers.notifier.delivery import Dispatcher
from workers.notifier.intake import Intake
from workers.notifier.patience import Breaker, retry_after_s

START = datetime(2026, 3, 1, tzinfo=UTC)
SENDERS = 8


# ---- suppression


def ask(engine: Engine, now_ms: int, priority: int = 2, key: str = "r|gate|fall") -> tuple[bool, int]:
    with engine.begin() as connection:
        found = suppress(connection, key, priority=priority, now_ms=now_ms, window_ms=15_000)
    return found.passes, found.similar


@pytest.mark.parametrize("seed", range(3))
def test_of_eight_at_once_exactly_one_passes_at_0_15_and_30_seconds(database, database_url, seed):
    """Each sender has a connection of its own; their clocks differ by some milliseconds, as clocks do."""
    luck = random.Random(seed)
    engines = [make_engine(database_url, writer=True) for _ in range(SENDERS)]
    winners: dict[int, int] = {}
    counted = 0
    for at_ms in (0, 1, 7_500, 14_999, 15_000, 15_001, 29_999, 30_000):
        together = threading.Barrier(SENDERS)
        passed: list[int] = []

        def send(
            engine: Engine, now_ms: int, together: threading.Barrier = together, passed: list[int] = passed
        ) -> None:
            together.wait()
            passes, similar = ask(engine, now_ms)
            if passes:
                passed.append(similar)

        # the window is counted from whoever won: at its ends all clocks agree
        jitter = [luck.choice([0, 0, 1, 2]) if at_ms == 7_500 else 0 for _ in engines]
        threads = [
            threading.Thread(target=send, args=(engine, at_ms + late))
            for engine, late in zip(engines, jitter, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners[at_ms] = len(passed)
        counted += sum(passed)
    for engine in engines:
        engine.dispose()
    assert winners == {0: 1, 1: 0, 7_500: 0, 14_999: 0, 15_000: 1, 15_001: 0, 29_999: 0, 30_000: 1}
    # at 15 s those of 0 to 14.999 s are told, at 30 s those of 15 to 29.999 s; none twice, none forgotten
    assert counted == (7 + 8 + 8 + 8) + (7 + 8 + 8)


def test_what_is_more_urgent_passes_and_then_counts_as_the_last_sent(database):
    assert ask(database, 0, priority=2) == (True, 0)
    assert ask(database, 1_000, priority=2) == (False, 1)
    assert ask(database, 2_000, priority=0) == (True, 1)
    assert ask(database, 16_000, priority=1) == (False, 1)
    assert ask(database, 17_000, priority=1) == (True, 1)


def test_a_clock_set_back_never_silences_for_longer_than_two_windows(database):
    assert ask(database, 100_000) == (True, 0)
    assert ask(database, 99_999) == (False, 1)  # some other sender's clock, a little behind
    assert ask(database, 80_000) == (True, 1)  # an hour, or 20 s, back
    assert ask(database, 94_999) == (False, 1)
    assert ask(database, 95_000) == (True, 1)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.tuples(st.integers(-40_000, 40_000), st.integers(0, 4)), min_size=1, max_size=25))
def test_suppression_is_what_its_words_say(database, steps):
    key = str(uuid7())
    last: tuple[int, int] | None = None
    now, held = 10**9, 0
    for step_ms, priority in steps:
        now += step_ms
        wanted = last is None or abs(now - last[0]) >= 15_000 or priority < last[1]
        passes, similar = ask(database, now, priority, key)
        assert passes is wanted
        if wanted:
            assert similar == held
            last, held = (now, priority), 0
        else:
            held += 1
            assert similar == held


# ---- rules, limits and the position


class Desk:
    """An Intake with a channel and rules, and events that happen to it."""

    def __init__(self, database: Engine, config: Config) -> None:
        self.engine, self.config = database, config
        self.clock = FakeClock(START)
        self.box = SecretBox(config.secrets_dir)
        with database.begin() as connection:
            self.channel = create_channel(
                connection, self.box, name="hook", settings=WebhookSettings(url="https://example.com/")
            )
        self._intake: Intake | None = None
        self._sequence = 0

    def limit(self, per_hour: int) -> None:
        with self.engine.begin() as connection:
            hook = WebhookSettings(url="https://example.com/", limit_per_hour=per_hour)
            update_channel(connection, self.box, self.channel.id, settings=hook)

    def rule(self, name: str = "r", **actions: Any) -> Rule:
        with self.engine.begin() as connection:
            draft = RuleDraft(name=name, actions=Actions(channels=(self.channel.id,), **actions))
            return create_rule(connection, draft)

    @property
    def intake(self) -> Intake:
        if self._intake is None:
            self._intake = Intake(self.config, self.engine, self.engine, self.clock)
        return self._intake

    def happen(self, *events: AnomalyEvent) -> int:
        with self.engine.begin() as connection:
            upsert_events(connection, events)
        return self.take()

    def take(self) -> int:
        found = events_after(self.engine, self._sequence)
        self._sequence = found[-1].sequence if found else self._sequence
        self.intake.reload()
        return self.intake.take(found) if found else 0

    def event(self, **changes: Any) -> AnomalyEvent:
        began_at = utc_iso(self.clock.now())
        return make_event(**{"began_at": began_at, **changes})

    def in_state(self, state: State) -> list[Any]:
        return list_messages(self.engine, states=(state,), limit=500)


@pytest.fixture
def desk(database: Engine, config: Config) -> Desk:
    return Desk(database, config)


def test_never_more_than_the_limit_in_any_hour_and_the_last_fifth_is_for_critical_ones(desk):
    desk.limit(10)
    desk.rule()
    luck = random.Random(1)
    queued: list[tuple[float, int]] = []
    for number in range(400):
        severity = luck.choice([Severity.LOW, Severity.MEDIUM, Severity.CRITICAL])
        if desk.happen(desk.event(severity=severity, camera_id=CameraId(f"cam-{number}"))):
            queued.append((desk.clock.monotonic(), severity is Severity.CRITICAL))
        desk.clock.advance(luck.uniform(1, 60))
    times = [at for at, _ in queued]
    assert max(sum(at - 3600 < other <= at for other in times) for at in times) == 10
    for at, is_critical in queued:
        if not is_critical:
            assert sum(at - 3600 < other <= at for other in times) <= 8
    held = desk.in_state(State.HELD)
    assert {one.notice.held for one in held} == {"limit"}
    assert len(queued) + len(held) == 400


def test_a_page_is_decided_once_whoever_takes_it(desk):
    desk.rule()
    events = [StoredEvent(desk.event(camera_id=CameraId(f"cam-{n}")), n + 1, None, False) for n in range(5)]
    other = Intake(desk.config, desk.engine, desk.engine, desk.clock)
    other.reload()
    desk.intake.reload()
    assert desk.intake.take(events) == 5
    assert other.take(events) == 0
    assert other.take([*events, msgspec.structs.replace(events[0], sequence=9)]) == 0


def test_an_event_that_was_held_back_is_told_once_it_is_more_urgent(desk):
    desk.rule()
    first, second = desk.event(), desk.event()
    assert desk.happen(first, second) == 1
    assert desk.happen(msgspec.structs.replace(second, revision=2)) == 0
    assert desk.happen(msgspec.structs.replace(second, revision=3, severity=Severity.HIGH)) == 1
    assert desk.happen(msgspec.structs.replace(second, revision=4, severity=Severity.HIGH)) == 0


def test_old_events_and_those_that_somebody_knows_of_are_told_to_nobody(desk):
    desk.rule()
    desk.clock.advance(2 * 86_400)
    assert desk.happen(make_event()) == 0
    known = StoredEvent(desk.event(), 100, utc_iso(desk.clock.now()), False)
    desk.intake.reload()
    assert desk.intake.take([known]) == 0


def test_a_digest_tells_each_event_once_and_what_is_critical_at_once(desk):
    desk.rule(digest_minutes=30.0)
    events = [desk.event(camera_id=CameraId(f"cam-{n}")) for n in range(3)]
    desk.happen(*events)
    desk.happen(*(msgspec.structs.replace(one, revision=2) for one in events))
    [digest] = desk.in_state(State.WAITING)
    assert digest.notice.count == 3
    assert set(digest.notice.events) == {one.id for one in events}
    assert digest.due_at == utc_iso(START + timedelta(minutes=30))
    desk.happen(desk.event(severity=Severity.CRITICAL, camera_id=CameraId("door")))
    assert desk.in_state(State.WAITING)[0].occasion is Occasion.EVENT


# ---- delivery


class Recorder:
    """Takes messages, or fails as it is told."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.tried = 0
        self.failure: DeliveryFailed | None = None
        self.deferred: tuple[str, ...] = ()

    async def send(self, message: Message, /) -> Sent:
        self.tried += 1
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        self.taken.append(message)
        return Sent("taken", self.deferred)

    async def close(self) -> None:
        pass


class Office:
    """A Dispatcher over a Desk, whose channels are recorders by name."""

    def __init__(self, desk: Desk, **changes: Any) -> None:
        self.desk = desk
        notifier = msgspec.structs.replace(desk.config.notifier, **{"at_once": 1, **changes})
        config = msgspec.structs.replace(desk.config, notifier=notifier)
        self.recorders: dict[str, Recorder] = {}
        self.dispatcher = Dispatcher(
            config,
            desk.engine,
            desk.engine,
            desk.box,
            desk.clock,
            lambda channel, _secrets: self.recorders.setdefault(channel.name, Recorder()),
            random.Random(1),
        )

    @property
    def hook(self) -> Recorder:
        return self.recorders.setdefault("hook", Recorder())

    async def settle(self, turns: int = 200) -> None:
        """Until there is nothing to be done at this moment of the clock."""
        idle = 0
        for _ in range(turns):
            idle = 0 if await self.dispatcher.turn() else idle + 1
            if idle > 2:
                return
            await self.quiet()

    async def quiet(self) -> None:
        """Until nothing is under way."""
        while self.dispatcher.statistics().under_way:  # noqa: ASYNC110 - a turn of the loop is all it takes
            await asyncio.sleep(0)

    def put(self, key: str, priority: int = 2, **more: Any) -> None:
        with self.desk.engine.begin() as connection:
            queue(
                connection,
                dedup_key=key,
                channel_id=self.desk.channel.id,
                notice=Notice(occasion=Occasion.CHANNEL, channel_name=key),
                priority=priority,
                now=self.desk.clock.now(),
                **more,
            )


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(priorities=st.lists(st.integers(0, 4), min_size=1, max_size=30), late=st.lists(st.integers(0, 4), max_size=10))
def test_what_is_critical_never_waits_behind_what_is_less(desk, priorities, late):
    """With one place: whatever is taken, nothing more urgent was waiting; what comes meanwhile included."""

    async def run() -> None:
        office = Office(desk)
        tag = uuid7()
        for number, priority in enumerate(priorities):
            office.put(f"{tag}|{number}", priority)
        coming = list(late)
        waiting = list(priorities)
        while waiting:
            before = len(office.hook.taken)
            await office.dispatcher.turn()
            await office.quiet()
            for message in office.hook.taken[before:]:
                assert message.priority == min(waiting)
                waiting.remove(message.priority)
            if coming:
                waiting.append(coming[-1])
                office.put(f"{tag}|late{len(coming)}", coming.pop())
        await office.settle()

    asyncio.run(run())


def test_what_has_waited_for_very_long_goes_first_for_once(desk):
    async def run() -> None:
        office = Office(desk)
        office.put("old", 4)
        desk.clock.advance(301)
        for number in range(3):
            office.put(f"urgent{number}", 0)
        await office.settle()
        assert office.hook.taken[0].priority == 4

    asyncio.run(run())


def test_a_message_is_tried_again_later_and_later_then_given_up(desk):
    async def run() -> list[float]:
        office = Office(desk, broken_after=100, give_up_h=3.0)
        office.hook.failure = DeliveryFailed("no")
        office.put("k")
        await office.settle()
        pauses: list[float] = []
        tried_at = desk.clock.monotonic()
        while desk.in_state(State.WAITING):
            before = office.hook.tried
            desk.clock.advance(0.25 if len(pauses) < 3 else 30.0)
            await office.settle()
            if office.hook.tried > before:
                pauses.append(desk.clock.monotonic() - tried_at)
                tried_at = desk.clock.monotonic()
        return pauses

    pauses = asyncio.run(run())
    assert 0.9 <= pauses[0] <= 2.0
    assert pauses[0] < pauses[4] < pauses[8]
    assert max(pauses) <= 3600 + 60
    [dead] = desk.in_state(State.DEAD)
    assert dead.attempts == len(list_deliveries(desk.engine, outbox_id=dead.id, limit=500)) > 10


def test_a_refusal_for_good_is_given_up_at_once_and_a_partial_one_is_finished(desk):
    async def run() -> None:
        office = Office(desk)
        office.hook.failure = DeliveryFailed("never", permanent=True)
        office.put("k")
        await office.settle()
        assert len(desk.in_state(State.DEAD)) == 1
        office.hook.failure, office.hook.deferred = None, ("boss",)
        office.put("k2")
        await office.settle()
        [waiting] = desk.in_state(State.WAITING)
        assert waiting.targets == ("boss",)
        office.hook.deferred = ()
        desk.clock.advance(5)
        await office.settle()
        assert office.hook.taken[-1].targets == ("boss",)
        assert len(desk.in_state(State.SENT)) == 1

    asyncio.run(run())


def test_a_channel_that_keeps_failing_rests_and_another_one_is_told_once(desk):
    with desk.engine.begin() as connection:
        create_channel(connection, desk.box, name="other", settings=WebhookSettings(url="https://example.com/2"))

    async def run() -> None:
        office = Office(desk, at_once=4)
        office.hook.failure = DeliveryFailed("the server is on fire")
        for number in range(20):
            office.put(f"k{number}")
        await office.settle()
        assert office.dispatcher.statistics().broken == 1
        assert 5 <= office.hook.tried <= 8
        tried = office.hook.tried
        [told] = office.recorders["other"].taken
        assert told.occasion is Occasion.CHANNEL
        assert "hook" in told.subject
        assert "on fire" in told.text
        for _ in range(3):
            desk.clock.advance(650)
            await office.settle()
        assert office.hook.tried == tried + 3  # one to try, after each rest
        assert len(office.recorders["other"].taken) == 1
        office.hook.failure = None
        for _ in range(5):
            desk.clock.advance(3600)
            await office.settle()
        assert len(office.hook.taken) == 20
        assert office.dispatcher.statistics().broken == 0

    asyncio.run(run())


class BackwardClock(FakeClock):
    """Its wall clock can be set; its monotonic one goes on."""

    back = timedelta(0)

    def now(self) -> datetime:
        return super().now() - self.back


def test_a_clock_set_back_delays_nothing_for_longer_than_its_pause(desk):
    clock = BackwardClock(START)
    desk.clock = clock
    desk.rule()

    async def run() -> None:
        office = Office(desk, broken_after=100)
        office.hook.failure = DeliveryFailed("no")
        clock.advance(86_400)
        desk.happen(desk.event())
        await office.settle()
        assert office.hook.tried == 1
        clock.back = timedelta(hours=5)
        await office.settle()
        assert office.hook.tried == 2  # its pause was counted on a clock that is no more
        office.hook.failure = None
        clock.advance(4)
        await office.settle()
        assert len(office.hook.taken) == 1
        # five hours before the last one that was sent: not "the last 15 seconds"
        assert desk.happen(desk.event()) == 1
        await office.settle()
        assert len(office.hook.taken) == 2

    asyncio.run(run())


# ---- patience


@given(attempts=st.integers(1, 10_000), seed=st.integers(), asked_s=st.floats(0, 10**6))
def test_pauses_lie_between_a_second_and_an_hour(attempts, seed, asked_s):
    config = NotifierConfig()
    assert 1.0 <= retry_after_s(attempts, config, random.Random(seed), asked_s) <= 3600.0


def test_a_breaker_rests_longer_each_time_and_is_whole_after_one_success():
    breaker = Breaker(NotifierConfig())
    tried: list[int] = []
    for now in range(0, 3000, 10):
        if breaker.slots(now, 0):
            tried.append(now)
            breaker.failed(now)
    rests = [after - before for before, after in pairwise(tried[4:])]
    assert rests[:6] == [30, 60, 120, 240, 480, 600]
    assert breaker.is_broken
    assert breaker.succeeded()
    assert breaker.slots(0.0, 3) == NotifierConfig().at_once - 3
