"""AsyncEventLogger: an EventLogger that returns when the journal has it, and commits in small batches behind."""

import threading
import time

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.exc import OperationalError

from core.config import LoggerConfig
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import count_events, get_event
from core.events.journal import EventLogger, Journal
from tests.events import make_event
from workers.logger.event_logger import AsyncEventLogger


class Batches:
    """How many events each commit stored."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.at: list[float] = []

    def note(self, stored) -> None:
        self.sizes.append(len(stored))
        self.at.append(time.monotonic())


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def make_logger(database, tmp_path, batches):
    made = []

    def make(**config) -> AsyncEventLogger:
        logger = AsyncEventLogger(
            Journal(tmp_path),
            database,
            LoggerConfig(**config),
            tmp_path / "rejected.jsonl",
            prepare=lambda: None,
            on_commit=batches.note,
        )
        made.append(logger)
        return logger

    yield make
    for logger in made:
        logger.close()


def until(condition, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_is_an_event_logger(make_logger):
    assert isinstance(make_logger(), EventLogger)


def test_a_database_that_is_away_for_hours_is_tried_again(database, tmp_path, batches, monkeypatch):
    monkeypatch.setattr("workers.logger.event_logger.RETRY_MAX_S", 0.0)
    tries = iter(range(1200))

    def prepare() -> None:
        if next(tries, None) is not None:
            raise OSError("no database")

    logger = AsyncEventLogger(
        Journal(tmp_path),
        database,
        LoggerConfig(flush_events=1),
        tmp_path / "rejected.jsonl",
        prepare=prepare,
        on_commit=batches.note,
    )
    logger.log_event(make_event(0))
    until(lambda: batches.sizes == [1])
    logger.close()


def test_ten_events_are_committed_at_once(make_logger, batches):
    logger = make_logger(flush_events=10, flush_s=60.0)
    until(lambda: logger.caught_up)
    for n in range(9):
        logger.log_event(make_event(n))
    assert batches.sizes == []  # they would wait a minute
    logger.log_event(make_event(9))
    until(lambda: batches.sizes == [10])


def test_fewer_are_committed_when_the_time_is_over(make_logger, batches):
    logger = make_logger(flush_events=10, flush_s=0.3)
    until(lambda: logger.caught_up)
    begun = time.monotonic()
    for n in range(3):
        logger.log_event(make_event(n))
    until(lambda: sum(batches.sizes) == 3)
    assert batches.at[0] - begun >= 0.25


def test_a_backlog_makes_bigger_batches(make_logger, batches, database):
    held = threading.Event()

    def hold(_connection) -> None:
        held.wait(60)

    sqlalchemy_event.listen(database, "begin", hold)
    logger = make_logger(flush_events=10, flush_s=0.1)
    for n in range(300):
        logger.log_event(make_event(n))
    held.set()
    until(lambda: sum(batches.sizes) == 300)
    assert max(batches.sizes) > 10
    sqlalchemy_event.remove(database, "begin", hold)


def test_several_threads_log_at_once_and_nothing_is_lost(make_logger, database):
    logger = make_logger()
    events = [[make_event(n) for n in range(50)] for _ in range(8)]

    def log_all(some) -> None:
        for one in some:
            logger.log_event(one)

    threads = [threading.Thread(target=log_all, args=(some,)) for some in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: logger.caught_up)
    stored = {one.event.id for one in iterate_events(database, EventFilter())}
    assert stored == {one.id for some in events for one in some}


def test_a_database_that_fails_is_tried_again_and_nothing_is_set_aside(make_logger, database, tmp_path):
    failures = 3

    def fail(_connection) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OperationalError("BEGIN", None, Exception("disk I/O error"))

    sqlalchemy_event.listen(database, "begin", fail)
    logger = make_logger(flush_events=1)
    events = [make_event(n) for n in range(5)]
    for one in events:
        logger.log_event(one)
    until(lambda: logger.caught_up)
    sqlalchemy_event.remove(database, "begin", fail)
    assert count_events(database) == 5
    assert not (tmp_path / "rejected.jsonl").exists()


def test_what_is_poison_is_set_aside_whatever_is_around_it(make_logger, database, tmp_path):
    logger = make_logger(flush_events=100, flush_s=0.1)
    events = [make_event(n, frame_width=2**63 if n in {3, 4, 17} else 640) for n in range(20)]
    for one in events:
        logger.log_event(one)
    until(lambda: logger.caught_up)
    assert count_events(database) == 17
    assert len((tmp_path / "rejected.jsonl").read_bytes().splitlines()) == 3
    assert get_event(database, events[3].id) is None


def test_close_commits_what_waits(make_logger, database):
    logger = make_logger(flush_events=100, flush_s=60.0)
    logger.log_event(make_event(1))
    logger.close()
    assert count_events(database) == 1
