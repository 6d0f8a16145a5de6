"""Which types of anomaly detection there are, and how one is made."""

from core.errors import ModelError
from workers.inference.vad.base import Learner, NormalityState, Row, VadModel, VadScore
from workers.inference.vad.motion_stats import MotionStats

__all__ = ["VAD_TYPES", "Learner", "NormalityState", "Row", "VadModel", "VadScore", "create_model"]

VAD_TYPES: tuple[str, ...] = (MotionStats.name,)


def create_model(name: str, threads: int = 1) -> VadModel:
    """The model of that type; `threads` is what it may use by itself (motion_stats uses the executor's instead).

    Raises ModelError for an unknown name.
    """
    if name == MotionStats.name:
        return MotionStats()
    raise ModelError(f"unknown VAD type {name!r} ({threads} threads)", f"known: {', '.join(VAD_TYPES)}")
