"""A camera that is turned because of an event to its preset for alarms, and back, with nothing learned meanwhile: a
real camera process, pictures over HTTP, presets over ONVIF.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from core.cameras import CameraPhase, CameraSettings, Zone, ZoneKind
from core.cameras.onvif import turn_by_hand
from core.cameras.zones import Weekly
from core.db.cameras import get_camera, replace_zones
from core.db.event_pages import EventFilter, iterate_events
from core.db.events import get_event
from core.errors import SourceError
from core.events import AnomalyEvent
from tests.integration.test_cameras import GATE, Site, until
from tests.onvif import OnvifCamera
from workers.camera.sources.demo import DemoSource

FPS = 8
HOME, ALARM = "1", "2"
"""Tokens of the presets "gate" and "주차장"."""
WATCHED = "demo://plaza?fps=8&width=320&height=180&anomalies=0&seed=5"
ELSEWHERE = "demo://corridor?fps=8&width=320&height=180&anomalies=0"


class Pictures(contextlib.AbstractContextManager["Pictures"]):
    """MJPEG of what is seen where `device` was last turned to: people walk about there."""

    def __init__(self, device: OnvifCamera) -> None:
        views = {HOME: _encoded(WATCHED, 30), ALARM: _encoded(ELSEWHERE, 10)}
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                begun_s = time.monotonic()
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for number in itertools.count():
                        due_s = begun_s + number / FPS - time.monotonic()
                        if outer.ended.wait(max(0.0, due_s)):
                            return
                        seen = views[(device.turned or [HOME])[-1]]
                        data = seen[number % len(seen)]
                        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        self.wfile.write(head + data + b"\r\n")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/mjpeg"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _encoded(url: str, seconds: int) -> list[bytes]:
    pixels = np.empty((270, 320), np.uint8)
    found: list[bytes] = []
    for frame in itertools.islice(DemoSource(url).frames(), seconds * FPS):
        frame.write_i420(pixels)
        found.append(cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420))[1].tobytes())
    return found


@pytest.fixture
def device() -> Iterator[OnvifCamera]:
    with OnvifCamera() as device:
        yield device


def settings_for(device: OnvifCamera) -> CameraSettings:
    return CameraSettings(onvif_url=device.url, ptz_home="gate", ptz_preset="주차장", ptz_hold_s=8.0)


def event_turned_for(site: Site) -> AnomalyEvent | None:
    for stored in iterate_events(site.engine, EventFilter()):
        event = get_event(site.engine, stored.event.id)
        if event and any(one.kind == "turned" for one in event.media):
            return event
    return None


def test_an_intruder_turns_the_camera_which_comes_back_and_is_no_tampering(config, device):
    with Pictures(device) as pictures:
        site = Site(config, HAETAE_FLOWS__TURNS_PER_HOUR="1")
        try:
            site.add(pictures.url, settings=settings_for(device))
            site.becomes(CameraPhase.WATCHING, CameraPhase.PROVISIONAL)
            everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
            armed = Zone(name="yard", kind=ZoneKind.DETECT, points=everywhere, schedule=(Weekly(),))
            replace_zones(site.engine, GATE, [armed])
            until("it is turned", lambda: device.turned == [ALARM])
            away = site.becomes(CameraPhase.DEGRADED)
            assert "turned to another preset" in away.reason
            assert (config.data_dir / "turned" / GATE).read_text() == "gate"
            until("it is turned back", lambda: device.turned == [ALARM, HOME])
            site.becomes(CameraPhase.WATCHING, CameraPhase.PROVISIONAL)
            event = until("the event has the picture", lambda: event_turned_for(site))
            assert isinstance(event, AnomalyEvent)
            assert not (config.data_dir / "turned" / GATE).exists()
            rows = [one.event for one in iterate_events(site.engine, EventFilter())]
        finally:
            site.close()
    assert event.analysis is not None
    assert event.analysis.vlm_type == "intrusion"
    told = [one.text for one in event.steps if "ptz" in one.text]
    assert told == ["ptz: allowed by policy", "ptz: turned to 주차장", "ptz: back to gate", "ptz: is back"]
    assert not [one for one in rows if one.vlm_type == "tamper"], "nobody tampered with it"
    (seen,) = [one for one in event.media if one.kind == "turned"]
    picture = cv2.imread(str(config.media_dir / seen.file))
    assert picture is not None
    watched, elsewhere = (
        np.abs(
            picture.astype(int) - cv2.imdecode(np.frombuffer(_encoded(url, 1)[0], np.uint8), cv2.IMREAD_COLOR)
        ).mean()
        for url in (WATCHED, ELSEWHERE)
    )
    assert 3 * elsewhere < watched, "what was seen there"


def test_who_turns_a_camera_by_hand_raises_no_alarm_and_it_watches_on_at_its_own_view(config, device, monkeypatch):
    monkeypatch.setenv("HAETAE_NETWORKS__CAMERAS", "loopback")
    with Pictures(device) as pictures:
        site = Site(config)
        try:
            site.add(pictures.url, settings=CameraSettings(onvif_url=device.url))
            site.becomes(CameraPhase.WATCHING, CameraPhase.PROVISIONAL)
            camera = get_camera(site.engine, GATE)
            turn_by_hand(config, camera, "주차장")
            away = site.becomes(CameraPhase.DEGRADED)
            assert "turned to another preset" in away.reason
            with pytest.raises(SourceError, match="no preset of that name"):
                turn_by_hand(config, camera, "roof")
            turn_by_hand(config, camera, "gate")
            site.becomes(CameraPhase.WATCHING, CameraPhase.PROVISIONAL)
            rows = [one.event for one in iterate_events(site.engine, EventFilter())]
        finally:
            site.close()
    assert device.turned == [ALARM, HOME]
    assert not [one for one in rows if one.vlm_type == "tamper"]


def test_a_process_that_dies_meanwhile_turns_the_camera_back_when_it_is_started_again(config, device):
    (config.data_dir / "turned").mkdir(parents=True)
    (config.data_dir / "turned" / GATE).write_text("gate")
    device.turned.append(ALARM)
    refusals = [0]

    def refuses(operation: str) -> str | None:
        if operation == "GotoPreset" and not refusals[0]:
            refusals[0] += 1
            return "<broken"
        return None

    device.says = refuses
    with Pictures(device) as pictures:
        site = Site(config)
        try:
            site.add(pictures.url, settings=settings_for(device))
            trouble = until(
                "it says that it cannot be turned back",
                lambda: (status := site.status()) and "could not be turned back to gate" in status.reason and status,
            )
            assert trouble.phase is CameraPhase.DEGRADED  # type: ignore[attr-defined]
            until("it is turned back", lambda: device.turned == [ALARM, HOME])
            site.becomes(CameraPhase.WATCHING, CameraPhase.PROVISIONAL)
            until("that is over", lambda: not (config.data_dir / "turned" / GATE).exists())
        finally:
            site.close()
