"""object_attr on drawn scenes: which attribute is named, what a detector adds, and what is refused."""

import cv2
import numpy as np
import pytest

from bench.vad import decode, learn, score
from core.errors import ModelError, StateError
from core.tracking import pair_surest_first
from tests.onnx_file import write_detector
from workers.inference.vad import Row, VadScore, create_model
from workers.inference.vad.motion_features import Geometry, MotionContext, prepare_colour
from workers.inference.vad.object_features import Looker, Memory, backdrop_of
from workers.inference.vad.object_learning import ATTRIBUTES, whole_levels

WIDTH, HEIGHT = 320, 240
FPS = 10.0
GROUND = cv2.resize(
    np.random.default_rng(0).integers(60, 150, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8), (WIDTH, HEIGHT)
)
TEXTURE = np.random.default_rng(1).integers(0, 2, (34, 6), dtype=np.uint8).repeat(3, axis=1) * 60 + 190
BALL = np.random.default_rng(2).integers(0, 2, (20, 10), dtype=np.uint8).repeat(4, axis=1) * 60 + 190


def draw(t, figures):
    """An I420 frame with figures (x, foot, picture) in pixels, and the camera's noise."""
    luma = GROUND.astype(np.float32)
    for x, foot, picture in figures:
        h, w = picture.shape
        shift = np.float32([[1, 0, x - w / 2], [0, 1, foot - h]])
        mask = cv2.warpAffine(np.full((h, w), 255, np.uint8), shift, (WIDTH, HEIGHT))
        luma = np.where(mask > 127, cv2.warpAffine(picture, shift, (WIDTH, HEIGHT)), luma)
    noise = np.random.default_rng(int(t * 1000)).normal(0, 2, luma.shape)
    luma = np.clip(luma + noise, 0, 255).astype(np.uint8)
    return np.vstack([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])


def walkers(t, speed=24.0):
    """One goes right at the height of 120, one left at 200; each comes in again where it began."""
    way = WIDTH + 60
    return [((t * speed) % way - 30, 120, TEXTURE), (WIDTH + 30 - (t * speed + 190) % way, 200, TEXTURE)]


def play(model, seconds, figures, *, state=None, learner=None, start=0.0):
    context, found = model.new_context(), []
    for index in range(round(seconds * FPS)):
        t = start + index / FPS
        prepared = model.prepare(draw(t, figures(t)), WIDTH, HEIGHT)
        found += model.process([Row(prepared, t, context, state, learner)])
    return found


@pytest.fixture(scope="module")
def model():
    return create_model("object_attr")


@pytest.fixture(scope="module")
def taught(model):
    """A learner that saw a minute and a half of two who walk; speeds differ a little."""
    learner = model.new_learner()
    for n, speed in enumerate((22.0, 24.0, 26.0)):
        play(model, 30, lambda t, speed=speed: walkers(t, speed), learner=learner, start=100.0 * n)
    return learner


@pytest.fixture(scope="module")
def walking(model, taught):
    return model.fit(taught, 1, 60.0)


def said(found):
    """Highest score, and the reasons of all frames that pass 2."""
    scores = [one for one in found if isinstance(one, VadScore)]
    assert scores
    return max(one.score for one in scores), " / ".join(one.reason for one in scores if one.score >= 2.0)


def test_those_who_walk_as_always_are_ordinary(model, walking):
    found = [one.score for one in play(model, 20, walkers, state=walking, start=507.0) if one is not None]
    assert np.median(found) < 1.0
    assert np.mean(np.array(found) >= 2.0) < 0.05


@pytest.mark.parametrize(
    ("what", "reason", "figures"),
    [
        ("a runner", "x the usual speed", lambda t: [*walkers(t)[1:], ((t * 90) % 380 - 30, 120, TEXTURE)]),
        ("the wrong way", "goes left", lambda t: [*walkers(t)[1:], (WIDTH + 30 - t * 26, 120, TEXTURE)]),
        ("somebody huge", "x the usual size", lambda t: [(t * 26, 120, cv2.resize(TEXTURE, None, fx=2.2, fy=2.2))]),
        ("a ball", "x as wide", lambda t: [(t * 26, 120, BALL)]),
        ("where nobody goes", "less is seen", lambda t: [(60 + t * 24, 60, TEXTURE)]),
    ],
)
def test_what_is_unusual_scores_high_and_is_named(model, walking, what, reason, figures):
    height, reasons = said(play(model, 10, figures, state=walking, start=0.0))
    assert height > 2.0, what
    assert reason in reasons


def test_what_goes_on_for_a_while_is_more_unusual_than_the_same_for_a_moment(walking):
    memory, tracks = Memory(), np.array([7])
    some = np.zeros((1, len(ATTRIBUTES)))
    some[0, ATTRIBUTES.index("way")] = 2.5
    levels = [float(whole_levels(walking, some, memory, tracks, t)[0]) for t in np.arange(0.0, 20.0, 0.1)]
    assert levels[-1] > levels[0] + 0.3
    other = float(whole_levels(walking, some, memory, np.array([8]), 20.0)[0])
    assert other == pytest.approx(levels[0])


def test_what_was_learned_in_bursts_keeps_how_long_things_stay_of_the_state_in_use(model, walking):
    learner = model.new_learner()
    for n in range(12):
        play(model, 4, lambda t: walkers(t % 40), learner=learner, start=40.0 * n)
    shadow = model.fit(learner, 2, 60.0)
    assert not np.array_equal(shadow.habits.mean[3], walking.habits.mean[3])
    kept = model.inherit(shadow, walking)
    assert np.array_equal(kept.habits.mean[3], walking.habits.mean[3])
    assert kept.lasting_tail is walking.lasting_tail
    assert kept.tails[ATTRIBUTES.index("stay")] is walking.tails[ATTRIBUTES.index("stay")]
    assert np.array_equal(kept.habits.mean[0], shadow.habits.mean[0])
    assert kept.backdrop is shadow.backdrop


def test_something_left_behind_is_named_by_how_long_it_stays_and_in_the_end_belongs_to_the_scene(model, walking):
    context = model.new_context()
    found = {}
    for t in np.arange(0.0, 1500.0, 2.0):  # as a closed motion gate lets frames by
        prepared = model.prepare(draw(float(t), [(160, 120, TEXTURE)] if t >= 4 else []), WIDTH, HEIGHT)
        (found[t],) = model.process([Row(prepared, float(t), context, walking)])
    assert "has stayed for 5" in found[60.0].reason
    assert found[60.0].score > 2.5
    assert abs(found[60.0].peak_x - 0.5) < 0.05
    assert found[1498.0].score < 1.0


def coloured(t, figures, white=(128, 128)):
    """As `draw`, of figures (x, foot, picture, (u, v))."""
    frame = draw(t, [one[:3] for one in figures])
    u, v = frame[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    u[:], v[:] = white
    for x, foot, picture, colour in figures:
        h, w = (side // 2 for side in picture.shape)
        box = (slice(foot // 2 - h, foot // 2), slice(max(0, round(x / 2 - w / 2)), max(0, round(x / 2 + w / 2))))
        u[box], v[box] = colour
    return frame


def watched(seconds, figures, draw=draw):
    """What a new looker finds in each frame, and the looker."""
    empty = [prepare_colour(draw(t, []), WIDTH, HEIGHT).flat() for t in np.arange(0.0, 4.0, 0.2)]
    backdrop = backdrop_of(np.median(empty, axis=0).astype(np.uint8), empty, Geometry(WIDTH, HEIGHT))
    looker, motion, found = Looker(backdrop), MotionContext(), []
    for index in range(round(seconds * FPS)):
        t = index / FPS
        frame = prepare_colour(draw(t, figures(t)), WIDTH, HEIGHT)
        found.append(looker.look(frame, motion.push(frame, t), t))
    return found, looker


def test_what_hardly_differs_from_the_ground_is_seen_but_adds_nothing_to_what_does():
    faint = (GROUND[86:120, 151:169].astype(np.int16) + 14).astype(np.uint8)
    found, _ = watched(2.0, lambda t: [(160, 120, faint)])
    assert all(len(things) == 1 for things in found[5:])
    beside = (GROUND[86:120, 171:177].astype(np.int16) + 14).astype(np.uint8)
    found, _ = watched(2.0, lambda t: [(160, 120, TEXTURE), (174, 120, beside)])
    alone, _ = watched(2.0, lambda t: [(160, 120, TEXTURE)])
    assert [len(things) for things in found[5:]] == [len(things) for things in alone[5:]]
    assert abs(found[-1].size[0] - alone[-1].size[0]) < 0.01


def test_what_differs_from_the_ground_in_colour_alone_is_seen_and_another_white_of_the_camera_is_nothing():
    same = GROUND[86:120, 151:169]
    found, looker = watched(3.0, lambda t: [(160, 120, same, (150, 110))] if t >= 1 else [], draw=coloured)
    assert [len(things) for things in found[5:10] + found[11:]] == [0] * 5 + [1] * 19
    left, top, right, bottom = found[-1].box[0] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    assert abs(left - 151) <= 4
    assert abs(right - 169) <= 4
    assert abs(top - 86) <= 4
    assert abs(bottom - 120) <= 4
    motion = MotionContext()
    for t in (3.0, 3.1, 3.2, 3.3, 3.4):
        frame = prepare_colour(coloured(t, [], white=(138, 120)), WIDTH, HEIGHT)
        things = looker.look(frame, motion.push(frame, t), t)
    assert len(things) == 0


def test_a_colourful_ground_in_weaker_or_warmer_light_shows_nothing_new_and_things_as_before():
    still = draw(0.0, [])
    patches = np.random.default_rng(4).integers(100, 157, (2, HEIGHT // 16, WIDTH // 16), dtype=np.uint8)
    still[HEIGHT:] = np.stack([cv2.resize(one, (WIDTH // 2, HEIGHT // 2)) for one in patches]).reshape(-1, WIDTH)
    flat = prepare_colour(still, WIDTH, HEIGHT).flat()
    for gain, shift in ((1.0, 0.0), (0.6, 0.0), (1.3, 0.0), (0.8, 12.0)):
        looker, motion = Looker(backdrop_of(flat, [flat] * 3, Geometry(WIDTH, HEIGHT))), MotionContext()
        lit = still.astype(np.float32)
        lit[:HEIGHT] *= gain
        lit[HEIGHT:] = (lit[HEIGHT:] - 128) * gain + 128 + shift
        shown, found = np.clip(lit, 0, 255).astype(np.uint8), []
        for index in range(16):
            if index == 8:
                u, v = shown[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
                u[40:60, 70:80], v[40:60, 70:80] = 60, 200
            frame = prepare_colour(shown, WIDTH, HEIGHT)
            found.append(looker.look(frame, motion.push(frame, index / FPS), index / FPS))
        assert [len(things) for things in found] == [0] * 8 + [1] * 8, (gain, shift)


def test_how_fast_something_of_the_grounds_grey_goes_is_told_by_where_it_was():
    def grey_runner(t):
        x = 20 + 90 * t
        there = GROUND[86:120, max(0, round(x) - 9) : round(x) + 9]
        return [(x, 120, there, (170, 100))] if there.shape[1] == 18 else []

    found, _ = watched(3.2, grey_runner, draw=coloured)
    fastest = max(float(things.speed.max(initial=0.0)) for things in found if things is not None)
    assert fastest > 0.7 * 90 / HEIGHT
    [going] = [things.velocity[0] for things in found[20:21]]
    assert going[0] > 0.5 * 90 / HEIGHT


@pytest.mark.parametrize("way", [1, -1])
def test_two_who_meet_stop_and_go_on_or_turn_back_are_told_by_their_colours(way):
    def meet(t):
        x = 30 * min(t, 3.0) + way * 30 * max(0.0, t - 5.0)
        return [(30 + x, 120, TEXTURE, (170, 110)), (210 - x, 120, TEXTURE, (90, 150))]

    found, _ = watched(8.0, meet, draw=coloured)
    before, after = found[12], found[-1]
    assert list(before.track[np.argsort(before.x)])[::-way] == list(after.track[np.argsort(after.x)])


def test_two_who_cross_stay_two_though_they_are_one_blob_for_a_while():
    found, _ = watched(7.0, lambda t: [(60 + 30 * t, 120, TEXTURE), (260 - 30 * t, 124, TEXTURE)])
    before, after = found[15], found[-1]
    right = int(before.track[before.velocity[:, 0] > 0][0])
    left = int(before.track[before.velocity[:, 0] < 0][0])
    assert sorted(after.track) == sorted([right, left])
    assert after.velocity[list(after.track).index(right), 0] > 0.05
    assert after.velocity[list(after.track).index(left), 0] < -0.05
    # a figure is 18 px wide: their boxes touch from 3.0 s to 3.7 s; only where one covers the other is it hidden
    touching = [found[index] for index in (30, 31, 35, 36)]
    assert all(set(things.track) == {right, left} for things in touching)
    for things in touching:
        assert np.all(np.isnan(things.shape) | (things.shape < 1.0))
        assert things.velocity[list(things.track).index(right), 0] > 0.0
        assert things.velocity[list(things.track).index(left), 0] < 0.0


def test_who_passes_leaves_no_trace_in_the_background():
    busy, looker = watched(40.0, lambda t: [((t * 40 + n * 70) % 380 - 30, 120, TEXTURE) for n in range(5)])
    assert np.mean([len(things) for things in busy if things is not None]) > 3
    frame = prepare_colour(draw(40.1, []), WIDTH, HEIGHT)
    motion = MotionContext()
    for t in (40.1, 40.2, 40.3, 40.4):
        things = looker.look(frame, motion.push(frame, t), t)
    assert len(things) == 0


def test_something_left_behind_is_known_to_be_there_while_somebody_passes_before_it():
    bag = np.full((20, 16), 30, np.uint8)
    found, _ = watched(12.0, lambda t: [(160, 120, bag), ((t - 6.0) * 60 + 120, 126, TEXTURE)])
    longest = np.array([max(things.stay_s, default=0.0) for things in found if things is not None])
    assert longest[-1] > 11.0
    assert np.all(np.diff(longest) > -0.2), "no less at any time"


def test_a_track_is_judged_by_what_it_was_lately():
    memory = Memory()
    one = [memory.carry(np.array([7]), 0.1 * n, np.array([[2.0, np.nan]])) for n in range(30)]
    assert np.allclose(one[-1], [[2.0, 0.0]])
    for_a_moment = memory.carry(np.array([7, 8]), 3.0, np.array([[9.0, 1.0], [9.0, np.nan]]))
    assert for_a_moment[0, 0] < 3.0, "once is little"
    assert 0.0 < for_a_moment[0, 1] < 0.2, "what was not known was nothing unusual"
    assert np.allclose(for_a_moment[1], [9.0, 0.0]), "nothing else is known of a new one"


def test_what_ten_seconds_did_not_show_is_no_alarm(ped2):
    """In the first clip all go one way; in others they come the other way too."""
    model = create_model("object_attr", 1)
    clips = sorted((ped2 / "train").glob("*.mp4"))
    state, _, _ = learn(model, clips[:1])
    assert state.phase == "provisional"
    scores = np.array([one.score for one in score(model, state, list(decode(clips[8])))])
    assert (scores >= 1).mean() > 0.5
    assert (scores >= 2).mean() == 0


def test_a_learner_that_goes_on_does_not_change_what_was_fitted(model, taught, walking):
    again = model.fit(taught, 1, 60.0)
    assert np.array_equal(again.habits.mean, walking.habits.mean)
    assert again.phase == "armed"
    assert model.fit_provisional(taught).phase == "provisional"


def test_a_state_scores_the_same_after_it_was_saved_and_loaded(model, walking, tmp_path):
    model.save(walking, tmp_path / "state.npz")
    loaded = model.load(tmp_path / "state.npz")
    before, after = (play(model, 3, walkers, state=state, start=50.0) for state in (walking, loaded))
    assert [one and one.score for one in before] == [one and one.score for one in after]
    assert len(loaded.tails) == len(ATTRIBUTES)


def test_what_does_not_fit_is_refused_with_a_reason(model, walking, tmp_path):
    with pytest.raises(StateError, match="there is no state"):
        model.load(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    with pytest.raises(StateError, match="broken"):
        model.load(tmp_path / "broken.npz")
    motion = create_model("motion_stats")
    model.save(walking, tmp_path / "objects.npz")
    with pytest.raises(StateError, match="type 'object_attr', not 'motion_stats'"):
        motion.load(tmp_path / "objects.npz")
    small = model.prepare(np.full((180, 160), 128, np.uint8), 160, 120)
    (result,) = model.process([Row(small, 0.0, model.new_context(), walking)])
    assert isinstance(result, StateError)
    assert "320x240" in str(result)
    with pytest.raises(StateError, match="at least"):
        model.fit(model.new_learner(), 1, 60.0)


def test_a_detector_finds_what_does_not_stand_out_from_the_background(tmp_path):
    model = create_model("object_attr", weights_file=write_detector(tmp_path / "bright.onnx"))
    bright = np.full((HEIGHT, WIDTH), 40, np.uint8)
    bright[64:96, 96:128] = 250
    pixels = np.vstack([bright, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])
    learner, context = model.new_learner(), model.new_context()
    for index in range(80):
        row = Row(model.prepare(pixels, WIDTH, HEIGHT), index / FPS, context, None, learner)
        assert model.process([row]) == [None]
    state = model.fit(learner, 1, 5.0)
    found = play(model, 1, lambda _t: [(160, 120, TEXTURE)], state=state)
    assert isinstance(found[-1], VadScore)
    row, column = np.unravel_index(int(np.argmax(state.habits.place)), state.habits.place.shape)
    assert (column + 0.5) / state.habits.place.shape[1] == pytest.approx(0.35, abs=0.05)
    assert (row + 0.5) / state.habits.place.shape[0] == pytest.approx(0.4, abs=0.05)


def test_a_weights_file_that_is_no_detector_is_refused_with_what_is_wanted(tmp_path):
    with pytest.raises(ModelError, match="there is no weights file"):
        create_model("object_attr", weights_file=tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a net")
    with pytest.raises(ModelError, match="no ONNX file"):
        create_model("object_attr", weights_file=tmp_path / "text.onnx")
    with pytest.raises(ModelError, match="not a detector"):
        create_model("object_attr", weights_file=write_detector(tmp_path / "three.onnx", numbers=3))


def test_each_track_and_each_thing_is_in_one_pair_at_most_the_surest_first():
    assert pair_surest_first([(0.5, 0, 0), (0.2, 1, 0), (0.9, 0, 1), (0.1, 2, 2)]) == [(2, 2), (1, 0), (0, 1)]
    assert pair_surest_first([]) == []


def test_a_camera_that_was_moved_by_a_pixel_or_two_shows_nothing_new_and_things_as_before():
    blocks = np.random.default_rng(3).integers(40, 200, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8)
    ground = blocks.repeat(8, axis=0).repeat(8, axis=1)
    moved = np.pad(ground, ((2, 0), (0, 1)), mode="edge")[:HEIGHT, 1:]
    colourless = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
    still = prepare_colour(np.vstack([ground, colourless]), WIDTH, HEIGHT).flat()
    looker, motion = Looker(backdrop_of(still, [still] * 3, Geometry(WIDTH, HEIGHT))), MotionContext()
    found = []
    for index in range(40):
        shown = moved.copy()
        if index >= 20:
            shown[100:140, 5 * index : 5 * index + 20] = 255
        frame = prepare_colour(np.vstack([shown, colourless]), WIDTH, HEIGHT)
        found.append(looker.look(frame, motion.push(frame, index / FPS), index / FPS))
    assert [len(things) for things in found[11:20] if things is not None] == [0] * 9
    assert {len(things) for things in found[21:] if things is not None} == {1}
