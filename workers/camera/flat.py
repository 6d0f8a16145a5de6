"""FlatScore: a score that stays the same while the picture moves is broken, however calm it looks."""

__all__ = ["FlatScore"]

MOVING_S = 1.0
"""Frames that are scored so soon after one another were let through for movement: a still scene's come every 2 s."""


class FlatScore:
    """Adds up how long the scene moved while its score did not."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._score: float | None = None
        self._at_s = 0.0
        self._flat_s = 0.0

    def scored(self, score: float, at_s: float) -> bool:
        """A frame of time `at_s` was scored; whether the score is flat."""
        step_s, self._at_s = at_s - self._at_s, at_s
        if score != self._score:
            self._score, self._flat_s = score, 0.0
        elif 0 < step_s < MOVING_S:
            self._flat_s += step_s
        return self._flat_s >= self._limit_s
