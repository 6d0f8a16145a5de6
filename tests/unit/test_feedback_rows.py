"""Feedback in the database: which verdict is in force, and that it can be taken back; on both."""

from functools import partial

import msgspec
import pytest

from core.clock import later_utc
from core.db.events import add_feedback, get_detail, get_event, judgements, undo_feedback, upsert_events
from core.events.model import Place
from core.events.tracker import MOST_PLACES
from core.ids import CameraId
from tests.events import make_event

AT = "2026-03-01T12:00:00.000000Z"


def test_the_last_verdict_on_an_event_is_in_force_until_it_is_taken_back(database):
    way = (Place(0.25, 0.5, 2.5), Place(0.375, 0.5, 3.25))
    gate, yard = make_event(camera_id=CameraId("gate"), path=way), make_event(camera_id=CameraId("yard"))
    with database.begin() as connection:
        upsert_events(connection, [gate, yard])
    say = partial(add_feedback, database, actor="kim")
    say(gate.id, verdict="real", at=AT)
    say(gate.id, verdict="normal", at=later_utc(AT, 1))
    say(yard.id, verdict="real", at=AT)
    found = judgements(database, later_utc(AT, 60))
    assert {camera: [one.verdict for one in said] for camera, said in found.items()} == {
        "gate": ["normal"],
        "yard": ["real"],
    }
    [one] = found[CameraId("gate")]
    assert (one.event_id, one.score, one.path) == (gate.id, gate.peak_score, way)
    assert get_event(database, gate.id).path == way
    assert [said.path for said in found[CameraId("yard")]] == [()]
    assert (one.x * gate.frame_width, one.y * gate.frame_height) == pytest.approx((gate.peak_x, gate.peak_y))
    assert judgements(database, later_utc(AT, 400 * 86_400)) == {}
    assert undo_feedback(database, gate.id, actor="lee", at=later_utc(AT, 2))
    assert not undo_feedback(database, gate.id, actor="lee", at=later_utc(AT, 3))
    assert list(judgements(database, later_utc(AT, 60))) == ["yard"]
    told = get_detail(database, gate.id).feedback
    assert [(said.verdict, said.undone_by) for said in told] == [("real", "lee"), ("normal", "lee")]


def test_a_camera_is_told_no_more_of_ways_than_goes_through_a_pipe(database):
    way = tuple(Place(n / 1000, 0.123, 12.34) for n in range(MOST_PLACES))
    events = [make_event(n, camera_id=CameraId("gate"), path=way) for n in range(40)]
    with database.begin() as connection:
        upsert_events(connection, events)
    for n, event in enumerate(events):
        add_feedback(database, event.id, actor="kim", verdict="normal", at=later_utc(AT, n))
    said = judgements(database, later_utc(AT, 60))[CameraId("gate")]
    assert [one.event_id for one in said] == [event.id for event in reversed(events)]
    assert [len(one.path) for one in said] == [MOST_PLACES] * 25 + [0] * 15
    assert len(msgspec.json.encode(said)) < 40_000
