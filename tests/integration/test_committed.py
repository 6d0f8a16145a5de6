"""The feed of committed events: resumable without a gap, on both databases, whoever made the change."""

import msgspec
import pytest
import zmq

from core.db import make_engine, upgrade
from core.db.events import acknowledge, get_event, last_sequence, upsert_events
from core.events.committed import CommittedEvents
from core.events.outbox import EventOutbox
from core.ids import CameraId
from tests.events import make_event
from tests.integration.test_logger import Logger, drain, until


@pytest.fixture
def site(config, database_url):
    """A configuration with this database, its logger, and an engine to read with."""
    made = msgspec.structs.replace(config, database=msgspec.structs.replace(config.database, url=database_url))
    file = made.data_dir / "haetae.toml"
    file.write_text(f'[database]\nurl = "{database_url}"\n')
    made = msgspec.structs.replace(made, file=file)
    upgrade(database_url)
    logger = Logger(made)
    engine = make_engine(database_url)
    yield made, logger, engine
    engine.dispose()
    if logger.process.poll() is None:
        logger.kill()


def take(feed: CommittedEvents, count: int) -> list:
    taken = []

    def enough() -> bool:
        taken.extend(feed.receive(0.2))
        return len(taken) >= count

    until(f"{count} changes", enough)
    return taken


def test_a_subscriber_that_was_away_goes_on_where_it_left_off(site):
    config, logger, engine = site
    with zmq.Context() as context:
        outbox = EventOutbox(context, config, CameraId("gate"))
        feed = CommittedEvents(context, config.endpoint("logger-feed"), engine, after=0)
        events = [make_event(n) for n in range(30)]
        for event in events[:10]:
            outbox.log_event(event)
        drain(outbox)
        assert [one.event.id for one in take(feed, 10)] == [event.id for event in events[:10]]
        left_at = feed.sequence
        feed.close()

        for event in events[10:20]:
            outbox.log_event(event)
        drain(outbox)
        until("they are committed", lambda: get_event(engine, events[19].id))
        logger.kill()
        logger.start()
        for event in events[20:]:
            outbox.log_event(event)
        drain(outbox)

        again = CommittedEvents(context, config.endpoint("logger-feed"), engine, after=left_at)
        assert [one.event.id for one in take(again, 20)] == [event.id for event in events[10:]]
        assert again.sequence == last_sequence(engine)
        assert again.receive(0.1) == []
        again.close()
        outbox.close(0)


def test_what_a_person_did_is_told_too(site):
    config, _, engine = site
    writer = make_engine(config.database.url, writer=True)
    event = make_event()
    with writer.begin() as connection:
        upsert_events(connection, [event])
    with zmq.Context() as context:
        feed = CommittedEvents(context, config.endpoint("logger-feed"), engine, after=0)
        assert take(feed, 1)[0].acknowledged_at is None
        acknowledge(writer, [event.id], actor="kim", at="2026-03-01T00:00:09.000000Z")
        assert take(feed, 1)[0].acknowledged_at == "2026-03-01T00:00:09.000000Z"
        feed.close()
    writer.dispose()


def test_a_record_that_the_database_refuses_is_set_aside_and_the_others_are_stored(site):
    config, logger, engine = site
    good = [make_event(n) for n in range(5)]
    bad = [make_event(7, reason="\0"), make_event(8, frame_width=2**63), make_event(9, revision=2**63)]
    with zmq.Context() as context:
        outbox = EventOutbox(context, config, CameraId("gate"))
        for event in (*good[:2], *bad, *good[2:]):
            outbox.log_event(event)
        drain(outbox)
        until("the good ones are stored", lambda: all(get_event(engine, one.id) for one in good))
        outbox.close(0)
    rejected = config.journal_dir / "rejected.jsonl"
    nul_is_text = engine.dialect.name == "sqlite"
    expected = {one.id for one in (bad[1:] if nul_is_text else bad)}
    until(
        "the others are set aside",
        lambda: rejected.exists() and len(rejected.read_bytes().splitlines()) == len(expected),
    )
    lines = [msgspec.json.decode(line) for line in rejected.read_bytes().splitlines()]
    assert {line["record"]["id"] for line in lines} == expected
    assert all(line["reason"] for line in lines)
    assert logger.stop() == 0


def test_a_database_that_goes_away_and_comes_back_has_everything_in_order(config, postgres):
    url = postgres.create_database()
    upgrade(url)
    file = config.data_dir / "haetae.toml"
    file.write_text(f'[database]\nurl = "{url}"\n')
    made = msgspec.structs.replace(config, file=file, database=msgspec.structs.replace(config.database, url=url))
    logger = Logger(made)
    engine = make_engine(url)
    events = [make_event(n) for n in range(60)]
    with zmq.Context() as context:
        outbox = EventOutbox(context, made, CameraId("gate"))
        for event in events[:20]:
            outbox.log_event(event)
        drain(outbox)
        postgres.stop()
        try:
            for event in events[20:]:
                outbox.log_event(event)
            drain(outbox)  # acknowledged, though there is no database
        finally:
            postgres.start()
        feed = CommittedEvents(context, made.endpoint("logger-feed"), engine, after=0)
        assert [one.event.id for one in take(feed, 60)] == [event.id for event in events]
        feed.close()
        outbox.close(0)
    engine.dispose()
    assert logger.stop() == 0
