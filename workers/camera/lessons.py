"""Lessons: what people called normal lowers the score all along its way, at once, until they take it back."""

from collections.abc import Sequence

import numpy as np

from core.events.judgements import Judgement, alike, attribute_of
from core.events.model import Place
from core.wire.messages import ScoreReply

__all__ = ["Lessons"]

MAP_LEVELS = 6.0
"""-log10 P that 255 in a location map stands for."""
NEAR, FAR = 0.12, 0.24
"""Frame heights from the way of what was called normal: up to the first all of it is forgiven, beyond the second
nothing. A person in the foreground is about 0.25 high."""
OTHER_ATTRIBUTE = 0.5
"""Share that is forgiven where something else is unusual at that place: one thing often shows in several ways."""
MOST = 4.0
"""-log10 P that is forgiven at most: nobody can teach a camera to be blind at a place."""


class Lessons:
    """Those of one camera and type of detection; used by one thread."""

    def __init__(self, judgements: Sequence[Judgement], vad_type: str) -> None:
        self._normal = [one for one in judgements if one.verdict == "normal" and one.vad_type == vad_type]
        self._forgiven: dict[tuple[str, int, int, float], np.ndarray] = {}
        """(rows, cols) levels that are forgiven, by what is unusual and the map's form."""
        self._ways: dict[tuple[int, int, float], np.ndarray] = {}

    @property
    def learned(self) -> int:
        """How many events were called normal."""
        return len(self._normal)

    def apply(self, reply: ScoreReply, aspect: float) -> ScoreReply:
        """The reply as it is after what was said; `aspect` is width by height of the frame.

        The level at each place is lowered by what was called normal there. The score falls as the highest level does:
        not at all while something else in the picture is as unusual.
        """
        if not self._normal or reply.score <= 0 or not reply.map:
            return reply
        rows, columns = reply.map_rows, reply.map_cols
        levels = np.frombuffer(reply.map, np.uint8).reshape(rows, columns).astype(np.float32) * (MAP_LEVELS / 255)
        forgiven = self._map(attribute_of(reply.reason), rows, columns, aspect)
        row, column = min(rows - 1, int(reply.peak_y * rows)), min(columns - 1, int(reply.peak_x * columns))
        if not forgiven[row, column] and not (forgiven[levels == levels.max()] > 0).any():
            return reply
        left = np.maximum(levels - forgiven, 0.0)
        highest, rest = float(levels.max()), float(left.max())
        beyond = reply.score - float(forgiven[row, column])  # the map is cut, the score is not
        score = min(reply.score, max(0.0, beyond, reply.score * rest / highest if highest > 0 else 0.0))
        peak = np.unravel_index(int(left.argmax()), left.shape) if rest > 0 else (row, column)
        moved = beyond < reply.score * rest / highest if highest > 0 else False
        return ScoreReply(
            status=reply.status,
            score=score,
            peak_x=(float(peak[1]) + 0.5) / columns if moved else reply.peak_x,
            peak_y=(float(peak[0]) + 0.5) / rows if moved else reply.peak_y,
            map=np.round(left * (255 / MAP_LEVELS)).astype(np.uint8).tobytes(),
            map_rows=rows,
            map_cols=columns,
            reason=reply.reason,
            state=reply.state,
            state_version=reply.state_version,
            learned_s=reply.learned_s,
        )

    def _map(self, attribute: str, rows: int, columns: int, aspect: float) -> np.ndarray:
        """What is forgiven at each place, (rows, columns) float32."""
        key = (attribute, rows, columns, aspect)
        if key not in self._forgiven:
            shares = [1.0 if alike(one.attribute, attribute) else OTHER_ATTRIBUTE for one in self._normal]
            along = self._along(rows, columns, aspect)
            if len(self._forgiven) > 64:
                self._forgiven.clear()
            self._forgiven[key] = (along * np.array(shares, np.float32)[:, None, None]).max(axis=0)
        return self._forgiven[key]

    def _along(self, rows: int, columns: int, aspect: float) -> np.ndarray:
        """What each event forgives along its way where the same is unusual, (events, rows, columns) float32."""
        key = rows, columns, aspect
        if key not in self._ways:
            y = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) / rows
            x = (np.arange(columns, dtype=np.float32)[None, :] + 0.5) / columns
            along = np.zeros((len(self._normal), rows, columns), np.float32)
            for one, forgiven in zip(self._normal, along, strict=True):
                for place in (Place(one.x, one.y, one.score), *one.path):
                    distance = np.hypot((x - place.x) * aspect, y - place.y)
                    near = np.clip((FAR - distance) / (FAR - NEAR), 0.0, 1.0)
                    np.maximum(forgiven, near * min(place.score, MOST), out=forgiven)
            self._ways = {key: along}
        return self._ways[key]
