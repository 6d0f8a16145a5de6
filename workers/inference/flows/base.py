"""What a flow decides about an event, and what it leaves on record."""

from typing import Protocol

import msgspec

from core.events import AnomalyEvent, Severity
from workers.inference.vlm import Analysis, VlmAnalyzer

__all__ = ["AgentFlow", "Decision"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a flow; `steps` is its audit trail, a line each."""

    severity: Severity
    analysis: Analysis
    needs_review: bool
    steps: list[str]


class AgentFlow(Protocol):
    """One type of flow; called from several threads."""

    def run(self, event: AnomalyEvent, evidence: dict[str, float], analyzer: VlmAnalyzer) -> Decision:
        """Whatever the analyzer says, an alarm is never hidden or made less of because of its failure."""
        ...
