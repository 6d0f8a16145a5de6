"""Capture: from a source into the camera's two rings, at the source's pace or as fast as frames are taken."""

import os
import queue
import threading
import time
from collections.abc import Iterator

import msgspec
import structlog

from core.config import Config
from core.errors import HaetaeError
from core.frames import FrameFormat, RingWriter, fit_size
from core.ids import CameraId
from core.wire.messages import FrameRef
from workers.camera.pixels import MotionGate, scale_i420
from workers.camera.sources import Source, SourceFrame
from workers.camera.sources.base import SparingSource

__all__ = ["Capture", "Captured", "Rings"]

log = structlog.get_logger()

LOOP_GAP_S = 1000.0
"""Added to a source's own time at each new round, so that what looks back in time starts afresh."""


SPARE_FROM = 4.0
"""Frames that come for each that is analysed, from which on those that no other follows from are not decoded: encoders
with B frames make up to three of four such.
"""


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """One frame that lies in the rings; `analysis` is None where it is not due to be analysed."""

    index: int
    media_s: float
    """Seconds since the capture began, over all rounds of a looped file."""
    source_s: float
    """What speeds are measured against: the source's time, with a gap between rounds."""
    at_ns: int
    """UTC."""
    captured_ns: int
    """Monotonic."""
    main: FrameRef
    analysis: FrameRef | None
    learn: bool


class Rings:
    """The rings of one camera at one frame size: `main` as it came, `analysis` reduced."""

    def __init__(self, config: Config, camera_id: CameraId, width: int, height: int) -> None:
        bus = config.bus
        self.main = RingWriter.create(
            config.run_dir, camera_id, "main", FrameFormat(width, height, "i420"), bus.main_slots, bus.shm_share
        )
        size = fit_size(width, height, bus.analysis_width, bus.analysis_height)
        try:
            self.analysis = RingWriter.create(
                config.run_dir, camera_id, "analysis", FrameFormat(*size, "i420"), bus.analysis_slots, bus.shm_share
            )
        except HaetaeError:
            self.main.close()
            raise

    def close(self) -> None:
        self.main.close()
        self.analysis.close()


class Capture:
    """A thread that plays a source into the rings and hands over what it captured.

    Paced: frames come at the source's time, and one that nobody takes is replaced by the next (`skipped`). What is
    neither to be analysed nor watched is decoded, since others follow from it, and nothing else is done with it.
    Unpaced: the thread waits until there is room, `room` frames ahead at most, so nothing is lost.
    `wake_fd` becomes readable whenever there is something to take.
    """

    def __init__(
        self,
        rings: Rings,
        gate: MotionGate,
        *,
        analysis_fps: float,
        room: int = 2,
    ) -> None:
        self._rings = rings
        self._gate = gate
        self._period_s = 1 / analysis_fps if analysis_fps > 0 else 0.0
        self._queue: queue.Queue[Captured | None] = queue.Queue(room)
        self._stop = threading.Event()
        self._next_due_s = 0.0
        self._index = 0
        self._started_at_ns = time.time_ns()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.skipped = 0
        self.hold_gate_open = False
        self.error: HaetaeError | None = None

    def start(self, rounds: Iterator[tuple[Source, Iterator[SourceFrame], bool, bool]]) -> None:
        """Plays (source, its frames, whether paced, whether to learn) one after the other in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(rounds,), name="capture", daemon=True)
        self._thread.start()

    def _run(self, rounds: Iterator[tuple[Source, Iterator[SourceFrame], bool, bool]]) -> None:
        try:
            offset_s = 0.0
            for number, (source, frames, paced, learn) in enumerate(rounds):
                begun = time.monotonic() - offset_s
                last_s = offset_s
                sparing = source if paced and isinstance(source, SparingSource) else None
                for frame in frames:
                    last_s = offset_s + frame.media_s
                    if sparing:
                        few = source.info.fps * self._period_s >= SPARE_FROM
                        sparing.sparing = few and not self._rings.main.watched
                    if paced and self._spared(last_s):
                        self._index += 1
                        continue
                    if paced and self._stop.wait(max(0.0, begun + last_s - time.monotonic())):
                        return
                    captured = self._capture(frame, last_s, number * LOOP_GAP_S + frame.media_s, paced, learn)
                    if not self._hand_over(captured, paced):
                        return
                offset_s = last_s + 1 / max(source.info.fps, 1.0)
        except HaetaeError as error:
            self.error = error
        except Exception as error:
            log.exception("capture_failed")
            self.error = HaetaeError(f"capture failed: {type(error).__name__}: {error}")
        finally:
            self._hand_over(None, paced=False)

    def _capture(self, frame: SourceFrame, media_s: float, source_s: float, paced: bool, learn: bool) -> Captured:
        now_ns = time.monotonic_ns()
        at_ns = time.time_ns() if paced else self._started_at_ns + round(media_s * 1e9)
        with self._rings.main.write(source_s, now_ns, at_ns) as slot:
            frame.write_i420(slot.pixels)
            main, pixels = slot.ref, slot.pixels
        analysis = None
        if self._due(media_s) and self._gate.passes(pixels, media_s, hold_open=self.hold_gate_open or learn):
            with self._rings.analysis.write(source_s, now_ns, at_ns) as reduced:
                scale_i420(pixels, reduced.pixels)
                analysis = reduced.ref
        self._index += 1
        return Captured(
            index=self._index - 1,
            media_s=media_s,
            source_s=source_s,
            at_ns=at_ns,
            captured_ns=now_ns,
            main=main,
            analysis=analysis,
            learn=learn,
        )

    @property
    def captured(self) -> int:
        """Frames so far, those that nobody wanted too."""
        return self._index

    def _spared(self, media_s: float) -> bool:
        """Whether nobody wants the frame: it is not to be analysed, and no reader watches."""
        return media_s + self._period_s / 4 < self._next_due_s and not self._rings.main.watched

    def _due(self, media_s: float) -> bool:
        if media_s + self._period_s / 4 < self._next_due_s:
            return False
        self._next_due_s = max(self._next_due_s + self._period_s, media_s)
        return True

    def _hand_over(self, captured: Captured | None, paced: bool) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(captured, timeout=0 if paced else 0.2)
                os.eventfd_write(self.wake_fd, 1)
                return True
            except queue.Full:
                if paced:
                    self._drop_oldest()
        return False

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
            self.skipped += 1
        except queue.Empty:
            pass

    def take(self) -> Captured | None:
        """The next captured frame; None once the sources have ended. Raises queue.Empty where there is none yet."""
        return self._queue.get_nowait()

    def clear_wake(self) -> None:
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Stops the thread, waiting up to five seconds for a frame that is being decoded."""
        self._stop.set()
        self._thread.join(5)
