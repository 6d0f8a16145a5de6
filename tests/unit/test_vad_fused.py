"""fused on drawn scenes: parts agree, states are bundles, and `auto` says why it chose."""

import zipfile

import numpy as np
import pytest

from core.config import InferenceConfig
from core.errors import ModelError, StateError
from tests.unit.test_vad_objects import HEIGHT, TEXTURE, WIDTH, play, said, walkers
from workers.inference.vad import Row, create_configured, create_model
from workers.inference.vad.choice import Hardware, choose_type
from workers.inference.vad.fused import Fused, _counted
from workers.inference.vad.motion_stats import MotionStats
from workers.inference.vad.object_attr import ObjectAttr


class Trained(ObjectAttr):
    """A part that would take minutes."""

    name = "trained"
    trains = True


@pytest.fixture(scope="module")
def model():
    return Fused([MotionStats(), ObjectAttr()])


@pytest.fixture(scope="module")
def taught(model):
    learner = model.new_learner()
    for n, speed in enumerate((23.0, 25.0)):
        play(model, 25, lambda t, speed=speed: walkers(t, speed), learner=learner, start=100.0 * n)
    return learner


@pytest.fixture(scope="module")
def state(model, taught):
    return model.fit(taught, 2, 20.0)


def test_the_whole_says_what_its_parts_do_and_where(model, state):
    usual = [one.score for one in play(model, 12, walkers, state=state, start=507.0) if one]
    assert np.mean(np.array(usual) >= 1.0) < 0.2
    found = play(model, 4, lambda t: [*walkers(t)[1:], ((t * 90) % 380 - 30, 120, TEXTURE)], state=state)
    height, reasons = said(found)
    assert height > 2.5
    assert reasons.count("x the usual speed here") >= 2
    peak = max((one for one in found if one), key=lambda one: one.score)
    assert peak.peak_y == pytest.approx(103 / HEIGHT, abs=0.1)
    assert peak.map.max() > 100
    assert len({one.map.shape for one in found if one}) == 1


def test_parts_that_say_the_same_are_not_counted_twice(taught):
    once, twice = Fused([MotionStats()]), Fused([MotionStats(), MotionStats()])
    learners = [model.new_learner() for model in (once, twice)]
    states = []
    for model, learner in zip((once, twice), learners, strict=True):
        play(model, 25, walkers, learner=learner)
        states.append(model.fit(learner, 1, 20.0))
    singly, doubly = (
        np.array([one.score for one in play(model, 6, walkers, state=state, start=307.0) if one])
        for model, state in zip((once, twice), states, strict=True)
    )
    assert singly == pytest.approx(doubly, abs=0.35)


def test_how_busy_it_is_does_not_hide_what_objects_find():
    quiet, busy = np.array([0.2, 0.9, 1.0]), np.array([3.0, 3.5])
    assert np.all(_counted("motion_stats", quiet) <= 0.1)
    assert np.allclose(_counted("motion_stats", busy), busy - 0.9)
    assert np.all(np.diff(_counted("motion_stats", np.linspace(0, 9, 50))) > 0), "a higher level always counts for more"
    assert np.array_equal(_counted("object_attr", quiet), quiet)


def test_a_bundle_scores_the_same_after_it_was_saved_and_loaded(model, state, tmp_path):
    model.save(state, tmp_path / "2.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.zip"]
    loaded = model.load(tmp_path / "2.zip")
    before, after = (play(model, 2, walkers, state=one, start=50.0) for one in (state, loaded))
    assert [one and one.score for one in before] == [one and one.score for one in after]
    assert (loaded.version, loaded.phase, loaded.frames) == (2, "armed", state.frames)


def test_a_bundle_that_does_not_fit_is_refused_with_a_reason(model, state, tmp_path):
    whole = tmp_path / "whole.zip"
    model.save(state, whole)
    with pytest.raises(StateError, match="of the parts motion_stats, object_attr, not motion_stats"):
        Fused([MotionStats()]).load(whole)
    with zipfile.ZipFile(whole) as bundle, zipfile.ZipFile(tmp_path / "less.zip", "w") as less:
        less.writestr("head.json", bundle.read("head.json"))
    with pytest.raises(StateError, match="broken"):
        model.load(tmp_path / "less.zip")
    (tmp_path / "half.zip").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(StateError, match="broken"):
        model.load(tmp_path / "half.zip")
    with pytest.raises(StateError, match="there is no state"):
        model.load(tmp_path / "none.zip")
    MotionStats().save(state.parts[0], tmp_path / "motion.npz")
    with pytest.raises(StateError, match="no state of type 'fused'"):
        model.load(tmp_path / "motion.npz")


def test_a_frame_of_another_size_is_refused_for_its_row_alone(model, state):
    small = model.prepare(np.full((180, 160), 128, np.uint8), 160, 120)
    good = model.prepare(np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8), WIDTH, HEIGHT)
    wrong, _ = model.process([Row(small, 0.0, model.new_context(), state), Row(good, 0.0, model.new_context(), state)])
    assert isinstance(wrong, StateError)


def test_until_a_net_is_trained_the_others_score_and_nothing_is_kept(tmp_path):
    model = Fused([MotionStats(), Trained()])
    assert model.trains
    learner = model.new_learner()
    play(model, 12, walkers, learner=learner)
    state = model.fit_provisional(learner)
    assert [part is None for part in state.parts] == [False, True]
    assert any(one is not None for one in play(model, 1, walkers, state=state))
    with pytest.raises(StateError, match="without all parts"):
        model.save(state, tmp_path / "0.zip")


def test_where_a_later_part_fails_its_rows_say_so_and_the_others_have_seen_the_frame(model, state, monkeypatch):
    def fail(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(ObjectAttr, "process", fail)
    (result,) = play(model, 0.1, walkers, state=state)
    assert isinstance(result, MemoryError)
    monkeypatch.setattr(MotionStats, "process", fail)
    with pytest.raises(MemoryError):
        play(model, 0.1, walkers, state=state)


@pytest.mark.parametrize(
    ("hardware", "chosen", "why"),
    [
        (Hardware(2, 24 << 30, False), "motion_objects", "2 cores, 24 GiB of memory, no CUDA; fused wants 4 cores"),
        (Hardware(8, 24 << 30, False), "fused", "8 cores"),
        (Hardware(2, 24 << 30, True), "fused", "CUDA"),
        (Hardware(8, 2 << 30, True), "motion_stats", "2 GiB"),
        (Hardware(1, 2 << 30, False), "motion_stats", "a core"),
    ],
)
def test_auto_takes_what_the_hardware_affords_and_says_why(hardware, chosen, why):
    choice = choose_type(hardware)
    assert choice.vad_type == chosen
    assert why in choice.reason


def test_the_configured_type_has_its_parts_and_their_weights(tmp_path):
    with pytest.raises(ModelError, match="no weights file"):
        create_configured(InferenceConfig(weights={"object_attr": str(tmp_path / "none.onnx")}), "fused", 1)
    with pytest.raises(ModelError, match="of its own"):
        create_configured(InferenceConfig(weights={"fused": "any.onnx"}), "fused", 1)
    with pytest.raises(ModelError, match="no weights file"):
        create_configured(InferenceConfig(weights={"object_attr": str(tmp_path / "none.onnx")}), "motion_objects", 1)
    with pytest.raises(ModelError, match="motion_objects has no weights file of its own"):
        create_configured(InferenceConfig(weights={"motion_objects": "any.onnx"}), "motion_objects", 1)
    assert create_model("auto").name in {"motion_stats", "motion_objects", "fused"}


def test_motion_and_objects_together_need_no_training_and_are_a_type_of_their_own(taught, tmp_path):
    model = create_model("motion_objects")
    assert (model.name, model.trains, model.parameters) == ("motion_objects", False, 0)
    state = model.fit(taught, 3, 20.0)
    assert state.vad_type == "motion_objects"
    model.save(state, tmp_path / "3.zip")
    assert model.load(tmp_path / "3.zip").vad_type == "motion_objects"
    with pytest.raises(StateError, match="of the parts motion_stats, object_attr, not motion_stats, object_attr, syn"):
        create_model("fused", steps=1).load(tmp_path / "3.zip")


@pytest.mark.parametrize("make", [MotionStats, ObjectAttr, lambda: Fused([MotionStats(), ObjectAttr()])])
def test_learners_of_two_times_merged_know_what_both_do(make):
    model = make()
    learners = [model.new_learner() for _ in range(3)]
    for learner, speed in zip(learners, (18.0, 30.0, 24.0), strict=True):
        play(model, 12, lambda t, speed=speed: walkers(t, speed), learner=learner)
    alone = model.fit(learners[0], 1, 30.0)
    learners[0].merge(learners[1:])
    assert learners[0].frames == 360
    assert learners[1].frames == 120
    merged = model.fit(learners[0], 1, 30.0)
    assert (alone.phase, merged.phase) == ("provisional", "armed")
    scores = [
        np.mean([one.score for one in play(model, 6, lambda t: walkers(t, 30.0), state=state, start=50.0) if one])
        for state in (alone, merged)
    ]
    assert scores[1] < scores[0]
    with pytest.raises(StateError, match="one size"):
        other = model.new_learner()
        pixels = np.full((180, 160), 128, np.uint8)
        context = model.new_context()
        for number in range(3):
            model.process([Row(model.prepare(pixels, 160, 120), number / 10, context, None, other)])
        learners[1].merge([other])
