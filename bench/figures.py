"""How a figure that was measured several times is told."""

import statistics
from collections.abc import Sequence

__all__ = ["spread"]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median, and the quartiles where there are several."""
    if len(values) == 1:
        return {name: values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {name: middle, f"{name}_q1": low, f"{name}_q3": high}
