"""The promise of so many false events a day: the ladder against the tracker, thresholds against what then happens."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import TrackerConfig
from core.events import EventState
from core.events.backtest import Curve, backtest
from core.events.promise import LEVELS, EventLadder, Evidence, poisson_interval, promise_of
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, EventId, NodeId
from workers.camera.promise import MOST_A_DAY, PromiseKeeper

START = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = TrackerConfig(max_s=20)


def tracked(frames: list[tuple[float, int]], open_score: float, fps: float = 5) -> tuple[int, list[float]]:
    """Events at this threshold, and the smoothed curve; frames are a score and where, 32 pixels apart."""
    config = CONFIG.at(open_score)
    tracker = EventTracker(
        config, camera_id=CameraId("gate"), node_id=NodeId("n"), vad_type="t", frame_width=640, frame_height=100
    )
    events, curve = set(), []
    for number, (score, place) in enumerate(frames):
        at = START + timedelta(seconds=number / fps)
        seen = Observation(media_s=number / fps, at=at, score=score, peak_x=32.0 * place)
        events |= {event.id for event in tracker.observe(seen) if event.state is EventState.OPEN}
        curve.append(tracker.smoothed)
    return len(events), curve


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 6), st.integers(1, 30), st.integers(0, 3)), max_size=25),
    st.sampled_from([0, 5, 10, 15, 30, 50]),
)
def test_the_ladder_counts_what_the_tracker_opens_at_each_threshold(runs, rung):
    frames = [(score, place) for score, length, place in runs for _ in range(length)]
    events, curve = tracked(frames, float(LEVELS[rung]))
    ladder = EventLadder(CONFIG)
    for number, (smoothed, (score, place)) in enumerate(zip(curve, frames, strict=True)):
        ladder.observe(number / 5, smoothed, score, 0.32 * place)
    assert ladder.events[rung] == events


def footage(hours: float, seed: int) -> EventLadder:
    """Made-up normal footage: quiet, and now and then a rise of exponential height, 20 an hour over level 1."""
    luck, ladder, at_s = np.random.default_rng(seed), EventLadder(TrackerConfig()), 0.0
    while at_s < hours * 3600:
        for _ in range(round((luck.exponential(180) + 10) / 3)):
            at_s += 3
            ladder.observe(at_s, 0.2)
        height = 1 + luck.exponential(0.7)
        for _ in range(3):
            at_s += 1
            ladder.observe(at_s, height)
    return ladder


@pytest.mark.parametrize("per_day", [24.0, 1.0])
def test_a_threshold_makes_about_as_many_events_as_were_asked_for(per_day):
    solved = [promise_of(footage(24, seed).evidence, per_day, 2.0) for seed in range(3)]
    assert {one.stage for one in solved} == {"armed"}
    truth = 86_400 / (180 + 13)
    rates = [truth * np.exp(-(one.open_score - 1) / 0.7) for one in solved]
    assert per_day / 2 < float(np.exp(np.mean(np.log(rates)))) < per_day * 2
    for one in solved:
        assert one.low_per_day <= per_day <= one.high_per_day


def test_too_little_footage_promises_nothing_and_keeps_the_configured_threshold():
    assert promise_of(Evidence(), 24, 2.0).stage == "learning"
    short = promise_of(footage(0.4, 1).evidence, 24, 2.0)
    assert (short.stage, short.open_score) == ("learning", 2.0)
    assert promise_of(footage(3, 1).evidence, 24, 2.0).stage == "provisional"
    assert promise_of(footage(24, 1).evidence, 0, 2.0).open_score == 2.0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 500), min_size=len(LEVELS), max_size=len(LEVELS)), st.floats(0, 400_000))
def test_asking_for_fewer_events_never_lowers_the_threshold(counts, watched_s):
    evidence = Evidence(watched_s=watched_s, events=tuple(counts))
    scores = [promise_of(evidence, per_day, 2.0).open_score for per_day in (100, 24, 5, 1, 0.1)]
    if promise_of(evidence, 24, 2.0).stage != "learning":
        assert scores == sorted(scores)
        assert all(1 <= score <= 12 for score in scores)


def test_what_was_real_is_no_evidence_and_what_is_old_fades():
    ladder = footage(24, 3)
    before = ladder.evidence
    ladder.forgive(2.05)
    assert ladder.events[LEVELS <= 2.05].sum() == np.array(before.events)[LEVELS <= 2.05].sum() - (LEVELS <= 2.05).sum()
    ladder.fade(0.5)
    assert ladder.evidence.watched_s == before.watched_s / 2
    assert EventLadder(TrackerConfig(), ladder.evidence).evidence == ladder.evidence


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.6)]
)
def test_poisson_intervals_are_those_of_the_tables(count, low, high):
    assert poisson_interval(count) == (pytest.approx(low, rel=2e-3, abs=1e-3), pytest.approx(high, rel=2e-3))


def seen(at_s: float, score: float, version: int) -> Observation:
    return Observation(media_s=at_s, at=START + timedelta(seconds=at_s), score=score, state_version=version)


def feed(
    keeper: PromiseKeeper, hours: float, height: float, version: int = 1, at_s: float = 0.0
) -> list[TrackerConfig]:
    """Twenty rises of `height` an hour."""
    tuned: list[TrackerConfig] = []
    while at_s < hours * 3600:
        at_s += 2
        score = height * (1 + at_s % 7 / 7) if at_s % 180 < 4 else 0.2
        found = keeper.scored(seen(at_s, score, version), score)
        tuned += [found] if found else []
    return tuned


def test_a_camera_goes_on_with_its_threshold_and_learns_it_anew_with_its_state(tmp_path):
    keeper = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    assert keeper.settings.open_score == 2.0
    assert feed(keeper, 4, 3.0)
    solved = keeper.settings
    assert solved.open_score > 3
    assert solved.close_score == pytest.approx(0.7 * solved.open_score)
    keeper.save()
    again = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    assert again.settings == solved
    assert PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "other", 24.0).settings.open_score == 2.0
    changed = again.scored(seen(20_000, 0.1, 2), 0.1)
    assert changed
    assert changed.open_score == 2.0
    (tmp_path / "gate.json").write_text("{")
    assert PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0).settings.open_score == 2.0


def test_an_armed_threshold_moves_by_no_more_than_half_a_level_a_day(tmp_path):
    keeper = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 200.0)
    feed(keeper, 4, 2.0)
    assert keeper.promise.stage == "armed"
    before = keeper.promise.open_score
    feed(keeper, 6, 9.0, at_s=4 * 3600)
    assert before < keeper.promise.open_score <= before + MOST_A_DAY * 2 / 24 + 0.01


def test_what_somebody_judged_counts_as_false_no_longer_and_does_again_when_that_is_taken_back(tmp_path):
    keeper = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    feed(keeper, 4, 3.0)
    for height in (2.5, 4.05):
        keeper.raised(EventId("delivery"), height)
    keeper.save()
    before = keeper.expected(4.0)
    keeper = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    keeper.judge([EventId("delivery"), EventId("of another camera")])
    keeper.judge([EventId("delivery")])
    assert keeper.expected(4.0) == before - 1
    keeper.save()
    again = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    again.judge([EventId("delivery")])
    assert again.expected(4.0) == before - 1
    again.judge([])
    assert again.expected(4.0) == before


def test_a_backtest_lists_the_events_of_another_threshold():
    luck = np.random.default_rng(1)
    begins = range(100, 40_000, 400)
    heights = {begin: 2.2 + luck.exponential(0.8) for begin in begins}
    curve = [
        (second, heights.get(second // 400 * 400 + 100, 0.3) if second % 400 in range(100, 106) else 0.3)
        for second in range(40_000)
    ]
    found = backtest(curve, TrackerConfig(), 24.0)
    assert found.before == len(begins)
    assert 5 <= len(found.events) <= 20
    highest = max(begins, key=lambda begin: heights[begin])
    assert highest in [event.begin_s for event in found.events]
    assert all(event.peak_score >= found.promise.open_score for event in found.events)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8), st.integers(1, 8)), min_size=1, max_size=40))
def test_a_curve_counts_at_once_what_the_ladder_counts_second_by_second(runs):
    config = TrackerConfig(max_s=1e6)
    scores = [score for score, length in runs for _ in range(length)]
    ladder = EventLadder(msgspec.structs.replace(config, smooth_s=0.0, persist_s=0.0, cooldown_s=0.0))
    for second, score in enumerate(scores):
        ladder.observe(float(second), score)
    found = Curve(list(enumerate(scores)), config).evidence
    assert found.events == ladder.evidence.events
    assert found.watched_s == ladder.evidence.watched_s
    assert found.histogram == pytest.approx(ladder.evidence.histogram)


def test_another_number_of_false_events_a_day_moves_the_threshold_at_once(tmp_path):
    luck = np.random.default_rng(3)
    keeper = PromiseKeeper(tmp_path / "gate.json", TrackerConfig(), "t", 24.0)
    for second in range(20_000):
        score = float(luck.exponential(0.6))
        keeper.scored(seen(float(second), score, 1), score)
    before = keeper.promise
    settings_of_fewer = keeper.aim(1.0)
    assert settings_of_fewer is not None
    assert settings_of_fewer.open_score == keeper.promise.open_score > before.open_score
    assert keeper.promise.per_day == 1.0
    assert keeper.aim(1.0) is None
