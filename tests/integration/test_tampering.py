"""A covered lens, from the pictures of a running camera to the stored event: nothing on the way makes less of it."""

import hashlib

import msgspec
import pytest

from bench.fake_vlm import FakeVlm, Said
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event
from core.events import AnomalyEvent, EventState, Severity, Verdict
from core.events.evidence import Evidence
from tests.integration.test_cameras import Site, until
from workers.inference.flows.severity import RANKS

COVERED = "demo://plaza?seed=40&kinds=tamper&speed=6&fps=5&width=320&height=180"
"""Something is held before the lens from 40 s to 52 s of the scene's time, which goes six times as fast."""
REJECTED = {"verdict": "rejected", "vlm_type": "normal", "alt_types": [], "confidence": 1.0}


def closed_tampering(site: Site) -> AnomalyEvent:
    """The first event that was raised for the camera's view, once it is over and judged for the last time."""

    def found() -> AnomalyEvent | None:
        for stored in iterate_events(site.engine, EventFilter()):
            event = get_event(site.engine, stored.event.id)
            if event is None or event.state is not EventState.CLOSED or "lens" not in event.reason:
                continue
            if any(one.kind == "decision" and event.ended_at and one.at > event.ended_at for one in event.steps):
                return event
        return None

    event = until("an event of the camera's view is over", found)
    assert isinstance(event, AnomalyEvent)
    return event


@pytest.mark.parametrize("engine", ["rules", "a model that calls it normal"])
def test_a_covered_lens_is_stored_as_tampering_and_no_answer_lowers_it(config, engine):
    with FakeVlm(Said(REJECTED)) as server:
        asked = {"HAETAE_VLM__BACKEND": "openai", "HAETAE_VLM__URL": server.url, "HAETAE_VLM__MODEL": "scripted"}
        own = {} if engine == "rules" else {**asked, "HAETAE_VLM__DESCRIBE": "false"}
        site = Site(config, **own, HAETAE_TRACKER__OPEN_SCORE="2", HAETAE_TRACKER__CLOSE_SCORE="1.4")
        try:
            site.add(COVERED, analysis_fps=30.0)
            event = closed_tampering(site)
        finally:
            site.close()
    assert event.vlm_type == "tamper"
    assert event.analysis is not None
    if engine == "rules":
        assert event.analysis.verdict is Verdict.CONFIRMED
        assert "covered" in event.analysis.description
    else:
        assert server.bodies, "the model was asked"
        assert (event.analysis.source, event.analysis.verdict) == ("openai/scripted", Verdict.UNCERTAIN)
        assert event.analysis.needs_review, "the camera's check and the model differ: a person decides"
    graded = [one for one in event.steps if one.kind == "severity"]
    assert graded[0].text == "medium: score 2.0, tamper", "the score alone is worth less"
    assert all(one.text.startswith(("medium", "high", "critical")) for one in graded)
    assert RANKS.index(event.severity) >= RANKS.index(Severity.MEDIUM)

    media = {one.kind: one for one in event.media}
    assert set(media) >= {"snapshot", "clean", "evidence", "key1", "key2"}
    for one in event.media:
        data = (config.media_dir / one.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one.size_bytes, one.sha256)
    evidence = msgspec.json.decode((config.media_dir / media["evidence"].file).read_bytes(), type=Evidence)
    assert evidence.fault == "covered"
    assert evidence.frames[0].at_s < 0, "the usual view, from before"
