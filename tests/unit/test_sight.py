"""Sight: what is wrong with a camera's pictures, on a drawn place in which somebody walks."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.faults import FAULTS, inject
from core.cameras.model import Fault
from core.config import SightConfig
from workers.camera.pixels import planes
from workers.camera.sight import Finding, Sight
from workers.camera.sources.demo import DemoSource

FPS = 5
ONSET = 10 * FPS


def place(seconds: float, url: str = "demo://plaza?fps=5&width=320&height=180&anomalies=0") -> list[np.ndarray]:
    source = DemoSource(url)
    pictures = [np.empty((270, 320), np.uint8) for _ in range(round(seconds * FPS))]
    for frame, out in zip(source.frames(), pictures, strict=False):
        frame.write_i420(out)
    return pictures


@pytest.fixture(scope="module")
def ordinary() -> list[np.ndarray]:
    return place(24)


def seen(pictures: list[np.ndarray], **changes: float) -> list[Finding]:
    sight = Sight(SightConfig(**changes), 30.0)
    return [sight.look(planes(pixels), number / FPS) for number, pixels in enumerate(pictures)]


@pytest.mark.parametrize("scene", ["plaza", "street", "corridor"])
def test_an_ordinary_place_is_never_called_faulty(scene):
    found = seen(place(20, f"demo://{scene}?fps=5&width=320&height=180&seed=3"))
    assert {one.fault for one in found} == {None}
    assert sum(one.vetoed for one in found) <= FPS


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "broken_stream"])  # see bench.health
def test_each_fault_is_named_within_5_s_and_scoring_stops(ordinary, name):
    found = seen(inject(ordinary[: ONSET + 6 * FPS], name, ONSET))
    assert {one.fault for one in found[:ONSET]} == {None}
    names = [one.fault for one in found[ONSET : ONSET + 5 * FPS]]
    assert Fault(FAULTS[name][0]) in names
    assert sum(one.vetoed for one in found[ONSET:]) >= 2 * FPS
    assert next(one for one in found if one.fault).reason


@pytest.mark.parametrize("name", ["black", "covered_whole", "blurred_much", "moved_far", "torn_blocks", "freeze"])
def test_a_fault_that_is_over_is_over_by_itself(ordinary, name):
    broken = inject(ordinary[: ONSET + 5 * FPS], name, ONSET)
    found = seen(broken + ordinary[ONSET + 5 * FPS :])
    assert any(one.fault for one in found)
    assert found[-1] == Finding(vetoed=False)


def test_a_passing_hand_is_not_scored_and_no_fault(ordinary):
    flash = inject(ordinary, "covered_whole", ONSET)[ONSET : ONSET + FPS]
    found = seen(ordinary[:ONSET] + flash + ordinary[ONSET + FPS :])
    assert any(one.vetoed for one in found)
    assert {one.fault for one in found} == {None}
    assert not found[-1].vetoed


def test_a_scene_that_is_often_still_is_not_called_frozen_as_soon():
    walker = place(30)
    pauses = list(itertools.chain.from_iterable([*walker[n : n + 5], *[walker[n + 5]] * 5] for n in range(0, 60, 5)))
    assert Fault.FROZEN not in {one.fault for one in seen(pauses)}
    found = seen([*pauses, *[pauses[-1]] * (8 * FPS)])
    assert found[-1].fault is Fault.FROZEN


def test_frozen_is_never_called_where_that_is_turned_off(ordinary):
    sight = Sight(SightConfig(), 0.0)
    found = [sight.look(planes(one), n / FPS) for n, one in enumerate([*ordinary[:ONSET], *[ordinary[ONSET]] * 200])]
    assert {one.fault for one in found} == {None}


def test_a_camera_that_was_moved_for_good_learns_its_new_view(ordinary):
    moved = inject(ordinary, "moved_far", ONSET)
    sight = Sight(SightConfig(new_view_s=10.0), 30.0)
    found = [sight.look(planes(one), n / FPS) for n, one in enumerate([*moved, *moved[ONSET:]])]
    assert sight.new_views == 1
    assert not found[-1].vetoed


def test_a_camera_that_is_turned_for_a_while_is_called_so_and_nothing_is_learned_of_the_other_view(ordinary):
    other = place(12, "demo://corridor?fps=5&width=320&height=180&anomalies=0")
    sight = Sight(SightConfig(), 30.0)
    for number, pixels in enumerate(ordinary[:ONSET]):
        assert not sight.look(planes(pixels), number / FPS).fault
    sight.turned = True
    pictures = iter(ordinary[ONSET:])
    away = other[: 8 * FPS]
    found = [sight.look(planes(pixels), 10 + number / FPS) for number, pixels in enumerate(away)]
    assert {one.fault for one in found} == {Fault.TURNED}
    sight.turned = False  # it was told to turn back, and is on its way
    back = other[8 * FPS : 11 * FPS]
    found = [sight.look(planes(pixels), 18 + number / FPS) for number, pixels in enumerate(back)]
    assert {one.fault for one in found} == {Fault.TURNED}
    found = [sight.look(planes(pixels), 21 + number / FPS) for number, pixels in enumerate(pictures)]
    assert {one.fault for one in found} == {Fault.TURNED, None}
    assert not found[3 * FPS].vetoed, "it watches on as soon as it sees its own view"
    assert not found[-1].vetoed


def test_a_camera_that_does_not_come_back_was_moved(ordinary):
    other = place(12, "demo://corridor?fps=5&width=320&height=180&anomalies=0")
    sight = Sight(SightConfig(), 30.0)
    for number, pixels in enumerate(ordinary[:ONSET]):
        sight.look(planes(pixels), number / FPS)
    sight.turned = True
    sight.look(planes(other[0]), 10.0)
    sight.turned = False
    found = [sight.look(planes(other[number % len(other)]), 10.2 + number / FPS) for number in range(25 * FPS)]
    faults = [one.fault for one in found]
    assert set(faults) == {Fault.TURNED, Fault.MOVED}
    assert faults.index(Fault.MOVED) == pytest.approx(15 * FPS, abs=4 * FPS)


def test_where_somebody_leaves_a_camera_is_learned_in_the_end(ordinary):
    other = place(12, "demo://corridor?fps=5&width=320&height=180&anomalies=0")
    sight = Sight(SightConfig(new_view_s=20.0), 30.0)
    for number, pixels in enumerate(ordinary[:ONSET]):
        sight.look(planes(pixels), number / FPS)
    sight.turned_by_hand()
    found = [sight.look(planes(ordinary[ONSET + number]), 10 + number / FPS) for number in range(2 * FPS)]
    found += [sight.look(planes(other[number % len(other)]), 12 + number / FPS) for number in range(30 * FPS)]
    faults = [one.fault for one in found]
    assert set(faults) == {Fault.TURNED, None}, "nobody tampered with it"
    assert set(faults[: 19 * FPS]) == {Fault.TURNED}
    assert sight.new_views == 1
    assert not found[-1].vetoed


def test_another_size_is_another_picture(ordinary):
    sight = Sight(SightConfig(), 30.0)
    for number, pixels in enumerate(ordinary[:ONSET]):
        sight.look(planes(pixels), number / FPS)
    assert sight.learned
    small = np.ascontiguousarray(cv2.resize(ordinary[0], (160, 135)))
    assert not sight.look(planes(small), ONSET / FPS).vetoed
    assert not sight.learned


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 4), st.integers(0, 255), st.booleans()), max_size=60))
def test_whatever_comes_a_finding_with_a_fault_vetoes_and_says_why(steps):
    sight, at_s = Sight(SightConfig(), 30.0), 0.0
    luck = np.random.default_rng(0)
    for step_s, level, noisy in steps:
        at_s += step_s
        pixels = np.full((36, 32), level, np.uint8)
        if noisy:
            pixels[:24] = luck.integers(0, 256, (24, 32))
        found = sight.look(planes(pixels), at_s)
        assert found.vetoed or not found.fault
        assert bool(found.reason) == bool(found.fault)


def coloured(luma: np.ndarray, chroma: int) -> np.ndarray:
    out = luma.copy()
    out[len(out) * 2 // 3 :] = chroma
    return out


def test_colours_that_are_gone_are_infra_red_once_it_has_settled_and_colours_are_day_again(ordinary):
    day = [coloured(one, 150) for one in ordinary[:ONSET]]
    dark = [coloured(one, 128) for one in ordinary[:ONSET]]
    sight = Sight(SightConfig(), 30.0)
    modes = []
    for number, pixels in enumerate([*day, *dark, *dark, *dark, *day, *day, *day]):
        sight.look(planes(pixels), number / FPS)
        modes.append(sight.night)
    switched = [number for number in range(1, len(modes)) if modes[number] != modes[number - 1]]
    assert [modes[number] for number in switched] == [True, False]
    for number, onset in zip(switched, (ONSET, 4 * ONSET), strict=True):
        assert 5 <= (number - onset) / FPS <= 15


def test_a_camera_without_colours_has_no_night_and_one_that_starts_at_night_is_known_for_its_colours(ordinary):
    grey = [coloured(one, 128) for one in ordinary]
    for colour, night in ((0.0, False), (40.0, True)):
        sight = Sight(SightConfig(), 30.0)
        sight.colour = colour
        for number, pixels in enumerate(grey):
            sight.look(planes(pixels), number / FPS)
        assert sight.night is night
