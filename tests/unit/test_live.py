"""The live row of a camera, and what is told of how long learning takes."""

import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.stream.pictures import HEADER_BYTES, PHASES, Picture, encode, header
from core.cameras import CameraPhase
from core.cameras.live import LearningPace, LiveRow, LiveView, read_live
from core.clock import FakeClock
from core.frames import FrameFormat


def view(at_ns: int, **changes) -> LiveView:
    return LiveView(**{"at_ns": at_ns, "phase": CameraPhase.WATCHING, "stage": "armed", **changes})


def test_what_is_written_is_read_and_goes_with_its_writer(tmp_path, monkeypatch):
    now = [1_000_000_000_000]
    monkeypatch.setattr("core.cameras.live.time.monotonic_ns", lambda: now[0])
    assert read_live(tmp_path, "gate") is None
    row = LiveRow(tmp_path, "gate")
    assert read_live(tmp_path, "gate") is None
    written = view(now[0], score=4.25, event_id="e", map_rows=2, map_cols=2, map=b"\x00\x01\x02\x03")
    row.write(written)
    assert read_live(tmp_path, "gate") == written
    now[0] += 4_000_000_000
    assert read_live(tmp_path, "gate") is None, "a process that hangs says nothing"
    row.close()
    assert not (tmp_path / "live" / "gate").exists()


def test_a_row_that_a_restart_of_the_machine_left_is_not_believed(tmp_path):
    """The monotonic clock begins anew with the machine; the row's file may outlive it."""
    LiveRow(tmp_path, "cam").write(view(time.monotonic_ns() + 3_600_000_000_000))
    assert read_live(tmp_path, "cam") is None


def test_a_map_that_has_no_room_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("core.cameras.live.time.monotonic_ns", lambda: 1_000_000_000_000)
    row = LiveRow(tmp_path, "gate")
    row.write(view(1_000_000_000_000, score=1.0, map_rows=200, map_cols=200, map=bytes(40_000)))
    found = read_live(tmp_path, "gate")
    assert found is not None
    assert (found.score, found.map, found.map_rows) == (1.0, b"", 0)
    row.close()


def test_a_reader_never_sees_half_of_a_row(tmp_path):
    row = LiveRow(tmp_path, "gate")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number = number % 250 + 1
            row.write(view(time.monotonic_ns(), score=float(number), map_rows=1, map_cols=99, map=bytes([number]) * 99))

    thread = threading.Thread(target=write)
    thread.start()
    seen, deadline = [], time.monotonic() + 60
    while len(seen) < 3000 and time.monotonic() < deadline:
        if found := read_live(tmp_path, "gate"):
            seen.append(found)
    stop.set()
    thread.join()
    row.close()
    assert len(seen) > 100
    assert all(set(found.map) == {int(found.score or 0)} for found in seen)


@given(st.floats(0.05, 20), st.floats(0, 0.9))
def test_the_time_left_follows_from_the_pace(pace, share):
    clock = FakeClock()
    learning = LearningPace(clock.monotonic)
    assert learning.left_s(share * 100, 100) is None
    for step in range(1, 20):
        clock.advance(0.5)
        learned_s = share * 100 + pace * step * 0.5
        left_s = learning.left_s(learned_s, 100)
        if step * 0.5 >= 1.0:
            assert left_s == pytest.approx(max(0.0, 100 - learned_s) / pace, abs=1e-6)


def test_a_pace_begins_anew_when_learning_does():
    clock = FakeClock()
    learning = LearningPace(clock.monotonic)
    for step in range(10):
        learning.left_s(10.0 * step, 100)
        clock.advance(0.5)
    assert learning.left_s(1.0, 100) is None


@pytest.mark.parametrize(
    ("width", "height", "wanted", "size"), [(640, 360, 320, (320, 180)), (322, 242, 640, (322, 242))]
)
def test_a_frame_becomes_a_jpeg_that_is_no_wider_than_wanted(width, height, wanted, size):
    import cv2

    fmt = FrameFormat(width, height)
    pixels = np.full(fmt.shape, 128, np.uint8)
    pixels[:height, : width // 2] = 40
    jpeg, *found = encode(pixels, fmt, wanted, 80)
    assert tuple(found) == size
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[:2] == size[::-1]
    assert picture[:, : size[0] // 2 - 8].mean() + 50 < picture[:, size[0] // 2 + 8 :].mean()


def test_the_header_says_nothing_of_a_camera_that_says_nothing():
    picture = Picture(b"jpeg", 640, 360, 1 << 40 | 7, 0, 1_700_000_000_500_000_000)
    packed = header(9, picture, None, heat=True)
    assert len(packed) == HEADER_BYTES == 48
    assert packed[:6] == bytes([1, 0, 9, 0, 0, 0])
    assert struct.unpack_from("<I", packed, 8) == (7,)
    assert struct.unpack_from("<d", packed, 16) == (1_700_000_000.5,)
    assert np.isnan(struct.unpack_from("<ff", packed, 24)).all()
    assert packed[44:46] == b"\0\0"


def test_the_numbers_of_phases_in_the_header_stay_what_they_are():
    assert (
        *("", "stopped", "starting", "disconnected", "connecting", "learning", "provisional", "watching"),
        *("degraded", "backoff", "stopping", "failed"),
    ) == PHASES
