"""How improbable is a value: -log10 P, counted below a quantile, a generalised Pareto tail above."""

from dataclasses import dataclass

import numpy as np

from core.pareto import Pareto, fit_pareto

__all__ = ["TailCalibration", "fit_tail"]

TAIL_QUANTILE = 0.9
"""Above it there are too few values to count; their excess over it is modelled instead."""
KNOTS = 64
LEAST_CLUSTERS = 10
"""Fewer separate runs of excesses say nothing of the tail's shape: it is exponential then."""
TAIL_STEP, TAIL_REACH = 0.1, 6.0
"""Levels between the tail's knots, and how far they go beyond its beginning; on from there it is straight."""
LEAP = 0.5
"""How much rarer than the rarest that could have been seen a cautious calibration calls anything, as -log10."""
_LN10 = float(np.log(10.0))


@dataclass(frozen=True)
class TailCalibration:
    """A strictly increasing, piecewise linear map from a value to -log10 P; the last slope goes on for ever.

    `values` and `levels` are (K,) float64, both strictly increasing, K >= 2, levels[0] == 0.
    """

    values: np.ndarray
    levels: np.ndarray
    slope: float
    """Levels per unit beyond the last knot."""

    def level(self, value: np.ndarray | float) -> np.ndarray:
        """-log10 P(an ordinary value >= `value`), same shape; 0 at and below the smallest value."""
        x = np.asarray(value, dtype=np.float64)
        beyond = np.maximum(x - self.values[-1], 0.0) * self.slope
        return np.interp(x, self.values, self.levels) + beyond

    def cautious(self, independent: float) -> "TailCalibration":
        """The same up to 1 in `independent` + 1, the rarest that so many observations could show; what is above comes
        the nearer to ten to the LEAP times rarer than that the higher it was, so that the order stays.
        """
        most = float(np.log10(independent + 1.0))
        reach = max(TAIL_REACH, most + TAIL_REACH - float(self.levels[-1]))
        steps = np.arange(1, round(reach / TAIL_STEP) + 1) * TAIL_STEP
        values = np.concatenate([self.values, self.values[-1] + steps / self.slope])
        levels = np.concatenate([self.levels, self.levels[-1] + steps])
        over = np.maximum(levels - most, 0.0)
        levels = np.minimum(levels, most) + LEAP * over / (LEAP + over) + np.arange(len(levels)) * 1e-9
        levels[0] = 0.0
        return TailCalibration(values, levels, 1e-3)


def fit_tail(values: np.ndarray, *, independent: float, clusters: int | None = None, floor: float) -> TailCalibration:
    """A calibration from (N,) ordinary values >= 0, N >= 1.

    Shape and scale of the tail are those of the excesses over the TAIL_QUANTILE, the scale raised by its own standard
    error: `clusters` is the number of separate runs of excesses (neighbouring frames tell the same story; default: all
    are separate). `floor` is the least mean excess believed. A tail that would end goes on straight from the rarest
    level that was seen. A level that was never seen is not believed to be rarer than
    1 / (`independent` + 1), where `independent` is the number of independent observations behind the values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    threshold = float(np.quantile(ordered, TAIL_QUANTILE))
    excess = ordered[ordered > threshold] - threshold
    count = max(1, min(len(excess), clusters if clusters is not None else len(excess)))
    mean_excess = float(excess.mean()) if len(excess) else 0.0
    tail = Pareto(0.0, max(floor, mean_excess))
    if count >= LEAST_CLUSTERS and mean_excess > floor:
        tail = fit_pareto(excess, np.ones(len(excess)), count)
    tail = tail._replace(scale=tail.scale * (1.0 + 1.0 / np.sqrt(count)))

    picked = np.unique(np.quantile(ordered, np.linspace(0.0, TAIL_QUANTILE, KNOTS)))
    # P(X >= x) with half an observation for what lies between.
    survivors = n - np.searchsorted(ordered, picked, side="left")
    levels = -np.log10(np.minimum(1.0, (survivors + 0.5) / (n + 0.5)))
    above = max(len(excess) / n, 1.0 / (independent + 1.0))
    beyond = -np.log10(above)
    if beyond > levels[-1] + 1e-3:
        # Many values tie at the threshold (mostly: nothing moved at all): the step to "more than that".
        picked = np.append(picked, picked[-1] + 0.5 * tail.scale)
        levels = np.append(levels, beyond)
    if picked[0] > 0.0:
        picked, levels = np.insert(picked, 0, 0.0), np.insert(levels, 0, 0.0)
    levels = np.maximum.accumulate(levels) + np.arange(len(levels)) * 1e-9
    levels[0] = 0.0
    if tail.shape or len(picked) == 1:
        reach = TAIL_REACH if tail.shape > 0 else max(TAIL_STEP, np.log10(independent + 1.0) - levels[-1])
        steps = np.arange(1, max(2, round(min(reach, TAIL_REACH) / TAIL_STEP) + 1)) * TAIL_STEP
        picked = np.append(picked, picked[-1] + [tail.excess(10.0**-step) for step in steps])
        levels = np.append(levels, levels[-1] + steps)
        return TailCalibration(picked, levels, float((levels[-1] - levels[-2]) / (picked[-1] - picked[-2])))
    return TailCalibration(picked, levels, 1.0 / (tail.scale * _LN10))
