"""Which of what is seen now is which of what was seen before."""

from collections.abc import Iterable

__all__ = ["pair_surest_first"]


def pair_surest_first(candidates: Iterable[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """(track, thing) pairs out of (cost, track, thing) candidates, the least cost first; each is in one pair at most.

    >>> pair_surest_first([(0.3, 0, 0), (0.1, 1, 0), (0.4, 0, 1)])
    [(1, 0), (0, 1)]
    """
    tracks: set[int] = set()
    things: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for _, track, thing in sorted(candidates):
        if track not in tracks and thing not in things:
            tracks.add(track)
            things.add(thing)
            pairs.append((track, thing))
    return pairs
