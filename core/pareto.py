"""The tail of a distribution from few values: a generalised Pareto one, by probability-weighted moments.

J. R. M. Hosking and J. F. Wallis, "Parameter and quantile estimation for the generalized Pareto distribution",
Technometrics 29 (1987). A shape is drawn towards an exponential tail's where few tell it.
"""

import math
from typing import Any, NamedTuple

__all__ = ["MOST_SHAPE", "Pareto", "fit_pareto"]

SHAPE_EVENTS, MOST_SHAPE = 50.0, 0.3
"""A tail's shape is believed by half after so many separate events, and never beyond that."""
EXPONENTIAL = 1e-6
"""A shape nearer to 0 is 0."""


class Pareto(NamedTuple):
    """P(excess > x) = (1 + shape x / scale) ** (-1 / shape); exp(-x / scale) for shape 0. Above 0 it is heavy."""

    shape: float
    scale: float

    def survival(self, excess: float) -> float:
        """P(excess > `excess`), for `excess` >= 0; 0 beyond the end that a negative shape has."""
        if abs(self.shape) < EXPONENTIAL:
            return math.exp(-excess / self.scale)
        inside = 1 + self.shape * excess / self.scale
        return inside ** (-1 / self.shape) if inside > 0 else 0.0

    def excess(self, survival: float) -> float:
        """The excess that is passed with that probability, which is above 0 (above 1: less than 0)."""
        if abs(self.shape) < EXPONENTIAL:
            return -self.scale * math.log(survival)
        return self.scale / self.shape * (survival**-self.shape - 1)


def fit_pareto(excess: Any, weights: Any, separate: float) -> Pareto:
    """From (N,) float64 excesses, rising, at least one of them above 0, and how much each counts, (N,) float64.

    `separate` is how many of them tell stories of their own: the shape is believed by that.
    """
    total = float(weights.sum())
    survivors = (weights[::-1].cumsum()[::-1] - weights / 2) / total
    first = float((weights * excess).sum()) / total
    second = float((weights * excess * survivors).sum()) / total
    shape = 2 - first / max(1e-9 * first, first - 2 * second)
    shape = min(MOST_SHAPE, max(-MOST_SHAPE, shape)) * separate / (separate + SHAPE_EVENTS)
    return Pareto(shape, first * (1 - shape))
