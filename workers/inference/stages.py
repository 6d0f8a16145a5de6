"""The two stages of a batch, a thread each: while the model runs one, the next is prepared."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import msgspec

from core.errors import ModelError
from core.frames import RingSet
from core.wire.messages import FrameRef
from workers.inference.memory import empty_device_cache, is_out_of_memory
from workers.inference.scheduler import Ticket
from workers.inference.states import Normality
from workers.inference.vad.base import Row, VadModel, VadScore

__all__ = ["Job", "Outcome", "Run", "Stages", "run_rows"]

Outcome = VadScore | Exception | None
"""An exception belongs to its row alone; None: taken in, no score yet."""


class Run(msgspec.Struct):
    """How running a batch went."""

    results: list[Outcome]
    whole: bool = True
    """False where it failed and was run again in parts."""
    out_of_memory: int = 0
    """The fewest rows that found no memory; 0 where none did."""
    guilty: list[int] = []
    """Rows that made the batch fail, though it was one of several."""


class Job(msgspec.Struct, kw_only=True):
    """A batch on its way; the thread that has it is the only one that touches it."""

    model: VadModel
    tickets: list[Ticket]
    frames: list[FrameRef]
    rows: list[Row]
    normalities: list[Normality]
    begun_ns: int
    ends_ns: int
    """When it is expected to have been run."""
    outcomes: list[Outcome] = []
    """One for each ticket, once it is done."""
    prepared: int = 0
    """Rows that could be prepared, and were run."""
    prepare_s: float = 0.0
    run_s: float = 0.0
    run: Run | None = None

    @property
    def vad_type(self) -> str:
        return self.tickets[0].vad_type


class Stages:
    """Prepares and runs jobs in the order in which they are begun; at most two are to be inside.

    Ended jobs lie in `take()`; `wake` is called, from another thread, when there is one.
    """

    def __init__(self, rings: RingSet, executor: Executor, wake: Callable[[], None]) -> None:
        """`rings` are read in the first thread only; `executor` is for the models."""
        self._rings, self._executor, self._wake = rings, executor, wake
        self._to_prepare: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._to_run: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._prepare_all, name="prepare", daemon=True),
            threading.Thread(target=self._run_all, name="run", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, job: Job) -> None:
        self._to_prepare.put(job)

    def take(self) -> list[Job]:
        """Those that have ended since the last call."""
        ended: list[Job] = []
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def _prepare_all(self) -> None:
        while job := self._to_prepare.get():
            self._prepare(job)
            self._to_run.put(job)
        self._to_run.put(None)

    def _prepare(self, job: Job) -> None:
        begun = time.perf_counter()
        job.outcomes = [None] * len(job.rows)
        for number, (frame, row) in enumerate(zip(job.frames, job.rows, strict=True)):
            try:
                with self._rings.read(frame) as found:
                    height, width = found.pixels.shape[0] * 2 // 3, found.pixels.shape[1]
                    row.prepared = job.model.prepare(found.pixels, width, height)
                job.prepared += 1
            except Exception as error:
                job.outcomes[number] = error
        job.prepare_s = time.perf_counter() - begun

    def _run_all(self) -> None:
        while job := self._to_run.get():
            begun = time.perf_counter()
            good = [number for number, outcome in enumerate(job.outcomes) if outcome is None]
            rows = [job.rows[number] for number in good]
            job.run = run_rows(lambda rows, job=job: job.model.process(rows, self._executor), rows)
            for number, result in zip(good, job.run.results, strict=True):
                job.outcomes[number] = result
            job.run.guilty = [good[number] for number in job.run.guilty]
            job.run_s = time.perf_counter() - begun
            self._ended.put(job)
            self._wake()

    def close(self) -> None:
        """Waits until all that was begun has ended; take() has it."""
        self._to_prepare.put(None)
        for thread in self._threads:
            thread.join()


def run_rows(process: Callable[[Sequence[Row]], list[Outcome]], rows: Sequence[Row]) -> Run:
    """Runs a batch; one that fails is run again in halves, so that what is wrong with one row fails that row alone.

    Never raises. A model that raises has changed nothing by its contract, so that running it again is safe.
    """
    if not rows:
        return Run([])
    try:
        results = process(rows)
        if len(results) != len(rows):
            raise ModelError(f"the model gave {len(results)} results for {len(rows)} frames")
        return Run(results)
    except Exception as error:
        failure = error
    short = len(rows) if is_out_of_memory(failure) else 0
    if short:
        # outside of the handler, and without the traceback: they keep alive what the failed batch held
        failure = failure.with_traceback(None)
        empty_device_cache()
    if len(rows) == 1:
        return Run([failure], whole=False, out_of_memory=short, guilty=[] if short else [0])
    half = len(rows) // 2
    first, second = run_rows(process, rows[:half]), run_rows(process, rows[half:])
    return Run(
        [*first.results, *second.results],
        whole=False,
        out_of_memory=min(filter(None, (short, first.out_of_memory, second.out_of_memory)), default=0),
        guilty=[*first.guilty, *(half + number for number in second.guilty)],
    )
