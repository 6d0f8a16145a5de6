"""The memory budget: a camera whose frames have no room is refused before it is added, and says what to do."""

import json

import msgspec
import pytest

from core.config import BusConfig
from core.errors import SegmentTooLarge
from core.frames import FrameFormat, RingWriter, budget, camera_bytes, fit_size, ring_budget
from core.ids import CameraId
from workers import cli

MB = 1 << 20


@pytest.fixture
def free(monkeypatch):
    """Says how much is free in /dev/shm."""
    left = {"bytes": 100 * MB}
    monkeypatch.setattr(budget, "free_bytes", lambda: left["bytes"])
    return left


def names(count: int) -> list[CameraId]:
    return [CameraId(f"cam-{number}") for number in range(count)]


def test_cameras_that_fit_pass_and_one_more_does_not(config, free):
    each = camera_bytes(config.bus, 1920, 1080)
    bus = msgspec.structs.replace(config.bus, shm_share=1.0)
    free["bytes"] = 3 * each
    ring_budget(bus, config.run_dir, names(3)).check()
    with pytest.raises(SegmentTooLarge, match="4 cameras") as refused:
        ring_budget(bus, config.run_dir, names(4)).check()
    assert "/dev/shm" in refused.value.hint


def test_a_camera_that_was_seen_counts_what_it_takes(config, free):
    bus = msgspec.structs.replace(config.bus, shm_share=1.0)
    writer = RingWriter.create(config.run_dir, CameraId("cam-0"), "main", FrameFormat(640, 360), 6)
    seen = ring_budget(bus, config.run_dir, names(1))
    both = ring_budget(bus, config.run_dir, names(2))
    writer.close()
    assert (seen.assumed, both.assumed) == (0, 1)
    assert 6 * 640 * 540 < seen.needed < 6 * 640 * 540 + 6 * 8192 + 4096
    assert seen.allowed == free["bytes"] + seen.needed
    assert both.needed == seen.needed + camera_bytes(bus, 1920, 1080)


def test_a_ring_takes_what_the_budget_says(config):
    bus = BusConfig()
    before = budget.free_bytes()
    small = fit_size(1280, 720, bus.analysis_width, bus.analysis_height)
    rings = [
        RingWriter.create(config.run_dir, CameraId("gate"), stream, FrameFormat(*size), slots)
        for stream, size, slots in (("main", (1280, 720), bus.main_slots), ("analysis", small, bus.analysis_slots))
    ]
    segments = [budget.SHM_DIR / ring.info.segment for ring in rings]
    taken = sum(segment.stat().st_size for segment in segments)
    for ring in rings:
        ring.close()
    assert taken == camera_bytes(bus, 1280, 720)
    assert before > taken


def test_adding_and_starting_are_refused_and_doctor_says_so(config, free, monkeypatch, capsys):
    monkeypatch.setenv("HAETAE_PATHS__DATA", str(config.data_dir))
    monkeypatch.setenv("HAETAE_PATHS__RUN", str(config.run_dir))
    free["bytes"] = 40 * MB
    add = ["camera", "add"]
    assert cli.main([*add, "one", "demo://plaza"]) == 0
    assert cli.main([*add, "two", "demo://plaza"]) != 0
    refused = capsys.readouterr()
    assert "2 cameras" in refused.err
    assert "shm-size" in refused.err
    assert cli.main([*add, "two", "demo://plaza", "--no-start"]) == 0
    assert cli.main(["camera", "start", "two"]) != 0
    free["bytes"] = 80 * MB
    assert cli.main(["camera", "start", "two"]) == 0
    free["bytes"] = 40 * MB
    capsys.readouterr()
    assert cli.main(["doctor", "--json"]) == 1
    [memory] = [check for check in json.loads(capsys.readouterr().out) if check["name"] == "shared memory"]
    assert memory["status"] == "fail"
    assert "2 cameras" in memory["found"]
