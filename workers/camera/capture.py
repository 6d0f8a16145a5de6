"""Capture: from a source into the camera's two rings, at the source's pace or as fast as frames are taken."""

import enum
import math
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Protocol

import msgspec
import numpy as np
import structlog

from core.config import Config
from core.errors import HaetaeError
from core.frames import FrameFormat, RingWriter, fit_size
from core.ids import CameraId
from core.wire.messages import FrameRef
from workers.camera.masks import Masks
from workers.camera.pixels import MotionGate, planes, scale_i420
from workers.camera.sight import Finding, Sight
from workers.camera.sources import Source, SourceFrame
from workers.camera.sources.base import Activity, Planes, Wanted

__all__ = ["Capture", "Captured", "Pace", "Rings", "Round"]

log = structlog.get_logger()

LOOP_GAP_S = 1000.0
"""Added to a source's own time at each new round, so that what looks back in time starts afresh."""
QUIET_NS = 450_000_000
"""Of pictures that are not to be scored and are as good as the last, so many nanoseconds apart one is captured."""
STILL_S, STILL_PERIOD_S = 3.0, 0.4
"""A scene in which nothing has changed for so long is looked at half as often, but at least so often, until something
does: what was not looked at meanwhile is decoded in one go, and nobody waits longer for an alarm than that."""
FEW_FROM = 4.0
"""Frames that come for each that is analysed, from which on those that no other follows from are not decoded: encoders
with B frames make up to three of four such.
"""


class Pace(enum.Enum):
    """When a source's frames are captured."""

    FAST = enum.auto()
    """As fast as they are taken; nothing is lost."""
    TIMED = enum.auto()
    """At the source's own time; what nobody takes is replaced by what comes next."""
    LIVE = enum.auto()
    """When they come; what nobody takes is replaced by what comes next."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One going through a source."""

    source: Source
    frames: Iterator[SourceFrame]
    pace: Pace
    learn: bool = False


class Watcher(Protocol):
    """Looks at each main picture, in the capturing thread."""

    def picture(self, luma: np.ndarray) -> None:
        """`luma` (h, w) uint8."""
        ...


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
    width: int
    """Of the main picture."""
    height: int
    learn: bool
    finding: Finding | None = None
    """What was found wrong with it, or right; None where nobody looked."""

    @property
    def vetoed(self) -> bool:
        """Whether it must be neither scored nor learned from."""
        return self.finding is not None and self.finding.vetoed


class Rings:
    """The rings of one camera: `main` as it came, `analysis` reduced. Another frame size is another epoch of both."""

    def __init__(self, config: Config, camera_id: CameraId) -> None:
        self._config, self._camera_id = config, camera_id
        self._both: tuple[RingWriter, RingWriter] | None = None
        self.size = (0, 0)

    def fit(self, width: int, height: int) -> None:
        """Makes them anew unless they have this size; raises BusError."""
        if self.size == (width, height):
            return
        self.close()
        bus = self._config.bus
        main = self._made("main", width, height, bus.main_slots)
        try:
            size = fit_size(width, height, bus.analysis_width, bus.analysis_height)
            self._both = main, self._made("analysis", *size, bus.analysis_slots)
        except HaetaeError:
            main.close()
            raise
        self.size = (width, height)

    def _made(self, stream: str, width: int, height: int, slots: int) -> RingWriter:
        share = self._config.bus.shm_share
        frame_format = FrameFormat(width, height, "i420")
        return RingWriter.create(self._config.run_dir, self._camera_id, stream, frame_format, slots, share)

    @property
    def main(self) -> RingWriter:
        assert self._both
        return self._both[0]

    @property
    def watched(self) -> bool:
        """Whether a reader wants every frame of `main`."""
        return self._both is not None and self._both[0].watched

    @property
    def analysis(self) -> RingWriter:
        assert self._both
        return self._both[1]

    def close(self) -> None:
        for ring in self._both or ():
            ring.close()
        self._both, self.size = None, (0, 0)


class Capture:
    """A thread that plays a source into the rings and hands over what it captured.

    Of a round that is paced or live, a frame that nobody takes is replaced by the next (`skipped`), and what is neither
    to be analysed nor watched is decoded, since others follow from it, and nothing else is done with it; of pictures
    that say nothing new, a few each second go into the rings and are handed over, unless somebody watches. Otherwise
    the thread waits until there is room, `room` frames ahead at most, so nothing is lost.
    `wake_fd` becomes readable whenever there is something to take.
    """

    def __init__(
        self,
        rings: Rings,
        gate: MotionGate,
        *,
        analysis_fps: float,
        masks: Masks | None = None,
        watcher: Watcher | None = None,
        sight: Sight | None = None,
        room: int = 4,
    ) -> None:
        self._rings = rings
        self._watcher, self._sight = watcher, sight
        self.masks = masks or Masks(())
        """May be replaced while it runs."""
        self._masks = self.masks
        self.activity = Activity()
        self.wanted = Wanted()
        """For the sources that are played."""
        self.stopped = threading.Event()
        self._gate = gate
        self.analysis_fps = analysis_fps
        self._queue: queue.Queue[Captured | None] = queue.Queue(room)
        self._told: Finding | None = None
        """Of what was handed over last."""
        self._told_ns = 0
        self._next_due_s = 0.0
        self._busy_s = 0.0
        """When something changed last."""
        self._index = 0
        self._gap = -1
        self.begun_s = time.monotonic()
        """Monotonic; what `media_s` of live frames counts from."""
        self._started_at_ns = time.time_ns()
        self._thread: threading.Thread | None = None
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.skipped = 0
        self.hold_gate_open = False
        self.error: HaetaeError | None = None

    def start(self, rounds: Iterator[Round]) -> None:
        """Plays one round after the other in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(rounds,), name="capture", daemon=True)
        self._thread.start()

    def _run(self, rounds: Iterator[Round]) -> None:
        try:
            offset_s = 0.0
            for one in rounds:
                self._gap += 1
                if one.pace is Pace.LIVE:
                    offset_s = max(offset_s, time.monotonic() - self.begun_s)
                speed = one.source.info.speed
                begun = time.monotonic() - offset_s / speed
                last_s = offset_s
                for frame in one.frames:
                    last_s = offset_s + frame.media_s
                    if one.pace is not Pace.FAST and self._spared(last_s):
                        self._index += 1
                        self._tell_wanted(one, offset_s)
                        continue
                    late_s = begun + last_s / speed - time.monotonic() if one.pace is Pace.TIMED else 0.0
                    if late_s > 0 and self.stopped.wait(late_s):
                        return
                    captured = self._capture(one, frame, last_s)
                    self._tell_wanted(one, offset_s)
                    if captured and not self._hand_over(captured, wait=one.pace is Pace.FAST):
                        return
                offset_s = last_s + 1 / max(one.source.info.fps, 1.0)
        except HaetaeError as error:
            self.error = error
        except Exception as error:
            log.exception("capture_failed")
            self.error = HaetaeError(f"capture failed: {type(error).__name__}: {error}")
        finally:
            self.activity.begin("")
            self._hand_over(None, wait=True)

    def _capture(self, one: Round, frame: SourceFrame, media_s: float) -> Captured | None:
        """Looks at a frame and puts it into the rings; None where it says nothing that was not said a moment ago, and
        nobody watches: then it is looked at where it lies, and not copied.
        """
        width, height = one.source.info.width, one.source.info.height
        self._rings.fit(width, height)
        now_ns = time.monotonic_ns()
        at_ns = self._started_at_ns + round(media_s * 1e9) if one.pace is Pace.FAST else time.time_ns()
        self._follow_masks(at_ns)
        source_s = self._gap * LOOP_GAP_S + frame.media_s
        due = self._due(media_s)
        stamp = (source_s, now_ns, at_ns)
        spares = one.pace is not Pace.FAST and not self._rings.watched and not self._masks.private
        main, picture = None, frame.planes() if spares else None
        if picture is None:
            main, picture = self._publish(frame, stamp)
        if self._watcher and not one.learn:
            self._watcher.picture(picture[0])
        finding = self._sight.look(picture, source_s) if self._sight and due else None
        hold_open = self.hold_gate_open or one.learn
        vetoed = bool(finding and finding.vetoed)
        scored = due and not vetoed and self._gate.passes(picture[0], media_s, hold_open=hold_open)
        self._index += 1
        known = not scored and not vetoed and (finding is None or finding is self._told)
        if one.pace is not Pace.FAST and known and now_ns - self._told_ns < QUIET_NS:
            return None
        self._told, self._told_ns = finding or self._told, now_ns
        if vetoed or hold_open or (scored and self._gate.changed):
            self._busy_s = media_s
            self._next_due_s = min(self._next_due_s, media_s + self._period_s)
        if main is None:
            main, picture = self._publish(frame, stamp)
        analysis = None
        if scored:
            with self._rings.analysis.write(*stamp) as reduced:
                scale_i420(picture, reduced.pixels)
                self._masks.hide(reduced.pixels)
                analysis = reduced.ref
        return Captured(
            index=self._index - 1,
            media_s=media_s,
            source_s=source_s,
            at_ns=at_ns,
            captured_ns=now_ns,
            main=main,
            analysis=analysis,
            width=width,
            height=height,
            learn=one.learn,
            finding=finding,
        )

    def _follow_masks(self, at_ns: int) -> None:
        masks = self.masks
        if masks is not self._masks:
            if self._sight and (masks.private or self._masks.private):
                self._sight.forget()  # what is black is another part of the view
            self._masks = masks
        if masks.turn(at_ns):
            self._gap += 1  # what a mask covers or lays bare is no movement

    def _publish(self, frame: SourceFrame, stamp: tuple[float, int, int]) -> tuple[FrameRef, Planes]:
        with self._rings.main.write(*stamp) as slot:
            frame.write_i420(slot.pixels)
            self._masks.blacken(slot.pixels)
            return slot.ref, planes(slot.pixels)

    @property
    def captured(self) -> int:
        """Frames so far, those that nobody wanted too."""
        return self._index + self.wanted.left_out

    def _tell_wanted(self, one: Round, offset_s: float) -> None:
        all_are = one.pace is Pace.FAST or self._rings.watched
        self.wanted.due_s = -math.inf if all_are else self._next_due_s - self._period_s / 4 - offset_s
        self.wanted.few = not all_are and one.source.info.fps * self._period_s >= FEW_FROM

    def _spared(self, media_s: float) -> bool:
        """Whether nobody wants the frame: it is not to be analysed, and no reader watches."""
        return media_s + self._period_s / 4 < self._next_due_s and not self._rings.watched

    def _due(self, media_s: float) -> bool:
        if media_s + self._period_s / 4 < self._next_due_s:
            return False
        period_s = self._period_s
        if media_s - self._busy_s >= STILL_S:
            period_s = max(period_s, min(2 * period_s, STILL_PERIOD_S))
        self._next_due_s = max(self._next_due_s + period_s, media_s)
        return True

    @property
    def _period_s(self) -> float:
        return 1 / self.analysis_fps if self.analysis_fps > 0 else 0.0

    def _hand_over(self, captured: Captured | None, *, wait: bool) -> bool:
        while not self.stopped.is_set():
            try:
                self._queue.put(captured, timeout=0.2 if wait else 0)
                os.eventfd_write(self.wake_fd, 1)
                return True
            except queue.Full:
                if not wait:
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

    def stop(self, timeout_s: float) -> bool:
        """Stops the thread; False where it hangs in a library, so that what it uses must be left alone."""
        self.stopped.set()
        if self._thread:
            self._thread.join(timeout_s)
        return not (self._thread and self._thread.is_alive())
