"""Drift: what is learned on from, and when the shadow takes over; and versions that can be gone back to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from core.errors import StateError
from workers.inference.drift import TRIAL_BURSTS, Drift
from workers.inference.states import Normality
from workers.inference.vad import NormalityState, VadScore

BELOW = 2.0


@dataclass(frozen=True, kw_only=True)
class Scale(NormalityState):
    """A value's level is the value by this."""

    usual: float


class Learner:
    def __init__(self) -> None:
        self.values: list[float] = []

    @property
    def frames(self) -> int:
        return len(self.values)

    @property
    def learned_s(self) -> float:
        return self.frames / 5


class Model:
    """A frame is a number and its true time; the faster it is told to go, the larger the number."""

    name, suffix, trains, device, parameters = "toy", ".toy", False, "cpu", 0

    def new_context(self):
        return {}

    def new_learner(self):
        return Learner()

    def process(self, rows, executor=None):
        found = []
        for row in rows:
            value, true_s = row.prepared
            told_s, was_s = row.context.get("s", (row.media_s - 0.2, true_s - 0.2))
            row.context["s"] = row.media_s, true_s
            value *= (true_s - was_s) / (row.media_s - told_s)
            if row.learner is not None:
                row.learner.values.append(value)
            level = value / row.state.usual if row.state else 0
            found.append(VadScore(level, 0.5, 0.5, np.zeros((1, 1), np.uint8), "") if row.state else None)
        return found

    def fit(self, learner, version, armed_s):
        if not learner.values:
            raise StateError("nothing was learned")
        usual = float(np.mean(learner.values)) * np.log(10)
        phase = "armed" if learner.learned_s >= armed_s else "provisional"
        return state(usual, version, phase)

    def pack_learner(self, learner):
        return {}, {"values": np.array(learner.values)}

    def unpack_learner(self, head, arrays):
        learner = self.new_learner()
        learner.values = arrays["values"].tolist()
        return learner

    def save(self, made, path: Path):
        path.write_text(str(made.usual))

    def load(self, path: Path):
        return state(float(path.read_text()), int(path.stem))


def state(usual: float, version: int = 1, phase: str = "armed") -> Scale:
    return Scale(
        vad_type="toy", version=version, width=1, height=1, learned_s=9, frames=9, phase=phase, usual=float(usual)
    )


def watch(drift: Drift, used: Scale, hours: float, mean: float, begin_s: float = 0.0, seed: int = 1) -> list[Scale]:
    """Frames of a camera, 5 a second, whose values have this mean; what is to be used from now on."""
    luck, better = np.random.default_rng(seed), []
    for number in range(round(hours * 3600 * 5)):
        value = luck.exponential(mean)
        at_s = begin_s + number / 5
        burst = drift.offer((value, at_s), at_s, value / used.usual, BELOW)
        if burst:
            found = drift.take(burst, used)
            better += [found] if found else []
    return better


def new_drift(shift_a_day: float = 0.5) -> Drift:
    return Drift(Model(), every_s=3 * 3600, shift_a_day=shift_a_day, armed_s=60)


USUAL = float(np.log(10))
"""The right scale for values of mean 1."""


def test_a_shadow_takes_over_where_the_scene_has_changed():
    drift = new_drift(shift_a_day=12)
    [better, *_] = watch(drift, state(USUAL / 1.6), 5, 1.0)
    # what is over the threshold is never learned from, so that it stays a little below
    assert better.usual == pytest.approx(USUAL, rel=0.2)
    assert drift.promoted == 1


def test_what_bursts_cannot_show_is_taken_from_the_state_in_use():
    class Heir(Model):
        def inherit(self, made, used):
            assert made.usual == pytest.approx(USUAL, rel=0.2)
            return used

    drift = Drift(Heir(), every_s=3 * 3600, shift_a_day=12, armed_s=60)
    assert watch(drift, state(USUAL / 1.6), 5, 1.0) == []
    assert "no better" in drift.why


def test_a_shadow_that_is_no_better_is_refused():
    drift = new_drift()
    assert watch(drift, state(USUAL), 5, 1.0) == []
    assert drift.refused == 1
    assert "no better" in drift.why


def test_scores_move_by_no_more_in_a_day_than_is_allowed():
    drift = new_drift(shift_a_day=0.5)
    assert watch(drift, state(USUAL / 1.6), 5, 1.0) == []
    assert "at once" in drift.why


def test_a_shadow_that_is_less_sharp_is_refused(monkeypatch):
    drift = new_drift(shift_a_day=12)
    process = drift._model.process

    def blunt(rows, executor=None):
        kept = [row for row in rows if row.state is None or row.state.usual == pytest.approx(USUAL / 1.6)]
        return [
            found if row in kept else VadScore(row.prepared[0] / row.state.usual, 0, 0, found.map, "")
            for row, found in zip(rows, process(rows), strict=True)
        ]

    monkeypatch.setattr(drift._model, "process", blunt)
    assert watch(drift, state(USUAL / 1.6), 5, 1.0) == []
    assert "what is fast" in drift.why


def test_nothing_is_learned_from_an_event_nor_just_before_and_after_it_nor_from_any_unusual_frame():
    drift, learned = new_drift(), []
    for number in range(20_000):
        at_s = number / 5
        unusual = int(at_s) % 30 == 7
        goes_on = 100 <= at_s % 300 < 160
        burst = drift.offer((at_s, unusual), at_s, 5.0 if unusual else 0.3, 0.0 if goes_on else BELOW)
        learned += [frame.prepared for frame in burst or () if frame.ordinary]
    assert len(learned) > 100
    for at_s, unusual in learned:
        assert not unusual
        assert not 90 < at_s % 300 < 169


def test_a_gap_or_a_jump_in_time_begins_a_burst_anew():
    drift, bursts = new_drift(), []
    for second in range(600):
        for part in range(5):
            at_s = second + part / 5 + (second // 3) * 100
            burst = drift.offer(at_s, at_s, 0.1, BELOW)
            bursts += [burst] if burst else []
    assert bursts == []


def test_what_takes_time_holds_no_burst_back_for_ever():
    drift = new_drift()
    drift.busy = True
    assert [drift.offer(0, number / 5, 0.1, BELOW) for number in range(1000)] == [None] * 1000
    drift.busy = False
    assert drift.offer(0, 200.2, 0.1, BELOW)


def test_the_trial_is_of_footage_that_neither_learned_from():
    drift = new_drift()
    watch(drift, state(USUAL), 3.01, 1.0)
    learner = drift._older
    before = learner.frames
    watch(drift, state(USUAL), TRIAL_BURSTS / 90 - 0.05, 1.0, begin_s=3.01 * 3600)
    assert learner.frames == before


# ---- versions


def learned(normality: Normality, mean: float) -> None:
    normality.begin().values += [mean] * 500
    normality.finish()


def test_versions_are_kept_can_be_gone_back_to_and_are_never_overwritten(tmp_path):
    normality = Normality(Model(), tmp_path / "gate", 60)
    for mean in (1.0, 2.0, 3.0):
        learned(normality, mean)
    assert (normality.version, normality.versions) == (3, [1, 2, 3])
    normality.use(1)
    assert normality.state.usual == pytest.approx(USUAL)
    assert (normality.version, normality.reason) == (1, "rolled back")
    assert Normality(Model(), tmp_path / "gate", 60).version == 1
    learned(normality, 4.0)
    assert (normality.version, normality.versions, normality.reason) == (4, [1, 2, 3, 4], "learned")
    with pytest.raises(StateError, match="no version 7"):
        normality.use(7)
    assert normality.version == 4


def test_the_oldest_versions_go_when_there_are_many(tmp_path):
    normality = Normality(Model(), tmp_path / "gate", 60)
    for number in range(25):
        normality.promote(state(number + 1.0))
    assert normality.versions == list(range(6, 26))
    assert (normality.state.version, normality.reason) == (25, "drift")


def test_a_roll_back_forgets_what_was_learned_on(tmp_path):
    normality = Normality(Model(), tmp_path / "gate", 60, new_drift())
    learned(normality, 1.0)
    learned(normality, 2.0)
    before = normality.drift
    normality.use(1)
    assert normality.drift is not before
    normality.promote(state(3.0))
    assert normality.drift._older is None
