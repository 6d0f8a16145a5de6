"""However long its judges take, an event is described in time: by a camera, through all processes."""

import os
import signal
from datetime import datetime
from pathlib import Path

import pytest

from bench.fake_vlm import FakeVlm, Said
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event
from core.events import AnalysisStatus, AnomalyEvent, Verdict
from tests.integration.test_cameras import Site, until

HARD_S = 6.0
"""A fifth of what it is by default."""
WALKERS = "demo://plaza?fps=8&width=320&height=180&anomalies=0"


def child_of(pid: int) -> int:
    """The analysis process, which inference started."""
    found = until("there is an analysis process", lambda: Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    assert isinstance(found, list)
    return int(found[0])


@pytest.mark.parametrize("hangs", ["the server", "the analysis process", "inference"])
def test_an_event_is_described_in_time_whoever_hangs(config, hangs):
    with FakeVlm(Said(wait_s=120)) as server:
        asked = {"BACKEND": "openai", "URL": server.url, "MODEL": "scripted", "HARD_S": f"{HARD_S:g}"}
        if hangs == "the server":
            asked |= {"ANALYZE_S": "1.6", "FLOW_S": "3"}
        else:
            asked |= {"ANALYZE_S": "60", "FLOW_S": "60"}
        site = Site(config, **{f"HAETAE_VLM__{name}": value for name, value in asked.items()})
        inference = site.processes["inference"].pid
        stopped = {"the server": None, "the analysis process": child_of(inference), "inference": inference}[hangs]

        def described() -> AnomalyEvent | None:
            """An event about which nobody had said anything when its judges were stopped."""
            for stored in iterate_events(site.engine, EventFilter()):
                event = get_event(site.engine, stored.event.id)
                if event and event.source and event.id in waiting:
                    return event
            return None

        def undescribed() -> set[str]:
            return {one.event.id for one in iterate_events(site.engine, EventFilter()) if not one.event.source}

        try:
            site.add(WALKERS)
            until("the server is asked about an event", lambda: server.bodies)
            if stopped:
                os.kill(stopped, signal.SIGSTOP)
            waiting = until("an event waits for its judges", undescribed)
            assert isinstance(waiting, set)
            event = until("it is described", described)
        finally:
            if stopped:
                os.kill(stopped, signal.SIGCONT)
            site.close()
    assert isinstance(event, AnomalyEvent)
    said = next(one for one in event.steps if one.kind == "analysis")
    took_s = (datetime.fromisoformat(said.at) - datetime.fromisoformat(event.began_at)).total_seconds()
    assert took_s < 45, (
        "a busy machine takes longer to open and to store it, and yet it is long before the judges' 60 s"
    )
    assert event.description
    assert event.severity
    if hangs == "inference":
        assert event.source == "fallback"
        assert said.data["error"] == "timeout"
    else:
        assert event.source == "rules/2"
        assert event.analysis is not None
        assert event.analysis.status is AnalysisStatus.TIMEOUT
        assert event.analysis.verdict is not Verdict.REJECTED
        assert event.analysis.needs_review
