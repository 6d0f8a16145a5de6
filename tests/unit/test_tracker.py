"""EventTracker: from a score curve to events, on made-up curves."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.config import TrackerConfig
from core.events import AnomalyEvent, EventState
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, NodeId

START = datetime(2026, 3, 1, tzinfo=UTC)
PLAIN = TrackerConfig(open_score=2, close_score=1.4, smooth_s=0, persist_s=0.3, close_s=1, merge_s=1, max_s=60)


def run(scores: list[float], config: TrackerConfig = PLAIN, fps: float = 10) -> list[AnomalyEvent]:
    tracker = EventTracker(
        config, camera_id=CameraId("gate"), node_id=NodeId("n"), vad_type="t", frame_width=640, frame_height=360
    )
    out: list[AnomalyEvent] = []
    for index, score in enumerate(scores):
        media_s = index / fps
        seen = Observation(media_s=media_s, at=START + timedelta(seconds=media_s), score=score, peak_x=index)
        out += tracker.observe(seen)
    return out + tracker.finish()


def closed(events: list[AnomalyEvent]) -> list[AnomalyEvent]:
    return [event for event in events if event.state is EventState.CLOSED]


def test_a_rise_that_persists_is_one_event_with_its_peak():
    events = run([0.5] * 20 + [3] * 5 + [6] + [3] * 5 + [0.5] * 40)
    assert [event.state for event in events] == [EventState.OPEN, EventState.CLOSED]
    [event] = closed(events)
    assert (event.begin_s, event.end_s, event.peak_score, event.peak_s, event.peak_x) == (2.0, 3.0, 6, 2.5, 25)
    assert event.began_at == "2026-03-01T00:00:02.000000Z"
    assert event.ended_at == "2026-03-01T00:00:03.000000Z"
    assert events[0].ended_at is None


def test_a_single_high_frame_is_no_event():
    assert run([0] * 10 + [9] + [0] * 30) == []


def test_between_the_thresholds_an_event_goes_on():
    [event] = closed(run([3] * 5 + [1.6] * 50 + [0] * 30))
    assert event.end_s == 5.4


def test_a_near_gap_is_merged_and_a_far_one_is_not():
    assert len(closed(run([3] * 10 + [0] * 15 + [3] * 10 + [0] * 40))) == 1
    assert len(closed(run([3] * 10 + [0] * 35 + [3] * 10 + [0] * 40))) == 2


def test_a_long_event_reports_itself_and_is_capped():
    events = run([3] * 1300)
    assert len(closed(events)) == 3
    assert all(event.end_s - event.begin_s <= 60.1 for event in events)
    assert sum(event.state is EventState.OPEN for event in events) > 20


def test_an_event_open_at_the_end_of_the_source_is_closed():
    assert len(closed(run([0] * 10 + [4] * 10))) == 1


def test_smoothing_looks_back_only():
    config = TrackerConfig(open_score=2, close_score=1.4, smooth_s=0.5, persist_s=0)
    [event] = closed(run([0] * 20 + [4] * 20, config))
    assert 2.0 <= event.begin_s <= 2.5


@given(st.lists(st.floats(0, 12), max_size=400), st.floats(0, 1), st.floats(0, 1))
def test_whatever_the_curve_events_are_ordered_closed_and_hold_their_peak(scores, smooth_s, persist_s):
    config = TrackerConfig(smooth_s=smooth_s, persist_s=persist_s, max_s=10, update_s=1)
    events = run(scores, config)
    ends = closed(events)
    assert {event.id for event in events} == {event.id for event in ends}
    assert len({event.id for event in ends}) == len(ends)
    for before, after in itertools.pairwise(ends):
        assert before.end_s <= after.begin_s
    for event in ends:
        assert event.begin_s <= event.end_s
        assert event.begin_s <= event.peak_s
        assert event.peak_score == scores[round(event.peak_s * 10)]
