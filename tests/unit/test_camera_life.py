"""A camera's life piece by piece: waiting, health, masks, flat scores, jobs that change, clips on a full disk."""

import itertools
import os
import threading
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import CameraConfig, CameraPhase, CameraSettings, Weekly, Zone, ZoneKind
from core.cameras.job import CameraJob
from core.config import CamerasConfig
from core.errors import ConfigError, SourceError
from core.ids import CameraId
from workers.camera.clips import ClipRecorder
from workers.camera.flat import FlatScore
from workers.camera.jobs import JobFeed
from workers.camera.live import Backoff, Health, LivePlayer
from workers.camera.masks import Masks
from workers.camera.pipeline import CameraPipeline, CaptureHung
from workers.camera.probe import look
from workers.camera.sources import open_source
from workers.camera.sources.base import Activity, SourceOptions
from workers.camera.sources.folder import FolderSource

NOON = round(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp() * 1e9)
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def picture(value: int = 100, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height * 3 // 2, width), value, np.uint8)


def video(path: Path, frames: int = 30, **changes: int) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"g": "5", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = changes.get("width", 64), changes.get("height", 48), "yuv420p"
        for number in range(frames):
            pixels = np.full((stream.height, stream.width, 3), 5 * number % 250, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


# ---- waiting and health


@given(st.lists(st.floats(0.8, 1.2), min_size=1, max_size=40))
def test_waits_grow_from_less_than_a_second_to_no_more_than_the_maximum(jitters):
    remaining = iter(jitters)
    backoff = Backoff(0.5, 30.0, lambda: next(remaining))
    waits = [backoff.next_s() for _ in jitters]
    assert waits[0] < 1
    assert max(waits) <= 36
    backoff.reset()
    remaining = iter([1.0])
    assert backoff.next_s() == 0.5


def test_a_picture_that_never_changes_is_frozen_and_one_that_does_is_not():
    now = [0.0]
    health = Health(30.0, clock=lambda: now[0])
    assert health.trouble == (CameraPhase.CONNECTING, "")
    health.picture(picture(1))
    assert health.trouble is None
    now[0] = 29.0
    health.picture(picture(1))
    assert not health.frozen
    now[0] = 31.0
    health.picture(picture(1))
    assert health.trouble
    assert health.trouble[0] is CameraPhase.DEGRADED
    health.picture(picture(2))
    assert health.trouble is None
    health.disconnected("it closed the connection")
    health.connecting()
    assert health.trouble == (CameraPhase.DISCONNECTED, "it closed the connection"), "until a picture comes"


def test_a_host_that_is_back_is_not_waited_for_any_longer():
    stopped, opened = threading.Event(), []
    there = iter([False, False, True])

    def refuse():
        opened.append(time.monotonic())
        if len(opened) == 2:
            stopped.set()
        raise SourceError("it refuses the connection")

    config = CamerasConfig(reconnect_s=60.0, reconnect_max_s=60.0)
    player = LivePlayer(refuse, Health(0), config, stopped, lambda: next(there))
    assert list(player.rounds()) == []
    assert opened[1] - opened[0] < 40


# ---- masks


def test_privacy_zones_are_black_and_ignore_zones_are_hidden_from_detection_alone():
    zones = [
        Zone(name="p", kind=ZoneKind.PRIVACY, points=LEFT),
        Zone(name="i", kind=ZoneKind.IGNORE, points=((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5))),
    ]
    masks = Masks(zones)
    masks.turn(NOON)
    shown = picture()
    masks.blacken(shown)
    assert (shown[:48, :31] == 16).all()
    assert (shown[:48, 34:] == 100).all()
    seen = shown.copy()
    masks.hide(seen)
    assert (seen[:23, 34:] == 16).all()
    assert (seen[26:48, 34:] == 100).all()
    assert [zone.name for zone in masks.around(0.75, 0.25)] == ["i"]


def test_with_detect_zones_nothing_else_is_seen():
    masks = Masks([Zone(name="d", kind=ZoneKind.DETECT, points=LEFT)])
    masks.turn(NOON)
    seen = picture()
    masks.hide(seen)
    assert (seen[:48, :31] == 100).all()
    assert (seen[:48, 34:] == 16).all()


def test_a_schedule_changes_what_is_hidden_and_says_so():
    masks = Masks([Zone(name="i", kind=ZoneKind.IGNORE, points=LEFT, schedule=(Weekly(begin="12:01", end="13:00"),))])
    assert not masks.turn(NOON)
    seen = picture()
    masks.hide(seen)
    assert (seen[:48] == 100).all()
    assert masks.turn(NOON + 60_000_000_000)
    masks.hide(seen)
    assert (seen[:48, :31] == 16).all()
    assert not masks.turn(NOON + 61_000_000_000)


# ---- scores, jobs, folders, probes


def test_a_score_that_never_changes_while_the_scene_moves_is_flat_and_a_still_scene_is_not():
    moving, still = FlatScore(10.0), FlatScore(10.0)
    assert not any(moving.scored(0.25, n * 0.1) for n in range(100))
    assert any(moving.scored(0.25, 10 + n * 0.1) for n in range(10))
    assert not moving.scored(0.5, 12.0)
    assert not any(still.scored(0.0, n * 2.0) for n in range(1000))


def test_a_job_and_its_changes_come_line_by_line():
    job = CameraJob(camera=CameraConfig(camera_id=CameraId("gate"), name="gate", url="demo://plaza"))
    line = msgspec.json.encode(job) + b"\n"
    read, write = os.pipe()
    feed = JobFeed(read)
    os.write(write, line + line[:20])
    assert feed.first() == job
    assert feed.newest() is None
    changed = msgspec.structs.replace(job, zones=(Zone(name="a", kind=ZoneKind.IGNORE, points=LEFT),))
    os.write(write, line[20:] + msgspec.json.encode(changed) + b"\n")
    assert feed.newest() == changed
    os.close(write)
    assert feed.newest() is None
    assert feed.ended
    os.close(read)


def test_no_job_is_told():
    read, write = os.pipe()
    os.close(write)
    with pytest.raises(ConfigError):
        JobFeed(read).first()
    os.close(read)


def test_a_folder_is_played_file_by_file_and_what_is_no_video_is_left_out(tmp_path):
    video(tmp_path / "a.mp4", 10)
    (tmp_path / "b.mp4").write_bytes(b"")
    (tmp_path / "c.txt").write_text("no video")
    video(tmp_path / "d.mp4", 5, width=96)
    source = open_source(str(tmp_path))
    assert isinstance(source, FolderSource)
    seen = [(frame.index, round(frame.media_s, 3), source.info.width) for frame in source.frames()]
    source.close()
    assert [index for index, _, _ in seen] == list(range(15))
    assert all(after[1] > before[1] for before, after in itertools.pairwise(seen))
    assert [width for _, _, width in seen] == [64] * 10 + [96] * 5


def test_a_probe_tells_what_is_there_or_why_nothing_is(config, tmp_path):
    from core.cameras.probe import ProbeJob

    found = look(ProbeJob(url=str(video(tmp_path / "a.mp4")), settings=CameraSettings()), config)
    assert (found.ok, found.codec, found.width, found.height, found.fps) == (True, "h264", 64, 48, 10.0)
    assert found.key_interval_s == pytest.approx(0.5)
    assert found.jpeg[:2] == b"\xff\xd8"
    missing = look(ProbeJob(url=str(tmp_path / "b.mp4"), settings=CameraSettings()), config)
    assert not missing.ok
    assert missing.advice


# ---- clips


def feed_clip(clips: ClipRecorder, path: Path) -> None:
    """All packets of a file at once."""
    source = open_source(str(path), SourceOptions(packets=clips))
    for _ in source.frames():
        pass


@pytest.fixture
def recorder(config) -> ClipRecorder:
    cameras = msgspec.structs.replace(config.cameras, disk_reserve_mb=0.0)
    roomy = msgspec.structs.replace(config, cameras=cameras)
    return ClipRecorder(roomy, CameraId("gate"), CameraSettings(pre_s=5.0, post_s=0.0))


def test_a_clip_holds_what_came_before_its_event_and_its_hash(recorder, config, tmp_path):
    feed_clip(recorder, video(tmp_path / "a.mp4"))
    now = time.monotonic()
    assert recorder.start("e", now)
    recorder.stop("e", now)
    (made,) = recorder.finish(10)
    assert made.media
    path = config.media_dir / made.media.file
    assert path.stat().st_size == made.media.size_bytes
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 30
    assert recorder.trouble == ""


def test_a_full_disk_costs_the_clip_and_is_told(recorder, tmp_path):
    full = msgspec.structs.replace(recorder._config.cameras, disk_reserve_mb=1e12)
    recorder._config = msgspec.structs.replace(recorder._config, cameras=full)
    feed_clip(recorder, video(tmp_path / "a.mp4"))
    assert recorder.start("e", time.monotonic())
    (made,) = recorder.finish(10)
    assert (made.event_id, made.media, recorder.lost) == ("e", None, 1)
    assert "no clips are written" in recorder.trouble


def test_packets_are_kept_from_a_key_frame_on_and_never_more_than_the_limit(config, tmp_path):
    small = msgspec.structs.replace(config.cameras, clip_mb=0.001)
    clips = ClipRecorder(msgspec.structs.replace(config, cameras=small), CameraId("gate"), CameraSettings(pre_s=60.0))
    feed_clip(clips, video(tmp_path / "a.mp4", 200))
    assert clips._groups
    assert all(group[0].key for group in clips._groups)
    assert clips._bytes <= 1000 + sum(len(one.data) for one in clips._groups[-1])


def test_no_clip_is_promised_where_there_are_no_packets(config):
    clips = ClipRecorder(config, CameraId("gate"), CameraSettings())
    assert not clips.start("e", time.monotonic())
    assert clips.finish(1) == []


# ---- what hangs


@pytest.mark.parametrize(("what", "for_s"), [("decode", 5.5), ("read", 15.0), ("open", 32.0)])
def test_a_call_that_does_not_come_back_ends_the_process_with_a_reason(config, what, for_s):
    pipeline = CameraPipeline.__new__(CameraPipeline)
    activity = Activity()
    pipeline._config, pipeline._capture = config, SimpleNamespace(activity=activity)
    activity.begin(what)
    pipeline._watch_capture()
    activity._now = (what, time.monotonic() - for_s)
    with pytest.raises(CaptureHung, match=what):
        pipeline._watch_capture()
    activity.begin("")
    pipeline._watch_capture()
