"""Which types of anomaly detection there are, and how one is made."""

import difflib
from collections.abc import Callable
from importlib import import_module

from core.errors import ModelError
from workers.inference.vad.base import Learner, NormalityState, Row, VadModel, VadScore

__all__ = ["VAD_TYPES", "Learner", "NormalityState", "Row", "VadModel", "VadScore", "create_model"]


def _motion_stats(_threads: int) -> VadModel:
    return import_module("workers.inference.vad.motion_stats").MotionStats()


def _synthetic(threads: int) -> VadModel:
    return import_module("workers.inference.vad.synthetic").Synthetic(threads)


_MAKERS: dict[str, Callable[[int], VadModel]] = {
    "motion_stats": _motion_stats,
    "synthetic": _synthetic,
}
"""Imported when first asked for: what a house without nets has no use for takes it no memory."""

VAD_TYPES: tuple[str, ...] = tuple(_MAKERS)


def create_model(name: str, threads: int = 1) -> VadModel:
    """The model of that type; `threads` is what it may use by itself (motion_stats uses the executor's instead).

    Raises ModelError for an unknown name, with the nearest one there is.
    """
    make = _MAKERS.get(name)
    if make is None:
        near = difflib.get_close_matches(name, VAD_TYPES, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ModelError(f"unknown VAD type {name!r}", f"{hint}known: {', '.join(VAD_TYPES)}")
    return make(threads)
