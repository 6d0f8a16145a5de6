"""How often somebody may ask: a token bucket each."""

from collections import OrderedDict
from collections.abc import Callable

__all__ = ["RateLimiter"]

KEPT = 10_000


class RateLimiter:
    """`rate` a second for each key, and bursts of `burst`; the keys that were quiet longest are forgotten first.

    Used from one thread.
    """

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._rate, self._burst, self._monotonic = rate, burst, monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """0.0 where the request may pass, else the seconds until one may."""
        now = self._monotonic()
        left, at = self._buckets.get(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        passes = left >= 1.0
        self._buckets[key] = (left - 1.0 if passes else left, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > KEPT:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1.0 - left) / self._rate
