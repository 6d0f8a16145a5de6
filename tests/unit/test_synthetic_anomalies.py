"""What is done to ordinary footage to choose between variants of a type."""

import numpy as np
import pytest

from bench.synthetic_anomalies import KINDS, SHOWN, make_cases


def walk() -> tuple[np.ndarray, np.ndarray]:
    """A bright figure that walks 1.5 px a frame, and the ground it walks on."""
    ground = np.random.default_rng(0).integers(60, 100, (120, 176), dtype=np.uint8)
    clip = np.repeat(ground[None], 80, axis=0)
    for index, frame in enumerate(clip):
        x = round(20 + 1.5 * index)
        frame[50:74, x : x + 10] = 220
    return clip, ground


def test_each_kind_has_a_control_and_differs_from_it():
    clip, ground = walk()
    cases = list(make_cases([clip], ground, per_kind=2))
    assert [case.of for case in cases] == [kind for kind in KINDS for _ in range(4)]
    assert [case.changed for case in cases] == [False, True] * (2 * len(KINDS))
    assert all(case.frames.shape == (SHOWN, 120, 176) for case in cases)
    for control, changed in zip(cases[::2], cases[1::2], strict=True):
        assert not np.array_equal(control.frames, changed.frames), changed.of


def test_the_footage_itself_stays_as_it_is():
    clip, ground = walk()
    before = clip.copy()
    list(make_cases([clip], ground, per_kind=1))
    np.testing.assert_array_equal(clip, before)


def test_footage_in_which_nothing_moves_is_refused():
    _, ground = walk()
    with pytest.raises(ValueError, match="nothing in these clips"):
        list(make_cases([np.repeat(ground[None], 80, axis=0)], ground, per_kind=1))
