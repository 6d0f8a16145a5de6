"""What is being learned on outlives its process: learners, shadow and trial go on, and what is broken harms nothing."""

import json
import os

import numpy as np
import pytest

from tests.unit.test_drift import USUAL, Model, learned, new_drift, state, watch
from tests.unit.test_vad_objects import HEIGHT, WIDTH, draw, play, walkers
from workers.inference.drift import TRIAL_BURSTS
from workers.inference.drift_file import NAME
from workers.inference.states import Normality, StateStore
from workers.inference.vad import Row, create_model
from workers.inference.vad.state_files import read_npz

HOURS = 2.95
"""Of the three after which a shadow is made."""


def process(folder, *, shift_a_day=12.0) -> Normality:
    """What one process knows of the camera; scores are too high by the half."""
    normality = Normality(Model(), folder, 60, new_drift(shift_a_day))
    if not normality.version:
        learned(normality, 1 / 1.6)
    normality.recall_drift()
    return normality


def watched(normality: Normality, hours: float, begin_s: float):
    return watch(normality.drift, normality.state, hours, 1.0, begin_s)


def test_another_process_goes_on_where_the_first_was_killed(tmp_path):
    first = process(tmp_path)
    assert watched(first, HOURS, 0.0) == []
    assert first.save_drift()
    (tmp_path / f"{NAME}.x1y2").write_bytes(b"half of the next one")

    second = process(tmp_path)
    assert second.drift._older.learned_s > 600
    assert [path.name for path in tmp_path.glob(f"{NAME}*")] == [NAME]
    [better, *_] = watched(second, 1.0, 1e6)
    assert better.usual == pytest.approx(USUAL, rel=0.2)
    # one that begins anew is not even asked after an hour
    (tmp_path / NAME).unlink()
    third = process(tmp_path)
    assert watched(third, 1.0, 1e6) == []
    assert third.drift._shadow is None


def test_a_shadow_and_its_trial_go_on_too(tmp_path):
    first = process(tmp_path)
    assert watched(first, 3.4, 0.0) == []
    tried = len(first.drift._trial)
    assert 10 < tried < TRIAL_BURSTS - 10
    assert first.save_drift()

    second = process(tmp_path)
    assert second.drift._trial == first.drift._trial
    assert second.drift._shadow.usual == pytest.approx(first.drift._shadow.usual)
    assert watched(second, (TRIAL_BURSTS - tried - 2) * 40 / 3600, 1e6) == []
    [better] = watched(second, 0.1, 2e6)
    assert second.promote(better).name == "2.toy"
    assert second.save_drift()
    assert process(tmp_path).drift._changed_s == pytest.approx(second.drift._changed_s)


def test_how_far_scores_may_move_counts_from_the_last_change_whichever_process_that_was_in(tmp_path):
    first = process(tmp_path, shift_a_day=0.5)
    watched(first, HOURS, 0.0)
    first.save_drift()
    second = process(tmp_path, shift_a_day=0.5)
    assert watched(second, 1.0, 1e6) == []
    assert "at once" in second.drift.why


def spoil_nothing(path):
    path.write_bytes(b"")


def spoil_cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_flip(path):
    """One byte of the learned values is another: every entry of the archive has a checksum."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 0xFF
    path.write_bytes(bytes(whole))


def change_head(**changes):
    def spoil(path):
        with np.load(path) as stored:
            arrays = dict(stored)
        head = json.loads(str(arrays.pop("head"))) | changes
        np.savez(path, head=np.array(json.dumps(head)), **arrays)

    return spoil


def spoil_size(path):
    """A few kB on disk, three gigabytes in memory."""
    with np.load(path) as stored:
        head = stored["head"]
    np.savez_compressed(path, head=head, **{f"zeros{n}": np.zeros(10**9, np.uint8) for n in range(3)})


SPOILT = {
    "empty": (spoil_nothing, "broken"),
    "cut": (spoil_cut, "broken"),
    "flipped": (spoil_flip, "broken"),
    "format": (change_head(format=99), "format 99"),
    "type": (change_head(vad_type="other"), "type 'other'"),
    "state": (change_head(state="0" * 64), "another state"),
    "times": (change_head(watched_s=float("nan")), "times cannot be"),
    "parts": (change_head(older=None), "do not fit"),
    "size": (spoil_size, "more than 2000"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_file_that_is_no_good_is_put_aside_with_a_warning_and_costs_nothing_else(tmp_path, how, capsys):
    first = process(tmp_path)
    watched(first, 1.0, 0.0)
    first.save_drift()
    spoil, said = SPOILT[how]
    spoil(tmp_path / NAME)

    second = process(tmp_path)
    assert (second.version, second.put_aside, second.drift._older) == (1, 1, None)
    assert said in capsys.readouterr().out
    assert not (tmp_path / NAME).exists()
    assert (tmp_path / f"{NAME}.unusable").exists()
    watched(second, 1.0, 1e6)
    assert second.save_drift()
    assert process(tmp_path).drift._older.values == second.drift._older.values


def test_what_was_learned_on_beside_another_version_is_not_kept(tmp_path):
    normality = process(tmp_path)
    watched(normality, 1.0, 0.0)
    assert normality.save_drift()
    learned(normality, 2.0)
    assert not (tmp_path / NAME).exists()
    assert not normality.save_drift()
    watched(normality, 1.0, 1e6)
    assert normality.save_drift()
    normality.use(1)
    assert not (tmp_path / NAME).exists()
    normality.forget()
    assert [path.name for path in tmp_path.glob(f"{NAME}*")] == []


def test_nothing_is_written_over_before_it_was_read_nor_while_a_burst_is_being_taken_in(tmp_path):
    first = process(tmp_path)
    watched(first, 1.0, 0.0)
    assert first.save_drift()
    second = Normality(Model(), tmp_path, 60, new_drift())
    watch(second.drift, second.state, 0.1, 1.0, 1e6)
    assert not second.save_drift()
    with first.drift._lock:
        assert not first.save_drift(0.01)


def test_a_disk_that_is_full_is_told_and_tried_again(tmp_path, monkeypatch, capsys):
    normality = process(tmp_path)
    watched(normality, 1.0, 0.0)

    def full(_fd):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        assert not normality.save_drift()
    assert "No space left" in capsys.readouterr().out
    assert normality.save_drift()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.toy", "current", NAME]


def test_it_is_saved_as_time_goes_by_and_when_a_shadow_was_made_or_judged():
    drift = new_drift(shift_a_day=12)
    watch(drift, state(USUAL / 1.6), 0.5, 1.0)
    assert drift.wants_saving(1700)
    assert not drift.wants_saving(3600)
    watch(drift, state(USUAL / 1.6), 2.6, 1.0, begin_s=1800.0)
    with drift.held(0.0) as known:
        assert known.shadow is not None
    assert not drift.wants_saving(3600)
    watch(drift, state(USUAL / 1.6), 0.7, 1.0, begin_s=1e6)
    assert drift.promoted == 1
    assert drift.wants_saving(1e9)


def test_a_type_that_is_put_out_keeps_what_is_learned_on(tmp_path, config):
    store = StateStore(tmp_path, config.vad)
    model = Model()
    normality = store.get(model, "toy", "gate")
    learned(normality, 1.0)
    watched(normality, 1.0, 0.0)
    normality.drift.busy = True
    assert not store.forget_type("toy")
    normality.drift.busy = False
    assert store.forget_type("toy")
    again = store.get(model, "toy", "gate")
    assert again is not normality
    again.recall_drift()
    assert again.drift._older.values == normality.drift._older.values


# ---- the types' own learners


@pytest.fixture(scope="module", params=["motion_stats", "object_attr", "motion_objects", "synthetic", "fused"])
def model(request):
    made = create_model(request.param, steps=5)
    yield made
    made.close()


def through_a_file(model, learner, path):
    head, arrays = model.pack_learner(learner)
    np.savez(path, head=np.array(json.dumps({"format": 1, "vad_type": model.name} | head)), **arrays)
    return read_npz(path, model.name, 1, model.unpack_learner)


def learn_in_bursts(model, count):
    """As drift sees a scene: four seconds of every forty, of one stream; of the last, one and a half."""
    learner, context = model.new_learner(), model.new_context()
    for burst in range(count):
        for index in range(40 if burst < count - 1 else 15):
            t = 40.0 * burst + index / 10
            prepared = model.prepare(draw(t, walkers(t)), WIDTH, HEIGHT)
            model.process([Row(prepared, t, context, None, learner)])
    return learner


def test_a_learner_is_the_same_after_it_was_packed_and_takes_in_more(model, tmp_path):
    learner = learn_in_bursts(model, 12)  # the last of which is too short to be of use yet
    again = through_a_file(model, learner, tmp_path / "learner.npz")
    assert (again.frames, again.learned_s) == (learner.frames, pytest.approx(learner.learned_s))
    if model.trains:
        before, after = (one.parts[2] if model.name == "fused" else one for one in (learner, again))
        kept = before.chunks._kept
        assert len(kept) >= 10
        assert all(np.array_equal(a, b) for (_, _, a), (_, _, b) in zip(kept, after.chunks._kept, strict=True))
        states = [model.fit_provisional(one) for one in (learner, again)]
    else:
        states = [model.fit(one, 1, 10.0) for one in (learner, again)]
    scores = [
        np.array([found.score for found in play(model, 6, walkers, state=one, start=507.0) if found]) for one in states
    ]
    assert len(scores[0]) > 40
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    frames = again.frames
    play(model, 4, walkers, learner=again, start=800.0)
    assert again.frames == frames + 40
    once_more = through_a_file(model, again, tmp_path / "again.npz")
    assert once_more.frames == again.frames


def test_bursts_are_enough_to_see_how_parts_go_together():
    model = create_model("motion_objects")
    learner = learn_in_bursts(model, 6)
    assert len(learner.pieces()) == 5
    assert len(model.fit(learner, 1, 10.0).tail.values) > 2


def test_pictures_of_another_kind_are_refused_before_anything_is_made_of_them():
    model = create_model("object_attr")
    learner = model.new_learner()
    play(model, 30, walkers, learner=learner)
    head, arrays = model.pack_learner(learner)
    for name in ("samples", "background"):
        for wrong in (arrays[name].astype(np.float64), arrays[name][..., :-1]):
            with pytest.raises(ValueError, match="pictures do not fit"):
                model.unpack_learner(head, arrays | {name: wrong})


def test_a_learner_of_another_shape_is_refused(tmp_path):
    model = create_model("motion_stats")
    learner = model.new_learner()
    play(model, 30, walkers, learner=learner)
    head, arrays = model.pack_learner(learner)
    assert head["size"] == [WIDTH, HEIGHT]
    wrong = [
        ({"size": [64, 64]}, {}),
        ({"size": None}, {}),
        ({"stride": 0}, {}),
        ({"frames": "many"}, {}),
        ({}, {"samples": np.zeros((65, *arrays["background"].shape), np.uint8)}),
        ({}, {"cells": arrays["cells"][:-1]}),
        ({}, {"speed": arrays["speed"].astype(np.float64)}),
        ({}, {"streams": arrays["streams"][1:]}),
    ]
    for of_head, of_arrays in wrong:
        with pytest.raises((ValueError, KeyError, TypeError)):
            model.unpack_learner(head | of_head, arrays | of_arrays)
