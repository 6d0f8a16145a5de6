"""Pages of events: complete, in order, by any filter, on both databases; and never by reading everything."""

import random
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from core.db import event_pages, make_engine, upgrade
from core.db.event_pages import EventFilter, iterate_events, page_events
from core.db.events import StoredEvent, acknowledge, upsert_events
from core.errors import ConfigError
from core.events import AnomalyEvent, EventState, Severity
from core.ids import CameraId
from tests.events import TYPES, make_event, random_event

SPAN_S = 400.0
AT = "2026-03-01T12:00:00.000000Z"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request, tmp_path_factory) -> Iterator[tuple[Engine, list[StoredEvent]]]:
    """600 events, a third of them acknowledged, and what is stored of them, newest first."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'test.db'}"
    else:
        url = request.getfixturevalue("postgres").create_database()
    upgrade(url)
    engine = make_engine(url, writer=True)
    rnd = random.Random(5)
    events = [random_event(rnd, SPAN_S) for _ in range(600)]
    store(engine, *events)
    acknowledge(engine, [one.id for one in events[::3]], actor="kim", at=AT)
    everything = list(iterate_events(engine, EventFilter()))
    assert sorted(one.event.id for one in everything) == sorted(one.id for one in events)
    yield engine, everything
    engine.dispose()


def store(engine: Engine, *events: AnomalyEvent) -> None:
    with engine.begin() as connection:
        upsert_events(connection, events)


def matches(stored: StoredEvent, wanted: EventFilter) -> bool:
    """The same question, asked of one event in Python."""
    one = stored.event
    return (
        (wanted.cameras is None or one.camera_id in wanted.cameras)
        and (wanted.since is None or one.began_at >= wanted.since)
        and (wanted.until is None or one.began_at < wanted.until)
        and (not wanted.types or one.vlm_type in wanted.types)
        and (not wanted.severities or one.severity in wanted.severities)
        and (not wanted.states or one.state in wanted.states)
        and (wanted.min_score is None or one.peak_score >= wanted.min_score)
        and (wanted.acknowledged is None or (stored.acknowledged_at is not None) == wanted.acknowledged)
        and wanted.text.lower() in f"{one.description} {one.reason}".lower()
    )


def some(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True).map(tuple)


minutes = st.integers(0, int(SPAN_S // 60) + 1).map(lambda n: f"2026-03-01T00:{n:02d}:00.000000Z")
filters = st.builds(
    EventFilter,
    cameras=st.none() | some([f"cam-{n}" for n in range(6)]),
    since=st.none() | minutes,
    until=st.none() | minutes,
    types=some(list(TYPES)),
    severities=some(list(Severity)),
    states=some(list(EventState)),
    min_score=st.none() | st.floats(1, 8),
    acknowledged=st.none() | st.booleans(),
    text=st.sampled_from(
        ["", "", "", "쓰러", "화재", "사람", "사람이", "PERSON", "7 x", "1", "%", "100%_\\", "없다", "zz", '"']
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(wanted=filters, limit=st.integers(1, 60), scan=st.sampled_from([20, 20_000]), rare=st.sampled_from([3, 2_000]))
def test_pages_hold_exactly_what_the_filter_asks_for(filled, wanted, limit, scan, rare):
    engine, everything = filled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_pages, "SCAN_ROWS", scan)
        patch.setattr(event_pages, "RARE", rare)
        found = list(iterate_events(engine, wanted, page=limit))
    assert found == [one for one in everything if matches(one, wanted)]


def test_events_are_newest_first_and_ids_decide_between_those_of_one_moment(filled):
    _, everything = filled
    keys = [(one.event.began_at, one.event.id) for one in everything]
    assert keys == sorted(keys, reverse=True)
    assert len({began_at for began_at, _ in keys}) < len(keys)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10**6), limit=st.integers(1, 9))
def test_paging_while_inserting_neither_skips_nor_repeats(tmp_path_factory, seed, limit):
    url = f"sqlite:///{tmp_path_factory.mktemp('inserting') / 'test.db'}"
    upgrade(url)
    engine = make_engine(url, writer=True)
    rnd = random.Random(seed)
    before = [random_event(rnd, SPAN_S) for _ in range(40)]
    store(engine, *before)
    seen: list[str] = []
    cursor = None
    while True:
        page = page_events(engine, EventFilter(), limit=limit, cursor=cursor)
        seen += [one.event.id for one in page.events]
        cursor = page.cursor
        if cursor is None:
            break
        store(engine, *(random_event(rnd, SPAN_S) for _ in range(rnd.randrange(4))))
    engine.dispose()
    assert len(seen) == len(set(seen))
    assert {one.id for one in before} <= set(seen)


def test_a_cursor_belongs_to_its_filter(filled):
    engine, _ = filled
    page = page_events(engine, EventFilter(cameras=(CameraId("cam-1"),)), limit=2)
    with pytest.raises(ConfigError, match="other filters"):
        page_events(engine, EventFilter(), limit=2, cursor=page.cursor)
    for broken in ("x", "AAAA", page.cursor[:-4], "é", page.cursor + "AAAA"):
        with pytest.raises(ConfigError):
            page_events(engine, EventFilter(cameras=(CameraId("cam-1"),)), limit=2, cursor=broken)


def test_a_bad_time_or_limit_is_refused(filled):
    engine, _ = filled
    for wanted in (EventFilter(since="yesterday"), EventFilter(until="2026-03-01T00:00:00")):
        with pytest.raises(ConfigError, match="not a time"):
            page_events(engine, wanted)
    with pytest.raises(ConfigError, match="1 to 500"):
        page_events(engine, EventFilter(), limit=0)


def test_a_time_with_an_offset_means_the_same_moment(filled):
    engine, everything = filled
    found = iterate_events(engine, EventFilter(since="2026-03-01T09:05:00+09:00"))
    assert [*found] == [one for one in everything if one.event.began_at >= "2026-03-01T00:05:00.000000Z"]


def test_no_camera_means_no_event(filled):
    engine, _ = filled
    assert page_events(engine, EventFilter(cameras=())).events == []


def test_the_text_index_follows_changes_and_deletions(database):
    one = make_event(description="a dog barks")
    store(database, one)
    assert ids(database, "dog") == [one.id]
    store(database, msgspec.structs.replace(one, revision=2, description="개가 짖음"))
    assert (ids(database, "dog"), ids(database, "개가"), ids(database, "짖음")) == ([], [one.id], [one.id])
    acknowledge(database, [one.id], actor="kim", at=AT)
    assert ids(database, "개가") == [one.id]
    with database.begin() as connection:
        connection.execute(text("DELETE FROM events"))
    assert ids(database, "개가") == []


def ids(engine: Engine, part: str) -> list[str]:
    return [one.event.id for one in iterate_events(engine, EventFilter(text=part))]


# ---- plans

PLANNED = {
    "all": EventFilter(),
    "a day": EventFilter(since="2026-03-01T00:01:00Z", until="2026-03-01T00:02:00Z"),
    "one camera": EventFilter(cameras=(CameraId("cam-1"),)),
    "three cameras": EventFilter(cameras=tuple(CameraId(f"cam-{n}") for n in range(3))),
    "unacknowledged": EventFilter(acknowledged=False),
    "unacknowledged of two cameras": EventFilter(acknowledged=False, cameras=(CameraId("cam-1"), CameraId("cam-2"))),
    "open": EventFilter(states=(EventState.OPEN,)),
    "a type": EventFilter(types=("fall",)),
    "severities": EventFilter(severities=(Severity.HIGH, Severity.CRITICAL)),
    "a score": EventFilter(min_score=7.5),
    "a rare text": EventFilter(text="9 x the"),
    "a short text": EventFilter(text="화재"),
}


@pytest.fixture(scope="module")
def many(request, tmp_path_factory) -> Iterator[dict[str, Engine]]:
    """20,000 events on each database: enough for PostgreSQL to find an index worth its while."""
    urls = {
        "sqlite": f"sqlite:///{tmp_path_factory.mktemp('plans') / 'test.db'}",
        "postgresql": request.getfixturevalue("postgres").create_database(),
    }
    engines: dict[str, Engine] = {}
    rnd = random.Random(7)
    events = [random_event(rnd, 100_000, cameras=20) for _ in range(20_000)]
    for name, url in urls.items():
        upgrade(url)
        engines[name] = make_engine(url, writer=True)
        for begin in range(0, len(events), 2_000):
            store(engines[name], *events[begin : begin + 2_000])
    acknowledge(engines["sqlite"], [one.id for one in events[100:]], actor="kim", at=AT)
    acknowledge(engines["postgresql"], [one.id for one in events[100:]], actor="kim", at=AT)
    with engines["postgresql"].connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE events"))
    yield engines
    for engine in engines.values():
        engine.dispose()


def statements_of(engine: Engine, wanted: EventFilter) -> list[tuple[str, object]]:
    """What a first and a second page ask the database."""
    asked: list[tuple[str, object]] = []

    def note(_connection, _cursor, statement, parameters, _context, _many) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        first = page_events(engine, wanted, limit=20)
        if first.cursor:
            page_events(engine, wanted, limit=20, cursor=first.cursor)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return [one for one in asked if one[0].lstrip().upper().startswith(("SELECT", "WITH"))]


@pytest.mark.parametrize("name", PLANNED)
def test_sqlite_pages_neither_scan_the_table_nor_sort_it(many, name):
    with many["sqlite"].connect() as connection:
        for statement, parameters in statements_of(many["sqlite"], PLANNED[name]):
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            for step in plan:
                assert not step.startswith("SCAN events") or "INDEX" in step, (statement, plan)
                sorts = step.startswith("USE TEMP B-TREE")
                # sorted are only the keys or rows of one page, picked before by id or by number
                assert not sorts or "UNION ALL" in statement or " IN (" in statement, (statement, plan)


@pytest.mark.parametrize("name", PLANNED)
def test_postgresql_pages_read_few_rows(many, name):
    with many["postgresql"].connect() as connection:
        for statement, parameters in statements_of(many["postgresql"], PLANNED[name]):
            found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
            for node in nodes(found[0]["Plan"]):
                assert node["Node Type"] != "Seq Scan", (statement, found)
                if node["Node Type"] == "Sort":
                    assert sum(one["Actual Rows"] for one in node["Plans"]) <= event_pages.RARE, (statement, found)


def nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
