"""Camera URLs: what is understood, what is shown of it, what is refused, and what no error ever repeats."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import CameraConfig
from core.cameras.model import CameraSettings
from core.cameras.urls import SourceKind, check_url, open_url, parse_url, seal_url, without_addresses
from core.errors import AddressRefused, ConfigError
from core.ids import CameraId
from core.rest.cameras import CameraOut
from core.security.secrets import SecretBox

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"rtsp://admin:{SECRET}@10.0.0.5/live/1", "rtsp://10.0.0.5/live/1"),
        (f"rtsp://admin:{SECRET}@x@10.0.0.5:8554/live", "rtsp://10.0.0.5:8554/live"),
        (f"RTSPS://admin:{SECRET}@cam.lan/live", "rtsps://cam.lan/live"),
        (f"http://10.0.0.5/mjpg?user=a&pwd={SECRET}&size=2", "http://10.0.0.5/mjpg?user=a&pwd=***&size=2"),
        (f"http://10.0.0.5/?loginpas_password={SECRET}", "http://10.0.0.5/?loginpas_password=***"),
        (f"http://10.0.0.5/a.m3u8?access_token={SECRET}", "http://10.0.0.5/a.m3u8?access_token=***"),
        (f"rtsp://10.0.0.5/user=a_password={SECRET}_channel=1.sdp", "rtsp://10.0.0.5/user=a_password=***"),
        ("rtsp://10.0.0.5/live", "rtsp://10.0.0.5/live"),
        ("rtsp://[fd00::5]:554/live", "rtsp://[fd00::5]:554/live"),
    ],
)
def test_what_is_shown_holds_no_secret_and_what_is_sealed_holds_all(text, shown, tmp_path):
    url = parse_url(text)
    assert url.shown == shown
    assert SECRET not in f"{url} {url!r}"
    assert url.secret == (SECRET in text)
    box = SecretBox(tmp_path)
    sealed = seal_url(url, box)
    assert SECRET not in sealed
    assert (sealed == "") == (not url.secret)
    assert open_url(url.shown, sealed, box) == url.full
    assert (SECRET in url.full) == (SECRET in text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("rtsp://", "no host"),
        ("rtsp:///live", "no host"),
        (f"rtsp://admin:{SECRET}/x@10.0.0.5/live", "no host"),
        ("rtsp://10.0.0.5:99999/live", "no host"),
        ("rtsp://10.0.0.5:0/live", "port"),
        ("rtsp://10.0.0.5:abc/live", "no host"),
        ("rtsp://[fd00::5/live", "no host"),
        ("rtsp://ho st/live", "space"),
        ("rtsp://10.0.0.5/li\nve", "unprintable"),
        ("rtsp://10.0.0.5/" + "x" * 3000, "longer"),
        (f"gopher://a:{SECRET}@10.0.0.5", "gopher"),
        ("rtsp://10.0.0.5/user=a_password=***", "not shown"),
        ("file://elsewhere/video.mp4", "this machine"),
    ],
)
def test_a_malformed_url_is_refused_with_a_hint_and_without_its_password(text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse_url(text)
    assert caught.value.hint
    assert SECRET not in str(caught.value) + caught.value.hint


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_config_error(text):
    for whole in (text, f"rtsp://{text}", f"http://u:{text}@host/"):
        try:
            parse_url(whole)
        except ConfigError as error:
            hint = error.hint
        else:
            hint = "none needed"
        assert hint


def test_hosts_must_lie_in_the_networks_of_cameras(config):
    for text in ("rtsp://169.254.169.254/x", "http://127.0.0.1/x", "rtsp://[::1]/x"):
        with pytest.raises(AddressRefused):
            check_url(text, from_api=False, config=config)
    assert check_url("rtsp://10.0.0.5/x", from_api=True, config=config).kind is SourceKind.RTSP
    networks = msgspec.structs.replace(config.networks, cameras=("loopback",))
    local = msgspec.structs.replace(config, networks=networks)
    assert check_url("http://127.0.0.1:8080/x", from_api=True, config=local).port == 8080
    with pytest.raises(AddressRefused):
        check_url("http://169.254.169.254/x", from_api=True, config=local)


def test_files_from_the_api_lie_beneath_a_root_whatever_links_say(config, tmp_path):
    inside, outside = tmp_path / "videos", tmp_path / "private"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.mp4").write_bytes(b"x")
    (inside / "way-out.mp4").symlink_to(outside / "a.mp4")
    cameras = msgspec.structs.replace(config.cameras, roots=(str(inside),))
    rooted = msgspec.structs.replace(config, cameras=cameras)
    assert check_url(str(inside / "a.mp4"), from_api=True, config=rooted).kind is SourceKind.FILE
    assert check_url(f"file://{inside}", from_api=True, config=rooted).kind is SourceKind.FOLDER
    for path in (outside / "a.mp4", inside / "way-out.mp4", inside / ".." / "private" / "a.mp4", "/dev/video0"):
        with pytest.raises(ConfigError, match="outside"):
            check_url(str(path), from_api=True, config=rooted)
    with pytest.raises(ConfigError, match="outside"):
        check_url(str(inside / "a.mp4"), from_api=True, config=config)
    assert check_url(str(outside / "a.mp4"), from_api=False, config=config).path == outside / "a.mp4"
    with pytest.raises(ConfigError, match="there is no"):
        check_url(str(inside / "b.mp4"), from_api=False, config=config)


def test_the_home_of_nobody_is_refused():
    with pytest.raises(ConfigError, match="nobody here is called '0'"):
        parse_url("~0/videos/a.mp4")


def test_a_device_is_one_whichever_way_it_is_written():
    for text in ("/dev/video0", "v4l2:///dev/video0"):
        url = parse_url(text)
        assert (url.kind, url.shown) == (SourceKind.DEVICE, "v4l2:///dev/video0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gate.local does not answer", "the camera does not answer"),
        ("cannot open rtsp://GATE.local:8554/main: refused", "cannot open rtsp://the camera/main: refused"),
        (
            "gate.local leads to 10.1.2.3:80, which is not allowed",
            "the camera leads to the camera, which is not allowed",
        ),
        ("navigate.locally is another word", "navigate.locally is another word"),
        ("[fd00::7]:554 refuses", "the camera refuses"),
        ("FFmpeg 7.1.2 says no", "FFmpeg 7.1.2 says no"),
        ("no picture for 5.0 s", "no picture for 5.0 s"),
    ],
)
def test_what_viewers_read_names_no_address(text, shown):
    assert (
        without_addresses(text, "rtsp://gate.local/main", "rtsp://[fd00::7]/sub", "/videos/a.mp4", "http://[", "")
        == shown
    )


def test_the_url_in_the_settings_is_told_to_administrators_alone():
    settings = CameraSettings(onvif_url="http://10.0.0.7:8080/onvif", crowd=20)
    camera = CameraConfig(camera_id=CameraId("gate"), name="gate", url="rtsp://10.0.0.7/main", settings=settings)
    assert CameraOut.of(camera, None, None, with_url=True).settings == settings
    told = CameraOut.of(camera, None, None, with_url=False)
    assert "10.0.0.7" not in str(msgspec.to_builtins(told))
    assert told.settings.crowd == 20
