"""Drift: a shadow state that learns on from a camera's ordinary footage, and takes over only where it is better.

Knows nothing of how a type works: it feeds a learner, has a state fitted, and shows that and the one in use footage
that neither learned from.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import structlog

from core.errors import StateError
from workers.inference.vad.base import Inheriting, Learner, NormalityState, Row, VadModel

__all__ = ["Burst", "Drift", "Looked", "Memory", "Trial", "decide"]

log = structlog.get_logger()

BURST_S, EVERY_S = 4.0, 40.0
"""Footage that is taken in at once, and how often: a tenth of what is seen costs a second look."""
HOLD_S = 10.0
"""So long before and after a burst nothing unusual may go on, for it to count as ordinary."""
STEP_S = 3.0
"""A longer pause between pictures is no time that was watched."""
LEAST_LEARNED_S = 600.0
"""A shadow state is not made of less footage."""
FORGET_S = 7 * 86_400.0
"""What was watched longer ago than once to twice that is forgotten."""
TRIAL_BURSTS = 60
"""What both states are shown before one is chosen: four minutes, out of forty."""
LEVELS = (0.5, 1.0, 1.5)
"""-log10 P at which it is counted whether as many frames are over it as should be: unusual ones are not among them."""
BETTER = 0.15
"""By how much, in powers of ten over all LEVELS, the counts of a new state must come nearer to what they should be."""
AS_SHARP = 0.02
"""By how much less well a new state may tell a scene at twice its speed from the ordinary one."""


class Frame(NamedTuple):
    """A prepared frame and its time on the source's time line."""

    prepared: Any
    media_s: float
    ordinary: bool
    """Whether it may be learned from; both states are shown the others too when one is tried."""


Burst = list[Frame]

Looked = tuple[list[float], list[float], list[float], list[float]]
"""The scores of a burst, in the order of Trial."""


@dataclass(frozen=True)
class Trial:
    """The same frames, (N,) and (M,), as two states see them: ordinary ones, and these at twice their speed."""

    used: np.ndarray
    shadow: np.ndarray
    used_fast: np.ndarray
    shadow_fast: np.ndarray


@dataclass(frozen=True)
class Memory:
    """What another process goes on from."""

    watched_s: float
    """Watched time, as far as it counts."""
    tried_s: float
    """That time when a shadow was last made."""
    changed_s: float
    """That time when one last took over."""
    older: Any
    younger: Any
    """Learners, None where there is none."""
    shadow: NormalityState | None
    trial: list[Looked]


class Drift:
    """One camera's shadow. `offer` is called by the server's loop, `take` in a thread beside it, one at a time."""

    def __init__(self, model: VadModel, *, every_s: float, shift_a_day: float, armed_s: float) -> None:
        self._model, self._every_s, self._shift_a_day, self._armed_s = model, every_s, shift_a_day, armed_s
        self.busy = False
        """A burst is being taken in: until that is done none is offered."""
        self.promoted = self.refused = 0
        self.why = ""
        """What became of the last shadow; "" where it took over, or there was none."""
        self._burst: Burst = []
        self._held: Burst = []
        self._last_s = self._unusual_s = -math.inf
        self._next_s = -math.inf
        self._seen_s = self._saved_s = 0.0
        """Counted by the server's loop alone."""
        self._base_s = self._tried_s = self._changed_s = 0.0
        self._due = False
        self._lock = threading.Lock()
        self._older: Any = None
        self._younger: Any = None
        self._context: Any = None
        self._shadow: NormalityState | None = None
        self._trial: list[Looked] = []
        self._contexts: tuple[Any, ...] = ()

    def fresh(self) -> "Drift":
        """One that has learned nothing: another state is in use. This one may still be at work, for nothing."""
        made = Drift(self._model, every_s=self._every_s, shift_a_day=self._shift_a_day, armed_s=self._armed_s)
        made.promoted, made.refused = self.promoted, self.refused
        return made

    def offer(self, prepared: Any, media_s: float, score: float | None, below: float) -> Burst | None:
        """A scored frame; returns a burst that is certain to be ordinary, when there is one.

        A frame that scores `below` or more is not learned from; 0 says that something unusual goes on, or that the
        picture is of no use: then what was just before it is not ordinary either.
        """
        step_s = media_s - self._last_s
        self._last_s = media_s
        if not 0 <= step_s <= STEP_S:
            self._burst, self._held = [], []
            self._next_s = self._unusual_s = -math.inf
        elif step_s:
            self._seen_s += step_s
        if score is None or not below:
            self._burst, self._held, self._unusual_s = [], [], media_s
            return None
        if self._held and media_s - self._held[-1].media_s >= HOLD_S and not self.busy:
            burst, self._held = self._held, []
            return burst
        if self._held or media_s < self._next_s or media_s - self._unusual_s < HOLD_S:
            return None
        self._burst.append(Frame(prepared, media_s, score < below))
        if media_s - self._burst[0].media_s >= BURST_S:
            self._held, self._burst = self._burst, []
            self._next_s = media_s + EVERY_S - BURST_S
        return None

    def take(self, burst: Burst, used: NormalityState) -> NormalityState | None:
        """Learns from a burst, or tries the shadow on it; returns a state that is to be used from now on, if any.

        Takes as long as the type's `fit` where a shadow is due.
        """
        with self._lock:
            return self._take(burst, used)

    def _take(self, burst: Burst, used: NormalityState) -> NormalityState | None:
        if self._shadow is None:
            self._learn(burst)
            if self._watched_s - self._tried_s < self._every_s or self._older.learned_s < LEAST_LEARNED_S:
                return None
            self._tried_s = self._watched_s
            try:
                shadow = self._model.fit(self._older, 0, self._armed_s)
            except StateError as error:
                self.refused += 1
                self.why = str(error)
                return None
            self._shadow = self._model.inherit(shadow, used) if isinstance(self._model, Inheriting) else shadow
            self._trial, self._due = [], True
            self._contexts = tuple(self._model.new_context() for _ in range(4))
            return None
        self._trial.append(self._look(burst, used, self._shadow))
        if len(self._trial) < TRIAL_BURSTS:
            return None
        shadow, self._shadow = self._shadow, None
        seen = Trial(*(np.array([score for one in self._trial for score in one[k]]) for k in range(4)))
        self._trial, self._due = [], True
        allowed = self._shift_a_day * (self._watched_s - self._changed_s) / 86_400
        worse_phase = used.phase == "armed" and shadow.phase != "armed"
        self.why = "it learned too little" if worse_phase else decide(seen, allowed)
        if self.why:
            self.refused += 1
            log.info("shadow_refused", reason=self.why)
            return None
        self.promoted += 1
        self._changed_s = self._watched_s
        return shadow

    @property
    def _watched_s(self) -> float:
        return self._base_s + self._seen_s

    # ---- what outlives the process

    def wants_saving(self, every_s: float) -> bool:
        """Whether so much was watched since it was last saved, or a shadow was made or judged."""
        return self._due or self._seen_s - self._saved_s >= max(every_s, STEP_S)

    @property
    def unsaved_s(self) -> float:
        """Watched since it was last saved."""
        return self._seen_s - self._saved_s

    @contextmanager
    def held(self, wait_s: float) -> Iterator[Memory | None]:
        """What it knows, which does not change meanwhile; None where that is nothing, or where a burst is still being
        taken in after `wait_s`. Afterwards it counts as saved.
        """
        if not self._lock.acquire(timeout=wait_s):
            yield None
            return
        try:
            if self._older is None:
                yield None
                return
            seen_s = self._seen_s
            learners, trial = (self._older, self._younger), list(self._trial)
            yield Memory(self._watched_s, self._tried_s, self._changed_s, *learners, self._shadow, trial)
            self._saved_s, self._due = seen_s, False
        finally:
            self._lock.release()

    def recall(self, known: Memory) -> None:
        """Goes on from what another process knew; called before anything was taken in."""
        with self._lock:
            self._base_s, self._tried_s, self._changed_s = known.watched_s, known.tried_s, known.changed_s
            self._older, self._younger, self._context = known.older, known.younger, self._model.new_context()
            self._shadow, self._trial = known.shadow, list(known.trial)
            if known.shadow is not None:
                self._contexts = tuple(self._model.new_context() for _ in range(4))

    def _learn(self, burst: Burst) -> None:
        """Two learners overlap by half, so that what is older than twice a week's worth is forgotten."""
        if self._older is None:
            self._older, self._context = self._model.new_learner(), self._model.new_context()
        if self._younger is None and self._watched_s > FORGET_S:
            self._younger = self._model.new_learner()
        if self._younger is not None and self._watched_s > 2 * FORGET_S:
            self._older, self._younger = self._younger, self._model.new_learner()
            self._base_s -= FORGET_S
            self._tried_s -= FORGET_S
            self._changed_s -= FORGET_S
        self._feed(burst, self._older)
        if self._younger is not None:
            self._feed(burst, self._younger)

    def _feed(self, burst: Burst, learner: Learner) -> None:
        for frame in (one for one in burst if one.ordinary):
            self._model.process([Row(frame.prepared, frame.media_s, self._context, None, learner)])

    def _look(self, burst: Burst, used: NormalityState, shadow: NormalityState) -> Looked:
        found: tuple[list[float], ...] = ([], [], [], [])
        begin_s = burst[0].media_s
        for number, frame in enumerate(burst):
            rows = [
                Row(frame.prepared, frame.media_s, self._contexts[0], used),
                Row(frame.prepared, frame.media_s, self._contexts[1], shadow),
            ]
            if number % 2 == 0:
                fast_s = begin_s + (frame.media_s - begin_s) / 2
                rows += [
                    Row(frame.prepared, fast_s, self._contexts[2], used),
                    Row(frame.prepared, fast_s, self._contexts[3], shadow),
                ]
            for kept, result in zip(found, self._model.process(rows), strict=False):
                if isinstance(result, Exception):
                    raise result
                if result is not None:
                    kept.append(result.score)
        return found[0], found[1], found[2], found[3]


def decide(trial: Trial, allowed_shift: float) -> str:
    """Why the shadow is not to take over; "" where it is."""
    if len(trial.used) != len(trial.shadow) or not len(trial.used):
        return "the two states did not score the same frames"
    error, before = _miscounted(trial.shadow), _miscounted(trial.used)
    if error > before - BETTER:
        return f"it fits the footage no better ({error:.2f} against {before:.2f})"
    sharp, was_sharp = _separation(trial.shadow_fast, trial.shadow), _separation(trial.used_fast, trial.used)
    if sharp < was_sharp - AS_SHARP:
        return f"it tells less well what is fast ({sharp:.2f} against {was_sharp:.2f})"
    shift = _shift(trial)
    if shift > allowed_shift:
        return f"scores would move by {shift:.2f} at once, {allowed_shift:.2f} may be by now"
    return ""


def _miscounted(scores: np.ndarray) -> float:
    """Powers of ten by which the shares over LEVELS are not what they should be, added up."""
    n = len(scores)
    return sum(abs(math.log10((float((scores >= level).sum()) + 0.5) / (n * 10**-level + 0.5))) for level in LEVELS)


def _separation(high: np.ndarray, low: np.ndarray) -> float:
    """P(one of `high` is over one of `low`), ties by half."""
    if not len(high) or not len(low):
        return 0.5
    ordered = np.sort(low)
    below, upto = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float(np.mean(below + upto)) / (2 * len(low))


def _shift(trial: Trial) -> float:
    """How far the scores move, of the most unusual tenth or of all: the larger."""
    moved = np.abs(trial.used - trial.shadow)
    top = trial.used >= np.quantile(trial.used, 0.9)
    return float(max(abs(float(np.mean(trial.used - trial.shadow))), float(np.mean(moved[top]))))
