"""Capture: what nobody wants is decoded and nothing else; what is analysed or watched lies in the rings."""

import itertools
import queue
import time
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from core.cameras.zones import Zone, ZoneKind
from core.frames import RingReader
from core.ids import CameraId
from workers.camera.capture import Capture, Pace, Rings, Round
from workers.camera.masks import Masks
from workers.camera.pixels import MotionGate, planes
from workers.camera.sources import SourceInfo, SourceOptions
from workers.camera.sources.file import FileSource

GATE = CameraId("gate")
FPS = 300


class GreyFrame:
    def __init__(self, index: int, changes: int = 40) -> None:
        self.index, self.media_s, self._changes = index, index / FPS, changes

    def write_i420(self, out: np.ndarray) -> None:
        out[...] = self._changes * self.index % 251

    def planes(self) -> None:
        return None


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
    made = Rings(config, GATE)
    made.fit(64, 48)
    yield made
    made.close()


def play(rings, source, analysis_fps: float, pace: Pace):
    """What was handed over, and how many frames were captured; `source` may be the path of a file."""
    capture = Capture(rings, MotionGate(2.0), analysis_fps=analysis_fps, room=1000)
    if isinstance(source, Path):
        source = FileSource(source, SourceOptions(wanted=capture.wanted))
    capture.start(iter([Round(source=source, frames=source.frames(), pace=pace)]))
    taken, deadline = [], time.monotonic() + 60
    while not taken or taken[-1] is not None:
        assert time.monotonic() < deadline
        try:
            taken.append(capture.take())
        except queue.Empty:
            time.sleep(0.001)
    capture.stop(10)
    source.close()
    assert capture.error is None
    return taken[:-1], capture.captured


def test_of_a_camera_that_nobody_watches_only_what_is_analysed_is_published(rings):
    taken, captured = play(rings, GreySource(300), FPS / 3, Pace.TIMED)
    assert captured == 300
    assert len(taken) == pytest.approx(100, abs=2)
    assert rings.main.statistics().published == len(taken)
    assert all(one.analysis for one in taken if one.index == 0)


def test_another_size_begins_another_epoch_of_both_rings_without_a_new_process(rings, config):
    class Growing(GreySource):
        def frames(self):
            for frame in super().frames():
                if frame.index == self.count // 2:
                    self.info = msgspec.structs.replace(self.info, width=128, height=96)
                yield frame

    taken, _ = play(rings, Growing(8), FPS, Pace.FAST)
    sizes = [(one.width, one.height) for one in taken]
    assert sizes == [(64, 48)] * 4 + [(128, 96)] * 4
    for stream in ("main", "analysis"):
        epochs = {(one.main if stream == "main" else one.analysis).epoch for one in taken if one.analysis}
        assert len(epochs) == 2
        reader = RingReader.open(config.run_dir, GATE, stream)
        assert (reader.format.width, reader.format.height) == (128, 96)
        reader.close()


@pytest.mark.parametrize(("speed", "media_s", "least_s", "most_s"), [(1.0, 1, 0.9, 50.0), (100.0, 60, 0.5, 50.0)])
def test_a_source_is_paced_by_the_clock_times_its_speed(rings, speed, media_s, least_s, most_s):
    source = GreySource(media_s * FPS)
    source.info = msgspec.structs.replace(source.info, speed=speed)
    begun = time.monotonic()
    taken, _ = play(rings, source, FPS, Pace.TIMED)
    assert least_s < time.monotonic() - begun < most_s
    assert taken[-1].media_s == pytest.approx(media_s, abs=0.1)


def test_every_frame_of_a_camera_that_is_watched_is_published(rings, config):
    reader = RingReader.open(config.run_dir, GATE, "main")
    reader.watch(60)
    _, captured = play(rings, GreySource(100), FPS / 3, Pace.TIMED)
    assert rings.main.statistics().published == captured == 100
    reader.close()


class StillFrame(GreyFrame):
    """A picture that lies where it can be looked at."""

    def __init__(self, index: int, looked: list[int] | None = None, grey: int = 90) -> None:
        super().__init__(index, changes=0)
        self.pixels, self.looked = np.full((72, 64), grey, np.uint8), looked

    def planes(self):
        if self.looked is not None:
            self.looked.append(self.index)
        return planes(self.pixels)


class StillSource(GreySource):
    def frames(self):
        return (StillFrame(number) for number in range(self.count))


@pytest.mark.parametrize("watched", [False, True])
def test_of_a_still_scene_some_pictures_a_second_are_published_unless_somebody_watches(rings, config, watched):
    reader = RingReader.open(config.run_dir, GATE, "main")
    reader.watch(60 if watched else 0)
    taken, captured = play(rings, StillSource(3 * FPS), FPS, Pace.TIMED)
    published = rings.main.statistics().published
    reader.close()
    assert captured == 3 * FPS
    assert taken[0].analysis
    assert 4 <= len(taken) <= 30
    assert published == (captured if watched else len(taken))
    assert all(after.media_s - before.media_s < 1 for before, after in itertools.pairwise(taken))


def test_a_scene_that_has_long_been_still_is_looked_at_half_as_often_until_something_changes(rings):
    looked: list[int] = []
    changes_at = 6 * FPS

    class Still(GreySource):
        info = msgspec.structs.replace(GreySource.info, speed=4.0)

        def frames(self):
            for index in range(self.count):
                yield StillFrame(index, looked, 90 if index < changes_at else 40 + 60 * (index // 3 % 3))

    play(rings, Still(7 * FPS), FPS / 3, Pace.TIMED)
    apart = [(before, after - before) for before, after in itertools.pairwise(looked)]
    assert {step for at, step in apart if at < 2.9 * FPS} == {3}
    assert {step for at, step in apart if 3.1 * FPS < at < changes_at - 6} == {6}
    assert {step for at, step in apart if at >= changes_at} == {3}


def test_a_picture_that_can_be_looked_at_where_it_lies_is_blackened_before_all_the_same(rings):
    seen = []

    class Look:
        def picture(self, luma):
            seen.append(int(luma[24, 16]))

    left = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    mask = Zone(name="private", kind=ZoneKind.PRIVACY, points=left)
    capture = Capture(rings, MotionGate(2.0), analysis_fps=FPS, masks=Masks([mask]), watcher=Look())
    source = StillSource(3)
    capture.start(iter([Round(source=source, frames=source.frames(), pace=Pace.TIMED)]))
    while capture._queue.get(timeout=60) is not None:
        pass
    capture.stop(10)
    assert set(seen) == {16}


def test_of_a_file_that_is_watched_through_nothing_is_left_out(rings):
    taken, _ = play(rings, GreySource(100), FPS / 3, Pace.FAST)
    assert len(taken) == rings.main.statistics().published == 100


def test_what_no_other_frame_follows_from_is_not_even_decoded_unless_somebody_watches(rings, config, tmp_path):
    path = tmp_path / "bframes.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"bf": "3"}
        for number in range(100):
            picture = np.full((72, 64), 40 + 2 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))

    taken, decoded = play(rings, path, 10, Pace.TIMED)
    assert decoded < 70
    assert len(taken) >= 15
    assert max(after.media_s - before.media_s for before, after in itertools.pairwise(taken)) < 0.2
    reader = RingReader.open(config.run_dir, GATE, "main")
    reader.watch(60)
    assert play(rings, path, 10, Pace.TIMED)[1] == 100
    reader.close()
