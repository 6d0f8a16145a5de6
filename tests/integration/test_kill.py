"""Two cameras under supervision while one process after the other is killed: nothing acknowledged is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.config import Config
from core.db import make_engine
from core.db.event_pages import EventFilter, iterate_events
from core.events import AnomalyEvent
from core.frames import segment_prefix
from core.heartbeat import Beat, read_heartbeat

EAGER = {
    "HAETAE_TRACKER__OPEN_SCORE": "0.02",
    "HAETAE_TRACKER__CLOSE_SCORE": "0.01",
    "HAETAE_TRACKER__PERSIST_S": "0.1",
    "HAETAE_TRACKER__SMOOTH_S": "0.2",
    "HAETAE_TRACKER__CLOSE_S": "0.1",
    "HAETAE_TRACKER__MERGE_S": "0.1",
    "HAETAE_TRACKER__MAX_S": "1.0",
    "HAETAE_TRACKER__UPDATE_S": "0.3",
    "HAETAE_MANAGER__HUNG_S": "30",
}
"""Events all the time: any ordinary movement is one, and none is long. A busy machine is not taken for a fault."""
CAMERAS = ("demo-plaza", "demo-street")


def until(what: str, condition: Callable[[], object], timeout_s: float = 90) -> object:
    """Waits for `condition` to be true and returns what it was."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def stored(config: Config) -> dict[str, AnomalyEvent]:
    if read_heartbeat(config.run_dir, "logger") is None and not (config.data_dir / "haetae.db").exists():
        return {}
    engine = make_engine(config.database_url)
    try:
        return {stored.event.id: stored.event for stored in iterate_events(engine, EventFilter())}
    finally:
        engine.dispose()


def count(config: Config, camera_id: str) -> int:
    return sum(event.camera_id == camera_id for event in stored(config).values())


def alive(config: Config, name: str, *, not_pid: int = 0) -> Beat | None:
    beat = read_heartbeat(config.run_dir, name)
    return beat if beat and beat.pid != not_pid and beat.age_s < 2 else None


@pytest.fixture
def up(config: Config) -> Iterator["subprocess.Popen[str]"]:
    environment = {
        **os.environ,
        **EAGER,
        "HAETAE_PATHS__DATA": str(config.data_dir),
        "HAETAE_PATHS__RUN": str(config.run_dir),
    }
    with (config.data_dir / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "up", "--demo"], env=environment, stdout=log, stderr=log, text=True
        )
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def test_no_acknowledged_event_is_lost_or_doubled_whichever_process_dies(config, up):
    until("the manager runs", lambda: alive(config, "manager"))
    until("events of both cameras", lambda: all(count(config, camera) > 2 for camera in CAMERAS))
    for name in ("logger", "inference", "camera-demo-plaza"):
        before = {camera: count(config, camera) for camera in CAMERAS}
        victim = until(f"{name} beats", lambda name=name: alive(config, name))
        assert isinstance(victim, Beat)
        os.kill(victim.pid, signal.SIGKILL)
        until(f"{name} runs again", lambda name=name, pid=victim.pid: alive(config, name, not_pid=pid))
        until(
            f"events of both cameras after {name} was killed",
            lambda before=before: all(count(config, camera) > before[camera] + 2 for camera in CAMERAS),
        )
    up.send_signal(signal.SIGINT)
    assert up.wait(90) == 0, (config.data_dir / "up.log").read_text()

    acknowledged = journaled(config.journal_dir)
    events = stored(config)
    assert len(acknowledged) > 20
    assert set(acknowledged) == set(events)
    assert {key: event.revision for key, event in events.items()} == acknowledged
    left_open = [event.id for event in events.values() if event.ended_at is None]
    assert left_open == []
    assert list(Path("/dev/shm").glob(f"{segment_prefix(config.run_dir)}*")) == []
    until("nothing of it runs", lambda: processes_of(config) == [])


def journaled(folder: Path) -> dict[str, int]:
    """Highest revision of each event in the journal: all that was ever acknowledged."""
    highest: dict[str, int] = {}
    for file in sorted(folder.glob("*.jsonl")):
        if file.name == "rejected.jsonl":
            continue
        for line in file.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # it is being written
            found = line[line.index("{") :]
            event = json.loads(found)
            if "record" in event:
                continue  # camera history
            highest[event["id"]] = max(highest.get(event["id"], 0), event["revision"])
    return highest


def processes_of(config: Config) -> list[str]:
    """Command lines of processes that still run with this test's folders."""
    mark = str(config.run_dir).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found
