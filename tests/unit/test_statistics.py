"""Statistics: roll-ups equal a plain count in any time zone; "nobody looked" is not "nothing happened"."""

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete

from core.cameras import CameraConfig
from core.cameras.history import ScoreMinute, pack_scores
from core.clock import FakeClock, utc_iso
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.events import upsert_events
from core.db.history import score_curve, score_minutes, upsert_scores
from core.db.rollup import mark_deleted, quarter_at, roll_up_changes, roll_up_range
from core.db.statistics import Looked, Period, StatisticsQuery, StatisticsReader
from core.db.tables import EventRow
from core.errors import ConfigError
from core.events import AnomalyEvent
from core.ids import CameraId, NodeId
from tests.events import make_event

NAN = float("nan")
ZONES = (
    "UTC",
    "Asia/Seoul",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
)


def store(engine: Engine, *events: AnomalyEvent) -> None:
    with engine.begin() as connection:
        upsert_events(connection, events)


def at(moment: str, **changes: object) -> AnomalyEvent:
    return make_event(began_at=utc_iso(datetime.fromisoformat(moment)), **changes)


def minute(moment: str, camera: str = "gate", *, up: int = 60, watched: int = 60, score: float = 1.0) -> ScoreMinute:
    seconds = [score] * watched + [NAN] * (60 - watched)
    number = int(datetime.fromisoformat(moment).timestamp()) // 60
    return ScoreMinute(
        camera_id=CameraId(camera),
        node_id=NodeId("local"),
        minute=number,
        up=(1 << up) - 1,
        seconds=pack_scores(seconds),
    )


def remember(engine: Engine, *minutes: ScoreMinute) -> None:
    with engine.begin() as connection:
        upsert_scores(connection, minutes)


def read(engine: Engine, first: str, last: str, now: str = "2027-01-01T00:00:00Z", **query: object):
    clock = FakeClock(datetime.fromisoformat(now))
    wanted = StatisticsQuery(first=date.fromisoformat(first), last=date.fromisoformat(last), **query)
    return StatisticsReader(engine, clock).read(wanted)


# ---- against a plain count


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    seed=st.integers(0, 10**6),
    zone=st.sampled_from(ZONES),
    period=st.sampled_from(list(Period)),
    begin=st.dates(date(2026, 1, 5), date(2026, 12, 20)),
    some_cameras=st.booleans(),
)
def test_roll_ups_equal_a_plain_count_in_any_time_zone(tmp_path_factory, seed, zone, period, begin, some_cameras):
    rnd = random.Random(seed)
    url = f"sqlite:///{tmp_path_factory.mktemp('count') / 'test.db'}"
    upgrade(url)
    engine = make_engine(url, writer=True)
    noon = datetime(begin.year, begin.month, begin.day, 12, tzinfo=UTC)
    events = [
        at(
            utc_iso(noon + timedelta(seconds=rnd.uniform(-40, 40) * 86_400)),
            camera_id=CameraId(f"cam-{rnd.randrange(4)}"),
            vlm_type=rnd.choice(["fall", "fire_smoke", "other"]),
            severity=rnd.choice(["low", "high"]),
            peak_score=rnd.randrange(32) / 8,
        )
        for _ in range(120)
    ]
    for begun in range(0, len(events), 50):  # some are counted, some change afterwards
        store(engine, *events[begun : begun + 50])
        roll_up_changes(engine)
    changed = [msgspec.structs.replace(one, revision=2, vlm_type="fall") for one in rnd.sample(events, 20)]
    store(engine, *changed)
    roll_up_changes(engine)
    current = {one.id: one for one in (*events, *changed)}.values()

    last = begin + timedelta(days=rnd.randrange(25))
    cameras = (CameraId("cam-0"), CameraId("cam-2"), CameraId("cam-9")) if some_cameras else None
    found = read(engine, str(begin), str(last), period=period, time_zone=zone, cameras=cameras)
    engine.dispose()

    visible = [one for one in current if cameras is None or one.camera_id in cameras]
    local = [(datetime.fromisoformat(one.began_at).astimezone(ZoneInfo(zone)).date(), one) for one in visible]
    for one in found.periods:
        inside = [event for day, event in local if start_of(day, period) == one.begin]
        assert one.events == len(inside)
        assert one.by_type == Counter(event.vlm_type for event in inside)
        assert one.by_severity == Counter(str(event.severity) for event in inside)
        assert one.by_camera == Counter(event.camera_id for event in inside)
        assert one.peak_score == max((event.peak_score for event in inside), default=0.0)
        assert one.duration_s == pytest.approx(4.0 * len(inside))
    assert [one.begin for one in found.periods] == sorted(
        {start_of(begin + timedelta(days=n), period) for n in range((last - begin).days + 1)}
    )
    assert found.total.events == sum(one.events for one in found.periods) == found.trend.events


def start_of(day: date, period: Period) -> date:
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def test_counting_twice_changes_nothing_on_either_database(database):
    store(database, at("2026-03-01T10:00:00Z"), at("2026-03-01T10:20:00Z", vlm_type="fall"))
    remember(database, minute("2026-03-01T10:00:00Z", watched=30))
    assert roll_up_changes(database) == 3
    first = read(database, "2026-03-01", "2026-03-01")
    assert roll_up_changes(database) == 0
    roll_up_range(database, quarter_at(datetime(2026, 2, 28, tzinfo=UTC)), quarter_at(datetime(2026, 3, 3, tzinfo=UTC)))
    second = read(database, "2026-03-01", "2026-03-01")
    assert msgspec.structs.replace(second, version=first.version) == first
    assert (first.total.events, first.total.up_s, first.total.watched_s) == (2, 60, 30)


def test_an_event_that_was_deleted_is_forgotten_unless_retention_did_it(database):
    store(database, at("2026-03-01T10:00:00Z"), at("2026-03-01T10:00:01Z", vlm_type="fall"))
    roll_up_changes(database)
    day = quarter_at(datetime(2026, 3, 1, tzinfo=UTC))
    with database.begin() as connection:
        mark_deleted(connection, "events", quarter_at(datetime(2026, 3, 1, 11, tzinfo=UTC)))
        connection.execute(delete(EventRow).where(EventRow.vlm_type == "fall"))
    roll_up_range(database, day, day + 96)
    assert read(database, "2026-03-01", "2026-03-01").total.events == 2

    store(database, at("2026-03-01T12:00:00Z"), at("2026-03-01T12:00:01Z", vlm_type="fall"))
    roll_up_changes(database)
    with database.begin() as connection:
        connection.execute(delete(EventRow).where(EventRow.vlm_type == "fall"))
    roll_up_range(database, day, day + 96)
    assert read(database, "2026-03-01", "2026-03-01").total.by_type == {"unusual_motion": 2, "fall": 1}


# ---- days that are not 24 hours long, zones that are not whole hours


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Africa/Cairo", "2026-04-24", 23),  # midnight does not exist
        ("Asia/Kathmandu", "2026-06-01", 24),
    ],
)
def test_a_day_has_as_many_quarters_as_it_lasts(database, zone, day, hours):
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=1)
    store(database, *(at(utc_iso(begin + timedelta(minutes=15 * n))) for n in range(4 * 24 * 3)))
    roll_up_changes(database)
    assert read(database, day, day, time_zone=zone).total.events == hours * 4


# ---- coverage


def add(engine: Engine, name: str, created_at: str) -> None:
    from sqlalchemy import update

    from core.db.tables import CameraRow

    add_camera(engine, CameraConfig(camera_id=CameraId(name), name=name, url="demo://plaza"))
    with engine.begin() as connection:
        connection.execute(update(CameraRow).where(CameraRow.camera_id == name).values(created_at=created_at))


def test_nothing_happened_is_told_apart_from_nobody_looked(database):
    add(database, "gate", "2026-03-02T00:00:00.000000Z")
    hours = [minute(f"2026-03-02T{hour:02d}:{n:02d}:00Z") for hour in range(24) for n in range(60)]
    remember(database, *hours, *(minute(f"2026-03-03T00:{n:02d}:00Z", watched=20) for n in range(60)))
    roll_up_changes(database)
    periods = read(database, "2026-03-01", "2026-03-04").periods
    assert [one.looked for one in periods] == [Looked.NOT, Looked.FULLY, Looked.PARTLY, Looked.NOT]
    assert [one.expected_s for one in periods] == [0, 86_400, 86_400, 86_400]
    assert [one.coverage for one in periods] == [None, 1.0, pytest.approx(1200 / 86_400), 0.0]
    assert [one.up_s for one in periods] == [0, 86_400, 3_600, 0]


def test_a_period_that_is_not_over_is_marked_and_expects_only_what_has_passed(database):
    add(database, "gate", "2026-03-01T00:00:00.000000Z")
    found = read(database, "2026-03-01", "2026-03-03", now="2026-03-02T06:00:00Z")
    assert [one.partial for one in found.periods] == [False, True, True]
    assert [one.expected_s for one in found.periods] == [86_400, 6 * 3_600, 0]


def test_parts_of_a_minute_are_laid_together_whatever_their_order(database):
    head = ScoreMinute(
        camera_id=CameraId("gate"),
        node_id=NodeId("n"),
        minute=100,
        up=0b0111,
        seconds=pack_scores([1, 2, NAN] + [NAN] * 57),
    )
    tail = ScoreMinute(
        camera_id=CameraId("gate"),
        node_id=NodeId("n"),
        minute=100,
        up=0b1110,
        seconds=pack_scores([NAN, 3, 4] + [NAN] * 57),
    )
    for part in (tail, head, tail, head, head):
        remember(database, part)
    assert score_minutes(database, CameraId("gate"), 0, 1000) == [(100, 4.0, pytest.approx(8 / 3))]
    curve = score_curve(database, CameraId("gate"), "1970-01-01T01:40:00Z", "1970-01-01T01:40:59Z")
    assert curve == [(6000, 1.0), (6001, 3.0), (6002, 4.0)]


# ---- trends


def test_the_trend_holds_like_against_like(database):
    add(database, "gate", "2026-01-01T00:00:00.000000Z")
    for week, count in enumerate((4, 6, 100, 5)):  # four Mondays before Monday 2026-03-30
        day = date(2026, 3, 2) + timedelta(weeks=week)
        store(database, *(at(f"{day}T10:{n % 60:02d}:{n // 60:02d}Z") for n in range(count)))
        remember(database, minute(f"{day}T10:00:00Z"))
    store(database, *(at(f"2026-03-30T09:{n:02d}:00Z") for n in range(8)))
    roll_up_changes(database)
    trend = read(database, "2026-03-30", "2026-03-30").trend
    assert (trend.events, trend.before, trend.change, trend.usual) == (8, 0, None, 5.5)
    sunday = read(database, "2026-03-29", "2026-03-29").trend
    assert sunday.usual is None  # no Sunday was watched


def test_a_range_that_is_not_over_is_held_against_the_same_stretch_before(database):
    store(database, at("2026-03-01T05:00:00Z"), at("2026-03-01T20:00:00Z"), at("2026-03-02T05:00:00Z"))
    roll_up_changes(database)
    trend = read(database, "2026-03-02", "2026-03-02", now="2026-03-02T06:00:00Z").trend
    assert (trend.events, trend.before, trend.change) == (1, 1, 0.0)
    assert read(database, "2026-03-02", "2026-03-02").trend.before == 2


def test_a_month_is_held_against_the_month_before(database):
    store(database, at("2026-02-01T00:00:00Z"), at("2026-01-31T23:59:00Z"), at("2026-03-31T00:00:00Z"))
    roll_up_changes(database)
    trend = read(database, "2026-03-05", "2026-03-20", period=Period.MONTH).trend
    assert (trend.events, trend.before) == (1, 1)


# ---- asking


def test_answers_are_kept_until_the_data_change_and_apart_by_cameras(database):
    store(database, at("2026-03-01T10:00:00Z"), at("2026-03-01T11:00:00Z", camera_id=CameraId("yard")))
    roll_up_changes(database)
    reader = StatisticsReader(database, FakeClock(datetime(2026, 4, 1, tzinfo=UTC)))
    day = date(2026, 3, 1)
    everything = StatisticsQuery(first=day, last=day)
    assert reader.read(everything) is reader.read(everything)
    gate = reader.read(StatisticsQuery(first=day, last=day, cameras=(CameraId("gate"),)))
    assert (reader.read(everything).total.events, gate.total.events) == (2, 1)
    assert gate.total.by_camera == {"gate": 1}
    store(database, at("2026-03-01T12:00:00Z"))
    roll_up_changes(database)
    assert reader.read(everything).total.events == 3


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"time_zone": "Mars/Olympus"}, "not a time zone"),
        ({"time_zone": "../etc/passwd"}, "not a time zone"),
        ({"last": date(2026, 2, 1)}, "before it begins"),
        ({"last": date(2036, 2, 1)}, "more than 800"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(database, query, message):
    wanted = msgspec.structs.replace(StatisticsQuery(first=date(2026, 3, 1), last=date(2026, 3, 1)), **query)
    with pytest.raises(ConfigError, match=message):
        StatisticsReader(database).read(wanted)
