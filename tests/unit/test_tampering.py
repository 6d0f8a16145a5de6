"""A view that is covered, turned away or blurred is an event of the type tamper, judged like any other."""

from datetime import UTC, datetime, timedelta

import pytest

from core.cameras.model import Fault
from core.config import FlowsConfig, SightConfig
from core.events import EventState, Severity, Verdict, VlmType
from core.events.evidence import Evidence
from core.ids import CameraId, NodeId
from tests.unit.test_flows import Scripted, run, said
from tests.vlm import make_incident
from workers.camera.tampering import Tampering
from workers.inference.flows import FLOWS
from workers.inference.vlm import RulesAnalyzer
from workers.inference.vlm.rules import judge

AT = datetime(2026, 1, 1, tzinfo=UTC)


def make() -> Tampering:
    faults = SightConfig().tamper
    return Tampering(faults, camera_id=CameraId("gate"), node_id=NodeId("n"), vad_type="motion_stats", score=2.0)


def see(tampering: Tampering, fault: Fault | None, media_s: float):
    return tampering.see(fault, "why", media_s, AT + timedelta(seconds=media_s), (640, 360), suspected_s=1.6)


def test_one_event_from_when_it_began_until_the_camera_sees_again():
    tampering = make()
    assert see(tampering, None, 5.0) is None
    opened = see(tampering, Fault.COVERED, 10.0)
    assert (opened.state, opened.vlm_type, opened.severity) == (EventState.OPEN, "tamper", Severity.MEDIUM)
    assert (opened.begin_s, opened.reason) == (8.4, "why")
    assert opened.began_at < opened.peak_at
    assert see(tampering, Fault.BLACK, 12.0) is None
    closed = see(tampering, None, 20.0)
    assert (closed.id, closed.state, closed.end_s) == (opened.id, EventState.CLOSED, 20.0)
    assert closed.ended_at
    assert see(tampering, None, 21.0) is None
    assert see(tampering, Fault.MOVED, 30.0).id != opened.id
    assert tampering.finish(31.0, AT).state is EventState.CLOSED
    assert not tampering.is_open


@pytest.mark.parametrize("fault", [Fault.LIGHT, Fault.FROZEN, Fault.CORRUPT, Fault.WHITE])
def test_what_nobody_did_to_the_camera_is_no_event(fault):
    assert see(make(), fault, 10.0) is None


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("fault", SightConfig().tamper)
def test_every_flow_holds_it_at_the_floor_whatever_a_model_says(flow, fault):
    evidence = Evidence(duration_s=2.0, fault=str(fault), fault_s=2.0)
    incident = make_incident(evidence=evidence, peak_score=2.0, vlm_type="tamper")
    measured = judge(incident)
    assert (measured.vlm_type, measured.verdict) == (VlmType.TAMPER, Verdict.CONFIRMED)
    assert "check of its view" in measured.description
    assert "ordinary frames" not in measured.description  # nothing was scored
    rules = FlowsConfig(channels=("guard",), notify_from=Severity.MEDIUM)
    for analyzer in (RulesAnalyzer(), Scripted(said(verdict=Verdict.REJECTED, vlm_type=VlmType.NORMAL))):
        decision = run(flow, incident, analyzer, rules)
        assert list(Severity).index(decision.severity) >= list(Severity).index(Severity.MEDIUM)
        assert decision.analysis.vlm_type is VlmType.TAMPER
        assert decision.analysis.verdict is not Verdict.REJECTED
