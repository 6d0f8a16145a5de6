"""A site as its users have it, asked over HTTP: a file becomes a camera, its events come back, whatever dies."""

import base64
import hashlib
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime

import httpx
import pytest

from core.heartbeat import read_heartbeat
from core.security.permissions import Role
from tests.api import Site, run_api
from tests.integration.test_kill import EAGER
from workers.process import spawn

API = "/api/v1"


def until(what: str, condition: Callable[[], object], timeout_s: float = 40) -> object:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return found


@pytest.fixture
def running(config):
    """Logger, inference, manager and api of one data folder; yields (client, processes by role)."""
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    processes: dict[str, object] = {}
    with ExitStack() as stack:
        for role in ("logger", "inference", "manager"):
            log = stack.enter_context((config.logs_dir / f"{role}.log").open("ab"))
            processes[role] = spawn(role, config=config, stderr=log, environment=EAGER)
        for role in processes:
            until(f"{role} beats", lambda role=role: read_heartbeat(config.run_dir, role))
        client = stack.enter_context(run_api(config))
        client.headers["Authorization"] = f"Bearer {site.token('kim')}"
        yield client, processes
        for role in ("manager", "inference", "logger"):
            if processes[role].poll() is None:
                processes[role].terminate()
        for role in ("manager", "inference", "logger"):
            processes[role].wait(30)
    site.close()


@pytest.mark.timeout(180)
def test_from_a_camera_to_an_acknowledged_event(running):
    client, _ = running
    assert client.get("/readyz").json()["ready"] is True
    made = client.post(
        f"{API}/cameras", json={"id": "plaza", "name": "광장", "url": "demo://plaza?seed=1", "learn_s": 20}
    )
    assert (made.status_code, made.json()["enabled"]) == (201, True)
    assert client.post(f"{API}/cameras", json={"id": "plaza", "name": "x", "url": "demo://plaza"}).status_code == 409
    seen = client.post(f"{API}/cameras/probe", json={"url": "demo://street?seed=2"}).json()
    assert (seen["ok"], seen["width"] > 0) == (True, True), seen
    assert base64.b64decode(seen["jpeg"])[:2] == b"\xff\xd8"

    def phase() -> str:
        observed = client.get(f"{API}/cameras/plaza").json()["observed"]
        return observed["phase"] if observed else ""

    until("the camera watches", lambda: phase() in {"watching", "provisional"})
    events = until("an event", lambda: client.get(f"{API}/events?camera_id=plaza").json()["events"])
    picture = client.get(f"{API}/cameras/plaza/frame?width=320")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content[:2] == b"\xff\xd8"
    assert float(picture.headers["x-frame-age"]) < 5
    rings = client.get(f"{API}/system").json()["rings"]
    assert {ring["stream"] for ring in rings} == {"main", "analysis"}

    measured = client.get("/metrics").text
    assert 'heartbeat_age_seconds{process="manager"}' in measured
    assert 'haetae_api_answers_total{status="2xx"}' in measured
    anew = client.post(f"{API}/cameras/plaza/learn")
    assert anew.status_code == 200
    until("it learns anew", lambda: phase() == "learning")

    stopped = client.post(f"{API}/cameras/plaza/stop")
    assert (stopped.status_code, stopped.json()["enabled"]) == (200, False)
    until("it rests", lambda: phase() == "stopped")
    until("all its events are closed", lambda: not client.get(f"{API}/events?state=open").json()["events"])
    events = client.get(f"{API}/events?camera_id=plaza&limit=500").json()["events"]
    shown = next(event for event in events if event["has_snapshot"])
    detail = client.get(f"{API}/events/{shown['id']}").json()
    media = next(one for one in detail["media"] if one["kind"] == "snapshot")
    whole = client.get(f"{API}/events/{shown['id']}/media/snapshot")
    assert hashlib.sha256(whole.content).hexdigest() == media["sha256"]
    part = client.get(f"{API}/events/{shown['id']}/media/snapshot", headers={"Range": "bytes=10-29"})
    assert (part.status_code, part.content) == (206, whole.content[10:30])
    assert part.headers["content-range"] == f"bytes 10-29/{len(whole.content)}"
    last = client.get(f"{API}/events/{shown['id']}/media/snapshot", headers={"Range": "bytes=-7"})
    assert last.content == whole.content[-7:]
    beyond = client.get(f"{API}/events/{shown['id']}/media/snapshot", headers={"Range": "bytes=99999999-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    same = client.get(f"{API}/events/{shown['id']}/media/snapshot", headers={"If-None-Match": whole.headers["etag"]})
    assert same.status_code == 304

    acked = client.post(f"{API}/events/{shown['id']}/ack", json={"reason": "배달", "note": "n", "assignee": "lee"})
    assert acked.json()["acknowledgements"][0]["reason"] == "배달"
    assert client.post(f"{API}/events/{shown['id']}/ack", json={}).json()["code"] == "acknowledged_already"
    unread = client.get(f"{API}/events?acknowledged=false&limit=500").json()["events"]
    assert len(unread) == len(events) - 1
    undone = client.delete(f"{API}/events/{shown['id']}/ack").json()
    assert undone["acknowledgements"][0]["undone_by"] == "kim"

    exported = client.get(f"{API}/events/export?camera_id=plaza").text.splitlines()
    assert len(exported) == len(events)
    table = client.get(f"{API}/events/export?format=csv").text.splitlines()
    assert len(table) == len(events) + 1
    pages, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{API}/events", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        pages += [event["id"] for event in page["events"]]
        cursor = page["cursor"]
    assert pages == [event["id"] for event in events]
    today = client.get(f"{API}/events", params={"date": datetime.now(UTC).date().isoformat(), "limit": 500}).json()
    assert len(today["events"]) == len(events)

    assert client.delete(f"{API}/cameras/plaza").status_code == 204
    assert client.get(f"{API}/cameras/plaza").status_code == 404
    assert client.get(f"{API}/events/{shown['id']}").status_code == 200
    actions = {one["action"] for one in client.get(f"{API}/audit").json()["entries"]}
    assert actions >= {
        "camera.created",
        "camera.stopped",
        "camera.learns_anew",
        "camera.probed",
        "camera.removed",
        "events.acknowledged",
        "event.acknowledgement_undone",
        "events.exported",
        "footage.viewed",
    }


@pytest.mark.timeout(120)
def test_the_api_goes_on_when_the_others_die(running, config):
    client, processes = running
    for role in ("inference", "logger", "manager"):
        processes[role].send_signal(signal.SIGKILL)
        processes[role].wait(10)
    assert client.get(f"{API}/events").status_code == 200
    made = client.post(f"{API}/cameras", json={"id": "later", "name": "l", "url": "demo://plaza?seed=2", "learn_s": 5})
    assert (made.status_code, made.json()["observed"]) == (202, None)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert ready.headers["retry-after"]
    nothing = client.get(f"{API}/cameras/later/snapshot")
    assert (nothing.status_code, nothing.json()["code"]) == (503, "no_picture")
    with (config.logs_dir / "manager.log").open("ab") as log:
        processes["manager"] = spawn("manager", config=config, stderr=log, environment=EAGER)
    until(
        "the camera that was added meanwhile runs",
        lambda: (seen := client.get(f"{API}/cameras/later").json()["observed"]) and seen["phase"] != "stopped",
    )


def test_it_ends_cleanly_under_load(config):
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    for _ in range(200):
        site.add_event("gate")
    with run_api(config) as client:
        headers = {"Authorization": f"Bearer {site.token('kim')}"}
        with httpx.Client(base_url=client.base_url, headers=headers) as other:
            assert other.get(f"{API}/events").status_code == 200
            with other.stream("GET", f"{API}/events/export") as answer:
                client.process.terminate()
                lines = list(answer.iter_lines())
        assert len(lines) == 200
        assert client.process.wait(20) == 0
    site.close()
