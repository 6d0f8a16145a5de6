"""What a score curve is worth beside the truth."""

from typing import Any

import numpy as np

__all__ = ["SMOOTH_FRAMES", "auroc", "causal_mean"]

SMOOTH_FRAMES = 5


def auroc(scores: Any, positive: Any) -> float:
    """Area under the ROC curve of (N,) scores for (N,) bool truth; ties count half. NaN without both classes."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2.0
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    return float((middle_rank[inverse][positive].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def causal_mean(scores: Any, frames: int = SMOOTH_FRAMES) -> Any:
    """The mean of each value and the `frames` - 1 before it, fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], scores]))
    last = np.arange(1, len(scores) + 1)
    first = np.maximum(0, last - frames)
    return (sums[last] - sums[first]) / (last - first)
