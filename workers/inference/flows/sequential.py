"""The sequential flow: analyse, judge severity by a table, decide whether a person must look."""

from core.events import AnomalyEvent, Severity
from workers.inference.flows.base import Decision
from workers.inference.vlm import AnalysisStatus, Verdict, VlmAnalyzer, VlmType

__all__ = ["SequentialFlow"]

_RANKS = list(Severity)
_FLOORS = {
    VlmType.FIRE_SMOKE: Severity.HIGH,
    VlmType.EXPLOSION: Severity.CRITICAL,
    VlmType.WEAPON: Severity.CRITICAL,
    VlmType.TAMPER: Severity.MEDIUM,
}
"""Types that are never less than this, whatever the score."""
_LONG_S = 10.0
"""What goes on for longer counts one step more."""


class SequentialFlow:
    """One analysis, then fixed rules; the model proposes a type, the table decides."""

    def run(self, event: AnomalyEvent, evidence: dict[str, float], analyzer: VlmAnalyzer) -> Decision:
        analysis = analyzer.analyze(event, evidence)
        steps = [f"analyse: {analysis.source} {analysis.status} {analysis.verdict} {analysis.vlm_type}"]
        rank = _RANKS.index(event.severity)
        if evidence.get("duration_s", 0.0) >= _LONG_S:
            rank += 1
            steps.append(f"severity: one step up, lasted {_LONG_S:.0f} s or more")
        floor = _RANKS.index(_FLOORS.get(analysis.vlm_type, Severity.INFO))
        severity = _RANKS[min(max(rank, floor), len(_RANKS) - 1)]
        if event.provisional and max(floor, _RANKS.index(Severity.MEDIUM)) < rank:
            severity = _RANKS[max(floor, _RANKS.index(Severity.MEDIUM))]
            steps.append("severity: held at medium, the camera has learned little")
        review = analysis.status is not AnalysisStatus.OK or analysis.verdict is Verdict.UNCERTAIN
        steps.append(f"decide: {severity}" + (", to be reviewed" if review else ""))
        return Decision(severity=severity, analysis=analysis, needs_review=review, steps=steps)
