"""Which types of anomaly detection there are, and how one is made."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from core.config import InferenceConfig
from core.errors import ModelError
from workers.inference.vad.base import Corrigible, Learner, NormalityState, Row, VadModel, VadScore
from workers.inference.vad.choice import AUTO, Choice, choose_type, look_at_hardware

__all__ = [
    "OPENCV",
    "VAD_TYPES",
    "Corrigible",
    "Learner",
    "ModelOptions",
    "NormalityState",
    "Row",
    "VadModel",
    "VadScore",
    "create_configured",
    "create_model",
    "real_type",
]


OPENCV = "opencv"


@dataclass(frozen=True)
class ModelOptions:
    """What a model is made with; a type takes what it has a use for."""

    threads: int = 1
    """That it may use by itself (motion_stats uses the executor's instead)."""
    weights_file: Path | None = None
    steps: int | None = None
    """Of training; None is what the type finds right."""
    seed: int = 0
    weights_of_parts: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """By type, for one that is made of several."""
    flow: str = OPENCV
    """Where optical flow is found: OPENCV, one frame at a time, or by torch on that device, a batch at a time."""


def _motion_stats(options: ModelOptions) -> VadModel:
    return import_module("workers.inference.vad.motion_stats").MotionStats(_finder(options))


def _object_attr(options: ModelOptions) -> VadModel:
    return import_module("workers.inference.vad.object_attr").ObjectAttr(options.weights_file, _finder(options))


def _finder(options: ModelOptions) -> Any:
    """What finds the motion of a whole batch, where that is wanted and the device is right about it."""
    if options.flow == OPENCV:
        return None
    return import_module("workers.inference.vad.batched_motion").make_finder(options.flow)


def _trained(module: str, name: str) -> Callable[[ModelOptions], VadModel]:
    def make(options: ModelOptions) -> VadModel:
        made = getattr(import_module(f"workers.inference.vad.{module}"), name)
        return made(
            options.threads,
            steps=options.steps,
            seed=options.seed,
            weights_file=options.weights_file,
            finder=_finder(options),
        )

    return make


PARTS = {
    "motion_objects": ("motion_stats", "object_attr"),
    "fused": ("motion_stats", "object_attr", "synthetic"),
}


def _fused(name: str) -> Callable[[ModelOptions], VadModel]:
    def make(options: ModelOptions) -> VadModel:
        if options.weights_file is not None:
            why = f"{name} has no weights file of its own, as {options.weights_file}"
            raise ModelError(why, "give it to its parts")
        weights = options.weights_of_parts
        parts = [_MAKERS[part](replace(options, weights_file=weights.get(part))) for part in PARTS[name]]
        return import_module("workers.inference.vad.fused").Fused(parts, name)

    return make


_MAKERS: dict[str, Callable[[ModelOptions], VadModel]] = {
    "motion_stats": _motion_stats,
    "object_attr": _object_attr,
    "motion_objects": _fused("motion_objects"),
    "fused": _fused("fused"),
    "synthetic": _trained("synthetic", "Synthetic"),
    "frame_pred": _trained("frame_pred", "FramePred"),
    "patch_memory": _trained("patch_memory", "PatchMemory"),
    "masked_ae": _trained("masked_ae", "MaskedAe"),
}
"""Imported when first asked for: what a house without nets has no use for takes it no memory."""

VAD_TYPES: tuple[str, ...] = tuple(_MAKERS)


@cache
def real_type(name: str) -> Choice:
    """What `auto` stands for on this machine, and why; any other name stands for itself."""
    return choose_type(look_at_hardware()) if name == AUTO else Choice(name, "")


def create_model(
    name: str,
    threads: int = 1,
    *,
    weights_file: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    weights_of_parts: Mapping[str, Path] | None = None,
    flow: str = OPENCV,
) -> VadModel:
    """The model of that type, with ModelOptions.

    Raises ModelError for an unknown name, with the nearest one there is, and for weights that are not the type's.
    """
    make = _MAKERS.get(real_type(name).vad_type)
    if make is None:
        near = difflib.get_close_matches(name, VAD_TYPES, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ModelError(f"unknown VAD type {name!r}", f"{hint}known: {AUTO}, {', '.join(VAD_TYPES)}")
    return make(ModelOptions(threads, weights_file, steps, seed, weights_of_parts or {}, flow))


def create_configured(inference: InferenceConfig, name: str, threads: int) -> VadModel:
    """As `create_model`, as `inference` has it; the weights file of a type is relative to where it runs."""
    weights, file = inference.weights, inference.weights.get(name)
    of_parts = {part: Path(weights[part]) for part in PARTS.get(real_type(name).vad_type, ()) if weights.get(part)}
    return create_model(
        name, threads, weights_file=Path(file) if file else None, weights_of_parts=of_parts, flow=inference.flow
    )
