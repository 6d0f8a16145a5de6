"""The manager with real camera processes: they run when they should, come back, and end with it."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import zmq
from sqlalchemy import update

from core.cameras import CameraConfig, CameraPhase, CameraStatus, Zone, ZoneKind
from core.config import Config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera, remove_camera, replace_zones, set_enabled
from core.db.history import camera_states
from core.db.tables import CameraRow
from core.frames import list_rings
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.wire.messages import ApplyCameras, CameraStatuses, Done, GetCameras, ManagerReply
from core.wire.rpc import RequestClient
from workers.process import process_environment

GATE, YARD = CameraId("gate"), CameraId("yard")
DEADLINE_S = 60.0
ALIVE = {CameraPhase.CONNECTING, CameraPhase.LEARNING, CameraPhase.PROVISIONAL, CameraPhase.WATCHING}


def until(what: str, condition: Callable[[], object], timeout_s: float = DEADLINE_S) -> object:
    """Waits for `condition` to be true and returns what it was."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds of a grey field."""
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(20):
            picture = np.full((96, 128, 3), 60 + number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


class House:
    """A database, a manager process on it, and what it answers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        upgrade(config.database_url)
        self.engine = make_engine(config.database_url, writer=True)
        self.context = zmq.Context()
        self.client = RequestClient(self.context, config.endpoint("manager"), ManagerReply)
        self.managers: list[subprocess.Popen[bytes]] = []

    def open(self, hung_s: float = DEADLINE_S) -> "subprocess.Popen[bytes]":
        """Starts a manager; on a busy machine a camera may be silent for seconds and is not to be ended for that."""
        limits = {"HAETAE_MANAGER__HUNG_S": f"{hung_s:g}", "HAETAE_MANAGER__STOP_GRACE_S": "30"}
        with (self.config.logs_dir / "manager.log").open("ab") as log:
            manager = subprocess.Popen(
                [sys.executable, "-m", "workers.manager"],
                env={**process_environment(self.config), **limits},
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.managers.append(manager)
        return manager

    def change(self, camera_id: CameraId, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(CameraRow).where(CameraRow.camera_id == camera_id).values(**values))

    def apply(self) -> None:
        assert isinstance(self.client.call(ApplyCameras(), timeout_s=DEADLINE_S), Done)

    def status(self, camera_id: CameraId) -> CameraStatus | None:
        reply = self.client.call(GetCameras(), timeout_s=DEADLINE_S)
        assert isinstance(reply, CameraStatuses)
        return {one.camera_id: one for one in reply.cameras}.get(camera_id)

    def running(self, camera_id: CameraId, *, not_pid: int | None = None) -> int:
        """The pid of the camera's process once it beats."""

        def pid() -> int | None:
            status = self.status(camera_id)
            found = status and status.phase in ALIVE and status.pid != not_pid
            return status.pid if status and found else None

        return int(str(until(f"{camera_id} runs", pid)))

    def wait_for(self, camera_id: CameraId, phase: CameraPhase) -> CameraStatus:
        def there() -> CameraStatus | None:
            status = self.status(camera_id)
            return status if status and status.phase is phase else None

        found = until(f"{camera_id} is {phase}", there)
        assert isinstance(found, CameraStatus)
        return found

    def log(self) -> str:
        return (self.config.logs_dir / "manager.log").read_text()

    def close(self) -> None:
        for manager in self.managers:
            if manager.poll() is None:
                manager.terminate()
                try:
                    manager.wait(DEADLINE_S)
                except subprocess.TimeoutExpired:
                    manager.kill()
                    manager.wait(DEADLINE_S)
        self.client.close()
        self.context.term()
        self.engine.dispose()


@pytest.fixture
def house(config: Config) -> Iterator[House]:
    made = House(config)
    yield made
    made.close()


def camera(video: Path, camera_id: CameraId = GATE, **changes) -> CameraConfig:
    return CameraConfig(**{"camera_id": camera_id, "name": camera_id, "url": str(video), **changes})


def gone(pid: int) -> bool:
    """Whether the process has ended; one whose parent has not been told yet (a zombie) has."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def segments_of(config: Config) -> set[str]:
    return {info.segment for info in list_rings(config.run_dir)}


def test_a_killed_camera_comes_back_at_once_and_leaves_nothing_behind(house, video):
    add_camera(house.engine, camera(video))
    add_camera(house.engine, camera(video, YARD))
    house.open()
    first, other = house.running(GATE), house.running(YARD)
    before = until("two rings of each camera", lambda: rings if len(rings := segments_of(house.config)) == 4 else None)
    assert isinstance(before, set)
    os.kill(first, signal.SIGKILL)
    house.running(GATE, not_pid=first)

    def renewed() -> bool:
        rings = segments_of(house.config)
        return len(rings) == 4 and len(rings & before) == 2

    until("it has new rings, and the other camera's are the same", renewed)
    gone_with_it = before - segments_of(house.config)
    until("its old ones are gone", lambda: not any((Path("/dev/shm") / name).exists() for name in gone_with_it))
    status = house.status(GATE)
    assert status
    assert status.restarts == 1
    assert house.running(YARD) == other


def test_cameras_follow_the_database_when_told_and_by_themselves(house, video):
    house.open()
    add_camera(house.engine, camera(video))
    house.apply()
    pid = house.running(GATE)
    set_enabled(house.engine, GATE, enabled=False)
    house.apply()
    assert house.wait_for(GATE, CameraPhase.STOPPED).desired == "stopped"
    assert gone(pid)
    set_enabled(house.engine, GATE, enabled=True)
    house.running(GATE, not_pid=pid)
    remove_camera(house.engine, GATE)
    until("it is forgotten", lambda: house.status(GATE) is None)
    until("its rings are gone", lambda: segments_of(house.config) == set())


def test_a_changed_camera_gets_a_new_process_and_the_others_keep_theirs(house, video):
    add_camera(house.engine, camera(video))
    add_camera(house.engine, camera(video, YARD))
    house.open()
    gate, yard = house.running(GATE), house.running(YARD)
    house.change(GATE, settings={"rotation": 180})
    house.apply()
    house.running(GATE, not_pid=gate)
    assert house.running(YARD) == yard


def test_zones_and_small_changes_reach_a_camera_that_goes_on_running(house, video):
    add_camera(house.engine, camera(video))
    house.open()
    pid = house.running(GATE)
    house.change(GATE, name="Front gate", analysis_fps=5.0)
    replace_zones(house.engine, GATE, [Zone(name="a", kind=ZoneKind.IGNORE, points=((0, 0), (1, 0), (1, 1)))])
    house.apply()
    until("it is told", lambda: "camera_told" in house.log())
    assert house.running(GATE) == pid


def test_after_a_start_of_the_machine_only_cameras_with_autostart_run(house, video):
    add_camera(house.engine, camera(video))
    add_camera(house.engine, camera(video, YARD, autostart=False))
    (house.config.data_dir / "boot-id").write_text("another start of the machine")
    house.open()
    house.running(GATE)
    assert house.wait_for(YARD, CameraPhase.STOPPED).desired == "stopped"
    set_enabled(house.engine, YARD, enabled=True)
    house.apply()
    house.running(YARD)


def test_a_missing_file_is_told_and_is_not_tried_again_until_it_is_changed(house, video, tmp_path):
    add_camera(house.engine, camera(tmp_path / "nowhere.mp4"))
    house.open()
    status = house.wait_for(GATE, CameraPhase.FAILED)
    assert "nowhere.mp4" in status.reason
    house.change(GATE, url=str(video))
    house.apply()
    house.running(GATE)


def test_a_camera_that_hangs_is_killed_and_replaced(house, video):
    add_camera(house.engine, camera(video))
    house.open(hung_s=2)
    pid = house.running(GATE)
    os.kill(pid, signal.SIGSTOP)
    house.running(GATE, not_pid=pid)
    assert gone(pid)


def test_sigterm_stops_all_cameras_and_leaves_nothing(house, video):
    add_camera(house.engine, camera(video))
    add_camera(house.engine, camera(video, YARD))
    manager = house.open()
    pids = [house.running(GATE), house.running(YARD)]
    before = segments_of(house.config)
    manager.terminate()
    assert manager.wait(DEADLINE_S) == 0, house.log()
    assert all(gone(pid) for pid in pids)
    assert [name for name in before if (Path("/dev/shm") / name).exists()] == []
    assert read_heartbeat(house.config.run_dir, "manager") is None


def test_cameras_end_with_a_killed_manager_and_the_next_one_begins_afresh(house, video):
    add_camera(house.engine, camera(video))
    manager = house.open()
    pid = house.running(GATE)
    manager.kill()
    manager.wait(DEADLINE_S)
    until("the camera has ended", lambda: gone(pid))
    house.open()
    house.running(GATE, not_pid=pid)


def test_a_second_manager_of_the_same_folder_says_that_one_runs(house):
    house.open()
    until("it beats", lambda: read_heartbeat(house.config.run_dir, "manager"))
    second = house.open()
    assert second.wait(DEADLINE_S) == 78
    assert "already running" in house.log()


def test_a_database_without_tables_is_waited_for(house, video):
    with closing(sqlite3.connect(house.config.data_dir / "haetae.db")) as raw:
        raw.execute("ALTER TABLE cameras RENAME TO elsewhere")
    house.open()
    house.apply()
    with closing(sqlite3.connect(house.config.data_dir / "haetae.db")) as raw:
        raw.execute("ALTER TABLE elsewhere RENAME TO cameras")
    add_camera(house.engine, camera(video))
    house.running(GATE)


def test_a_camera_that_cannot_be_started_does_not_end_the_others(house, video):
    (house.config.logs_dir / f"camera-{YARD}.log").mkdir()
    add_camera(house.engine, camera(video))
    add_camera(house.engine, camera(video, YARD))
    manager = house.open()
    until("it was tried", lambda: read_heartbeat(house.config.run_dir, f"camera-{GATE}") or manager.poll() is not None)
    assert manager.poll() is None, house.log()
    house.running(GATE)


def test_a_row_that_cannot_be_read_does_not_end_the_cameras_that_run(house, video):
    add_camera(house.engine, camera(video))
    manager = house.open()
    pid = house.running(GATE)
    with closing(sqlite3.connect(house.config.data_dir / "haetae.db")) as raw:
        raw.execute("UPDATE cameras SET learn_s = 'long'")
        raw.commit()

    def seen() -> bool:
        return manager.poll() is not None or "cameras_not_read" in house.log()

    until("it was read", seen)
    assert manager.poll() is None, house.log()
    assert house.running(GATE) == pid


def test_the_reason_of_a_crash_is_of_the_process_that_crashed(house, video, tmp_path):
    add_camera(house.engine, camera(tmp_path / "nowhere.mp4"))
    house.open()
    house.wait_for(GATE, CameraPhase.FAILED)
    house.change(GATE, url=str(video))
    house.apply()
    pid = house.running(GATE)
    os.kill(pid, signal.SIGKILL)
    house.running(GATE, not_pid=pid)
    status = house.status(GATE)
    assert status
    assert "nowhere.mp4" not in status.reason
    assert "nowhere.mp4" not in next(line for line in house.log().splitlines() if f'"pid": {pid}' in line)


def test_a_camera_without_a_frame_so_far_does_not_claim_a_fresh_one(house, video):
    add_camera(house.engine, camera(video))
    house.open()
    status = house.wait_for(GATE, CameraPhase.CONNECTING)
    assert (status.frames, status.age_s) == (0, None), "there is no inference: nothing can be played yet"


def test_a_large_log_of_a_camera_is_put_aside_while_it_goes_on_writing(house, video):
    add_camera(house.engine, camera(video))
    house.open()
    pid = house.running(GATE)
    path = house.config.logs_dir / "camera-gate.log"
    with path.open("ab") as log:
        log.write(b"x" * 10_000_001)
    aside = path.with_name("camera-gate.log.1")
    until("it is put aside", lambda: aside.exists() and path.stat().st_size < 1_000_000)
    assert aside.stat().st_size > 10_000_000
    assert house.running(GATE) == pid
    house.managers[0].terminate()
    house.managers[0].wait(DEADLINE_S)
    assert path.stat().st_size < 1_000_000, "what is written later is appended where the log was cut"


def test_changes_of_a_cameras_phase_are_remembered(house, video):
    with (house.config.logs_dir / "logger.log").open("ab") as log:
        logger = subprocess.Popen(
            [sys.executable, "-m", "workers.logger"],
            env=process_environment(house.config),
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        add_camera(house.engine, camera(video))
        house.open()
        pid = house.running(GATE)
        os.kill(pid, signal.SIGKILL)
        house.running(GATE, not_pid=pid)
        set_enabled(house.engine, GATE, enabled=False)
        house.apply()
        house.wait_for(GATE, CameraPhase.STOPPED)

        def phases() -> list[CameraPhase]:
            return [change.phase for change in camera_states(house.engine, GATE)][::-1]

        until("they are stored", lambda: phases()[-1:] == [CameraPhase.STOPPED])
        assert phases()[0] is CameraPhase.STARTING
        reasons = [change.reason for change in camera_states(house.engine, GATE)]
        assert "its process was ended by SIGKILL" in reasons
    finally:
        logger.terminate()
        logger.wait(DEADLINE_S)
