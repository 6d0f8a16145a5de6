"""What every type of anomaly detection offers: a shared model, a normality state per camera or group of cameras."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np

__all__ = [
    "MAP_LEVELS",
    "Corrigible",
    "Inheriting",
    "Learner",
    "NormalityState",
    "Phase",
    "Row",
    "VadModel",
    "VadScore",
]

Phase = Literal["provisional", "armed"]

MAP_LEVELS = 6.0
"""-log10 P that the location map shows as 255."""


class VadScore(msgspec.Struct, frozen=True):
    """How improbable one frame is among the normal footage that its state was learned from."""

    score: float
    """-log10 P of an ordinary frame being at least so unusual: finite, >= 0, unclipped."""
    peak_x: float
    """Where it is most unusual, as fractions 0..1 of the frame; the middle where nothing stands out."""
    peak_y: float
    map: np.ndarray
    """(rows, cols) uint8, 0..255 for -log10 P of 0..6 at that place."""
    reason: str
    """For a person, such as "3.1 x the usual speed here"; "" where nothing moves."""


@dataclass(frozen=True, kw_only=True)
class NormalityState:
    """What was learned as normal; immutable, safe to share between threads. Types add their own fields."""

    vad_type: str
    version: int
    width: int
    """Size of the analysed frames it belongs to, in pixels."""
    height: int
    learned_s: float
    """Seconds of footage, added over all cameras it was learned from."""
    frames: int
    phase: Phase


class Learner(Protocol):
    """Takes in the normal footage of one normality id in bounded memory; filled by `VadModel.process`."""

    @property
    def learned_s(self) -> float: ...

    @property
    def frames(self) -> int: ...

    def merge(self, others: Sequence[Any]) -> None:
        """Takes in all that learners of the same type have: of other cameras that share a state, or of other times.
        They stay as they are; raises StateError for footage of another size, before anything has changed.
        """
        ...


@dataclass(slots=True)
class Row:
    """One frame of one camera: scored with `state`, learned by `learner`, or both."""

    prepared: Any
    media_s: float
    context: Any
    state: NormalityState | None = None
    learner: Any = None


class VadModel(Protocol):
    """One type of detection, shared by all cameras; no method keeps anything about a camera in the model."""

    name: str
    suffix: str
    """Of its states' files, such as ".npz"."""
    trains: bool
    """Whether `fit` takes minutes: then `fit_provisional` scores meanwhile."""

    @property
    def device(self) -> str:
        """Where it runs, as torch calls it."""
        ...

    @property
    def parameters(self) -> int:
        """Weights of a net, per camera; 0 where there is none."""
        ...

    def new_context(self) -> Any:
        """The history of one camera's stream; a gap or a jump back in `media_s` empties it by itself.

        A context is used by one `process` call at a time.
        """
        ...

    def prepare(self, pixels: np.ndarray, width: int, height: int) -> Any:
        """What `process` needs of an I420 frame, (height * 3 // 2, width) uint8, copied; raises StateError."""
        ...

    def new_learner(self) -> Any:
        """An empty `Learner`."""
        ...

    def pack_learner(self, learner: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a learner has taken in, as plain values for JSON and arrays, so that another process goes on from it.
        What stays behind is seconds of footage: the last frames, and those that waited for a first background.
        """
        ...

    def unpack_learner(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        """The learner of what `pack_learner` gave, within bounds; raises KeyError, ValueError or TypeError where that
        is not whole.
        """
        ...

    def process(self, rows: Sequence[Row], executor: Executor | None = None) -> list[VadScore | Exception | None]:
        """One result per row, in order; rows of the same context are taken in the order given.

        None: no score (no state, or too little history yet). An exception belongs to its row alone. Where the call
        itself raises (no memory, an input that no kernel takes), no context and no learner has changed, so that its
        rows may be tried again in smaller batches.
        Never waits for `fit`, so that a camera is scored while another state is being made.
        """
        ...

    def fit(self, learner: Any, version: int, armed_s: float) -> NormalityState:
        """A state from all that `learner` has taken in, which stays as it is and may grow further.

        "armed" from `armed_s` seconds of footage on, else "provisional". May run beside `process`, in another
        thread. Raises StateError, saying how much there is and how much is needed.
        """
        ...

    def fit_provisional(self, learner: Any) -> NormalityState:
        """A state of version 0, "provisional", within seconds, to score with until `fit` has ended; raises as that."""
        ...

    def close(self) -> None:
        """Gives up what is being fitted in processes of its own; from then on `fit` may raise StateError."""
        ...

    def save(self, state: NormalityState, path: Path) -> None:
        """Writes `state` beside `path` and renames it into place; raises StateError where that is refused."""
        ...

    def load(self, path: Path) -> NormalityState:
        """Raises StateError: no such file, broken, another type, another version of the format."""
        ...


@runtime_checkable
class Inheriting(Protocol):
    """What a type may offer besides: some of what its states know takes longer to see than footage in bursts shows."""

    def inherit(self, state: NormalityState, used: NormalityState) -> NormalityState:
        """`state`, learned from bursts, with what only `used` can know, which learned from whole footage."""
        ...


@runtime_checkable
class Corrigible(Protocol):
    """What a type may offer besides: its states take in at once that something was ordinary."""

    def mark_normal(self, state: NormalityState, rows: Sequence[Row]) -> NormalityState:
        """A state of the next version to which what `rows` show is ordinary, within a second; `state` stays as it is.

        Rows are frames in order, each stream with a new context; their states and learners do not count. Not all of
        it may be taken in, so that nobody can teach a camera blindness at one stroke. Raises StateError.
        """
        ...
