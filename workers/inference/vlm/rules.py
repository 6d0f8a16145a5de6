"""The describer without a vision-language model: says what was measured, and that it knows no more."""

from core.events import AnomalyEvent
from workers.inference.vlm.base import Analysis, Verdict, VlmType

__all__ = ["RulesAnalyzer"]

SOURCE = "rules/1"
CONFIDENCE = 0.5
"""A measured deviation says that something is unusual, not that it matters."""


class RulesAnalyzer:
    """Measured evidence in words. Never names people, intent, or an activity that was not measured."""

    def analyze(self, event: AnomalyEvent, evidence: dict[str, float]) -> Analysis:
        where = _place(event.peak_x / max(event.frame_width, 1), event.peak_y / max(event.frame_height, 1))
        facts = [event.reason or "movement that is unusual here", f"in the {where} of the picture"]
        duration_s = evidence.get("duration_s", event.end_s - event.begin_s)
        if duration_s > 0:
            facts.append(f"for {duration_s:.1f} s so far" if event.ended_at is None else f"for {duration_s:.1f} s")
        chance = f"seen in about 1 of 10^{event.peak_score:.1f} ordinary frames"
        doubt = " The camera has learned little so far." if event.provisional else ""
        return Analysis(
            verdict=Verdict.UNCERTAIN,
            vlm_type=VlmType.UNUSUAL_MOTION,
            title="Unusual motion",
            description=f"Rule-based (no vision-language model): {', '.join(facts)}; {chance}. "
            f"Nature of the activity not determined.{doubt}",
            confidence=CONFIDENCE,
            confidence_kind="heuristic",
            source=SOURCE,
        )


def _place(x: float, y: float) -> str:
    across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    down = "upper" if y < 1 / 3 else "lower" if y > 2 / 3 else ""
    return " ".join(part for part in (down, across) if part) + " part" if across or down else "middle"
