"""How long a batch takes, learned from what batches took; pure, on times that it is given."""

import msgspec

__all__ = ["BatchCosts"]

_WEIGHT = 0.2
"""Of the newest time in the running mean."""
_STALE_NS = 30_000_000_000
"""A size that was not run for so long is unknown again: what was measured once, badly, is not believed for ever."""
_WORTH = 0.9
"""Share of the best throughput that a smaller batch must reach to be taken for its shorter time."""


class _Cost(msgspec.Struct):
    seconds: float
    at_ns: int


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
        fresh = [
            (size, cost.seconds) for size, cost in self._known.items() if size <= wanted and self._fresh(cost, now_ns)
        ]
        return max(fresh)[1] if fresh else 0.0

    def _fresh(self, cost: _Cost, now_ns: int) -> bool:
        return now_ns - cost.at_ns < _STALE_NS

    def choose(self, ready: int, now_ns: int) -> int:
        """How many of `ready` rows to run now: of what comes near the best throughput the most that keeps to the
        time limit, and if nothing does, the fewest.
        """
        if now_ns >= self._grow_at_ns and self._largest < self._wanted:
            self._largest = min(self._largest * 2, self._wanted)
            self._grow_at_ns = now_ns + _STALE_NS
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
        size = self.size(rows)
        cost = self._known.get(size)
        if cost is None or not self._fresh(cost, now_ns):
            self._known[size] = _Cost(seconds, now_ns)
        else:
            cost.seconds += (seconds - cost.seconds) * _WEIGHT
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
        self._grow_at_ns = now_ns + _STALE_NS

    def table(self) -> dict[int, float]:
        """Seconds by size, of all that was ever measured."""
        return {size: cost.seconds for size, cost in sorted(self._known.items())}
