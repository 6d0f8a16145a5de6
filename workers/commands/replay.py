"""`haetae replay`: runs the judgement of a stored event again, offline, and shows what differs."""

import argparse
import time
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine

from core.config import Config
from core.db import make_engine, upgrade
from core.db.events import get_event
from core.errors import ConfigError, NotFound
from core.events import Analysis, AnomalyEvent, EventStep
from core.events.evidence import Evidence
from core.ids import EventId, uuid_text
from workers.commands.camera import configure
from workers.inference.flows import FLOWS, Budget, Decision, Policy, Run, create_flow
from workers.inference.vlm import Finding, Incident, Question, RulesAnalyzer, VlmAnalyzer, create_analyzer
from workers.inference.vlm.rules import judge

__all__ = ["Recorded", "add_parser", "load_incident", "rerun"]


class Recorded:
    """Gives the answers that an engine gave then, role by role; what was not asked then is measured now."""

    name = "recorded"

    def __init__(self, steps: tuple[EventStep, ...], attempt: int) -> None:
        self._answers: dict[str, list[Analysis]] = {}
        ended = False
        for step in steps:
            if step.kind == "decision":
                ended = True
            elif step.kind == "analysis" and "analysis" in step.data and step.data.get("attempt", 0) == attempt:
                if ended:
                    # the last going through the flow is the one that counts
                    self._answers, ended = {}, False
                said = msgspec.convert(step.data["analysis"], Analysis)
                self._answers.setdefault(str(step.data.get("role")), []).append(said)

    def analyze(self, incident: Incident, question: Question, deadline_s: float = 0.0) -> Finding:  # noqa: ARG002
        waiting = self._answers.get(question.role)
        return Finding(analysis=waiting.pop(0) if waiting else judge(incident, question))

    def close(self) -> None:
        """Nothing to let go of."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("replay", help="judge a stored event again, and show what differs")
    parser.add_argument("event", metavar="EVENT", help="id of the event")
    parser.add_argument("--flow", choices=list(FLOWS), help="with this flow (default: the one that decided)")
    parser.add_argument(
        "--engine",
        choices=["recorded", "rules", "configured"],
        default="recorded",
        help="who answers: what was said then (default), the measurements alone, or the configured backend",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def load_incident(engine: Engine, config: Config, event_id: str) -> Incident:
    """A stored event with its evidence; raises NotFound where either is gone."""
    event = get_event(engine, EventId(uuid_text(event_id)))
    if event is None:
        raise NotFound(f"there is no event {event_id}")
    media = next((one for one in event.media if one.kind == "evidence"), None)
    if media is None:
        raise NotFound(f"event {event_id} has no stored evidence", "only events since it is kept can be replayed")
    return Incident(event=event, evidence=read_evidence(config.media_dir / media.file), attempt=_attempt(event))


def read_evidence(file: Path) -> Evidence:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Evidence)
    except OSError as error:
        raise NotFound(f"its evidence {file} cannot be read: {error.strerror}", "it may be past its time") from error
    except msgspec.DecodeError as error:
        raise NotFound(f"its evidence {file} is broken: {error}") from error


def _attempt(event: AnomalyEvent) -> int:
    return max((int(step.data.get("attempt", 0)) for step in event.steps if step.kind == "analysis"), default=0)


def flow_of(event: AnomalyEvent) -> str:
    """The flow that decided last."""
    named = [str(step.data.get("flow")) for step in event.steps if step.kind == "decision"]
    return named[-1] if named and named[-1] in FLOWS else "sequential"


def rerun(config: Config, incident: Incident, flow: str, analyzer: VlmAnalyzer) -> Decision:
    """One going through a flow that sends nothing."""
    made = create_flow(flow)
    policy = Policy(msgspec.structs.replace(config.flows, dry_run=True), time.monotonic)
    budget = Budget(made.calls, config.vlm.flow_s, config.vlm.analyze_s)
    return made.run(Run(flow, incident, analyzer, policy, budget))


def analyzer_for(name: str, config: Config, incident: Incident) -> VlmAnalyzer:
    if name == "recorded":
        return Recorded(incident.event.steps, incident.attempt)
    return RulesAnalyzer() if name == "rules" else create_analyzer(config)


def _run(args: argparse.Namespace) -> int:
    config = configure(args)
    upgrade(config.database_url)
    engine = make_engine(config.database_url)
    try:
        incident = load_incident(engine, config, args.event)
    finally:
        engine.dispose()
    flow = args.flow or flow_of(incident.event)
    analyzer = analyzer_for(args.engine, config, incident)
    try:
        decision = rerun(config, incident, flow, analyzer)
    finally:
        analyzer.close()
    then, now = _told(incident.event), _said(decision)
    different = [name for name in now if then.get(name) != now[name]]
    if args.json:
        shown = {"event": incident.event.id, "flow": flow, "then": then, "now": now, "different": different}
        print(msgspec.json.encode(shown | {"steps": [msgspec.to_builtins(one) for one in decision.steps]}).decode())
        return 0
    if not then:
        raise ConfigError("this event was never judged")
    print(f"{incident.event.id}  {incident.event.camera_id}  {flow}, answers: {args.engine}")
    for name in now:
        mark = "≠" if name in different else " "
        print(f"{mark} {name:12} {then.get(name, ''):24} {now[name] if name in different else ''}".rstrip())
    for step in decision.steps:
        print(f"    {step.kind:9} {step.text}")
    return 0


def _told(event: AnomalyEvent) -> dict[str, str]:
    """What the last going through a flow came to."""
    severity = [str(step.data.get("severity")) for step in event.steps if step.kind == "decision"]
    if event.analysis is None or not severity:
        return {}
    return _words(event.analysis, severity[-1])


def _said(decision: Decision) -> dict[str, str]:
    return _words(decision.analysis, str(decision.severity))


def _words(analysis: Analysis, severity: str) -> dict[str, str]:
    return {
        "severity": severity,
        "verdict": str(analysis.verdict),
        "vlm_type": str(analysis.vlm_type),
        "status": str(analysis.status),
        "review": "yes" if analysis.needs_review else "no",
    }
