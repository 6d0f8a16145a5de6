"""What is being learned on, in a file beside the states: the learners, a shadow, and its trial so far."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workers.inference.drift import TRIAL_BURSTS, Looked, Memory
from workers.inference.vad.base import VadModel
from workers.inference.vad.state_files import join, part_of, read_npz, split, under, write_npz

__all__ = ["NAME", "read_memory", "write_memory"]

NAME = "drift.npz"
FORMAT = 1
"""To be raised with what any learner packs, or means by it. A state of a new format needs no raise: what was learned on
beside an old one is not used with it."""
MOST_BYTES = 2_000_000_000
"""A file that says it holds more is not one of ours: two learners of `fused` have 400 MB."""
_TIMES = ("watched_s", "tried_s", "changed_s")
_SIDES = ("used", "shadow", "used_fast", "shadow_fast")


def write_memory(path: Path, model: VadModel, known: Memory, state_sha256: str) -> None:
    """Writes it aside and renames it into place; `state_sha256` is of the state that it is learned on beside. Raises
    StateError.
    """
    head: dict[str, Any] = {name: getattr(known, name) for name in _TIMES}
    head |= {"vad_type": model.name, "state": state_sha256, "shadow": known.shadow is not None}
    arrays: dict[str, np.ndarray] = {}
    for name in ("older", "younger"):
        learner = getattr(known, name)
        head[name] = None
        if learner is not None:
            head[name], own = model.pack_learner(learner)
            arrays |= under(name, own)
    if known.shadow is not None:
        with tempfile.TemporaryDirectory(prefix="haetae-shadow-") as folder:
            file = Path(folder) / f"0{model.suffix}"
            model.save(known.shadow, file)
            arrays["shadow"] = np.frombuffer(file.read_bytes(), np.uint8)
    for number, side in enumerate(_SIDES):
        scores = [np.array(looked[number], np.float64) for looked in known.trial]
        arrays |= join(f"trial.{side}", scores, np.zeros(0, np.float64))
    write_npz(path, FORMAT, head, arrays, compressed=False)


def read_memory(path: Path, model: VadModel, state_sha256: str) -> Memory:
    """Raises StateError: broken, of another format or type, larger than it can be, or beside another state."""

    def make(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> Memory:
        if head["state"] != state_sha256:
            raise ValueError("it was learned on beside another state than the one in use")
        times = {name: float(head[name]) for name in _TIMES}
        if not all(np.isfinite(list(times.values()))) or max(times.values()) > times["watched_s"]:
            raise ValueError("its times cannot be")
        learners: dict[str, Any] = {
            name: model.unpack_learner(head[name], part_of(name, arrays)) if head[name] is not None else None
            for name in ("older", "younger")
        }
        shadow = _shadow(model, arrays["shadow"]) if head["shadow"] else None
        trial = list(_trial(arrays))
        if learners["older"] is None or len(trial) >= TRIAL_BURSTS or (trial and shadow is None):
            raise ValueError("its parts do not fit each other")
        return Memory(**times, **learners, shadow=shadow, trial=trial)

    return read_npz(path, model.name, FORMAT, make, most_bytes=MOST_BYTES)


def _shadow(model: VadModel, content: np.ndarray) -> Any:
    with tempfile.TemporaryDirectory(prefix="haetae-shadow-") as folder:
        file = Path(folder) / f"0{model.suffix}"
        file.write_bytes(content.astype(np.uint8).tobytes())
        return model.load(file)


def _trial(arrays: dict[str, np.ndarray]) -> Iterator[Looked]:
    sides = [split(f"trial.{side}", arrays) for side in _SIDES]
    for one in zip(*sides, strict=True):
        used, shadow, used_fast, shadow_fast = (part.astype(np.float64).tolist() for part in one)
        yield used, shadow, used_fast, shadow_fast
