"""Vision-language analysis: one analyzer, one file per backend."""

from workers.inference.vlm.base import Analysis, AnalysisStatus, Verdict, VlmAnalyzer, VlmType
from workers.inference.vlm.rules import RulesAnalyzer

__all__ = ["Analysis", "AnalysisStatus", "Verdict", "VlmAnalyzer", "VlmType", "create_analyzer"]


def create_analyzer() -> VlmAnalyzer:
    """The configured backend; without one, rules over measured evidence."""
    return RulesAnalyzer()
