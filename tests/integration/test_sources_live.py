"""Live sources against real servers: RTSP over TCP and UDP, MJPEG, snapshots and HLS over HTTP; and what goes wrong."""

import base64
import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from core.cameras import CameraSettings, Transport
from core.errors import SourceError
from tests import rtsp
from tests.servers import Certificate
from workers.camera.sources import Source, SourceOptions, open_source
from workers.camera.sources.stream import StreamSource

SECRET = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"


def options(read_s: float = 30.0, **settings) -> SourceOptions:
    return SourceOptions(settings=CameraSettings(**settings), open_s=30.0, read_s=read_s)


def take(source: Source, count: int) -> list[tuple[float, np.ndarray]]:
    """Times and pictures."""
    taken = []
    for frame in itertools.islice(source.frames(), count):
        out = np.zeros((source.info.height * 3 // 2, source.info.width), np.uint8)
        frame.write_i420(out)
        taken.append((frame.media_s, out))
    source.close()
    return taken


@pytest.fixture
def camera() -> Iterator[rtsp.RtspCamera]:
    rtsp.needed()
    made = rtsp.RtspCamera()
    yield made
    made.close()


# ---- RTSP


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_rtsp_gives_moving_pictures_in_time(transport, codec):
    rtsp.needed()
    camera = rtsp.RtspCamera(codec=codec)
    try:
        source = open_source(camera.url, options(transport=transport))
        assert (source.info.width, source.info.height, source.info.live) == (320, 240, True)
        assert source.info.codec == {"h264": "h264", "h265": "hevc"}[codec]
        taken = take(source, 12)
        times = [at for at, _ in taken]
        apart = [(after - before) * 10 for before, after in itertools.pairwise(times)]
        assert all(one > 0 for one in apart)
        off = sorted(abs(one - max(1, round(one))) for one in apart)
        assert off[len(off) // 2] < 0.1, "the camera's own times: ten pictures a second, some of which may be missing"
        assert (taken[0][1] != taken[-1][1]).any()
    finally:
        camera.close()


@pytest.mark.parametrize("digest", [False, True])
def test_right_credentials_open_and_wrong_ones_are_told_and_never_shown(digest):
    rtsp.needed()
    camera = rtsp.RtspCamera(user="ad min", password=SECRET, digest=digest)
    try:
        right = camera.url.replace("//", f"//ad%20min:{QUOTED}@")
        assert len(take(open_source(right, options()), 2)) == 2
        for wrong in (camera.url, camera.url.replace("//", "//ad%20min:guessed@")):
            with pytest.raises(SourceError, match="user name or the password") as caught:
                open_source(wrong, options())
            assert "guessed" not in str(caught.value) + caught.value.hint
    finally:
        camera.close()


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_rtsps_gives_moving_pictures_whatever_the_certificate_unless_it_is_to_be_verified(tmp_path, codec, monkeypatch):
    rtsp.needed()
    own = Certificate(tmp_path)
    camera = rtsp.RtspCamera(codec=codec, cert=str(own.cert), key=str(own.key))
    url = f"rtsps://localhost:{camera.port}/cam"
    try:
        taken = take(open_source(url, options()), 5)
        assert (taken[0][1] != taken[-1][1]).any()
        if codec == "h264":
            with pytest.raises(SourceError, match="no certificate that is trusted"):
                open_source(url, options(verify_tls=True))
            monkeypatch.setenv("SSL_CERT_FILE", str(own.cert))
            assert len(take(open_source(url, options(verify_tls=True)), 2)) == 2
    finally:
        camera.close()


def test_a_camera_without_tls_is_not_spoken_to_with_it(camera):
    with pytest.raises(SourceError):
        open_source(camera.url.replace("rtsp:", "rtsps:"), options())


def test_an_unknown_path_is_told(camera):
    with pytest.raises(SourceError, match="no stream at that path"):
        open_source(camera.url + "era", options())


def test_another_resolution_comes_within_the_same_connection(camera):
    source = open_source(camera.url, options())
    sizes = []
    for frame in source.frames():
        if frame.index == 3:
            camera.tell("size 640 360")
        sizes.append((source.info.width, source.info.height))
        if sizes[-1] == (640, 360) or frame.index > 100:
            break
    source.close()
    assert sizes[0] == (320, 240)
    assert sizes[-1] == (640, 360)


def test_a_stream_that_stalls_without_closing_is_noticed(camera):
    source = open_source(camera.url, options(read_s=1.5))
    frames = source.frames()
    next(frames)
    camera.tell("stall")
    with pytest.raises(SourceError, match="sent no picture"):
        list(frames)
    source.close()


def test_a_server_that_dies_ends_the_stream_at_once_and_refuses_the_next(camera):
    source = open_source(camera.url, options())
    frames = source.frames()
    next(frames)
    camera.close()
    with pytest.raises(SourceError):
        list(frames)
    source.close()
    with pytest.raises(SourceError, match="refuses the connection"):
        open_source(camera.url, options())


@pytest.mark.parametrize("transport", list(Transport))
def test_a_third_of_the_packets_lost_costs_pictures_and_nothing_else(transport):
    rtsp.needed()
    camera = rtsp.RtspCamera(drop=0.3)
    try:
        source = open_source(camera.url, options(read_s=60.0, transport=transport))
        taken = take(source, 8)
        assert len(taken) == 8
        assert all(after[0] > before[0] for before, after in itertools.pairwise(taken))
    finally:
        camera.close()


# ---- HTTP


def jpeg(number: int, width: int = 64, height: int = 48) -> bytes:
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    picture = np.full((height * 3 // 2, width), 20 + 5 * number % 200, np.uint8)
    packets = encoder.encode(av.VideoFrame.from_ndarray(picture, "yuvj420p"))
    return b"".join(bytes(packet) for packet in packets)


class Handler(BaseHTTPRequestHandler):
    """A small camera: /mjpeg, /stall, /jpg, /secret, /page, /away, /wide, and the files of `folder`."""

    folder: Path
    shots = 0
    stopped = threading.Event()

    def do_GET(self) -> None:
        try:
            getattr(self, "get_" + self.path.strip("/").split("?")[0].replace(".", "_"), self.get_file)()
        except (BrokenPipeError, ConnectionResetError):
            pass

    def answer(self, kind: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def get_mjpeg(self, count: int = 1000, *, stall: bool = False, every_s: float = 0.02) -> None:
        self.answer("multipart/x-mixed-replace; boundary=frame")
        for number in range(count):
            width = 96 if self.path == "/wide" and number > 4 else 64
            body = jpeg(number, width)
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.wfile.write(body + b"\r\n")
            self.wfile.flush()
            if self.stopped.wait(every_s):
                return
        if stall:
            self.stopped.wait(200)

    def get_slow(self) -> None:
        self.get_mjpeg(every_s=0.2)

    def get_wide(self) -> None:
        self.get_mjpeg()

    def get_stall(self) -> None:
        self.get_mjpeg(5, stall=True)

    def get_jpg(self) -> None:
        Handler.shots += 1
        self.answer("image/jpeg", jpeg(Handler.shots))

    def get_secret(self) -> None:
        given = base64.b64encode(f"admin:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {given}":
            self.get_mjpeg()
        else:
            self.answer("text/plain", b"no", 401, WWW_Authenticate='Basic realm="camera"')

    def get_digest(self) -> None:
        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        given = (
            dict(
                part.strip().split("=", 1)
                for part in self.headers.get("Authorization", "").removeprefix("Digest ").split(",")
            )
            if "Digest" in self.headers.get("Authorization", "")
            else {}
        )
        expected = md5(f"{md5(f'admin:camera:{SECRET}')}:abc:{md5('GET:/digest')}")
        if given.get("response", "").strip('"') == expected:
            self.get_jpg()
        else:
            self.answer("text/plain", b"no", 401, WWW_Authenticate='Digest realm="camera", nonce="abc"')

    def get_page(self) -> None:
        self.answer("text/html", b"<html>Welcome</html>")

    def get_rubbish(self) -> None:
        self.answer("video/mp4", b"this is no video" * 1000)

    def get_away(self) -> None:
        self.answer("text/plain", b"", 302, Location="http://169.254.169.254/latest/meta-data")

    def get_nearby(self) -> None:
        self.answer("text/plain", b"", 302, Location="/mjpeg")

    def get_file(self) -> None:
        path = self.folder / self.path.strip("/")
        if path.is_file():
            self.answer("application/octet-stream", path.read_bytes())
        else:
            self.answer("text/plain", b"no", 404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    Handler.folder, Handler.stopped = tmp_path, threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Handler.stopped.set()
    server.shutdown()
    server.server_close()


def test_mjpeg_gives_moving_pictures(web):
    source = open_source(f"{web}/mjpeg", options())
    assert (source.info.width, source.info.height, source.info.codec) == (64, 48, "mjpeg")
    taken = take(source, 10)
    assert len({picture[0, 0] for _, picture in taken}) == 10


def test_mjpeg_has_no_stamps_and_keeps_the_time_of_the_clock(web):
    source = open_source(f"{web}/slow", options())
    at: list[tuple[float, float, float]] = []
    frames = source.frames()
    for _ in range(12):
        asked = time.monotonic()
        at.append((asked, next(frames).media_s, time.monotonic()))
        Handler.stopped.wait(0.1)  # however many have come by now, this is slower than 25 a second
    source.close()
    for (first_asked, first, first_had), (asked, last, had) in itertools.combinations(at, 2):
        assert asked - first_had - 0.01 <= last - first <= had - first_asked + 0.1
    assert at[-1][1] - at[0][1] > 1.0, "25 a second would be less than half of one"


def test_mjpeg_may_change_its_size(web):
    source = open_source(f"{web}/wide", options())
    sizes = {(source.info.width, source.info.height) for _ in itertools.islice(source.frames(), 20)}
    source.close()
    assert sizes == {(64, 48), (96, 48)}


def test_mjpeg_that_stalls_is_noticed(web):
    source = open_source(f"{web}/stall", options(read_s=0.5))
    with pytest.raises(SourceError, match="sent no"):
        list(source.frames())
    source.close()


def test_snapshots_are_fetched_again_and_again(web):
    Handler.shots = 0
    taken = take(open_source(f"{web}/jpg", options(snapshot_s=0.1)), 4)
    times = [at for at, _ in taken]
    assert times[-1] - times[0] > 0.25
    assert Handler.shots >= 4


@pytest.mark.parametrize("path", ["secret", "digest"])
def test_http_credentials_right_and_wrong(web, path):
    right = web.replace("//", f"//admin:{QUOTED}@")
    assert len(take(open_source(f"{right}/{path}", options(snapshot_s=0.1)), 2)) == 2
    for wrong in (web, web.replace("//", "//admin:guessed@")):
        with pytest.raises(SourceError, match="user name or the password") as caught:
            open_source(f"{wrong}/{path}", options())
        assert "guessed" not in str(caught.value)


def test_hls_is_played_segment_by_segment(web, tmp_path):
    with av.open(str(tmp_path / "live.m3u8"), "w", format="hls", options={"hls_time": "1"}) as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            picture = np.full((48, 64, 3), 8 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    source = open_source(f"{web}/live.m3u8", options())
    assert source.info.codec == "h264"
    assert len(take(source, 20)) == 20


def test_a_redirection_is_followed_where_it_may_go(web):
    assert len(take(open_source(f"{web}/nearby", options()), 2)) == 2


def test_a_redirection_to_a_forbidden_address_is_refused(web, config):
    from functools import partial

    import msgspec

    from core.cameras.urls import check_address
    from core.errors import AddressRefused

    networks = msgspec.structs.replace(config.networks, cameras=("loopback", "public"))
    local = msgspec.structs.replace(config, networks=networks)
    checked = msgspec.structs.replace(options(), addresses=lambda url: check_address(url, local))
    assert partial(take, open_source(f"{web}/nearby", checked), 1)()
    with pytest.raises(AddressRefused):
        open_source(f"{web}/away", checked)


@pytest.mark.parametrize(
    ("path", "says"), [("page", "page"), ("rubbish", "not video"), ("nothing", "no stream at that path")]
)
def test_what_is_no_camera_is_told(web, path, says):
    with pytest.raises(SourceError, match=says):
        open_source(f"{web}/{path}", options())


# ---- what does not answer


def test_a_host_that_takes_connections_and_says_nothing_ends_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("rtsp", "http"):
            with pytest.raises(SourceError, match="did not answer"):
                open_source(f"{scheme}://127.0.0.1:{port}/x", SourceOptions(open_s=1.0, read_s=1.0))


def test_a_host_that_speaks_another_language_is_told():
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def speak() -> None:
            while True:
                try:
                    client, _ = odd.accept()
                except OSError:
                    return
                with client:
                    client.recv(1000)
                    client.sendall(b"220 mail.example.org ESMTP\r\n")

        threading.Thread(target=speak, daemon=True).start()
        for scheme in ("rtsp", "http"):
            with pytest.raises(SourceError) as caught:
                open_source(f"{scheme}://127.0.0.1:{odd.getsockname()[1]}/x", SourceOptions(open_s=30.0, read_s=30.0))
            assert str(caught.value)
        odd.shutdown(socket.SHUT_RDWR)


def test_a_rotated_camera_is_turned(web):
    source = open_source(f"{web}/mjpeg", options(rotation=90))
    assert (source.info.width, source.info.height) == (48, 64)
    assert take(source, 1)[0][1].shape == (96, 48)


# ---- devices


def test_what_is_no_video_device_is_told():
    with pytest.raises(SourceError, match="/dev/null gives no video"):
        open_source("v4l2:///dev/null", options())
    with pytest.raises(SourceError, match="no device /dev/video987"):
        open_source("/dev/video987", options())


def test_raw_pictures_as_most_usb_cameras_give_them_are_decoded(tmp_path):
    """Of a device all but the device itself."""
    with av.open(str(tmp_path / "raw.nut"), "w") as container:
        stream = container.add_stream("rawvideo", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuyv422"
        for number in range(4):
            picture = np.full((48, 64, 3), 60 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuyv422")))
    source = StreamSource("/dev/video0", av.open(str(tmp_path / "raw.nut")), options())
    assert (source.info.width, source.info.height, source.info.codec) == (64, 48, "rawvideo")
    assert len({int(picture[0, 0]) for _, picture in take(source, 4)}) == 4


@pytest.mark.skipif(not Path("/dev/video0").exists(), reason="no video device here: v4l2loopback or a USB camera")
def test_a_video_device_gives_pictures():
    source = open_source("/dev/video0", options())
    assert len(take(source, 5)) == 5


def test_the_certificate_of_an_https_camera_is_verified_where_it_is_to_be(tmp_path, monkeypatch):
    own = Certificate(tmp_path)
    Handler.folder, Handler.stopped = tmp_path, threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = own.context().wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    url = f"https://localhost:{server.server_port}/mjpeg"
    try:
        assert len(take(open_source(url, options()), 2)) == 2
        with pytest.raises(SourceError, match="certificate"):
            open_source(url, options(verify_tls=True))
        monkeypatch.setenv("SSL_CERT_FILE", str(own.cert))
        assert len(take(open_source(url, options(verify_tls=True)), 2)) == 2
    finally:
        Handler.stopped.set()
        server.shutdown()
        server.server_close()
