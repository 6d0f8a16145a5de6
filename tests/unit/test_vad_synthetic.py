"""synthetic: a net trained in its own process, its states, and many cameras in one pass."""

import json
import struct
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from core.errors import ModelError, StateError
from workers.inference.states import Normality
from workers.inference.vad import VAD_TYPES, Row, VadScore, create_model
from workers.inference.vad.layers import initial_weights
from workers.inference.vad.synthetic import Synthetic, make_net
from workers.inference.vad.synthetic_training import find_tubes, roughly

WIDTH, HEIGHT = 320, 240
BACKGROUND = cv2.resize(
    np.random.default_rng(0).integers(60, 150, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8), (WIDTH, HEIGHT)
)
FIGURES = np.random.default_rng(1).integers(0, 2, (3, 48, 8), dtype=np.uint8).repeat(3, axis=2) * 60 + 190


def draw(t, speed=30.0, width=WIDTH, height=HEIGHT):
    """An I420 frame in which three figures walk to and fro; the first of them `speed` px/s."""
    luma = BACKGROUND.copy()
    for n, (figure, y) in enumerate(zip(FIGURES, (70, 120, 170), strict=True)):
        h, w = figure.shape
        way = WIDTH - w - 20
        pace = speed if n == 0 else 30.0
        x = round(10 + abs(((t + 7 * n) * pace) % (2 * way) - way))
        luma[y - h // 2 : y - h // 2 + h, x : x + w] = figure
    noise = np.random.default_rng(int(t * 1000)).normal(0, 2, luma.shape)
    luma = np.clip(luma + noise, 0, 255).astype(np.uint8)
    if (width, height) != (WIDTH, HEIGHT):
        luma = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
    return np.vstack([luma, np.full((height // 2, width), 128, np.uint8)])


def play(model, seconds, *, state=None, learner=None, start=0.0, context=None, fps=10.0, **drawn):
    context = context or model.new_context()
    found = []
    for index in range(round(seconds * fps)):
        t = start + index / fps
        pixels = draw(t, **drawn)
        prepared = model.prepare(pixels, pixels.shape[1], pixels.shape[0] * 2 // 3)
        found += model.process([Row(prepared, t, context, state, learner)])
    return found


@pytest.fixture(scope="module")
def model():
    made = Synthetic(steps=100)
    yield made
    made.close()


@pytest.fixture(scope="module")
def learner(model):
    made = model.new_learner()
    assert play(model, 40, learner=made) == [None] * 400
    return made


@pytest.fixture(scope="module")
def state(model, learner):
    return model.fit(learner, 3, 30.0)


def test_an_unknown_type_is_refused_with_the_nearest_name():
    with pytest.raises(ModelError) as refused:
        create_model("sinthetic")
    assert "did you mean synthetic?" in refused.value.hint
    assert all(name in refused.value.hint for name in VAD_TYPES)


def test_a_runner_scores_higher_than_a_walker_and_the_peak_is_on_it(model, state):
    usual = np.array([found.score for found in play(model, 8, state=state, start=50.0)])
    found = play(model, 5, state=state, speed=100.0)
    fast = np.array([one.score for one in found])
    assert np.median(usual[13:]) < 1.0
    assert np.median(fast[13:]) > 1.5
    way = WIDTH - 24 - 20
    x = 10 + abs((3.0 * 100) % (2 * way) - way) + 12
    assert found[30].peak_x * WIDTH == pytest.approx(x, abs=30)
    assert found[30].peak_y * HEIGHT == pytest.approx(70, abs=30)
    assert state.phase == "armed"
    assert state.version == 3


def test_until_the_net_is_trained_motion_stats_scores(model, learner):
    first = model.fit_provisional(learner)
    assert (first.phase, first.version) == ("provisional", 0)
    found = [one for one in play(model, 3, state=first, speed=100.0) if one is not None]
    assert all(isinstance(one, VadScore) for one in found)
    assert any("x the usual" in one.reason for one in found)


def test_a_state_is_the_same_after_it_was_saved_and_loaded(model, state, tmp_path):
    path = tmp_path / "3.safetensors"
    model.save(state, path)
    assert [file.name for file in tmp_path.iterdir()] == ["3.safetensors"]
    again = Synthetic().load(path)
    assert (again.version, again.frames, again.phase) == (3, state.frames, "armed")
    before, after = play(model, 2, state=state, speed=60.0), play(model, 2, state=again, speed=60.0)
    assert [one.score for one in before] == [one.score for one in after]


def test_files_of_something_else_are_refused_with_the_reason(model, state, tmp_path):
    path = tmp_path / "3.safetensors"
    model.save(state, path)
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(size))["__metadata__"]
    arrays = load_file(path)
    cases = {
        "type 'motion_stats'": (arrays, head | {"vad_type": "motion_stats"}),
        "format '9'": (arrays, head | {"format": "9"}),
        "another net: a1.weight": (arrays | {"net.a1.weight": np.zeros((3, 3), np.float32)}, head),
        "frame size": (arrays | {"background": np.zeros((8, 8), np.uint8)}, head),
    }
    for complaint, (changed, described) in cases.items():
        save_file(changed, path, described)
        with pytest.raises(StateError, match=complaint):
            model.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StateError, match="broken"):
        model.load(path)
    with pytest.raises(StateError, match="there is no state"):
        model.load(tmp_path / "4.safetensors")


def test_a_frame_of_another_size_fails_alone(model, state):
    rows = []
    for width, height in ((WIDTH, HEIGHT), (WIDTH, HEIGHT + 16)):
        pixels = draw(1.0, width=width, height=height)
        rows.append(Row(model.prepare(pixels, width, height), 0.0, model.new_context(), state))
    good, bad = model.process(rows)
    assert isinstance(good, VadScore)
    assert isinstance(bad, StateError)
    assert "this one is 320x256" in str(bad)


def test_a_batch_of_cameras_scores_as_each_does_alone(model, state, learner):
    other = model.fit_provisional(learner)
    alone = play(model, 2, state=state, speed=90.0)
    contexts = [model.new_context() for _ in range(3)]
    for index in range(20):
        pixels = draw(index / 10, speed=90.0)
        prepared = model.prepare(pixels, WIDTH, HEIGHT)
        states = (state, other, state)
        found = model.process([Row(prepared, index / 10, one, its) for one, its in zip(contexts, states, strict=True)])
        assert found[0].score == pytest.approx(alone[index].score, abs=1e-3)
        assert found[2].score == pytest.approx(found[0].score, abs=1e-6)
    assert "x the usual" in found[1].reason


def test_nets_stacked_for_one_pass_give_what_each_gives_alone():
    torch.manual_seed(0)
    net = make_net()
    maps, shapes = net.maps, net.shapes(48, 64)
    nets = [initial_weights(shapes, seed) for seed in range(3)]
    frames, still = torch.rand(3, 2, 5, 48, 64) * 255, torch.rand(3, 2, 1, 48, 64) * 255
    alone = torch.stack([maps(*one) for one in zip(frames, still, nets, strict=True)])
    stacked = {name: torch.stack([net[name] for net in nets]) for name in shapes}
    torch.testing.assert_close(torch.func.vmap(maps)(frames, still, stacked), alone, rtol=1e-4, atol=1e-4)


def test_too_little_footage_is_said(model):
    learner = model.new_learner()
    play(model, 1, learner=learner)
    with pytest.raises(StateError, match="at least 3 s"):
        model.fit(learner, 1, 30.0)


def test_what_is_kept_of_long_footage_is_bounded(model, monkeypatch):
    monkeypatch.setattr("workers.inference.vad.footage.MOST_CHUNKS", 4)
    learner = model.new_learner()
    for index in range(600):
        learner.chunks.add(0, index / 10, np.full((120, 160), index % 200, np.uint8))
    assert sum(len(chunk) for chunk in learner.chunks.snapshot()) <= 5 * 48


def test_things_are_followed_at_the_speed_they_go():
    frames = np.stack([cv2.resize(draw(t / 10)[:HEIGHT], (160, 120), interpolation=cv2.INTER_AREA) for t in range(48)])
    still = cv2.resize(BACKGROUND, (160, 120), interpolation=cv2.INTER_AREA)
    tubes = find_tubes([frames], still, np.random.default_rng(0))
    upper = [tube for tube in tubes if abs(tube.y[0] - 35) < 8]
    assert upper
    assert np.median([abs(tube.moved_x) / 3.6 for tube in upper]) == pytest.approx(15.0, abs=2.0)


def test_nets_learn_before_a_background_that_is_a_little_off_as_often_as_before_an_exact_one():
    choice, still = np.random.default_rng(0), cv2.resize(BACKGROUND, (160, 120), interpolation=cv2.INTER_AREA)
    off = np.array([np.abs(roughly(still, choice) - still).mean() for _ in range(60)])
    assert 15 < np.count_nonzero(off == 0.0) < 45
    assert 0.5 < np.median(off[off > 0.0]) < 15


def test_training_is_given_up_when_the_model_is_closed(learner):
    slow = Synthetic(steps=100_000)
    said = []

    def fit():
        try:
            slow.fit(learner, 1, 30.0)
        except StateError as error:
            said.append(str(error))

    thread = threading.Thread(target=fit)
    thread.start()
    deadline = time.monotonic() + 60
    while not slow._training:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    slow.close()
    thread.join(60)
    assert said == ["training was given up: inference is stopping"]


def test_a_camera_is_scored_provisionally_while_its_net_is_trained(model, learner, tmp_path):
    normality = Normality(model, tmp_path / "cam", 30.0)
    normality.learner = learner
    assert normality.begin_training()
    assert not normality.begin_training()
    assert normality.training
    assert normality.learner is None
    assert normality.state.version == 0
    file = normality.train()
    assert not normality.training
    assert (normality.state.version, file.name) == (1, "1.safetensors")
    assert Normality(model, tmp_path / "cam", 30.0).state.version == 1
    normality.learner = learner
    assert normality.begin_training()
    assert normality.state.version == 1, "what was trained before scores until the next one is ready"
    normality.forget()
    assert normality.train() is None
