"""PromiseKeeper: the camera's threshold follows what its normal footage would have raised, slowly and within bounds."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import structlog

from core.config import TrackerConfig
from core.events.promise import LEVELS, EventLadder, Evidence, Promise, promise_of
from core.events.tracker import Observation
from core.ids import EventId

__all__ = ["PromiseKeeper"]

log = structlog.get_logger()

RENEW_S = 60.0
"""Watched seconds between two looks at the evidence, and two savings of it."""
HALF_LIFE_S = 7 * 86_400.0
"""What was watched so long ago counts half."""
MOST_A_DAY = 0.5
"""-log10 P by which an armed threshold moves in a watched day at most: nobody can teach it to look away at once."""


MOST_RAISED = 500
"""Events that are remembered, in case somebody says what they were."""


class Raised(msgspec.Struct, kw_only=True):
    """One event that the camera raised, as it counts among the false ones."""

    event_id: EventId
    height: float
    """The highest smoothed score in it."""
    weight: float = 1.0
    """What is left of it, since what is old counts less."""
    forgiven: bool = False


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept on disk between two processes."""

    vad_type: str
    state_version: int
    per_day: float
    evidence: Evidence
    promise: Promise
    raised: tuple[Raised, ...] = ()


class PromiseKeeper:
    """One camera's evidence and threshold; used by one thread. A state that was learned anew begins it anew.

    Every event counts as a false one until somebody says what it was: a real one is none, and a normal one will not be
    raised again, since the score at its place is lowered.
    """

    def __init__(self, file: Path, tracker: TrackerConfig, vad_type: str, per_day: float) -> None:
        """Goes on from `file` where that is of the same type; whatever cannot be read is begun anew."""
        self._file, self._tracker, self._vad_type = file, tracker, vad_type
        self.per_day = per_day
        self._version = 0
        self._renewed_s = 0.0
        self._ladder = EventLadder(tracker)
        self._raised: dict[EventId, Raised] = {}
        self.promise = promise_of(Evidence(), per_day, tracker.open_score)
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("promise_not_read", file=str(file), reason=str(error))
            return
        if kept.vad_type == vad_type:
            self._version = kept.state_version
            self._ladder = EventLadder(tracker, kept.evidence)
            self._raised = {one.event_id: one for one in kept.raised}
            self._renewed_s = kept.evidence.watched_s
            self.promise = kept.promise if kept.per_day == per_day else self._solved()

    def pause(self) -> None:
        """Nothing was watched for a while."""
        self._ladder.pause()

    def scored(self, seen: Observation, smoothed: float, heights: float = 1.0) -> TrackerConfig | None:
        """A frame was scored by a learned state; returns how the tracker is to be set, where that has changed.

        `heights` is the frame's height in the pixels that the peak is told in.
        """
        if seen.state_version != self._version:
            self._version = seen.state_version
            self._ladder, self._renewed_s = EventLadder(self._tracker), 0.0
            self._raised.clear()
            return self._renew(self._solved())
        self._ladder.observe(seen.media_s, smoothed, seen.score, seen.peak_x / heights, seen.peak_y / heights)
        if self._ladder.watched_s - self._renewed_s < RENEW_S:
            return None
        share = 0.5 ** (RENEW_S / HALF_LIFE_S)
        self._ladder.fade(share)
        for one in self._raised.values():
            one.weight *= share
        self._renewed_s = self._ladder.watched_s
        return self._renew(self._bounded(self._solved()))

    def carry_over(self, state_version: int) -> None:
        """Another version is in use whose scores hardly differ: what was counted holds."""
        self._version = state_version if self._version else 0

    def raised(self, event_id: EventId, smoothed: float) -> None:
        """An event goes on, and the score is so high."""
        known = self._raised.get(event_id)
        if known is None:
            self._raised[event_id] = Raised(event_id=event_id, height=smoothed)
            while len(self._raised) > MOST_RAISED:
                del self._raised[next(iter(self._raised))]
        elif not known.forgiven:
            known.height = max(known.height, smoothed)

    def judge(self, event_ids: Iterable[EventId]) -> None:
        """These events, and no others, were told by somebody: they count as false ones no longer, the others do."""
        judged = frozenset(event_ids)
        for one in self._raised.values():
            told = one.event_id in judged
            if told != one.forgiven:
                self._ladder.forgive(one.height, one.weight if told else -one.weight)
                one.forgiven = told

    def expected(self, level: float) -> float:
        """How many of the events that were counted reach a level of LEVELS and are not known to be otherwise."""
        return float(self._ladder.events[int(np.argmin(np.abs(LEVELS - level)))])

    @property
    def settings(self) -> TrackerConfig:
        """How the tracker is to be set now."""
        return self._tracker.at(self.promise.open_score)

    def aim(self, per_day: float) -> TrackerConfig | None:
        """So many false events a day are asked for from now on; how the tracker is to be set then, if that changed."""
        if per_day == self.per_day:
            return None
        self.per_day = per_day
        return self._renew(self._solved())

    def _solved(self) -> Promise:
        return promise_of(self._ladder.evidence, self.per_day, self._tracker.open_score)

    def _bounded(self, solved: Promise) -> Promise:
        before = self.promise
        if before.stage != "armed" or before.per_day != solved.per_day:
            return solved
        most = MOST_A_DAY * RENEW_S / 86_400
        bounded = min(before.open_score + most, max(before.open_score - most, solved.open_score))
        return msgspec.structs.replace(solved, open_score=bounded)

    def _renew(self, promise: Promise) -> TrackerConfig | None:
        before, self.promise = self.promise, promise
        if before.stage != promise.stage:
            log.info("promise", stage=promise.stage, open_score=promise.open_score, per_day=promise.expected_per_day)
        self.save()
        return self.settings if promise.open_score != before.open_score else None

    def save(self) -> None:
        """Writes it aside and renames it into place; a full disk is logged, and tried again the next time."""
        kept = Kept(
            vad_type=self._vad_type,
            state_version=self._version,
            per_day=self.per_day,
            evidence=self._ladder.evidence,
            promise=self.promise,
            raised=tuple(self._raised.values()),
        )
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            aside = self._file.with_suffix(".part")
            aside.write_bytes(msgspec.json.encode(kept))
            aside.replace(self._file)
        except OSError as error:
            log.warning("promise_not_saved", file=str(self._file), reason=error.strerror)
