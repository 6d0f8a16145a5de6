"""The frame ring within one process: what is published is read, what is overwritten is refused."""

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BusError, FrameGone, SegmentTooLarge
from core.frames import Doorbell, FrameFormat, RingReader, RingSet, RingWriter, list_rings, segment_prefix, sweep
from core.frames.segments import SHM_DIR
from core.ids import CameraId

GATE = CameraId("gate")
SMALL = FrameFormat(64, 48)


@pytest.fixture
def writer(config):
    made = RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    yield made
    made.close()


def publish(writer: RingWriter, value: int):
    with writer.write(value / 10, time.monotonic_ns(), time.time_ns()) as slot:
        slot.pixels[...] = value
    return slot.ref


def test_a_published_frame_is_read_in_place_with_its_times(config, writer):
    with writer.write(1.5, 123, 456) as slot:
        slot.pixels[...] = 7
    reader = RingReader.open(config.run_dir, GATE, "main")
    with reader.read(reader.latest()) as frame:
        assert (frame.media_s, frame.captured_ns, frame.captured_at_ns, frame.seq) == (1.5, 123, 456, 1)
        assert frame.pixels.shape == (72, 64)
        assert (frame.pixels == 7).all()
        with pytest.raises(ValueError, match="read-only"):
            frame.pixels[0, 0] = 1
    reader.close()


def test_before_the_first_frame_there_is_none(config, writer):
    reader = RingReader.open(config.run_dir, GATE, "main")
    assert reader.latest() is None
    assert reader.statistics().age_s == float("inf")
    reader.close()


def test_a_frame_overwritten_while_it_was_read_is_refused(config, writer):
    ref = publish(writer, 1)
    reader = RingReader.open(config.run_dir, GATE, "main")
    with pytest.raises(FrameGone, match="while it was read"), reader.read(ref):
        for value in range(2, 7):
            publish(writer, value)
    assert reader.statistics().torn_rejected == 1
    with pytest.raises(FrameGone), reader.read(ref):
        pass
    assert reader.statistics().gone == 1
    reader.close()


def test_a_frame_whose_writing_failed_is_never_seen(config, writer):
    publish(writer, 1)
    with pytest.raises(RuntimeError), writer.write(0, 0, 0) as slot:
        slot.pixels[...] = 99
        raise RuntimeError
    reader = RingReader.open(config.run_dir, GATE, "main")
    assert (reader.copy(reader.latest()) == 1).all()
    assert writer.statistics().abandoned == 1
    assert (reader.copy(publish(writer, 2)) == 2).all()
    reader.close()


def test_a_leased_frame_is_spared_until_the_lease_is_over(config, writer):
    ref = publish(writer, 1)
    reader = RingReader.open(config.run_dir, GATE, "main")
    assert reader.lease(ref.seq, 0.05)
    deadline = time.monotonic() + 60
    with pytest.raises(FrameGone):
        while time.monotonic() < deadline:
            publish(writer, 3)
            reader.copy(ref)
    ref = publish(writer, 1)
    assert reader.lease(ref.seq, 60)
    for _ in range(200):
        publish(writer, 2)
        assert (reader.copy(ref) == 1).all()
    reader.close()


def test_leases_never_stop_the_writer(config, writer):
    reader = RingReader.open(config.run_dir, GATE, "main")
    for value in range(8):
        reader.lease(publish(writer, value).seq, 2.0)
    assert writer.statistics().published == 8
    reader.close()


def test_a_second_live_writer_is_refused(config, writer):
    with pytest.raises(BusError, match="has a writer already"):
        RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    assert len(list_rings(config.run_dir)) == 1


def test_an_odd_size_is_refused_for_i420(config):
    with pytest.raises(BusError, match="even size"):
        RingWriter.create(config.run_dir, GATE, "odd", FrameFormat(63, 48), 4)


def test_a_segment_too_large_for_shared_memory_is_refused_with_a_hint(config):
    free = os.statvfs(SHM_DIR).f_bavail * os.statvfs(SHM_DIR).f_frsize
    rows = 2 * (free // (100_000 * 3))
    with pytest.raises(SegmentTooLarge, match="shared memory") as caught:
        RingWriter.create(config.run_dir, GATE, "huge", FrameFormat(100_000, rows), 4)
    assert "shm" in caught.value.hint
    assert list_rings(config.run_dir) == []
    assert sweep(config.run_dir) == []


def test_a_new_epoch_is_found_and_the_old_one_is_gone(config):
    rings = RingSet(config.run_dir)
    first = RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    old = publish(first, 1)
    with rings.read(old) as frame:
        assert frame.pixels.shape == (72, 64)
    first.close()
    second = RingWriter.create(config.run_dir, GATE, "main", FrameFormat(32, 32), 4)
    new = publish(second, 2)
    with rings.read(new) as frame:
        assert frame.pixels.shape == (48, 32)
    with pytest.raises(FrameGone), rings.read(old):
        pass
    rings.close()
    second.close()


def test_an_old_mapping_outlives_its_ring(config):
    writer = RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    ref = publish(writer, 5)
    reader = RingReader.open(config.run_dir, GATE, "main")
    writer.close()
    assert not reader.is_current()
    assert not reader.writer_alive()
    assert (reader.copy(ref) == 5).all()
    reader.close()


def test_bgr_frames_have_three_channels(config):
    writer = RingWriter.create(config.run_dir, GATE, "bgr", FrameFormat(7, 5, "bgr"), 4)
    assert np.shape(publish_and_copy(config, writer)) == (5, 7, 3)
    writer.close()


def publish_and_copy(config, writer: RingWriter) -> np.ndarray:
    ref = publish(writer, 3)
    reader = RingReader.open(config.run_dir, ref.camera_id, ref.stream)
    try:
        return reader.copy(ref)
    finally:
        reader.close()


def test_the_doorbell_rings_for_each_reader_and_never_blocks(config):
    bells = [Doorbell(config.run_dir, f"reader-{number}") for number in range(2)]
    writer = RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    for value in range(100):
        publish(writer, value)
    assert all(bell.wait(60) for bell in bells)
    assert not bells[0].wait(0)
    bells[0].close()
    publish(writer, 1)
    assert bells[1].wait(60)
    bells[1].close()
    writer.close()


def test_a_bell_that_has_rung_is_silent_until_its_reader_has_taken_notice(config, writer):
    bell = Doorbell(config.run_dir, "reader")
    for value in range(100):  # more than a socket's queue holds
        publish(writer, value)
    assert bell.wait(60)
    assert not bell.wait(0)
    publish(writer, 1)
    assert bell.wait(60)
    bell.close()
    again = Doorbell(config.run_dir, "reader")
    deadline = time.monotonic() + 60
    while not again.wait(0.01):
        assert time.monotonic() < deadline, "a reader that started again is not rung"
        publish(writer, 1)
    again.close()


def test_no_frame_waits_for_the_next_look_however_often_bell_and_reader_meet(config, writer):
    bell = Doorbell(config.run_dir, "reader")
    reader = RingReader.open(config.run_dir, GATE, "main")
    count, seen = 3000, 0
    go = threading.Semaphore(1)

    def write() -> None:
        for value in range(count):
            go.acquire(timeout=60)
            publish(writer, value % 251)

    thread = threading.Thread(target=write)
    thread.start()
    while seen < count:
        while (ref := reader.latest()) is None or ref.seq == seen:
            assert bell.wait(60), "it was published, and the bell did not ring"
        seen = ref.seq
        go.release()
    thread.join()
    reader.close()
    bell.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.sampled_from(["publish", "wait", "hush", "answer"]), max_size=30))
def test_whatever_was_published_since_the_last_notice_has_rung(config, writer, steps):
    bell = Doorbell(config.run_dir, "reader")
    writer._ringer._scan_at_ns = 0  # it would be found within a second
    publish(writer, 0)
    unseen, silent = True, False
    for step in steps:
        match step:
            case "publish":
                publish(writer, 1)
                if not unseen:
                    unseen, silent = True, False
            case "wait":
                assert bell.wait(0) or not unseen
                unseen = False
            case "hush":
                bell.hush()
                silent = True
            case "answer":
                bell.answer()
                unseen, silent = False, True
        readable = bool(select.select([bell], [], [], 0)[0])
        assert readable or silent or not unseen, "who waits for the descriptor sleeps over a frame"
        assert not (readable and silent), "it wakes its reader for what that has been told already"
    bell.close()


def test_the_bells_of_the_dead_are_swept_and_those_of_the_living_stay(config, writer):
    living = Doorbell(config.run_dir, "living")
    code = f"""
import os
from pathlib import Path
from core.frames import Doorbell
bell = Doorbell(Path({str(config.run_dir)!r}), "dead")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], timeout=300, check=True)
    bells = config.run_dir / "bells"
    assert {path.name for path in bells.iterdir()} == {"dead.bell", "dead.word", "living.bell", "living.word"}
    publish(writer, 1)
    sweep(config.run_dir)
    assert {path.name for path in bells.iterdir()} == {"living.bell", "living.word"}
    assert living.wait(60)
    publish(writer, 2)
    assert living.wait(60)
    living.close()
    assert list(bells.iterdir()) == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.sampled_from(["publish", "fail"]), max_size=40), n_slots=st.integers(2, 7))
def test_of_n_slots_the_last_frames_but_one_can_always_be_read(config, steps, n_slots):
    writer = RingWriter.create(config.run_dir, GATE, "history", SMALL, n_slots)
    reader = RingReader.open(config.run_dir, GATE, "history")
    refs = []
    for number, step in enumerate(steps):
        if step == "publish":
            refs.append((publish(writer, number), number))
        else:
            with pytest.raises(RuntimeError), writer.write(0, 0, 0) as slot:
                slot.pixels[...] = 255
                raise RuntimeError
        for ref, value in refs[-(n_slots - 1) :]:
            with reader.read(ref) as frame:
                assert (frame.pixels == value).all()
                assert frame.media_s == value / 10
        for ref, _ in refs[:-n_slots]:
            with pytest.raises(FrameGone), reader.read(ref):
                pass
    reader.close()
    writer.close()


def test_frames_are_read_within_one_another_and_errors_pass_through(config, writer):
    first, second = publish(writer, 1), publish(writer, 2)
    reader = RingReader.open(config.run_dir, GATE, "main")
    with reader.read(first) as one, reader.read(second) as other:
        assert (one.pixels[0, 0], other.pixels[0, 0]) == (1, 2)
    with pytest.raises(ZeroDivisionError), reader.read(first):
        raise ZeroDivisionError
    assert reader.statistics().read == 2
    reader.close()


def segments_of(config) -> list[Path]:
    return list(SHM_DIR.glob(f"{segment_prefix(config.run_dir)}*"))


def test_closing_leaves_nothing_behind(config):
    writer = RingWriter.create(config.run_dir, GATE, "main", SMALL, 4)
    publish(writer, 1)
    writer.close()
    assert segments_of(config) == []
    assert list_rings(config.run_dir) == []


def test_no_resource_tracker_is_started(config):
    code = f"""
from pathlib import Path
from core.frames import *
run = Path({str(config.run_dir)!r})
w = RingWriter.create(run, "gate", "main", FrameFormat(64, 48), 4)
with w.write(0, 0, 0) as s: pass
r = RingReader.open(run, "gate", "main"); r.copy(s.ref); r.close(); w.close()
from multiprocessing import resource_tracker
print(resource_tracker._resource_tracker._pid)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "None"
    assert done.stderr == ""
    assert segments_of(config) == []


def test_a_writer_knows_for_how_long_it_is_watched(config, writer):
    reader = RingReader.open(config.run_dir, GATE, "main")
    assert not writer.watched
    reader.watch(30)
    assert writer.watched
    reader.watch(0)
    assert writer.watched, "another reader's wish was cut short"
    reader.close()
