"""ScoreHistory: what a camera's scores were, second by second, and whether it looked at all."""

import math

from core.cameras.history import ScoreMinute, pack_scores
from core.ids import CameraId, NodeId

__all__ = ["ScoreHistory"]

HELD_S = 3
"""A score holds for so many seconds while pictures come: the motion gate lets a still scene through every 2 s."""
MAX_SCORE = 60_000.0
"""Just within float16."""


class ScoreHistory:
    """Collects a minute and hands it out when the next begins. Times are Unix seconds; those that go back are left out.

    A second is `up` when a picture came in it, and `watched` when it has a score of a learned state, its own or one
    that still holds.
    """

    def __init__(self, camera_id: CameraId, node_id: NodeId) -> None:
        self._camera_id, self._node_id = camera_id, node_id
        self._minute = 0
        self._up: set[int] = set()
        self._scores: dict[int, float] = {}
        """Of this minute and the end of the last, by second."""

    def picture(self, at_s: float) -> ScoreMinute | None:
        """A picture came; returns the minute that is over with it, if one is."""
        second = int(at_s)
        if second // 60 < self._minute:
            return None
        done = self.take() if second // 60 > self._minute else None
        self._minute = second // 60
        self._up.add(second)
        return done

    def score(self, at_s: float, score: float) -> None:
        """A picture that came at `at_s` was judged by a learned state."""
        second = int(at_s)
        self._scores[second] = max(min(score, MAX_SCORE), self._scores.get(second, 0.0))

    def take(self) -> ScoreMinute | None:
        """The minute as far as it is known; None where no picture came."""
        begin, up, scores = self._minute * 60, self._up, self._scores
        self._up = set()
        self._scores = {second: score for second, score in scores.items() if second >= begin + 60 - HELD_S}
        if not up:
            return None
        seconds = [math.nan] * 60
        for second in up:
            held = (scores[back] for back in range(second, second - HELD_S - 1, -1) if back in scores)
            seconds[second - begin] = next(held, math.nan)
        return ScoreMinute(
            camera_id=self._camera_id,
            node_id=self._node_id,
            minute=self._minute,
            up=sum(1 << (second - begin) for second in up),
            seconds=pack_scores(seconds),
        )
