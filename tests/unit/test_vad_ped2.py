"""motion_stats on the real scene: the measured claims of docs/detection.md, with room for noise."""

import numpy as np
import pytest

from bench.vad import auroc, causal_mean, measure


def test_auroc_counts_ties_as_half():
    assert auroc(np.array([1.0, 1.0, 2.0]), np.array([False, True, True])) == pytest.approx(0.75)
    assert np.isnan(auroc(np.array([1.0]), np.array([True])))


def test_the_causal_mean_looks_back_only():
    np.testing.assert_allclose(causal_mean(np.array([1.0, 3.0, 5.0, 100.0]), 2), [1.0, 2.0, 4.0, 52.5])


@pytest.mark.slow
def test_abnormal_frames_of_ped2_are_told_from_normal_ones(ped2):
    figures = measure(ped2)
    assert figures["auroc_micro"] >= 0.93
    assert figures["clips_reached"] == 12
    assert figures["false_positive_rate"] <= 0.10
    assert figures["fit_s"] < 2.0
    assert figures["cpu_ms_per_frame"] < 5.0
