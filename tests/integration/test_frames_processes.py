"""The frame ring between processes: torn frames are never used, a killed writer harms nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from core.errors import BusError, FrameGone
from core.frames import FrameFormat, RingReader, RingWriter, segment_prefix, sweep
from core.frames.segments import SHM_DIR
from core.ids import CameraId

GATE = CameraId("gate")

WRITER = """
import sys, time
from pathlib import Path
from core.frames import FrameFormat, RingWriter
run, slots, hang_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
writer = RingWriter.create(run, "gate", "main", FrameFormat(640, 360), slots)
number = 0
while True:
    number += 1
    with writer.write(0.0, time.monotonic_ns(), 0) as slot:
        slot.pixels[: 270] = number % 251
        if number == hang_at:
            print("half written", flush=True)
            time.sleep(60)
        slot.pixels[270 :] = number % 251
    if number == 10:
        print("ten", flush=True)
"""


@pytest.fixture
def start_writer(config):
    started = []

    def start(slots: int = 3, hang_at: int = 0) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(config.run_dir), str(slots), str(hang_at)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline().strip() == "ten"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    sweep(config.run_dir)


def test_no_torn_frame_is_accepted_however_fast_the_writer(config, start_writer):
    start_writer(slots=3)
    reader = RingReader.open(config.run_dir, GATE, "main")
    good = torn = 0
    begun = time.monotonic()
    while time.monotonic() < begun + 2 or not (good and torn):
        assert time.monotonic() < begun + 60, "the writer was never in the reader's way: this test tested nothing"
        try:
            with reader.read(reader.latest()) as frame:
                seq, pixels = frame.seq, frame.pixels.copy()
        except FrameGone:
            torn += 1
            continue
        assert (pixels == seq % 251).all()
        good += 1
    reader.close()


def test_a_writer_killed_in_mid_write_leaves_the_last_frame_and_makes_room(config, start_writer):
    process = start_writer(slots=4, hang_at=25)
    assert process.stdout.readline().strip() == "half written"
    reader = RingReader.open(config.run_dir, GATE, "main")
    assert reader.writer_alive()
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    deadline = time.monotonic() + 60
    while reader.writer_alive():
        assert time.monotonic() < deadline
    ref = reader.latest()
    assert ref.seq == 24
    assert (reader.copy(ref) == 24).all()
    fresh = RingWriter.create(config.run_dir, GATE, "main", FrameFormat(64, 48), 4)
    assert not reader.is_current()
    assert (reader.copy(ref) == 24).all()
    reader.close()
    fresh.close()


def segments_of(config) -> set[str]:
    """Of this test: other programs have segments of their own, which come and go."""
    return {path.name for path in SHM_DIR.glob(f"{segment_prefix(config.run_dir)}*")}


def test_sweeping_removes_what_the_dead_left_and_nothing_else(config, start_writer):
    living = RingWriter.create(config.run_dir, CameraId("yard"), "main", FrameFormat(64, 48), 4)
    process = start_writer()
    process.kill()
    process.wait()
    before = segments_of(config)
    removed = sweep(config.run_dir)
    assert len(removed) == 1
    assert segments_of(config) == before - set(removed)
    with pytest.raises(BusError):
        RingReader.open(config.run_dir, GATE, "main")
    with living.write(0, 0, 0):
        pass
    assert sweep(config.run_dir) == []
    living.close()


def test_a_slow_reader_does_not_slow_the_writer(config, start_writer):
    start_writer(slots=4)
    reader = RingReader.open(config.run_dir, GATE, "main")
    first = reader.latest().seq
    with pytest.raises(FrameGone), reader.read(reader.latest()):
        deadline = time.monotonic() + 60
        while reader.latest().seq < first + 200:
            assert time.monotonic() < deadline
    reader.close()


def test_the_frames_command_shows_rate_size_and_readers_of_a_ring(config):
    writer = RingWriter.create(config.run_dir, CameraId("gate"), "main", FrameFormat(64, 48), 4)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.02):
            with writer.write(0, 0, 0):
                pass

    thread = threading.Thread(target=write)
    thread.start()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HAETAE_PATHS__DATA": str(config.data_dir),
        "HAETAE_PATHS__RUN": str(config.run_dir),
    }
    command = [sys.executable, "-m", "workers.cli", "frames", "--json"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    finally:
        stop.set()
        thread.join()
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert (row["camera_id"], row["stream"], row["width"], row["height"], row["slots"]) == ("gate", "main", 64, 48, 4)
    assert 0 < row["rate"] < 60
    assert 0 <= row["age_s"] < 60
    assert (row["readers"], row["torn"], row["alive"], row["writer"]) == (0, 0, True, os.getpid())
    writer.close()
    done = subprocess.run([*command[:-1]], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, "0 rings" in done.stdout) == (0, True)
