"""A site as its users have it, asked over HTTP: a file becomes a camera, its events come back, whatever dies."""

import base64
import hashlib
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from core.heartbeat import read_heartbeat
from core.process import EXPECTED
from core.security.permissions import Role
from tests.api import Site, run_api
from tests.integration.test_kill import EAGER, journaled, stored
from workers.process import spawn

API = "/api/v1"


def until(what: str, condition: Callable[[], object], timeout_s: float = 90) -> object:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return found


def revisions(config) -> dict[str, int]:
    """Of what the database has."""
    return {key: event.revision for key, event in stored(config).items()}


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
            processes[role].wait(60)
    site.close()


def test_from_a_camera_to_an_acknowledged_event(running, config):
    client, _ = running
    until("it is ready", lambda: client.get("/readyz").is_success)
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
    assert 0 <= float(picture.headers["x-frame-age"]) < 60
    system = client.get(f"{API}/system").json()
    assert {ring["stream"] for ring in system["rings"]} == {"main", "analysis"}
    beating = {one["name"] for one in system["processes"]}
    assert {"manager", "api"} <= beating
    assert system["missing"] == [name for name in EXPECTED if name not in beating] != []

    measured = client.get("/metrics").text
    assert 'heartbeat_age_seconds{process="manager"}' in measured
    assert 'haetae_api_answers_total{status="2xx"}' in measured
    of_event = f"{API}/events/{events[0]['id']}/feedback"
    said = client.post(of_event, json={"verdict": "normal"})
    assert (said.status_code, said.json()["feedback"][0]["undone_at"]) == (201, None)
    log = config.logs_dir / "camera-plaza.log"
    until("the camera hears of it", lambda: '"normal_events": 1' in log.read_text().replace('":1', '": 1'))
    assert client.delete(of_event).json()["feedback"][0]["undone_by"] == "kim"
    assert client.delete(of_event).status_code == 409
    until("it is taken back", lambda: '"normal_events": 0' in log.read_text().replace('":0', '": 0'))
    anew = client.post(f"{API}/cameras/plaza/learn")
    assert anew.status_code == 200
    until("it learns anew", lambda: phase() == "learning")
    [version] = client.get(f"{API}/cameras/plaza/normality").json()
    assert (version["version"], version["in_use"], version["kept"]) == (1, False, True)
    back = client.post(f"{API}/cameras/plaza/normality/use", json={"version": 1})
    assert [one["in_use"] for one in back.json()] == [True]
    until("it judges by what it knew", lambda: phase() in {"watching", "provisional"})
    assert client.post(f"{API}/cameras/plaza/normality/use", json={"version": 9}).status_code == 409

    stopped = client.post(f"{API}/cameras/plaza/stop")
    assert (stopped.status_code, stopped.json()["enabled"]) == (200, False)
    until("it rests", lambda: phase() == "stopped")
    until("all that it sent is stored", lambda: revisions(config) == journaled(config.journal_dir))
    assert not client.get(f"{API}/events?state=open").json()["events"]
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
    days = {event["began_at"][:10] for event in events}
    found = [client.get(f"{API}/events", params={"date": day, "limit": 500}).json()["events"] for day in days]
    assert sum(map(len, found)) == len(events)

    tried = client.get(f"{API}/cameras/plaza/sensitivity?per_day=4").json()
    assert (tried["per_day"], tried["site_per_day"], tried["tried"]["per_day"]) == (None, 24.0, 4.0)
    assert tried["now"]["stage"] == "learning"
    assert (sum(tried["histogram"]), tried["after"]) == (tried["watched_s"], len(tried["events"]))
    settings = {**client.get(f"{API}/cameras/plaza").json()["settings"], "false_events_per_day": 4}
    assert client.patch(f"{API}/cameras/plaza", json={"settings": settings}).status_code == 200
    assert client.get(f"{API}/cameras/plaza/sensitivity").json()["per_day"] == 4.0

    assert client.delete(f"{API}/cameras/plaza").status_code == 204
    assert client.get(f"{API}/cameras/plaza").status_code == 404
    assert client.get(f"{API}/events/{shown['id']}").status_code == 200
    actions = {one["action"] for one in client.get(f"{API}/audit").json()["entries"]}
    assert actions >= {
        "camera.created",
        "camera.stopped",
        "camera.learns_anew",
        "camera.version_used",
        "event.feedback",
        "event.feedback_undone",
        "camera.probed",
        "camera.removed",
        "events.acknowledged",
        "event.acknowledgement_undone",
        "events.exported",
        "footage.viewed",
    }


def test_the_api_goes_on_when_the_others_die(running, config):
    client, processes = running
    for role in ("inference", "logger", "manager"):
        processes[role].send_signal(signal.SIGKILL)
        processes[role].wait(60)
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
        assert client.process.wait(60) == 0
    site.close()
