"""Job runs: each period once, however many try; a failure and a death are made up for."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from core.clock import FakeClock
from core.db.jobs import claimed, forget_runs, last_done
from core.ids import NodeId


def run(engine, clock, node="a") -> bool:
    """Whether this one was let do it."""
    with claimed(engine, "count", 60, node_id=NodeId(node), clock=clock, lease_s=100) as detail:
        if detail is None:
            return False
        detail["done"] = 3
        return True


def test_a_period_is_done_once_and_the_next_again(database):
    clock = FakeClock()
    assert [run(database, clock, node) for node in "aab"] == [True, False, False]
    clock.advance(60)
    assert run(database, clock, "b")
    assert last_done(database, "count") == "2026-01-01T00:01:00.000000Z"


def test_of_many_at_once_one_does_it(database_url):
    from core.db import make_engine, upgrade

    upgrade(database_url)
    engines = [make_engine(database_url, writer=True) for _ in range(6)]
    clock, start, done = FakeClock(), threading.Barrier(6), []

    def one(engine) -> None:
        start.wait()
        done.extend(engine for _ in range(5) if run(engine, clock))

    threads = [threading.Thread(target=one, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 1
    for engine in engines:
        engine.dispose()


def test_a_failed_run_is_tried_again_after_a_while(database):
    clock = FakeClock(datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC))
    with (
        pytest.raises(RuntimeError),
        claimed(database, "count", 3600, node_id=NodeId("a"), clock=clock, lease_s=1000),
    ):
        raise RuntimeError("broken")

    def again() -> bool:
        with claimed(database, "count", 3600, node_id=NodeId("b"), clock=clock, lease_s=1000) as detail:
            return detail is not None

    assert not again()
    clock.advance(61)
    assert again()


def test_the_run_of_one_that_died_is_taken_over_when_its_lease_is_over(database):
    clock = FakeClock()
    dead = claimed(database, "count", 3600, node_id=NodeId("a"), clock=clock, lease_s=100)
    assert dead.__enter__() is not None  # and never comes back
    for wait_s, taken in ((50, False), (51, True), (0, False)):
        clock.advance(wait_s)
        with claimed(database, "count", 3600, node_id=NodeId("b"), clock=clock, lease_s=100) as detail:
            assert (detail is not None) is taken


def test_old_runs_are_forgotten(database):
    clock = FakeClock()
    run(database, clock)
    assert forget_runs(database, clock.now()) == 0
    assert forget_runs(database, clock.now() + timedelta(days=1)) == 1
