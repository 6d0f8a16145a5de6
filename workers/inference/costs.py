"""How long a batch takes, learned from what batches took; pure, on times that it is given."""

import statistics
from collections import deque

__all__ = ["BatchCosts"]

_RECENT = 5
"""Batches of a size whose median is believed: one that the machine held up says nothing of the others."""
_ENOUGH = 3
"""Fewer of them are not believed."""
_WEIGHT = 0.2
"""Of the newest time in the running mean of preparation."""
_STALE_NS = 10_000_000_000
"""A size that was not run for so long is unknown again: what was slow then may be fast now."""
_GROW_NS = 30_000_000_000
"""After so long without one that found no memory, batches may be twice as large again."""
_WORTH = 0.9
"""Share of the best throughput that a smaller batch must reach to be taken for its shorter time."""


class _Cost:
    """What the last batches of one size took."""

    __slots__ = ("at_ns", "recent")

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=_RECENT)
        self.at_ns = 0

    @property
    def seconds(self) -> float:
        return statistics.median(self.recent)

    def believed(self, now_ns: int) -> bool:
        return len(self.recent) >= _ENOUGH and now_ns - self.at_ns < _STALE_NS


class BatchCosts:
    """Batches of one model come in sizes of 1, 2, 4, 8... rows up to `largest`; the last may be no power of two.

    A size that is not known yet is believed to cost what the next smaller known one does, so that it is soon tried.
    """

    def __init__(self, largest: int, limit_s: float) -> None:
        """A batch should take `limit_s` at most, as long as smaller ones do not cost throughput."""
        self._limit_s = limit_s
        self._wanted = self._largest = largest
        self._grow_at_ns = 0
        self._known: dict[int, _Cost] = {}
        self._prepare_row_s = 0.0

    @property
    def largest(self) -> int:
        """Rows that a batch may have now; less than was wanted after one that found no memory."""
        return self._largest

    def size(self, rows: int) -> int:
        """The size that `rows` rows, at most `largest`, are run as."""
        return min(1 << (rows - 1).bit_length(), self._wanted)

    def estimate_s(self, rows: int, now_ns: int) -> float:
        """0 where nothing is known."""
        wanted = self.size(rows)
        known = [size for size, cost in self._known.items() if size <= wanted and cost.believed(now_ns)]
        return self._known[max(known)].seconds if known else 0.0

    def choose(self, ready: int, now_ns: int) -> int:
        """How many of `ready` rows to run now: of what comes near the best throughput the most that keeps to the
        time limit, and if nothing does, the fewest.
        """
        if now_ns >= self._grow_at_ns and self._largest < self._wanted:
            self._largest = min(self._largest * 2, self._wanted)
            self._grow_at_ns = now_ns + _GROW_NS
        most = min(ready, self._largest)
        choices = sorted({min(1 << power, most) for power in range(most.bit_length() + 1)})
        costs = {rows: self.estimate_s(rows, now_ns) for rows in choices}
        if not all(costs.values()):
            return most
        best = max(rows / costs[rows] for rows in choices)
        good = [rows for rows in choices if rows / costs[rows] >= best * _WORTH]
        return max((rows for rows in good if costs[rows] <= self._limit_s), default=good[0])

    def observe(self, rows: int, seconds: float, now_ns: int) -> None:
        """A batch of `rows` rows took `seconds`."""
        cost = self._known.setdefault(self.size(rows), _Cost())
        if now_ns - cost.at_ns >= _STALE_NS:
            cost.recent.clear()
        cost.recent.append(seconds)
        cost.at_ns = now_ns

    def observe_preparation(self, rows: int, seconds: float) -> None:
        """Preparing `rows` rows took `seconds`."""
        each = seconds / rows
        self._prepare_row_s += (each - self._prepare_row_s) * (_WEIGHT if self._prepare_row_s else 1.0)

    def preparation_s(self, rows: int) -> float:
        """0 where nothing is known."""
        return self._prepare_row_s * rows

    def out_of_memory(self, rows: int, now_ns: int) -> None:
        """A batch of `rows` rows found no memory: half as many from now on, and twice as many again each 30 s."""
        self._largest = max(1, min(self._largest, rows // 2))
        self._grow_at_ns = now_ns + _GROW_NS

    def table(self) -> dict[int, float]:
        """Seconds by size, of all that was ever measured."""
        return {size: cost.seconds for size, cost in sorted(self._known.items())}
