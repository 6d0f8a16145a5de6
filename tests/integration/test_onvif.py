"""ONVIF against a device that speaks it: found on the network, asked for its streams, turned to its presets."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec
import pytest

from core import errors
from core.cameras import CameraConfig, CameraSettings, onvif
from core.cameras.onvif import describe_device, discover, go_to_preset, list_presets, onvif_url
from core.cameras.urls import parse_url, seal_url
from core.errors import AddressRefused, ConfigError, SourceError
from core.ids import CameraId
from core.security.permissions import Role
from core.security.secrets import SecretBox
from tests.api import Site, run_api
from tests.onvif import OnvifCamera
from tests.servers import refused_port, until
from workers.camera.onvif import answer

SECRET = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"


@pytest.fixture
def local(config):
    """Cameras may be on this machine, and nowhere else."""
    return msgspec.structs.replace(config, networks=msgspec.structs.replace(config.networks, cameras=("loopback",)))


@pytest.fixture
def environment(monkeypatch):
    """What the asking process reads the same from."""
    monkeypatch.setenv("HAETAE_NETWORKS__CAMERAS", "loopback")


@pytest.fixture
def here(monkeypatch, local):
    """Devices are asked by this process, which is at hand already; what pins it to an address is not."""

    def ask(_config, job, _limit_s):
        reply = answer(job, local)
        if isinstance(reply, onvif.OnvifFailure):
            raise getattr(errors, reply.kind)(reply.message, reply.hint)
        return reply

    monkeypatch.setattr(onvif, "_ask", ask)


pytestmark = pytest.mark.usefixtures("environment")


def login(device: OnvifCamera, password: str = QUOTED) -> str:
    return device.url.replace("//", f"//ad%20min:{password}@")


def camera_of(config, device: OnvifCamera) -> CameraConfig:
    url = parse_url(f"rtsp://ad%20min:{QUOTED}@127.0.0.1:554/main")
    return CameraConfig(
        camera_id=CameraId("gate"),
        name="gate",
        url=url.shown,
        sealed_url=seal_url(url, SecretBox(config.secrets_dir)),
        settings=CameraSettings(onvif_url=device.url),
    )


def discovered(config, wanted: Callable[[onvif.OnvifFound], bool]) -> list[onvif.OnvifFound]:
    """Those of one look at the network; on a busy machine a device may answer too late for the first ones."""
    return until(lambda: [one for one in discover(config, 0.6, "lo") if wanted(one)], "a device answers")


@pytest.mark.usefixtures("here")
def test_a_device_on_the_network_is_found_once_with_what_it_says_of_itself(local):
    with OnvifCamera() as device:
        device.join("lo")
        found = discovered(local, lambda one: one.url == device.url)
    assert [(one.host, one.name, one.hardware, one.location, one.says) for one in found] == [
        ("127.0.0.1", "Gate camera", "HT-100", "yard", "")
    ]


@pytest.mark.usefixtures("here")
def test_a_device_that_names_an_address_that_may_not_be_called_is_told_and_not_offered(local):
    with OnvifCamera() as device:
        device.join("lo", "http://169.254.1.9/onvif/device_service not-a-url")
        found = discovered(local, lambda one: "169.254.1.9" in one.says)
    assert [one.url for one in found] == [""]


@pytest.mark.usefixtures("here")
def test_a_device_that_names_itself_is_offered_at_the_address_that_answered_and_no_name_is_looked_up(local):
    with OnvifCamera() as device:
        port, replies = urlsplit(device.url).port, list[onvif.FoundAll]()
        device.join("lo", f"http://nobody-knows.invalid:{port}/onvif/device_service")
        answered = discovered(local, lambda one: True)[0].host
        networks = msgspec.structs.replace(local.networks, cameras=(answered,))
        allowed, look = msgspec.structs.replace(local, networks=networks), onvif.Find(wait_s=0.6, interface="lo")
        until(lambda: replies.append(answer(look, allowed)) or replies[-1].devices, "it is offered")
    assert [one.url for one in replies[-1].devices] == [f"http://{answered}:{port}/onvif/device_service"]


@pytest.mark.usefixtures("here")
def test_a_network_that_is_not_there_is_told(local):
    with pytest.raises(ConfigError, match="no network called 'wlan7'"):
        discover(local, 0.2, "wlan7")


@pytest.mark.usefixtures("here")
def test_streams_pictures_and_presets_are_listed_and_credentials_are_not(local):
    with OnvifCamera("ad min", SECRET, ahead_s=7200) as device:
        told = describe_device(local, onvif_url(login(device)))
    assert (told.manufacturer, told.model, told.firmware) == ("Haechi", "HT-100", "1.2")
    assert [(one.name, one.codec, one.width, one.height, one.fps) for one in told.streams] == [
        ("main", "H264", 1920, 1080, 25.0),
        ("sub", "H264", 640, 360, 10.0),
        ("tiny", "JPEG", 320, 180, 5.0),
    ]
    assert told.streams[0].url == "rtsp://127.0.0.1:554/main"
    assert told.streams[0].snapshot_url == f"http://127.0.0.1:{device.port}/main.jpg?user=ad min&pwd=***"
    assert [one.name for one in told.presets] == ["gate", "주차장", "3"]
    assert "--sub-url rtsp://127.0.0.1:554/sub" in told.advice[0]
    assert SECRET not in repr(told)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("given", ["", "guessed"])
def test_wrong_credentials_are_told_and_never_shown(local, given):
    with OnvifCamera("ad min", SECRET) as device:
        url = login(device, given) if given else device.url
        with pytest.raises(SourceError, match="refuses the user name or the password") as caught:
            describe_device(local, onvif_url(url))
    assert "guessed" not in str(caught.value) + caught.value.hint


def test_what_a_device_says_of_its_address_leads_nowhere_else(local):
    """It names another machine for its services: they are asked for at the address that was checked."""
    with OnvifCamera(elsewhere="192.0.2.77:81") as device:
        told = describe_device(local, onvif_url(device.url))
    assert told.streams[0].url.startswith("rtsp://127.0.0.1:554/")


def test_a_redirection_is_not_followed_to_another_address(local):
    with OnvifCamera() as device:
        device.says = lambda operation: "http://127.0.0.2:1/" if operation == "GetServices" else None
        with pytest.raises(SourceError):
            describe_device(local, onvif_url(device.url))


@pytest.mark.usefixtures("here")
def test_an_address_that_cameras_may_not_have_is_not_asked(local):
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1, which cameras may not be"):
        describe_device(local, onvif_url("10.0.0.1"))


@pytest.mark.usefixtures("here")
def test_what_speaks_no_onvif_is_told(local):
    with OnvifCamera() as device:
        device.says = lambda _operation: "<html>Welcome</html>"
        with pytest.raises(SourceError, match="speaks no ONVIF"):
            describe_device(local, onvif_url(device.url))
    with refused_port() as port, pytest.raises(SourceError, match="refuses the connection"):
        describe_device(local, onvif_url(f"127.0.0.1:{port}"))


def test_a_device_that_takes_the_question_and_says_nothing_ends_in_time(local):
    cameras = msgspec.structs.replace(local.cameras, open_s=0.5, read_s=0.5)
    silent = threading.Event()
    hasty = msgspec.structs.replace(local, cameras=cameras)
    with OnvifCamera() as device:
        device.says = lambda _operation: silent.wait(120) or ""
        begun = time.monotonic()
        reply = answer(onvif.Describe(login=onvif.OnvifLogin(url=device.url)), hasty)
        silent.set()
        assert isinstance(reply, onvif.OnvifFailure)
        assert "did not answer within 1 s" in reply.message
        assert time.monotonic() - begun < 60


@pytest.mark.usefixtures("here")
def test_a_camera_turns_to_a_preset_by_name_or_token_with_its_sealed_credentials(local):
    with OnvifCamera("ad min", SECRET) as device:
        camera = camera_of(local, device)
        assert [one.token for one in list_presets(local, camera)] == ["1", "2", "3"]
        assert go_to_preset(local, camera, "주차장").token == "2"
        assert go_to_preset(local, camera, "1").name == "gate"
        assert device.turned == ["2", "1"]
        with pytest.raises(SourceError, match="no preset of that name") as caught:
            go_to_preset(local, camera, "roof")
        assert "gate, 주차장" in caught.value.hint
        assert device.turned == ["2", "1"]


@pytest.mark.usefixtures("here")
def test_a_cameras_credentials_go_to_no_other_host_than_its_own(local):
    with OnvifCamera("ad min", SECRET) as device:
        camera = camera_of(local, device)
        settings = CameraSettings(onvif_url=device.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(SourceError, match="refuses the user name or the password"):
            list_presets(local, msgspec.structs.replace(camera, settings=settings))


@pytest.mark.usefixtures("here")
def test_a_camera_that_cannot_turn_says_so(local):
    with OnvifCamera("ad min", SECRET, ptz=False) as device, pytest.raises(SourceError, match="cannot be turned"):
        go_to_preset(local, camera_of(local, device), "1")


@pytest.mark.usefixtures("here")
def test_only_a_camera_on_the_network_has_presets(local):
    camera = CameraConfig(camera_id=CameraId("plaza"), name="plaza", url="demo://plaza?seed=1")
    with pytest.raises(ConfigError, match="only a camera on the network"):
        go_to_preset(local, camera, "1")


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("10.0.0.5", "http://10.0.0.5/onvif/device_service"),
        ("10.0.0.5:8080", "http://10.0.0.5:8080/onvif/device_service"),
        ("rtsp://u:p@10.0.0.5:554/live/1", "http://u:p@10.0.0.5/onvif/device_service"),
        ("https://cam.local/", "https://cam.local/onvif/device_service"),
        ("http://cam.local/onvif/other", "http://cam.local/onvif/other"),
        ("rtsp://[fd00::5]:554/live", "http://[fd00::5]/onvif/device_service"),
    ],
)
def test_a_device_is_asked_at_its_host(given, asked):
    assert onvif_url(given).full == asked


def test_the_command_finds_lists_and_turns(config, local):
    def haetae(*words: str, told: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workers.cli", "--data", str(config.data_dir), "camera", *words]
        return subprocess.run(command, input=told, capture_output=True, text=True, timeout=300, check=False)

    with OnvifCamera("ad min", SECRET) as device:
        device.join("lo")
        look = ("discover", "--interface", "lo", "--wait", "0.6s", "--json")
        until(lambda: device.url in {one["url"] for one in json.loads(haetae(*look).stdout)}, "it is found")
        told = haetae("discover", "-", told=login(device) + "\n")
        assert told.returncode == 0, told.stderr
        assert "rtsp://127.0.0.1" in told.stdout
        assert SECRET not in told.stdout
        refused = haetae("discover", "-", told=login(device, "guessed") + "\n")
        assert refused.returncode != 0
        assert "refuses the user name" in refused.stderr
        assert "guessed" not in refused.stdout + refused.stderr


def test_the_api_finds_describes_and_turns_for_those_who_may(config, local):
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    with OnvifCamera("ad min", SECRET) as device, run_api(config) as client:
        device.join("lo")
        client.headers["Authorization"] = f"Bearer {site.token('kim')}"
        look = "/api/v1/cameras/discover?wait_s=0.6"
        until(lambda: device.url in {one["url"] for one in client.get(look).json()}, "it is found")
        asked = {"url": device.url, "username": "ad min", "password": SECRET}
        told = client.post("/api/v1/cameras/discover", json=asked)
        assert told.status_code == 200, told.text
        assert told.json()["streams"][0]["url"] == "rtsp://127.0.0.1:554/main"
        assert SECRET not in told.text
        refused = client.post("/api/v1/cameras/discover", json={**asked, "password": "guessed"})
        assert (refused.status_code, "user name or the password" in refused.text) == (422, True), refused.text
        made = client.post(
            "/api/v1/cameras",
            json={
                "id": "gate",
                "name": "gate",
                "url": "rtsp://127.0.0.1:554/main",
                "username": "ad min",
                "password": SECRET,
                "enabled": False,
                "settings": {"onvif_url": device.url},
            },
        )
        assert made.status_code in {201, 202}, made.text
        assert [one["name"] for one in client.get("/api/v1/cameras/gate/presets").json()] == ["gate", "주차장", "3"]
        turned = client.post("/api/v1/cameras/gate/presets", json={"preset": "gate"})
        assert (turned.status_code, device.turned) == (200, ["1"]), turned.text
        roof = client.post("/api/v1/cameras/gate/presets", json={"preset": "roof"})
        assert "127.0.0.1 has no preset" in roof.text
        site.add_user("guard", Role.OPERATOR, CameraId("gate"))
        as_guard = {"Authorization": f"Bearer {site.token('guard')}"}
        roof = client.post("/api/v1/cameras/gate/presets", json={"preset": "roof"}, headers=as_guard)
        assert (roof.status_code, "the camera has no preset" in roof.text) == (422, True), roof.text
        assert "127.0.0.1" not in roof.text
        taken = client.post("/api/v1/cameras", json={"id": "discover", "name": "x", "url": "demo://plaza?seed=1"})
        assert taken.status_code == 409
        log = client.get("/api/v1/audit").text
        assert "camera.turned" in log
        assert SECRET not in log
    site.close()
