"""motion_stats on the real scene: the measured claims of docs/detection.md, with room for noise."""

import numpy as np
import pytest

from bench.vad import auroc, causal_mean, measure, measure_type, region_rates


def test_auroc_counts_ties_as_half():
    assert auroc(np.array([1.0, 1.0, 2.0]), np.array([False, True, True])) == pytest.approx(0.75)
    assert np.isnan(auroc(np.array([1.0]), np.array([True])))


def test_the_causal_mean_looks_back_only():
    np.testing.assert_allclose(causal_mean(np.array([1.0, 3.0, 5.0, 100.0]), 2), [1.0, 2.0, 4.0, 52.5])


def test_regions_are_found_where_boxes_overlap_and_false_ones_cost():
    masks = np.zeros((4, 80, 80), np.uint8)
    masks[:, 16:32, 16:32] = 1
    right = np.zeros((4, 10, 10), np.uint8)
    right[:, 2:4, 2:4] = 255
    wrong = np.zeros_like(right)
    wrong[:, 7:9, 7:9] = 255
    assert region_rates([(right, masks)]) == pytest.approx((1.0, 1.0), abs=0.01)
    assert region_rates([(wrong, masks)]) == (0.0, 0.0)
    late = right.copy()
    late[:2] = 0
    assert region_rates([(late, masks)]) == pytest.approx((0.5, 1.0), abs=0.01), "half its regions, all of its track"


@pytest.mark.slow
def test_every_figure_that_is_promised_is_there(ped2):
    figures = measure_type(ped2, "synthetic", quick=True)
    wanted = (
        "type auroc_micro auroc_micro_causal auroc_macro auroc_literature event_recall pointing_game rbdc tbdc fit_s"
    )
    assert {*wanted.split(), "fps", "params", "device"} <= figures.keys()
    assert figures["auroc_micro_causal"] >= 0.65
    assert figures["params"] > 100_000


@pytest.mark.slow
def test_abnormal_frames_of_ped2_are_told_from_normal_ones(ped2):
    figures = measure(ped2)
    assert figures["auroc_micro"] >= 0.93
    assert figures["clips_reached"] == 12
    assert figures["false_positive_rate"] <= 0.10
