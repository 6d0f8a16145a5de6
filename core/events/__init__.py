"""Events: what they are, how a score curve becomes one, and the journal that keeps them."""

from core.events.analysis import Analysis, AnalysisStatus, ConfidenceKind, Verdict, VlmType
from core.events.model import AnomalyEvent, EventMedia, EventState, EventStep, Severity

__all__ = [
    "Analysis",
    "AnalysisStatus",
    "AnomalyEvent",
    "ConfidenceKind",
    "EventMedia",
    "EventState",
    "EventStep",
    "Severity",
    "Verdict",
    "VlmType",
]
