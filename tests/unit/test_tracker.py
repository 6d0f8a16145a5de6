"""EventTracker: from a score curve to events, on made-up curves."""

import itertools
import math
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import TrackerConfig
from core.events import AnomalyEvent, EventState, Severity
from core.events.tracker import MOST_PLACES, PATH_STEP, PLACES, EventTracker, Observation, severity_of
from core.ids import CameraId, NodeId

START = datetime(2026, 3, 1, tzinfo=UTC)
PLAIN = TrackerConfig(
    open_score=2, close_score=1.4, smooth_s=0, persist_s=0.3, close_s=1, merge_s=1, max_s=60, cooldown_s=0
)


RANK = list(Severity).index


def make_tracker(config: TrackerConfig) -> EventTracker:
    return EventTracker(
        config, camera_id=CameraId("gate"), node_id=NodeId("n"), vad_type="t", frame_width=640, frame_height=360
    )


def seen(number: int, score: float, place: float, fps: float = 10) -> Observation:
    at = START + timedelta(seconds=number / fps)
    return Observation(media_s=number / fps, at=at, score=score, peak_x=place)


def run(
    scores: list[float], config: TrackerConfig = PLAIN, fps: float = 10, place: float | None = None
) -> list[AnomalyEvent]:
    """What is reported of a curve; its places go from left to right, or are all the same."""
    tracker = make_tracker(config)
    out: list[AnomalyEvent] = []
    for index, score in enumerate(scores):
        out += tracker.observe(seen(index, score, index if place is None else place, fps))
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


QUIET = [0.0] * 25
COOLING = msgspec.structs.replace(PLAIN, cooldown_s=10, cooldown_reach=0.2)


def test_at_a_place_that_cools_down_nothing_opens_unless_it_is_more_severe():
    scores = [2.5] * 6 + QUIET + [2.5] * 6 + QUIET
    assert len(closed(run(scores, COOLING, place=100.0))) == 1
    tracker = make_tracker(COOLING)
    places = [100.0] * 31 + [200.0] * 31
    out = [event for n, score in enumerate(scores) for event in tracker.observe(seen(n, score, places[n]))]
    assert (len(closed(out)), tracker.cooled) == (2, 0)
    severe = [2.5] * 6 + QUIET + [5.5] * 6 + QUIET
    assert len(closed(run(severe, COOLING, place=100.0))) == 2


def test_what_goes_on_at_a_place_opens_when_it_has_cooled_down_and_tells_its_whole_length():
    scores = [2.5] * 6 + QUIET + [2.5] * 150 + QUIET
    _, second = closed(run(scores, COOLING, place=100.0))
    assert second.begin_s == 3.1
    assert second.end_s - second.begin_s > 14


def test_an_event_tells_its_way_in_few_places_that_lie_apart():
    tracker, out = make_tracker(PLAIN), []
    for index in range(100):  # 10 px a frame, most unusual half way
        out += tracker.observe(seen(index, 3.0 - abs(index - 30) / 50 if index < 60 else 0.0, 10.0 * index))
    [*_, whole] = closed(out + tracker.finish())
    assert 10 <= len(whole.path) <= 60 * 10 / 36 + 1
    places = sorted(whole.path, key=lambda one: one.x)
    assert all((b.x - a.x) * 640 >= PATH_STEP * 360 - 1 for a, b in itertools.pairwise(places))
    assert max(one.score for one in places) == 3.0
    assert places[0].x * 640 < 10
    assert 520 < places[-1].x * 640 < 600
    again, out = make_tracker(PLAIN), []
    for index in range(500):
        out += again.observe(seen(index, 3.0, 40.0 * index))
    assert all(len(one.path) <= MOST_PLACES for one in out)


def test_what_lasts_is_more_severe():
    assert severity_of(2.5) is Severity.LOW
    assert severity_of(2.5, 90) is Severity.MEDIUM
    assert severity_of(4.5, 30) is Severity.HIGH
    [event] = closed(run([2.5] * 300 + [0] * 40))
    assert event.severity is Severity.MEDIUM


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
        assert event.severity is severity_of(event.peak_score, event.end_s - event.begin_s)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 7), st.integers(1, 40), st.sampled_from([0.0, 60.0, 300.0])), max_size=30))
def test_whatever_the_curve_nothing_opens_at_a_place_that_cools_down_unless_it_is_more_severe(runs):
    tracker, opened, ended = make_tracker(COOLING), set(), []
    frames = [(score, place) for score, length, place in runs for _ in range(length)]
    for number, (score, place) in enumerate(frames):
        for event in tracker.observe(seen(number, score, place)):
            if event.state is EventState.CLOSED and number / 10 - event.begin_s < COOLING.max_s:
                ended.append((number / 10, event))
            elif event.id not in opened:
                cooling = [one for closed_s, one in ended[-PLACES:] if number / 10 < closed_s + COOLING.cooldown_s]
                near = [one.severity for one in cooling if abs(one.peak_x - event.peak_x) <= 72]
                assert all(RANK(severity_of(event.peak_score)) > RANK(severity) for severity in near)
            opened.add(event.id)


@given(
    st.lists(st.floats(0, 7), max_size=300),
    st.floats(0.1, 2),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 3),
    st.floats(0, 3),
)
def test_whatever_the_curve_smoothing_persistence_hysteresis_and_merging_hold(
    scores, smooth_s, persist_s, share, close_s, merge_s
):
    config = TrackerConfig(
        open_score=2,
        close_score=2 * max(0.1, share),
        smooth_s=smooth_s,
        persist_s=persist_s,
        close_s=close_s,
        merge_s=merge_s,
        max_s=1e6,
        cooldown_s=0,
    )
    events = closed(run(scores, config))
    means = [
        sum(scores[first : i + 1]) / (i + 1 - first)
        for i in range(len(scores))
        for first in [max(0, math.ceil(i - smooth_s * 10 - 1e-9))]
    ]
    for event in events:
        begin, end = round(event.begin_s * 10), round(event.end_s * 10)
        persisted = means[begin : begin + math.ceil(persist_s * 10 - 1e-9) + 1]
        assert min(persisted) >= 2 - 1e-9  # over the threshold all the while, by what was known then
        assert means[end] >= config.close_score - 1e-9
    for before, after in itertools.pairwise(events):
        gap_s = after.begin_s - before.end_s
        assert gap_s > close_s + merge_s - 0.11
