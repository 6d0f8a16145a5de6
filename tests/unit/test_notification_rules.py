"""Which rules an event meets, which cameras are in trouble, and what a rule would have sent."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import CameraPhase
from core.cameras.history import CameraStateChange
from core.cameras.zones import Weekly, Zone, ZoneKind
from core.clock import utc_iso
from core.db.events import upsert_events
from core.db.history import upsert_states
from core.events import AnomalyEvent, Severity
from core.ids import CameraId, NodeId, uuid7
from core.notifications.dry_run import dry_run
from core.notifications.model import (
    Actions,
    EventConditions,
    HealthConditions,
    Repeat,
    Rule,
    RuleDraft,
    priority_of,
)
from core.notifications.rules import RuleBook, Site, as_rule, outages
from tests.events import BEGIN, make_event

CHANNEL = str(uuid7())
SEOUL = ZoneInfo("Asia/Seoul")
ZONE = Zone(name="door", kind=ZoneKind.DIRECTION, direction=0.0, points=((0, 0), (0.5, 0), (0.5, 0.5), (0, 0.5)))
SITE = Site(
    time_zone=SEOUL,
    groups={"g": frozenset({CameraId("gate"), CameraId("yard")})},
    zones={CameraId("gate"): [ZONE]},
)


def rule(conditions: Any = None, name: str = "r", **actions: Any) -> Rule:
    draft = RuleDraft(
        name=name, conditions=conditions or EventConditions(), actions=Actions(channels=(CHANNEL,), **actions)
    )
    return as_rule(draft)


def meets(event: AnomalyEvent, earlier: list[AnomalyEvent] | None = None, **conditions: Any) -> bool:
    book = RuleBook([rule(EventConditions(**conditions))], SITE)
    return bool(book.match(event, lambda _event, _within: earlier or []))


def test_each_condition_decides():
    event = make_event(severity=Severity.MEDIUM, vlm_type="fall", peak_score=3.5, peak_x=10, peak_y=10)
    assert meets(event)
    assert meets(event, cameras=(CameraId("gate"),))
    assert not meets(event, cameras=(CameraId("yard"),))
    assert meets(event, groups=("g",))
    assert not meets(event, groups=("none",))
    assert meets(event, types=("fall", "fire_smoke"))
    assert not meets(event, types=("fire_smoke",))
    assert meets(event, min_severity=Severity.MEDIUM)
    assert not meets(event, min_severity=Severity.HIGH)
    assert meets(event, min_score=3.5)
    assert not meets(event, min_score=3.6)
    assert meets(event, min_duration_s=4.0)
    assert not meets(event, min_duration_s=4.1)
    assert meets(event, zones=("door",))
    assert not meets(msgspec.structs.replace(event, peak_x=600), zones=("door",))
    assert not meets(msgspec.structs.replace(event, provisional=True), provisional=False)


def test_schedules_are_in_the_sites_time_zone_and_go_over_midnight():
    # BEGIN is Sunday 2026-03-01 00:00 UTC: 09:00 in Seoul
    night = (Weekly(days=(7,), begin="23:00", end="04:00"),)
    assert not meets(make_event(), schedule=night)
    assert meets(make_event(seconds=14 * 3600), schedule=night)  # Sunday 23:00
    assert meets(make_event(seconds=18 * 3600), schedule=night)  # Monday 03:00
    assert not meets(make_event(seconds=19 * 3600), schedule=night)  # Monday 04:00


def test_quiet_hours_are_broken_by_what_is_critical_alone():
    quiet = (Weekly(),)
    assert not meets(make_event(severity=Severity.HIGH), quiet=quiet)
    assert meets(make_event(severity=Severity.CRITICAL), quiet=quiet)


def test_repetitions_count_only_events_that_meet_the_rest():
    repeat = Repeat(count=3, within_s=60)
    event = make_event(100.0, vlm_type="fall")
    falls = [make_event(90.0, vlm_type="fall"), make_event(95.0, vlm_type="fall")]
    assert meets(event, falls, types=("fall",), repeat=repeat)
    assert not meets(event, [falls[0], make_event(95.0)], types=("fall",), repeat=repeat)


def test_rules_are_asked_in_order_until_one_says_stop():
    rules = [rule(name="a"), rule(name="b", stop=True), rule(name="c")]
    found = RuleBook(rules, SITE).match(make_event(), lambda *_: [])
    assert [match.rule.name for match in found] == ["a", "b"]
    assert found[0].priority == priority_of(Severity.LOW) == 3


@given(
    severities=st.lists(st.sampled_from(list(Severity)), max_size=5),
    event_severity=st.sampled_from(list(Severity)),
)
def test_a_rule_is_met_by_what_is_as_severe_or_worse(severities, event_severity):
    rules = [rule(EventConditions(min_severity=one), name=f"{n}") for n, one in enumerate(severities)]
    found = RuleBook(rules, SITE).match(make_event(severity=event_severity), lambda *_: [])
    order = list(Severity)
    wanted = [f"{n}" for n, one in enumerate(severities) if order.index(event_severity) >= order.index(one)]
    assert [match.rule.name for match in found] == wanted


def change(seconds: float, phase: CameraPhase, reason: str = "") -> CameraStateChange:
    return CameraStateChange(
        id=str(uuid7()),
        camera_id=CameraId("gate"),
        node_id=NodeId("local"),
        at=utc_iso(BEGIN + timedelta(seconds=seconds)),
        phase=phase,
        reason=reason,
    )


def test_an_outage_lasts_through_restarts_until_the_camera_watches_again():
    changes = [
        change(0, CameraPhase.WATCHING),
        change(10, CameraPhase.DISCONNECTED, "no route"),
        change(20, CameraPhase.STARTING),
        change(30, CameraPhase.BACKOFF, "crashed"),
        change(40, CameraPhase.WATCHING),
        change(50, CameraPhase.FAILED),
        change(60, CameraPhase.STOPPED),
        change(70, CameraPhase.CONNECTING),
    ]
    first, second, third = outages(changes, HealthConditions())
    assert (first.id, first.since, first.until) == (changes[1].id, changes[1].at, changes[4].at)
    assert (first.phase, first.reason) == (CameraPhase.BACKOFF, "crashed")
    assert (second.since, second.until) == (changes[5].at, changes[6].at)
    assert third.until is None


def test_a_dry_run_tells_what_would_have_been_sent_and_held_back(database, config):
    events = [make_event(float(second)) for second in (0, 5, 14, 15, 20, 100, 4000)]
    other = make_event(2.0, camera_id=CameraId("yard"))
    with database.begin() as connection:
        upsert_events(connection, [*events, other])
    draft = RuleDraft(name="r", actions=Actions(channels=(CHANNEL,), limit_per_hour=3))
    since, until = utc_iso(BEGIN), utc_iso(BEGIN + timedelta(days=7))
    found = dry_run(database, config, draft, since=since, until=until)
    assert (found.looked_at, found.matched) == (8, 8)
    # gate at 0, yard at 2, gate at 15; at 100 the limit of 3 is reached; at 4000 it is another hour
    assert (found.sent, found.suppressed, found.limited) == (4, 3, 1)
    assert [(day.sent, day.suppressed) for day in found.days] == [(4, 3)]
    assert found.examples[0] == events[0].id
    assert found.complete
    digest = RuleDraft(name="r", actions=Actions(channels=(CHANNEL,), digest_minutes=60))
    assert dry_run(database, config, digest, since=since, until=until).sent == 2


def test_a_dry_run_of_a_health_rule_counts_outages_that_lasted(database, config):
    with database.begin() as connection:
        upsert_states(
            connection,
            [
                change(0, CameraPhase.WATCHING),
                change(10, CameraPhase.DISCONNECTED),
                change(15, CameraPhase.WATCHING),
                change(100, CameraPhase.DISCONNECTED),
                change(300, CameraPhase.WATCHING),
            ],
        )
    draft = RuleDraft(name="r", conditions=HealthConditions(for_s=60), actions=Actions(channels=(CHANNEL,)))
    found = dry_run(database, config, draft, since=utc_iso(BEGIN), until=utc_iso(datetime.now(UTC)))
    assert (found.matched, found.sent) == (1, 2)  # that it is down, and that it is up again


def test_conditions_that_cannot_be_are_refused():
    for wrong in (
        {"name": "r", "actions": {"channels": []}},
        {"name": "r", "actions": {"channels": [CHANNEL]}, "conditions": {"about": "events", "min_score": -1}},
        {"name": "r", "actions": {"channels": [CHANNEL]}, "conditions": {"about": "events", "nonsense": 1}},
        {"name": "r", "actions": {"channels": [CHANNEL]}, "conditions": {"about": "health", "types": ["fall"]}},
        {"name": "r\n", "actions": {"channels": [CHANNEL]}},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, RuleDraft)
