"""motion_stats on drawn scenes: what scores, what does not, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from core.errors import ModelError, StateError
from workers.inference.vad import NormalityState, Row, VadScore, create_model, motion_features, motion_learning
from workers.inference.vad import background as background_learning
from workers.inference.vad.motion_features import Geometry

WIDTH, HEIGHT = 320, 240
BACKGROUND = cv2.resize(
    np.random.default_rng(0).integers(60, 150, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8), (WIDTH, HEIGHT)
)
TEXTURE = np.random.default_rng(1).integers(0, 2, (34, 6), dtype=np.uint8).repeat(3, axis=1) * 60 + 190


def draw(t, speed=24.0, scale=1.0, y=120, width=WIDTH, height=HEIGHT):
    """An I420 frame of a figure that walks to and fro `speed` px/s; no figure for speed None."""
    luma = BACKGROUND.copy()
    if speed is not None:
        figure = cv2.resize(TEXTURE, None, fx=scale, fy=scale)
        h, w = figure.shape
        way = WIDTH - w - 20
        x = abs((t * speed) % (2 * way) - way)
        x = 10 + x
        shift = np.float32([[1, 0, x], [0, 1, y - h // 2]])
        mask = cv2.warpAffine(np.full((h, w), 255, np.uint8), shift, (WIDTH, HEIGHT))
        moved = cv2.warpAffine(figure, shift, (WIDTH, HEIGHT))
        luma = np.where(mask > 127, moved, luma)
    noise = np.random.default_rng(int(t * 1000)).normal(0, 2, luma.shape)
    luma = np.clip(luma + noise, 0, 255).astype(np.uint8)
    if (width, height) != (WIDTH, HEIGHT):
        luma = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    return np.vstack([luma, np.full((height // 2, width), 128, np.uint8)])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the inference process does: OpenCV's own threads make flow depend on what else runs."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def model():
    return create_model("motion_stats", 2)


def play(model, seconds, *, fps=10.0, state=None, learner=None, start=0.0, context=None, frame=draw, **drawn):
    context = context or model.new_context()
    found = []
    for index in range(round(seconds * fps)):
        t = start + index / fps
        pixels = frame(t, **drawn)
        prepared = model.prepare(pixels, pixels.shape[1], pixels.shape[0] * 2 // 3)
        found += model.process([Row(prepared, t, context, state, learner)])
    return found


@pytest.fixture(scope="module")
def walking(model):
    """Learned from a minute of a figure walking about 24 px a second."""
    learner = model.new_learner()
    for n, speed in enumerate((22.0, 24.0, 26.0)):
        assert play(model, 20, learner=learner, speed=speed, start=100.0 * n) == [None] * 200
    return model.fit(learner, 1, 30.0)


@pytest.fixture(scope="module")
def still(model):
    learner = model.new_learner()
    play(model, 12, learner=learner, speed=None)
    return model.fit(learner, 1, 120.0)


def scores(found):
    values = np.array([f.score for f in found if isinstance(f, VadScore)])
    assert len(values)
    assert np.all(np.isfinite(values))
    assert np.all(values >= 0)
    return values


def test_a_runner_scores_high_with_the_peak_on_it_and_the_reason_given(model, walking):
    usual = scores(play(model, 6, state=walking, speed=24.0, start=7.0))
    found = play(model, 4, state=walking, speed=80.0)
    assert np.median(usual) < 1.0
    assert np.median(scores(found)) > 3.0
    last = found[30]
    x = 10 + abs((3.0 * 80) % (2 * (WIDTH - 38)) - (WIDTH - 38)) + 9
    assert last.peak_x * WIDTH == pytest.approx(x, abs=25)
    assert last.peak_y * HEIGHT == pytest.approx(120, abs=25)
    assert "x the usual" in last.reason
    assert last.map.dtype == np.uint8
    assert last.map.max() > 0
    row, column = np.unravel_index(last.map.argmax(), last.map.shape)
    assert abs((column + 0.5) / last.map.shape[1] - last.peak_x) < 0.1
    assert abs((row + 0.5) / last.map.shape[0] - last.peak_y) < 0.15


def test_something_larger_than_usual_scores_high_and_is_called_an_amount(model, walking):
    found = play(model, 3, state=walking, speed=24.0, scale=2.0)
    assert np.median(scores(found)) > 3.0
    assert "usual amount of movement" in found[20].reason


def test_slower_than_usual_is_not_unusual(model, walking):
    assert scores(play(model, 3, state=walking, speed=8.0)).max() < 2.0


def test_the_frame_rate_does_not_matter(model, walking):
    at_ten = np.median(scores(play(model, 3, state=walking, speed=80.0)))
    at_thirty = np.median(scores(play(model, 3, fps=30.0, state=walking, speed=80.0)))
    usual_at_thirty = np.median(scores(play(model, 3, fps=30.0, state=walking, speed=24.0)))
    assert at_thirty == pytest.approx(at_ten, rel=0.35)
    assert usual_at_thirty < 1.0


def test_the_first_frames_have_no_score_and_a_gap_or_a_jump_back_begins_anew(model, walking):
    context = model.new_context()
    first = play(model, 1, state=walking, context=context)
    after_gap = play(model, 1, state=walking, context=context, start=10.0)
    after_jump = play(model, 1, state=walking, context=context, start=3.0)
    for found in (first, after_gap, after_jump):
        assert [f is None for f in found] == [True] * 3 + [False] * 7


def test_a_still_frame_is_scored_without_flow_and_low(model, walking, monkeypatch):
    asked = []
    monkeypatch.setattr(motion_features, "_flow_engine", asked.append)
    found = play(model, 1, state=walking, speed=None)
    assert [f.score for f in found] == [0.0] * 10
    assert not asked


def test_standing_still_needs_no_flow_either_even_two_seconds_apart(model, walking, monkeypatch):
    monkeypatch.setattr(motion_features, "_flow_engine", lambda shape: pytest.fail("flow of a still picture"))
    found = play(model, 10, fps=0.5, state=walking, speed=0.0)
    assert all(isinstance(f, VadScore) for f in found[1:])


def test_light_that_changes_over_the_whole_frame_is_no_movement(model, walking):
    def brighter(t, **drawn):
        pixels = draw(t, **drawn)
        pixels[:HEIGHT] = np.clip(pixels[:HEIGHT].astype(np.float32) * 1.3, 0, 255).astype(np.uint8)
        return pixels

    assert scores(play(model, 1, state=walking, frame=brighter, speed=None)).max() == 0.0


def test_a_scene_where_nothing_ever_moved_is_learned_and_then_anything_stands_out(model, still):
    assert still.phase == "provisional"
    assert scores(play(model, 1, state=still, speed=None)).max() == 0.0
    found = play(model, 3, state=still, speed=40.0)
    assert np.median(scores(found)) > 1.0
    assert found[20].reason


@pytest.mark.parametrize("shape", [(64, 64), (32, 32), (64, 400), (40, 640)])
def test_degenerate_footage_gives_finite_scores(model, shape):
    height, width = shape
    frames = np.random.default_rng(3).integers(0, 255, (3, height * 3 // 2, width), dtype=np.uint8)
    flat = np.full((height * 3 // 2, width), 77, np.uint8)
    learner = model.new_learner()
    context = model.new_context()
    for index in range(60):
        pixels = frames[0] if index == 30 else flat
        model.process([Row(model.prepare(pixels, width, height), index / 10, context, None, learner)])
    state = model.fit(learner, 1, 120.0)
    found = []
    for index in range(20):
        pixels = flat if index < 5 else frames[index % 3]
        found += model.process([Row(model.prepare(pixels, width, height), index / 10, context, state)])
    assert len(scores(found)) == 20


def test_flow_of_a_small_camera_leaves_a_large_one_as_it_was(model, walking):
    before = scores(play(model, 2, state=walking, speed=80.0))
    learner = model.new_learner()
    play(model, 2, learner=learner, width=64, height=48)
    np.testing.assert_array_equal(scores(play(model, 2, state=walking, speed=80.0)), before)


def test_a_frame_of_another_size_is_refused_alone(model, walking):
    small = draw(0.0, width=160, height=120)
    usual = draw(0.0, speed=None)
    results = model.process(
        [
            Row(model.prepare(usual, WIDTH, HEIGHT), 0.0, model.new_context(), walking),
            Row(model.prepare(small, 160, 120), 0.0, model.new_context(), walking),
            Row(None, 0.0, model.new_context(), walking),
            Row(model.prepare(usual, WIDTH, HEIGHT), float("nan"), model.new_context(), walking),
            Row(model.prepare(usual, WIDTH, HEIGHT), 0.0, model.new_context(), walking),
        ]
    )
    assert isinstance(results[0], VadScore)
    assert isinstance(results[1], StateError)
    assert "160x120" in str(results[1])
    assert isinstance(results[2], Exception)
    assert isinstance(results[3], StateError)
    assert isinstance(results[4], VadScore)


def test_a_learner_refuses_frames_of_another_size(model):
    learner = model.new_learner()
    play(model, 1, learner=learner)
    (refused,) = play(model, 0.1, learner=learner, width=160, height=120)
    assert isinstance(refused, StateError)
    assert learner.frames == 10


def test_frames_too_small_or_of_another_shape_are_refused(model):
    with pytest.raises(StateError, match="too small"):
        model.prepare(np.zeros((24, 16), np.uint8), 16, 16)
    with pytest.raises(StateError, match="no I420"):
        model.prepare(np.zeros((240, 320, 3), np.uint8), 320, 240)


def test_too_little_footage_is_refused_with_how_much_there_is_and_needs_to_be(model):
    learner = model.new_learner()
    with pytest.raises(StateError, match=r"0\.0 s"):
        model.fit(learner, 1, 120.0)
    play(model, 2, learner=learner)
    with pytest.raises(StateError, match=r"1\.9 s.*3 s"):
        model.fit(learner, 1, 120.0)


def test_a_state_is_provisional_first_and_armed_once_enough_was_learned(model):
    learner = model.new_learner()
    context = model.new_context()
    play(model, 10, learner=learner, context=context)
    first = model.fit(learner, 1, 15.0)
    both = play(model, 10, learner=learner, state=first, context=context, start=10.0)
    second = model.fit(learner, 2, 15.0)
    assert (first.phase, first.version, first.frames) == ("provisional", 1, 100)
    assert (second.phase, second.version, second.frames) == ("armed", 2, 200)
    assert second.learned_s == pytest.approx(19.9, abs=0.01)
    assert all(isinstance(f, VadScore) for f in both)


def test_streams_interleaved_and_spread_over_threads_make_the_same_state(model):
    def learned(executor):
        learner = model.new_learner()
        contexts = [model.new_context() for _ in range(3)]
        for index in range(60):
            rows = [
                Row(model.prepare(draw(index / 10, 20.0 + 3 * n), WIDTH, HEIGHT), index / 10, context, None, learner)
                for n, context in enumerate(contexts)
            ]
            assert model.process(rows, executor) == [None] * 3
        return model.fit(learner, 1, 30.0)

    with ThreadPoolExecutor(2) as executor:
        spread, alone = learned(executor), learned(None)
    assert spread.learned_s == pytest.approx(3 * 5.9)
    np.testing.assert_array_equal(spread.background, alone.background)
    np.testing.assert_array_equal(spread.speed.mean, alone.speed.mean)
    np.testing.assert_array_equal(spread.frame_tail.levels, alone.frame_tail.levels)


def test_rows_of_one_camera_in_one_batch_are_taken_in_their_order(model, walking):
    times = [index / 10 for index in range(20)]
    context = model.new_context()
    rows = [Row(model.prepare(draw(t, 80.0), WIDTH, HEIGHT), t, context, walking) for t in times]
    with ThreadPoolExecutor(2) as executor:
        together = model.process(rows, executor)
    one_by_one = play(model, 2, state=walking, speed=80.0)
    assert [f and f.score for f in together] == [f and f.score for f in one_by_one]


def test_what_a_learner_keeps_is_bounded(model, monkeypatch):
    monkeypatch.setattr(motion_learning, "MOST_FRAMES", 60)
    monkeypatch.setattr(background_learning, "WAITING_FRAMES", 40)
    learner = model.new_learner()
    play(model, 30, learner=learner)
    assert len(learner._taken) <= 61
    assert len(learner._waiting) <= 40
    assert len(learner._samples) <= background_learning.BACKGROUND_SAMPLES
    assert model.fit(learner, 1, 30.0).frames == 300


def test_a_saved_state_scores_the_same_after_loading(model, walking, tmp_path):
    path = tmp_path / "state.npz"
    model.save(walking, path)
    model.save(walking, path)
    loaded = model.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]
    assert (loaded.version, loaded.phase, loaded.learned_s) == (1, "armed", walking.learned_s)
    before, after = (play(model, 1, state=s, speed=80.0) for s in (walking, loaded))
    assert [f and (f.score, f.peak_x, f.reason) for f in before] == [f and (f.score, f.peak_x, f.reason) for f in after]


def test_a_state_that_is_missing_broken_or_of_another_kind_is_refused(model, walking, tmp_path):
    with pytest.raises(StateError, match="there is no state"):
        model.load(tmp_path / "none.npz")
    whole = tmp_path / "whole.npz"
    model.save(walking, whole)
    broken = tmp_path / "broken.npz"
    for content in (b"", b"nonsense", whole.read_bytes()[: whole.stat().st_size // 2]):
        broken.write_bytes(content)
        with pytest.raises(StateError, match="broken"):
            model.load(broken)
    with np.load(whole) as stored:
        arrays = dict(stored)
    for change, complaint in (('"motion_stats"', "type"), ('"format": 2', "format")):
        head = str(arrays["head"]).replace(change, '"other"' if complaint == "type" else '"format": 99')
        np.savez(broken, **{**arrays, "head": np.array(head)})
        with pytest.raises(StateError, match=complaint):
            model.load(broken)
    np.savez(broken, **{**arrays, "background": np.zeros((5, 5), np.uint8)})
    with pytest.raises(StateError, match="do not fit"):
        model.load(broken)
    with pytest.raises(StateError, match="cannot write"):
        model.save(walking, tmp_path / "nowhere" / "state.npz")


def test_a_state_of_another_type_is_refused_for_scoring(model):
    other = NormalityState(
        vad_type="other", version=1, width=WIDTH, height=HEIGHT, learned_s=1.0, frames=10, phase="armed"
    )
    (result,) = play(model, 0.1, state=other)
    assert isinstance(result, StateError)


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(ModelError) as refused:
        create_model("motion_stat", 1)
    assert "motion_stats" in refused.value.hint


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (640, 360), (360, 240), (64, 64), (240, 640)])
def test_working_frames_are_never_larger_than_the_source_or_the_scale_measured_at(width, height):
    working = Geometry(width, height).working
    assert working[0] <= width
    assert working[0] * working[1] <= 360 * 240 * 1.01
    assert working[0] / working[1] == pytest.approx(width / height, rel=0.02)
