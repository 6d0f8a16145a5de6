"""Capture: what nobody wants is decoded and nothing else; what is analysed or watched lies in the rings."""

import queue
import time

import numpy as np
import pytest

from core.frames import RingReader
from core.ids import CameraId
from workers.camera.capture import Capture, Rings
from workers.camera.pixels import MotionGate
from workers.camera.sources import SourceInfo

GATE = CameraId("gate")
FPS = 300


class GreyFrame:
    def __init__(self, index: int) -> None:
        self.index, self.media_s = index, index / FPS

    def write_i420(self, out: np.ndarray) -> None:
        out[...] = self.index % 251


class GreySource:
    info = SourceInfo("grey", 64, 48, float(FPS), None, None, simulated=False)

    def __init__(self, count: int) -> None:
        self.count = count

    def frames(self):
        return (GreyFrame(number) for number in range(self.count))

    def close(self) -> None:
        pass


@pytest.fixture
def rings(config):
    made = Rings(config, GATE, 64, 48)
    yield made
    made.close()


def play(rings, count: int, analysis_fps: float, *, paced: bool, before=lambda: None):
    """The media times of what was handed over, and how many frames were captured."""
    capture = Capture(rings, MotionGate(2.0), analysis_fps=analysis_fps, room=count + 1)
    source = GreySource(count)
    before()
    capture.start(iter([(source, source.frames(), paced, False)]))
    taken, deadline = [], time.monotonic() + 20
    while True:
        assert time.monotonic() < deadline
        try:
            one = capture.take()
        except queue.Empty:
            time.sleep(0.001)
            continue
        if one is None:
            break
        taken.append(one)
    capture.close()
    assert capture.error is None
    return taken, capture.captured


def test_of_a_camera_that_nobody_watches_only_what_is_analysed_is_published(rings):
    taken, captured = play(rings, 300, FPS / 3, paced=True)
    assert captured == 300
    assert len(taken) == pytest.approx(100, abs=2)
    assert rings.main.statistics().published == len(taken)
    assert all(one.analysis for one in taken if one.index == 0)


def test_every_frame_of_a_camera_that_is_watched_is_published(rings, config):
    reader = RingReader.open(config.run_dir, GATE, "main")
    taken, _ = play(rings, 100, FPS / 3, paced=True, before=lambda: reader.watch(60))
    assert len(taken) == rings.main.statistics().published == 100
    reader.close()


def test_of_a_file_that_is_watched_through_nothing_is_left_out(rings):
    taken, _ = play(rings, 100, FPS / 3, paced=False)
    assert len(taken) == rings.main.statistics().published == 100
