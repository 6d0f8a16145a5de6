"""Events are judged beside the scoring of frames, by whoever is configured, and can be judged again later."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
import zmq

from bench.fake_vlm import FakeVlm, Said
from bench.flows import Inference, make_event, make_evidence, measure_crowd
from bench.tiny_vlm import make_llava
from core.config import FlowsConfig
from core.db import make_engine, upgrade
from core.db.events import get_event, upsert_events
from core.events import AnalysisStatus, EventMedia, Severity, Verdict, VlmType
from core.events.evidence import Evidence, Scene
from core.wire.messages import AnalyzeReply, AnalyzeRequest, GetStatistics, Ping, Pong
from core.wire.rpc import RequestClient
from workers.inference.analysts import decide
from workers.inference.flows import Policy
from workers.inference.pool import ResourcePool
from workers.inference.vlm import RulesAnalyzer
from workers.notifier.intake import FlowAction
from workers.process import process_environment


@pytest.fixture
def judged():
    """An inference process that asks a scripted server."""
    with FakeVlm(Said()) as server, tempfile.TemporaryDirectory(prefix="haetae-t-") as folder, zmq.Context() as context:
        inference = Inference(Path(folder), server.url, context, nice=0)
        yield inference, server
        inference.close()


def ask(inference: Inference, flow: str = "sequential", camera: str = "gate") -> AnalyzeReply:
    evidence = make_evidence(inference.config.media_dir)
    request = AnalyzeRequest(event=make_event(camera), evidence=evidence, flow=flow)
    reply = inference.client.call(request, 60.0)
    assert isinstance(reply, AnalyzeReply)
    return reply


def test_a_server_judges_and_another_backend_takes_over_without_a_restart(judged):
    inference, server = judged
    reply = ask(inference, "hierarchical")
    assert (reply.analysis.vlm_type, reply.analysis.source) == (VlmType.FIGHTING, "openai/scripted")
    assert reply.severity is Severity.HIGH
    step = next(one for one in reply.steps if one.kind == "analysis")
    assert step.data["calls"][0]["prompt_sha256"]
    assert len(step.data["calls"][0]["frames"]) == 5

    text = inference.file.read_text()
    inference.file.write_text(text.replace('"openai"', '"telepathy"'))
    inference.file.write_text(text.replace('backend = "openai"', 'backend = "rules"'))
    deadline = time.monotonic() + 60
    while (source := ask(inference).analysis.source) != "rules/2":
        assert time.monotonic() < deadline, source
        time.sleep(0.1)
    seen = len(server.bodies)
    assert ask(inference).analysis.vlm_type is VlmType.RUNNING
    assert len(server.bodies) == seen
    assert inference.process.poll() is None


def test_many_cameras_at_once_are_all_decided_or_labelled(judged):
    inference, server = judged
    server.script = [Said(wait_s=0.05)]
    found = measure_crowd(inference, server, 120.0)
    assert found["lost"] == 0
    assert found["judged"] + found["decided_by_rules_and_labelled"] == found["events"]
    assert found["judged"] >= 32
    assert found["at_once_most"] <= inference.config.vlm.at_once


def test_a_dead_server_costs_the_event_nothing(judged):
    inference, server = judged
    server.script = [Said(status=500)]
    reply = ask(inference)
    assert reply.analysis.status is AnalysisStatus.UNREACHABLE
    assert reply.analysis.source == "rules/2"
    assert reply.analysis.needs_review
    assert reply.severity is Severity.MEDIUM


def test_a_model_process_that_is_killed_costs_the_event_nothing(judged):
    inference, server = judged
    server.script = [Said(wait_s=20)]
    request = AnalyzeRequest(event=make_event("gate"), evidence=make_evidence(inference.config.media_dir))
    with zmq.Context() as context:
        analysis = RequestClient(context, inference.config.endpoint("analysis"), Pong)
        first = analysis.call(Ping(), 60.0)
        asked = inference.client.send(request, 60.0)
        wait_until(lambda: server.bodies)
        os.kill(first.pid, signal.SIGKILL)
        ((answered, reply),) = inference.client.receive(60.0)
        assert answered == asked
        assert (reply.analysis.status, reply.analysis.reason_code) == (AnalysisStatus.UNREACHABLE, "process_died")
        assert (reply.analysis.source, reply.severity) == ("rules/2", Severity.MEDIUM)
        server.script = [Said()]
        assert analysis.call(Ping(), 60.0).pid != first.pid
        analysis.close()
    assert ask(inference).analysis.source == "openai/scripted"


def test_a_model_in_a_local_folder_judges_in_a_process_of_its_own(tmp_path):
    model = make_llava(tmp_path / "llava")
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as folder, zmq.Context() as context:
        inference = Inference(Path(folder), model, context, nice=0)
        try:
            first = ask(inference)
            if first.analysis.source == "rules/2":  # it was still being loaded
                assert (first.analysis.status, first.analysis.reason_code) == (AnalysisStatus.SKIPPED, "loading")
            wait_until(lambda: ask(inference).analysis.source == "transformers/llava", 120)
            wait_until(lambda: any(key.startswith("vlm/transformers/") for key in models_of(inference)))
            (sizes,) = (one for key, one in models_of(inference).items() if key.startswith("vlm/"))
            assert sizes["parameter_bytes"] > 500_000
            assert models_of(inference)["analysis"]["cpu_resident"] > 100e6
            assert models_of(inference)["process"]["cpu_resident"] > 0
        finally:
            inference.close()


def models_of(inference: Inference) -> dict[str, dict[str, float]]:
    return inference.client.call(GetStatistics(), 60.0).models


def wait_until(holds, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture
def stored(config):
    """A judged event in a database, with its evidence."""
    evidence = Evidence(duration_s=3.0, scene=Scene(blinded_s=4.0, changed=1.0, sharpness=0.1))
    event = make_event("gate")
    rules = FlowsConfig(channels=("guard",), notify_from=Severity.MEDIUM, escalate=1)
    request = AnalyzeRequest(event=event, evidence=evidence)
    decision = decide(ResourcePool(1), request, RulesAnalyzer(), Policy(rules), 5.0, 5.0)
    file = config.media_dir / "gate" / f"{event.id}.evidence.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(msgspec.json.encode(evidence))
    media = EventMedia(kind="evidence", file=f"gate/{file.name}", sha256="0" * 64, size_bytes=file.stat().st_size)
    event = msgspec.structs.replace(
        event,
        analysis=decision.analysis,
        vlm_type=str(decision.analysis.vlm_type),
        severity=decision.severity,
        steps=decision.steps,
        media=(media,),
    )
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    with engine.begin() as connection:
        upsert_events(connection, [event])
    yield event, engine
    engine.dispose()


def haetae(config, *words: str) -> dict:
    command = [sys.executable, "-m", "workers.cli", *words, "--json"]
    done = subprocess.run(
        command, env=process_environment(config), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_analysis_comes_back_from_the_database_as_it_was(stored):
    event, engine = stored
    found = get_event(engine, event.id)
    assert found.analysis == event.analysis
    assert found.steps == event.steps
    assert found.analysis.description_ko


def test_what_a_flow_asks_for_is_what_the_notifier_understands(stored):
    event, _ = stored
    (step,) = [one for one in event.steps if one.kind == "action" and one.data["action"] == "notify"]
    action = msgspec.convert(step.data, FlowAction)
    assert (action.action, action.channels, action.priority) == ("notify", ("guard",), Severity.MEDIUM)


def test_a_stored_event_is_replayed_and_what_differs_is_shown(config, stored):
    event, engine = stored
    same = haetae(config, "replay", event.id)
    assert same["different"] == []
    assert same["now"]["vlm_type"] == "tamper"
    changed = msgspec.structs.replace(event.analysis, verdict=Verdict.UNCERTAIN, vlm_type=VlmType.OTHER)
    with engine.begin() as connection:
        upsert_events(connection, [msgspec.structs.replace(event, revision=2, analysis=changed)])
    other = haetae(config, "replay", event.id, "--engine", "rules", "--flow", "collaborative")
    assert set(other["different"]) >= {"verdict", "vlm_type"}


def test_flows_are_compared_on_stored_events(config, stored):
    found = haetae(config, "evaluate-flows", "--since", "2020-01-01T00:00Z")
    assert found["events"] == 1
    assert set(found["flows"]) == {"sequential", "hierarchical", "collaborative"}
    assert found["flows"]["hierarchical"]["types"] == {"tamper": 1}
