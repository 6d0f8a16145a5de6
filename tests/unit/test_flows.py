"""What flows decide: whatever an engine says, an alarm is not hidden, lowered, or acted on outside policy."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cameras.zones import ZoneKind
from core.config import FlowsConfig
from core.events import Analysis, AnalysisStatus, ConfidenceKind, Severity, Verdict, VlmType
from core.events.analysis import ALIASES, clean_text, type_of
from core.events.evidence import Evidence, Scene, ZoneEvidence
from tests.vlm import make_incident, make_track
from workers.inference.analysts import AnalysisJob, AnalysisQueue
from workers.inference.flows import FLOWS, Budget, Policy, Run, create_flow
from workers.inference.flows.severity import FLOORS, RANKS, grade
from workers.inference.flows.tools import Escalate, Ignore, Notify, Ptz, Recheck
from workers.inference.vlm import Finding, Incident, Question, RulesAnalyzer
from workers.inference.vlm.rules import CANDIDATE_CAP, judge

TYPES = list(VlmType)


class Scripted:
    """Says what it is told to, one answer after the other."""

    name = "scripted"

    def __init__(self, *answers: Analysis | Exception) -> None:
        self.answers, self.asked = list(answers), list[Question]()

    def analyze(self, incident: Incident, question: Question, deadline_s: float) -> Finding:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(question)
        if isinstance(answer, Exception):
            raise answer
        return Finding(analysis=answer)

    def close(self) -> None:
        pass


def said(**changes) -> Analysis:
    plain = Analysis(
        verdict=Verdict.CONFIRMED,
        vlm_type=VlmType.FIGHTING,
        title="t",
        description="d",
        confidence=0.9,
        confidence_kind=ConfidenceKind.MODEL,
        source="openai/x",
    )
    return msgspec.structs.replace(plain, **changes)


def run(flow: str, incident: Incident, analyzer, rules: FlowsConfig | None = None):
    made = create_flow(flow)
    return made.run(Run(flow, incident, analyzer, Policy(rules or FlowsConfig()), Budget(made.calls, 5.0, 2.0)))


@st.composite
def analyses(draw) -> Analysis:
    status = draw(st.sampled_from(list(AnalysisStatus)))
    verdicts = list(Verdict) if status is AnalysisStatus.OK else [Verdict.CONFIRMED, Verdict.UNCERTAIN]
    return said(
        verdict=draw(st.sampled_from(verdicts)),
        vlm_type=draw(st.sampled_from(TYPES)),
        alt_types=tuple(draw(st.lists(st.sampled_from(TYPES), max_size=2))),
        candidate=draw(st.booleans()),
        confidence=draw(st.floats(0, 1)),
        status=status,
        text_instruction_seen=draw(st.booleans()),
        visible_text=tuple(draw(st.lists(st.text(max_size=20), max_size=2))),
    )


@st.composite
def incidents(draw) -> Incident:
    evidence = Evidence(
        duration_s=draw(st.floats(0, 60)),
        scene=Scene(
            usual_speed=0.8,
            usual_spread=0.05,
            blinded_s=draw(st.floats(0, 5)),
            outward=draw(st.integers(0, 8)),
            stayed_s=draw(st.floats(0, 100)),
        ),
        tracks=(make_track(speed=draw(st.floats(0, 4))),),
        armed=draw(st.booleans()),
        fault=draw(st.sampled_from(["", "", "covered"])),
        ptz_preset=draw(st.sampled_from(["", "gate"])),
    )
    found = make_incident(evidence=evidence, peak_score=draw(st.floats(2, 20)), provisional=draw(st.booleans()))
    return msgspec.structs.replace(found, attempt=draw(st.integers(0, 1)))


@st.composite
def policies(draw) -> FlowsConfig:
    return FlowsConfig(
        channels=tuple(draw(st.lists(st.sampled_from(["guard", "owner"]), unique=True))),
        notify_from=draw(st.sampled_from(list(Severity))),
        escalate=draw(st.integers(0, 3)),
        ignore=draw(st.booleans()),
        recheck=draw(st.booleans()),
        per_hour=draw(st.integers(0, 3)),
        dry_run=draw(st.booleans()),
    )


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(FLOWS)), incidents(), st.lists(analyses(), min_size=1, max_size=4), policies())
def test_invariants_of_every_flow(flow, incident, answers, rules):
    analyzer = Scripted(*answers)
    decision = run(flow, incident, analyzer, rules)
    alone = grade(incident, judge(incident))
    rank = RANKS.index(decision.severity)
    assert rank >= alone.rank, "an engine made less of it"
    last = decision.analysis
    assert rank >= RANKS.index(Severity.INFO)
    if not last.candidate and last.vlm_type in FLOORS:
        assert rank >= FLOORS[last.vlm_type]
    assert decision.calls == len(analyzer.asked) <= FLOWS[flow].calls
    assert not (last.status is not AnalysisStatus.OK and last.verdict is Verdict.REJECTED)
    if last.status is not AnalysisStatus.OK or last.text_instruction_seen:
        assert last.needs_review
    for ruling in decision.rulings:
        if not ruling.allowed:
            continue
        tool = ruling.tool
        if isinstance(tool, Ptz):
            assert (tool.camera_id, tool.preset_id) == (incident.event.camera_id, incident.evidence.ptz_preset)
            assert not rules.dry_run
            assert not incident.event.provisional
            assert not incident.evidence.fault
            measured = judge(incident)
            assert measured.verdict is Verdict.CONFIRMED
            assert not measured.candidate, "a model alone never turns a camera away"
        if isinstance(tool, Notify | Escalate):
            assert set(tool.channels) <= set(rules.channels)
            assert not rules.dry_run
            assert rules.per_hour
        if isinstance(tool, Escalate):
            assert tool.level <= rules.escalate
            assert not last.candidate
        if isinstance(tool, Ignore):
            assert rules.ignore
            assert last.verdict is Verdict.REJECTED
            assert not last.text_instruction_seen
        if isinstance(tool, Recheck):
            assert rules.recheck
            assert incident.attempt == 0
    assert {step.kind for step in decision.steps} >= {"severity", "decision"}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(list(FLOWS)), incidents(), analyses())
def test_the_same_input_makes_the_same_decision(flow, incident, answer):
    first, second = (run(flow, incident, Scripted(answer)) for _ in range(2))
    assert (first.severity, first.analysis, first.rulings) == (second.severity, second.analysis, second.rulings)


@pytest.mark.parametrize("flow", FLOWS)
def test_an_engine_that_raises_has_only_failed(flow):
    decision = run(flow, make_incident(), Scripted(RuntimeError("boom")))
    assert decision.analysis.status is AnalysisStatus.INVALID
    assert decision.analysis.needs_review
    assert "error" in {step.kind for step in decision.steps}


@pytest.mark.parametrize("flow", FLOWS)
def test_flows_run_without_a_model(flow):
    decision = run(flow, make_incident(), RulesAnalyzer())
    assert decision.analysis.source.startswith("rules/")
    assert decision.severity is Severity.MEDIUM


def test_a_failed_engine_cannot_reject():
    with pytest.raises(ValueError, match="rejected nothing"):
        said(status=AnalysisStatus.TIMEOUT, verdict=Verdict.REJECTED)


def test_specialists_that_differ_ask_once_more_and_then_leave_it_to_a_person():
    first, second = said(), said(vlm_type=VlmType.FALL, verdict=Verdict.REJECTED)
    analyzer = Scripted(first, second, first)
    decision = run("hierarchical", make_incident(), analyzer)
    assert [one.role for one in analyzer.asked] == ["general", "people", "people_again"]
    assert decision.analysis.verdict is Verdict.UNCERTAIN
    assert decision.analysis.needs_review
    assert decision.severity is Severity.HIGH
    assert decision.recheck_s > 0


def test_who_sees_a_covered_camera_is_asked_about_the_camera():
    analyzer = Scripted(said(vlm_type=VlmType.TAMPER))
    run("hierarchical", make_incident(), analyzer)
    assert [one.role for one in analyzer.asked] == ["general", "camera"]


def test_a_vote_needs_two_of_three():
    reject = said(verdict=Verdict.REJECTED, vlm_type=VlmType.NORMAL)
    strong = run("collaborative", make_incident(peak_score=6.0), Scripted(said()))
    assert strong.analysis.verdict is Verdict.CONFIRMED
    split = run("collaborative", make_incident(peak_score=6.0), Scripted(reject))
    assert split.analysis.verdict is Verdict.UNCERTAIN
    assert split.analysis.needs_review


def test_only_so_many_messages_an_hour_and_the_last_for_what_is_critical():
    now = [0.0]
    policy = Policy(FlowsConfig(channels=("a",), notify_from=Severity.LOW, per_hour=4), lambda: now[0])
    tool = Notify(channels=("a",), priority=Severity.HIGH)
    incident, analysis = make_incident(), said()

    def rule(severity: Severity) -> str:
        return policy.rule(tool, incident, analysis, severity).rule

    assert [rule(Severity.HIGH) for _ in range(4)] == ["policy"] * 3 + ["per_hour"]
    assert [rule(Severity.CRITICAL) for _ in range(2)] == ["policy", "per_hour"]
    now[0] = 3600.0
    assert rule(Severity.HIGH) == "policy"


def test_only_measurements_turn_a_camera_and_only_so_often_and_only_its_own():
    now = [0.0]
    policy = Policy(FlowsConfig(turns_per_hour=2), lambda: now[0])
    fast = Evidence(
        duration_s=3.0,
        scene=Scene(usual_speed=0.8, usual_spread=0.05),
        tracks=(make_track(speed=3.0),),
        ptz_preset="gate",
    )
    incident = make_incident(evidence=fast)
    camera_id = incident.event.camera_id
    tool = Ptz(camera_id=camera_id, preset_id="gate")

    def rule(incident: Incident, tool: Ptz = tool) -> str:
        return policy.rule(tool, incident, said(verdict=Verdict.CONFIRMED), Severity.HIGH).rule

    def changed(**changes) -> Incident:
        return msgspec.structs.replace(incident, evidence=msgspec.structs.replace(fast, **changes))

    assert rule(incident, Ptz(camera_id="other", preset_id="gate")) == "other_camera"
    assert rule(incident, Ptz(camera_id=camera_id, preset_id="roof")) == "no_preset"
    assert rule(changed(ptz_preset="")) == "no_preset"
    assert rule(changed(tracks=())) == "not_measured", "whatever the model says"
    assert rule(changed(fault="covered")) == "view_fault"
    assert rule(make_incident(evidence=fast, provisional=True)) == "provisional"
    assert [rule(incident) for _ in range(3)] == ["policy", "policy", "per_hour"]
    now[0] = 3600.0
    assert rule(incident) == "policy"
    policy.rules = FlowsConfig(dry_run=True)
    assert rule(incident) == "dry_run"


# ---- rules


def measured(**changes) -> Analysis:
    scene = {"usual_speed": 0.8, "usual_spread": 0.05} | changes.pop("scene", {})
    return judge(make_incident(evidence=Evidence(duration_s=3, scene=Scene(**scene), **changes)))


def test_rules_say_what_they_measured_and_no_more():
    assert measured(tracks=(make_track(),)).vlm_type is VlmType.UNUSUAL_MOTION
    assert "not determined" in measured().description
    fast = measured(tracks=(make_track(speed=2.6),))
    assert (fast.vlm_type, fast.verdict, fast.title) == (VlmType.RUNNING, Verdict.CONFIRMED, "Fast motion")
    assert "3.2 x the usual" in fast.description
    assert "평소의 3.2배" in fast.description_ko
    assert measured(scene={"blinded_s": 4.0, "changed": 1.0}).vlm_type is VlmType.TAMPER
    assert measured(scene={"outward": 6}).vlm_type is VlmType.CROWD_DISPERSAL
    assert measured(scene={"stayed_s": 70.0}).vlm_type is VlmType.LOITERING
    way = ZoneEvidence(name="in", kind=ZoneKind.DIRECTION, direction=90, inside_s=4, against=0.3, against_s=3)
    assert measured(zones=(way,)).vlm_type is VlmType.WRONG_WAY


def test_candidates_are_called_possible_and_stay_unsure():
    fell = measured(tracks=(make_track(flattened=2.5, still_s=3.0),))
    assert (fell.vlm_type, fell.candidate, fell.verdict) == (VlmType.FALL, True, Verdict.UNCERTAIN)
    assert fell.title == "Possible fall"
    assert "possible_fall" in fell.description
    assert fell.confidence <= CANDIDATE_CAP


def test_an_armed_zone_makes_an_entry_an_intrusion():
    zone = ZoneEvidence(name="yard", kind=ZoneKind.DETECT, inside_s=2.0)
    assert measured(zones=(zone,)).vlm_type is VlmType.UNUSUAL_MOTION
    assert measured(zones=(zone,), armed=True).vlm_type is VlmType.INTRUSION


def test_labels_of_data_sets_and_models_are_known():
    assert type_of("RoadAccidents") is VlmType.VEHICLE_INCIDENT or type_of("road accidents") is VlmType.VEHICLE_INCIDENT
    assert type_of("Possible Fall") is VlmType.FALL
    assert type_of("sandwich") is None
    assert all(isinstance(one, VlmType) for one in ALIASES.values())


def test_text_is_cleaned():
    assert clean_text("a\u202eb\x00 c\n\nhttp://x.example/y", 80) == "ab c [link]"
    assert clean_text("x" * 100, 10) == "x" * 9 + "…"


# ---- the queue


def job(camera: str, event: str, deadline_s: float = 100.0) -> AnalysisJob:
    return AnalysisJob(camera, event, None, None, deadline_s)  # pyright: ignore[reportArgumentType]


def test_one_of_a_camera_runs_at_a_time_and_cameras_take_turns():
    queue = AnalysisQueue(10)
    for camera, event in (("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")):
        assert queue.put(job(camera, event)) is None
    assert [one.event_id for one in (queue.take(), queue.take()) if one] == ["1", "3"]
    assert queue.take() is None
    queue.done("a")
    assert queue.take().event_id == "2"


def test_newer_evidence_takes_the_place_of_older_and_a_full_queue_sends_back():
    queue = AnalysisQueue(2)
    first, newer = job("a", "1"), job("a", "1")
    assert queue.put(first) is None
    assert queue.put(newer) is first
    assert queue.put(job("b", "2")) is None
    extra = job("c", "3")
    assert queue.put(extra) is extra
    assert queue.take() is newer


def test_what_would_come_too_late_is_taken_out():
    queue = AnalysisQueue(4)
    late, later = job("a", "1", 10.0), job("a", "2", 50.0)
    queue.put(late)
    queue.put(later)
    assert queue.overdue(7.9) == []
    assert queue.overdue(8.0) == [late]
    assert queue.take() is later


def test_the_budget_ends_with_calls_and_with_time():
    now = [0.0]
    budget = Budget(2, 10.0, 8.0, lambda: now[0])
    assert budget.take() == 8.0
    now[0] = 5.0
    assert budget.take() == 10.0
    assert budget.take() == 0.0
    budget = Budget(9, 10.0, 8.0, lambda: now[0])
    now[0] = 15.0
    assert budget.take() == 0.0
