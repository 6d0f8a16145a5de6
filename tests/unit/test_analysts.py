"""Analysts: whoever asks what an event is gets one answer, whatever happens to the engine."""

import contextlib
import queue
import time
from collections.abc import Iterator

import msgspec
import pytest

from bench.fake_vlm import FakeVlm, Said
from bench.flows import make_evidence
from core.config import Config, VlmConfig
from core.errors import ModelError
from core.events import AnalysisStatus, Verdict
from core.wire.messages import AnalyzeReply, AnalyzeRequest
from tests.vlm import make_incident
from workers.inference.analysts import Analysts
from workers.inference.flows import FLOWS
from workers.inference.pool import Loading, ResourcePool
from workers.inference.vlm import RulesAnalyzer, VlmAnalyzer

WITHIN_S = 60.0


class BrokenPool(ResourcePool):
    """Raises instead of giving an analyzer, or once its user has done with it."""

    def __init__(self, error: Exception, *, after: bool = False) -> None:
        super().__init__(1)
        self._error, self._after = error, after

    @contextlib.contextmanager
    def vlm_analyzer(self, config: Config, wait_s: float | None = None) -> Iterator[VlmAnalyzer]:
        if self._after:
            yield RulesAnalyzer()
        raise self._error


@contextlib.contextmanager
def asked(pool: ResourcePool) -> Iterator[tuple[Analysts, "queue.SimpleQueue[tuple[str, AnalyzeReply | Exception]]"]]:
    answers: queue.SimpleQueue[tuple[str, AnalyzeReply | Exception]] = queue.SimpleQueue()
    analysts = Analysts(Config(), pool, lambda owner, reply: answers.put((owner, reply)))
    yield analysts, answers
    analysts.close()


def ask(analysts: Analysts, owner: str) -> None:
    incident = make_incident()
    request = AnalyzeRequest(event=incident.event, evidence=incident.evidence)
    analysts.submit(owner, request, time.monotonic() + 100)


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (RuntimeError("CUDA error: an illegal memory access"), AnalysisStatus.INVALID, "internal"),
        (ModelError("no such folder"), AnalysisStatus.UNREACHABLE, "not_loaded"),
        (Loading("it takes long"), AnalysisStatus.SKIPPED, "loading"),
    ],
)
def test_an_engine_that_cannot_be_had_is_stood_in_for_and_the_camera_is_served_again(error, status, why):
    with asked(BrokenPool(error)) as (analysts, answers):
        for owner in ("first", "second"):
            ask(analysts, owner)
            answered, reply = answers.get(timeout=WITHIN_S)
            assert (answered, reply.analysis.status, reply.analysis.reason_code) == (owner, status, why)
            assert (reply.analysis.source, reply.analysis.needs_review) == ("rules/2", True)
            assert reply.analysis.verdict is not Verdict.REJECTED


def test_an_engine_that_breaks_when_it_is_let_go_changes_nothing_of_what_was_answered():
    with asked(BrokenPool(RuntimeError("boom"), after=True)) as (analysts, answers):
        ask(analysts, "first")
        _, reply = answers.get(timeout=WITHIN_S)
        assert reply.analysis.status is AnalysisStatus.OK
        ask(analysts, "second")
        assert answers.get(timeout=WITHIN_S)[0] == "second"
    assert answers.empty(), "one answer each"


def test_the_budgets_are_eight_fifteen_and_thirty_seconds():
    limits = Config().vlm
    assert (limits.analyze_s, limits.flow_s, limits.hard_s) == (8.0, 15.0, 30.0)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_server_that_takes_too_long_costs_no_more_than_the_flows_time_and_the_event_is_labelled(config, flow):
    """The times of the configuration, a twentieth as long."""
    with FakeVlm(Said(wait_s=120)) as server:
        vlm = VlmConfig(backend="openai", url=server.url, model="scripted", analyze_s=0.4, flow_s=0.75)
        answers: queue.SimpleQueue[AnalyzeReply | Exception] = queue.SimpleQueue()
        analysts = Analysts(
            msgspec.structs.replace(config, vlm=vlm), ResourcePool(1), lambda _, reply: answers.put(reply)
        )
        evidence = make_evidence(config.media_dir)
        request = AnalyzeRequest(event=make_incident().event, evidence=evidence, flow=flow)
        began = time.monotonic()
        analysts.submit("camera", request, began + 100)
        reply = answers.get(timeout=WITHIN_S)
        took_s = time.monotonic() - began
        analysts.close()
    assert isinstance(reply, AnalyzeReply)
    assert (reply.analysis.status, reply.analysis.source) == (AnalysisStatus.TIMEOUT, "rules/2")
    asked_ms = [one.data["ms"] for one in reply.steps if one.kind == "analysis"]
    assert max(asked_ms) < 40_000
    assert took_s < 50, "nothing like the 120 s of the server"
