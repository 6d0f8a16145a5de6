"""Cameras on a real RTSP server, in real processes: they say how they are, come back, and keep clips of events."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
import zmq

from core.cameras import CameraConfig, CameraPhase, CameraSettings, CameraStatus, Zone, ZoneKind
from core.cameras.urls import parse_url, seal_url
from core.config import Config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera, remove_camera, replace_zones
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event
from core.db.history import camera_states
from core.errors import BusError, FrameGone
from core.events import AnomalyEvent, EventState
from core.frames import RingReader
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.security.secrets import SecretBox
from core.wire.messages import CameraStatuses, GetCameras, ManagerReply
from core.wire.rpc import RequestClient
from tests import rtsp
from tests.servers import lasting_port
from workers.process import process_environment

GATE = CameraId("gate")
EAGER = {
    "HAETAE_NETWORKS__CAMERAS": "loopback",
    "HAETAE_CAMERAS__READ_S": "5",
    "HAETAE_CAMERAS__OPEN_S": "20",
    "HAETAE_MANAGER__HUNG_S": "30",
    "HAETAE_CAMERAS__DISK_RESERVE_MB": "0",
    "HAETAE_VAD__PROVISIONAL_S": "3",
    "HAETAE_VAD__ARMED_S": "3",
    "HAETAE_TRACKER__OPEN_SCORE": "0.02",
    "HAETAE_TRACKER__CLOSE_SCORE": "0.01",
    "HAETAE_TRACKER__PERSIST_S": "0.1",
    "HAETAE_TRACKER__CLOSE_S": "0.2",
    "HAETAE_TRACKER__MERGE_S": "0.1",
    "HAETAE_TRACKER__MAX_S": "2.0",
}
"""Events all the time: any ordinary movement is one, and none is long. A busy machine is not taken for a fault."""


def until(what: str, condition: Callable[[], object], timeout_s: float = 90) -> object:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Site:
    """Logger, inference and manager; cameras are added to its database."""

    def __init__(self, config: Config, **environment: str) -> None:
        self.config = config
        upgrade(config.database_url)
        self.engine = make_engine(config.database_url, writer=True)
        self.context = zmq.Context()
        self.client = RequestClient(self.context, config.endpoint("manager"), ManagerReply)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for role in ("logger", "inference", "manager"):
            with (config.logs_dir / f"{role}.log").open("ab") as log:
                self.processes[role] = subprocess.Popen(
                    [sys.executable, "-m", f"workers.{role}"],
                    env={**process_environment(config), **EAGER, **environment},
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )

    def add(self, url: str, **changes: object) -> None:
        parsed = parse_url(url)
        sealed = seal_url(parsed, SecretBox(self.config.secrets_dir))
        values = {
            "camera_id": GATE,
            "name": "Gate",
            "url": parsed.shown,
            "sealed_url": sealed,
            "learn_s": 4.0,
            **changes,
        }
        add_camera(self.engine, CameraConfig(**values))

    def status(self) -> CameraStatus | None:
        reply = self.client.call(GetCameras(), timeout_s=60)
        assert isinstance(reply, CameraStatuses)
        return next(iter(reply.cameras), None)

    def becomes(self, *phases: CameraPhase, timeout_s: float = 90) -> CameraStatus:
        def there() -> CameraStatus | None:
            status = self.status()
            return status if status and status.phase in phases else None

        found = until(f"the camera is {phases}", there, timeout_s)
        assert isinstance(found, CameraStatus)
        return found

    def picture(self) -> np.ndarray:
        """The newest main picture, (h * 3 // 2, w)."""
        found: list[np.ndarray] = []

        def newest() -> bool:
            try:
                reader = RingReader.open(self.config.run_dir, GATE, "main")
            except BusError:
                return False  # just now it is made anew
            try:
                if ref := reader.latest():
                    found.append(reader.copy(ref))
            except FrameGone:
                pass
            finally:
                reader.close()
            return bool(found)

        until("there is a picture", newest)
        return found[0]

    def event_with(self, kind: str) -> AnomalyEvent:
        """A closed event with such a file."""

        def found() -> AnomalyEvent | None:
            for stored in iterate_events(self.engine, EventFilter()):
                event = get_event(self.engine, stored.event.id)
                if event and event.state is EventState.CLOSED and any(one.kind == kind for one in event.media):
                    return event
            return None

        event = until(f"an event has a {kind}", found)
        assert isinstance(event, AnomalyEvent)
        return event

    def logs(self) -> str:
        return "".join(path.read_text() for path in self.config.logs_dir.glob("*.log"))

    def close(self) -> None:
        for role in ("manager", "inference", "logger"):
            self.processes[role].terminate()
            try:
                self.processes[role].wait(60)
            except subprocess.TimeoutExpired:
                self.processes[role].kill()
                self.processes[role].wait(60)
        self.client.close()
        self.context.term()
        self.engine.dispose()


@pytest.fixture
def site(config: Config) -> Iterator[Site]:
    rtsp.needed()
    made = Site(config)
    yield made
    made.close()


WATCHES = (CameraPhase.PROVISIONAL, CameraPhase.WATCHING)
ALIVE = (CameraPhase.LEARNING, CameraPhase.PROVISIONAL, CameraPhase.WATCHING)


def test_a_camera_that_goes_away_says_so_and_comes_back_by_itself(site):
    server = rtsp.RtspCamera(lasting_port(), user="admin", password="s3cr3t")
    try:
        site.add(server.url.replace("//", "//admin:s3cr3t@"))
        pid = site.becomes(*ALIVE).pid
        server.close()
        away = site.becomes(CameraPhase.DISCONNECTED)
        assert away.reason
        assert "127.0.0.1" not in away.reason  # viewers read it
        until("it was tried again", lambda: "refuses the connection" in (site.status() or away).reason)
        frames = (site.status() or away).frames
        server = rtsp.RtspCamera(server.port, user="admin", password="s3cr3t")
        until("frames come again", lambda: (site.status() or away).frames > frames)
        assert site.becomes(*ALIVE).pid == pid, "it was the same process all the time"
        server.tell("size 640 480")
        until("pictures of the new size", lambda: site.picture().shape == (720, 640))
        until("it learns anew", lambda: "learning_anew" in site.logs() or site.becomes(CameraPhase.LEARNING))
        server.tell("stall")
        assert "sent no picture" in site.becomes(CameraPhase.DISCONNECTED).reason
        changes = [(one.phase, one.reason) for one in camera_states(site.engine, GATE)]
        assert any(phase is CameraPhase.DISCONNECTED and reason for phase, reason in changes)
        assert "s3cr3t" not in site.logs()
        assert site.becomes(CameraPhase.DISCONNECTED).pid == pid
    finally:
        server.close()


def test_an_event_leaves_a_clip_that_begins_before_it_and_can_be_played(site):
    server = rtsp.RtspCamera()
    try:
        site.add(server.url, settings=CameraSettings(pre_s=2.0, post_s=1.0))
        event = site.event_with("clip")
        kinds = {one.kind: one for one in event.media}
        assert set(kinds) >= {"snapshot", "clean", "heatmap", "clip", "evidence", "key1"}
        for one in event.media:
            assert (site.config.media_dir / one.file).stat().st_size == one.size_bytes
        with av.open(str(site.config.media_dir / kinds["clip"].file)) as clip:
            stream = clip.streams.video[0]
            assert (clip.format.name.split(",")[0], stream.codec_context.name) == ("mov", "h264")
            pictures = list(clip.decode(video=0))
        assert pictures[0].key_frame
        length_s = float((pictures[-1].pts - pictures[0].pts) * pictures[0].time_base)
        assert length_s > event.end_s - event.begin_s + 1.5
    finally:
        server.close()


def test_beside_a_sub_stream_the_main_stream_is_what_clips_are_made_of(site):
    main, sub = rtsp.RtspCamera(width=640, height=480), rtsp.RtspCamera()
    try:
        site.add(main.url, sub_url=sub.url, settings=CameraSettings(pre_s=1.0, post_s=0.5))
        event = site.event_with("clip")
        assert site.picture().shape == (360, 320)
        assert (event.frame_width, event.frame_height) == (320, 240)
        clip = next(one for one in event.media if one.kind == "clip")
        with av.open(str(site.config.media_dir / clip.file)) as container:
            assert container.streams.video[0].width == 640
            assert len(list(container.decode(video=0))) > 5
    finally:
        main.close()
        sub.close()


def test_privacy_zones_are_black_in_every_picture_and_clip(site):
    server = rtsp.RtspCamera()
    try:
        site.add(server.url, settings=CameraSettings(pre_s=1.0, post_s=0.5))
        left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
        replace_zones(site.engine, GATE, [Zone(name="left", kind=ZoneKind.PRIVACY, points=left)])
        event = site.event_with("clip")
        assert (site.picture()[:240, :158] == 16).all()
        clip = next(one for one in event.media if one.kind == "clip")
        with av.open(str(site.config.media_dir / clip.file)) as container:
            for picture in container.decode(video=0):
                luma = picture.to_ndarray(format="gray")
                assert luma[:, :150].max() < 30
                assert luma.shape == (240, 320)
    finally:
        server.close()


def test_a_camera_process_that_stands_still_is_replaced(config):
    rtsp.needed()
    site, server = Site(config, HAETAE_MANAGER__HUNG_S="5"), rtsp.RtspCamera()
    try:
        site.add(server.url)
        pid = site.becomes(*ALIVE).pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        until(
            "another process beats",
            lambda: (beat := read_heartbeat(site.config.run_dir, "camera-gate")) and beat.pid != pid,
        )
    finally:
        server.close()
        site.close()


def test_the_shown_configuration_holds_no_secret(site):
    site.add("rtsp://admin:s3cr3t@127.0.0.1:1/cam?token=abcdef")
    until("it was tried", lambda: (status := site.status()) and status.phase is CameraPhase.DISCONNECTED)
    status = site.status()
    shown = (
        f"{site.logs()}{msgspec.json.encode(status)}{Path(f'/proc/{status.pid}/cmdline').read_text() if status else ''}"
    )
    assert "s3cr3t" not in shown
    assert "abcdef" not in shown


def test_a_camera_that_is_added_again_learns_again_and_one_that_restarts_does_not(site):
    site.add("demo://plaza?seed=3")
    first = site.becomes(*WATCHES)
    os.kill(first.pid, signal.SIGKILL)
    until("it runs again", lambda: (site.status() or first).pid not in {first.pid, None})
    site.becomes(*WATCHES)
    assert site.logs().count('"fit_s"') == 1
    remove_camera(site.engine, GATE)
    until("it is gone", lambda: site.status() is None)
    site.add("demo://street?seed=4")
    site.becomes(*WATCHES)
    assert "forgot_another_camera" in site.logs()
    assert site.logs().count('"fit_s"') == 2
