"""Tail calibration: monotone, finite, and honest about what was never seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.inference.vad.calibration import KNOTS, LEAP, fit_tail


def pareto(shape: float, count: int, seed: int = 1) -> np.ndarray:
    """(N,) of P(X > x) = (1 + shape x) ** (-1 / shape)."""
    chance = 1.0 - np.random.default_rng(seed).random(count)
    return -np.log(chance) if shape == 0 else (chance**-shape - 1) / shape


VALUES = st.lists(st.one_of(st.just(0.0), st.floats(0, 1e4, width=32)), min_size=1, max_size=200)


@given(VALUES, st.sampled_from([10.0, 500.0, 1e6]), st.integers(1, 200))
def test_levels_rise_strictly_and_stay_finite_whatever_was_seen(values, independent, clusters):
    tail = fit_tail(np.array(values), independent=independent, clusters=clusters, floor=0.2)
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


@pytest.mark.parametrize("shape", [-0.1, 0.0, 0.15, 0.3])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_tail_of_any_shape_gives_its_own_probabilities(shape, seed):
    tail = fit_tail(pareto(shape, 20_000, seed), independent=20_000, floor=0.01)
    for probability in (0.1, 0.01, 0.001):
        x = -np.log(probability) if shape == 0 else (probability**-shape - 1) / shape
        assert float(tail.level(x)) == pytest.approx(-np.log10(probability), abs=0.3)


@given(seed=st.integers(0, 10_000), light=st.floats(-0.25, -0.05), more=st.floats(0.15, 0.3))
@settings(deadline=None)
def test_the_same_value_is_less_unusual_where_the_tail_is_heavier(seed, light, more):
    bold, cautious = (
        fit_tail(pareto(shape, 5_000, seed), independent=5_000, floor=0.01) for shape in (light, light + more)
    )
    assert np.all(cautious.level(np.arange(4.0, 50.0)) < bold.level(np.arange(4.0, 50.0)))


def test_a_few_excesses_say_nothing_of_the_shape():
    few = fit_tail(pareto(0.3, 500), independent=500, floor=0.01, clusters=9)
    assert len(few.values) <= KNOTS + 2
    far = few.values[-1] + np.array([0.0, 1.0, 2.0])
    assert np.diff(few.level(far)) == pytest.approx([few.slope] * 2)
    assert len(fit_tail(pareto(0.3, 500), independent=500, floor=0.01, clusters=10).values) > len(few.values)


def test_levels_rise_evenly_beyond_the_end_of_a_tail_that_has_one():
    tail = fit_tail(pareto(-0.3, 20_000), independent=20_000, floor=0.01)
    end = 1 / 0.3
    levels = tail.level(end + np.array([1.0, 2.0, 3.0]))
    assert 4.0 < levels[0] < 40.0
    assert np.diff(levels) == pytest.approx([tail.slope] * 2)


@given(VALUES, st.sampled_from([10.0, 60.0, 500.0]), st.integers(1, 200))
def test_who_is_cautious_says_the_same_of_what_could_be_seen_and_little_more_of_what_could_not(
    values, independent, clusters
):
    tail = fit_tail(np.array(values), independent=independent, clusters=clusters, floor=0.2)
    most, cautious = np.log10(independent + 1.0), tail.cautious(independent)
    at = np.unique(np.concatenate([tail.values, tail.values[-1] + np.linspace(0.0, 50.0, 200), [1e6]]))
    levels, before = cautious.level(at), tail.level(at)
    assert np.all(np.diff(cautious.levels) > 0)
    assert np.all(np.diff(levels) >= 0)
    known = before <= most - 0.1
    assert np.allclose(levels[known], before[known], atol=1e-6)
    assert levels[:-1].max() <= most + LEAP + 0.1


def test_what_is_rarer_still_stands_higher_for_the_cautious_too():
    cautious = fit_tail(np.random.default_rng(1).exponential(2.0, 120), independent=12, floor=0.2).cautious(12)
    levels = cautious.level(np.linspace(0.0, 40.0, 60)).astype(np.float32)
    assert np.all(np.diff(levels) > 1e-4)
    assert 1.3 < levels[-1] < 1.7
