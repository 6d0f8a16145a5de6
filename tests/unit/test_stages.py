"""Batches on their way: prepared while another runs, and what is wrong with one row fails that row alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import FrameGone, ModelError
from core.frames import FrameFormat, RingSet, RingWriter
from core.ids import CameraId
from core.wire.messages import FrameRef
from workers.inference.scheduler import Ticket
from workers.inference.stages import Job, Stages, run_rows


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def process_but(bad: set[int], room: int = 1000):
    """Doubles each row; a batch with a bad one fails whole, and so does one that is too large."""

    def process(rows):
        if len(rows) > room:
            raise OutOfMemoryError
        if bad & set(rows):
            raise ValueError("no kernel takes this")
        return [2 * row for row in rows]

    return process


@settings(deadline=None)
@given(count=st.integers(0, 20), bad=st.sets(st.integers(0, 19)), room=st.integers(1, 20))
def test_bad_rows_fail_alone_and_too_large_a_batch_is_halved(count, bad, room):
    rows = list(range(count))
    run = run_rows(process_but(bad, room), rows)
    assert len(run.results) == count
    for row, result in zip(rows, run.results, strict=True):
        assert isinstance(result, ValueError) if row in bad else result == 2 * row
    assert run.whole == (not bad & set(rows) and count <= room)
    assert run.out_of_memory == 0 or run.out_of_memory > room
    assert run.guilty == sorted(bad & set(rows))


def test_no_memory_for_a_single_row_is_its_answer_and_nobodys_guilt():
    run = run_rows(process_but(set(), room=0), [1, 2])
    assert all(isinstance(result, OutOfMemoryError) for result in run.results)
    assert (run.out_of_memory, run.guilty) == (1, [])


def test_a_model_that_answers_too_few_rows_is_not_believed():
    run = run_rows(lambda rows: [0] if len(rows) > 1 else [], [1, 2])
    assert all(isinstance(result, ModelError) for result in run.results)


class Gated:
    """A model that runs only when it is let."""

    name = "gated"

    def __init__(self) -> None:
        self.prepared, self.running, self.go = [], threading.Semaphore(0), threading.Semaphore(0)
        self.seen_prepared = threading.Semaphore(0)

    def prepare(self, pixels, width, height):
        self.prepared.append((width, height))
        self.seen_prepared.release()
        return int(pixels[0, 0])

    def process(self, rows, executor=None):
        self.running.release()
        assert self.go.acquire(timeout=60)
        return [row.prepared for row in rows]


class BlankRow:
    prepared = None


def job(model, frames: list[FrameRef]) -> Job:
    return Job(
        model=model,
        tickets=[Ticket(camera_id=one.camera_id, vad_type="gated") for one in frames],
        frames=frames,
        rows=[BlankRow() for _ in frames],
        normalities=[None] * len(frames),
        begun_ns=0,
        ends_ns=0,
    )


@pytest.fixture
def ring(config):
    writer = RingWriter.create(config.run_dir, CameraId("gate"), "analysis", FrameFormat(64, 48), 4)
    yield writer
    writer.close()


def write(ring, value: int) -> FrameRef:
    with ring.write(0, 0, 0) as slot:
        slot.pixels[...] = value
        return slot.ref


def test_the_next_batch_is_prepared_while_one_runs(config, ring):
    model, woken = Gated(), threading.Semaphore(0)
    with ThreadPoolExecutor(1) as executor:
        stages = Stages(RingSet(config.run_dir), executor, woken.release)
        stages.begin(job(model, [write(ring, 1)]))
        assert model.running.acquire(timeout=60)
        stages.begin(job(model, [write(ring, 2)]))
        for _ in range(2):
            assert model.seen_prepared.acquire(timeout=60)
        assert stages.take() == []
        model.go.release(2)
        for _ in range(2):
            assert woken.acquire(timeout=60)
        assert [one.outcomes for one in stages.take()] == [[1], [2]]
        stages.close()


def test_a_frame_that_is_gone_fails_alone_and_closing_ends_what_was_begun(config, ring):
    model = Gated()
    model.go.release(1)
    good = write(ring, 7)
    gone = FrameRef(good.camera_id, good.stream, good.epoch, 99)
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as executor:
        stages = Stages(RingSet(config.run_dir), executor, lambda: None)
        stages.begin(job(model, [gone, good]))
        stages.close()
    [ended] = stages.take()
    assert isinstance(ended.outcomes[0], FrameGone)
    assert (ended.outcomes[1], ended.prepared) == (7, 1)
    assert time.monotonic() - begun < 50
