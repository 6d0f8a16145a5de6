"""Tail calibration: monotone, finite, and honest about what was never seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.inference.vad.calibration import fit_tail

VALUES = st.lists(st.one_of(st.just(0.0), st.floats(0, 1e4, width=32)), min_size=1, max_size=200)


@given(VALUES)
def test_levels_rise_strictly_and_stay_finite_whatever_was_seen(values):
    tail = fit_tail(np.array(values), independent=10.0, floor=0.2)
    assert np.all(np.diff(tail.values) > 0)
    assert np.all(np.diff(tail.levels) > 0)
    assert np.isfinite(tail.slope)
    assert tail.slope > 0
    levels = tail.level(np.array([0.0, *tail.values, 1e6, 1e7]))
    assert np.all(np.isfinite(levels))
    assert levels[0] == 0.0
    assert levels[-1] > levels[-2] > levels[-3]


def test_an_exponential_sample_gives_its_own_probabilities():
    values = np.random.default_rng(1).exponential(2.0, 20_000)
    tail = fit_tail(values, independent=20_000, floor=0.01)
    for probability in (0.5, 0.1, 0.01, 0.001):
        x = -2.0 * np.log(probability)
        assert float(tail.level(x)) == pytest.approx(-np.log10(probability), abs=0.1)


def test_what_never_happened_is_no_rarer_than_the_footage_is_long():
    tail = fit_tail(np.zeros(1000), independent=99.0, floor=0.5)
    assert float(tail.level(0.0)) == 0.0
    assert float(tail.level(1e-9)) < 0.01
    assert float(tail.level(0.5)) == pytest.approx(2.0, abs=0.1)


def test_fewer_separate_runs_make_a_more_cautious_tail():
    values = np.random.default_rng(2).exponential(1.0, 500)
    bold = fit_tail(values, independent=500, floor=0.1, clusters=50)
    cautious = fit_tail(values, independent=500, floor=0.1, clusters=2)
    assert float(cautious.level(20.0)) < float(bold.level(20.0))
