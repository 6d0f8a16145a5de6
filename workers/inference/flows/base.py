"""What a flow decides about an event, within which budget, and what it leaves on record."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from core.clock import utc_iso
from core.events import Analysis, AnalysisStatus, EventStep, Severity, Verdict, VlmType
from workers.inference.flows.policy import Policy, Ruling
from workers.inference.flows.severity import Grade, grade
from workers.inference.flows.tools import Ptz, Recheck, plan
from workers.inference.vlm import Finding, Incident, Question, VlmAnalyzer
from workers.inference.vlm.rules import judge, stand_in

__all__ = ["AgentFlow", "Budget", "Decision", "Run"]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a flow; `steps` is its audit trail."""

    severity: Severity
    analysis: Analysis
    rulings: tuple[Ruling, ...]
    steps: tuple[EventStep, ...]
    calls: int
    """Questions that were put to an engine."""

    @property
    def recheck_s(self) -> float:
        """When to look once more; 0 where it is decided."""
        return next((one.tool.delay_s for one in self.rulings if one.allowed and isinstance(one.tool, Recheck)), 0.0)

    @property
    def turn(self) -> Ptz | None:
        """The turn that the camera is to make; None where it is to stay."""
        return next((one.tool for one in self.rulings if one.allowed and isinstance(one.tool, Ptz)), None)


class Budget:
    """How often an engine may be asked, and until when."""

    def __init__(
        self, calls: int, flow_s: float, analyze_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._analyze_s = clock, analyze_s
        self.calls, self.ends_s = calls, clock() + flow_s

    def take(self) -> float:
        """Takes a call; when it is to have been answered (monotonic), or 0 where none is left."""
        now_s = self._clock()
        if self.calls <= 0 or now_s >= self.ends_s:
            return 0.0
        self.calls -= 1
        return min(now_s + self._analyze_s, self.ends_s)


class Run:
    """One going through a flow: what its roles share, and the trail that they leave."""

    def __init__(self, flow: str, incident: Incident, analyzer: VlmAnalyzer, policy: Policy, budget: Budget) -> None:
        self.flow, self.incident, self._analyzer, self._policy, self._budget = flow, incident, analyzer, policy, budget
        self.steps: list[EventStep] = []
        self.calls = 0
        self.measured = judge(incident)
        """What the measurements alone say: what no answer of a model makes less of."""

    def note(self, kind: str, text: str, **data: Any) -> None:
        at = utc_iso(datetime.now(UTC))
        plain = msgspec.json.decode(msgspec.json.encode(data))
        self.steps.append(EventStep(kind=kind, at=at, text=text, data=plain))

    def ask(self, question: Question) -> Analysis | None:
        """An engine's analysis, noted; None where the budget is spent."""
        deadline_s = self._budget.take()
        if not deadline_s:
            self.note("budget", f"{question.role}: not asked, the budget is spent")
            return None
        began = time.monotonic()
        finding = self._asked(question, deadline_s)
        self.calls += 1
        said = finding.analysis
        self.note(
            "analysis",
            f"{question.role}: {said.source} {said.status} {said.verdict} {said.vlm_type} {said.confidence:.2f}",
            role=question.role,
            attempt=self.incident.attempt,
            ms=round(1000 * (time.monotonic() - began), 2),
            calls=[msgspec.to_builtins(call) for call in finding.calls],
            analysis=msgspec.to_builtins(said),
        )
        return said

    def _asked(self, question: Question, deadline_s: float) -> Finding:
        """An analyzer never raises by its contract; one that does has failed, and nothing more."""
        try:
            return self._analyzer.analyze(self.incident, question, deadline_s)
        except Exception as error:
            self.note("error", f"{question.role}: {type(error).__name__}: {error}"[:500])
            return Finding(analysis=stand_in(self.incident, question, AnalysisStatus.INVALID, "internal"))

    def conclude(self, analysis: Analysis, *, unsure: bool = False) -> Decision:
        """Severity by the table, actions by the plan, each of them through the gate."""
        graded = max((grade(self.incident, self.measured), grade(self.incident, analysis)), key=lambda one: one.rank)
        self.note("severity", f"{graded.severity}: {', '.join(graded.why)}", why=list(graded.why))
        review = (
            unsure
            or analysis.status is not AnalysisStatus.OK
            or analysis.verdict is Verdict.UNCERTAIN
            or analysis.text_instruction_seen
            or (analysis.verdict is Verdict.REJECTED and self.measured.verdict is Verdict.CONFIRMED)
        )
        analysis = self._upheld(msgspec.structs.replace(analysis, needs_review=review))
        rulings = self._actions(analysis, graded, unsure=unsure)
        self.note(
            "decision",
            f"{self.flow}: {analysis.verdict} {analysis.vlm_type}, {graded.severity}"
            + (", to be reviewed" if review else ""),
            flow=self.flow,
            severity=str(graded.severity),
            verdict=str(analysis.verdict),
            vlm_type=str(analysis.vlm_type),
        )
        return Decision(
            severity=graded.severity,
            analysis=analysis,
            rulings=rulings,
            steps=tuple(self.steps),
            calls=self.calls,
        )

    def _upheld(self, analysis: Analysis) -> Analysis:
        """What the camera's own check found stays on record as that: nobody who looks for tampering is to miss it."""
        stands = analysis.verdict is Verdict.CONFIRMED and analysis.vlm_type is not VlmType.NORMAL
        if not self.incident.evidence.fault or stands or analysis.vlm_type is self.measured.vlm_type:
            return analysis
        said = f"{analysis.verdict} {analysis.vlm_type}"
        self.note("upheld", f"{self.measured.vlm_type}, not {said}: the camera's own check of its view found it")
        return msgspec.structs.replace(
            analysis, verdict=Verdict.UNCERTAIN, vlm_type=self.measured.vlm_type, needs_review=True
        )

    def _actions(self, analysis: Analysis, graded: Grade, *, unsure: bool) -> tuple[Ruling, ...]:
        wanted = plan(self.incident, analysis, graded.severity, self._policy.rules, unsure=unsure)
        rulings = tuple(self._policy.rule(tool, self.incident, analysis, graded.severity) for tool in wanted)
        for number, ruling in enumerate(rulings):
            name = type(ruling.tool).__name__.lower()
            data = {
                **msgspec.to_builtins(ruling.tool),
                "key": f"{self.incident.event.id}:{name}:{number}",
                "allowed": ruling.allowed,
                "rule": ruling.rule,
            }
            kind = "action" if ruling.allowed else "blocked"
            self.note(kind, f"{name}: {'allowed' if ruling.allowed else 'blocked'} by {ruling.rule}", **data)
        return rulings


class AgentFlow(Protocol):
    """One type of flow; called from several threads, keeps nothing between runs."""

    name: str
    calls: int
    """How often it may ask an engine, at most."""

    def run(self, run: Run) -> Decision:
        """Whatever an engine says or fails to say, an alarm is never hidden or made less of because of it."""
        ...
