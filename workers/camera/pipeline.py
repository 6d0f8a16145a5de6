"""CameraPipeline: one camera from its captured frames to its events.

Capture runs in a thread; everything else is this one loop: ask for scores, track events, keep them safe.
"""

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import structlog
import zmq

from core.cameras import CameraPhase
from core.cameras.history import NormalityVersion, ScoreMinute
from core.cameras.job import CameraJob, JobResult
from core.cameras.outbox import HistoryOutbox
from core.clock import utc_iso
from core.config import Config
from core.errors import ConfigError, HaetaeError, RemoteError, SourceError
from core.events import EventState
from core.events.outbox import EventOutbox
from core.events.tracker import EventTracker, Observation
from core.heartbeat import Heartbeat
from core.ids import NodeId
from core.wire.messages import (
    ErrorReply,
    FinishLearning,
    GetState,
    InferenceReply,
    LearnedReply,
    ScoreReply,
    ScoreRequest,
)
from core.wire.rpc import RequestClient
from workers.camera.capture import Capture, Captured, Rings
from workers.camera.pixels import MotionGate
from workers.camera.recorder import EventRecorder, ScoreSheet
from workers.camera.score_history import ScoreHistory
from workers.camera.sources import Source, SourceFrame, open_source
from workers.camera.sources.base import SimulatedSource

__all__ = ["CameraPipeline"]

log = structlog.get_logger()

_FATAL = {"unknown_type", "bad_state", "bad_request"}
"""Error codes of inference that asking again does not mend."""
PERIOD_MS = 250
"""How long the loop waits at most: it looks after time-outs, and gives a sign of life."""
AGES = 4096
"""Scores whose age is remembered."""
_RESENDS = 20
"""How often a lossless frame is asked for again: inference may be restarting."""


class CameraPipeline:
    """Everything one camera process does; made, run once, closed, all in one thread."""

    def __init__(self, config: Config, job: CameraJob, heartbeat: Heartbeat, stopped: Callable[[], bool]) -> None:
        """Opens the source and the rings; raises SourceError, BusError or ConfigError."""
        self._config, self._job, self._heartbeat, self._stopped = config, job, heartbeat, stopped
        self._camera = job.camera
        self._normality_id = job.normality_id or job.camera.camera_id
        self._phase = CameraPhase.CONNECTING
        self._heartbeat.beat(self._phase)
        self._source = open_source(job.camera.url)
        info = self._source.info
        self._rings = Rings(config, job.camera.camera_id, info.width, info.height)
        self._gate = MotionGate(config.vad.gate_max_closed_s)
        self._capture = Capture(self._rings, self._gate, analysis_fps=0 if job.lossless else job.camera.analysis_fps)
        self._context: zmq.Context[Any] = zmq.Context()
        self._inference = RequestClient(self._context, config.endpoint("inference"), InferenceReply)
        self._control = RequestClient(self._context, config.endpoint("inference"), InferenceReply)
        self._outbox = EventOutbox(self._context, config, job.camera.camera_id)
        self._tracker = EventTracker(
            config.tracker,
            camera_id=job.camera.camera_id,
            node_id=NodeId(config.node_id),
            vad_type=job.camera.vad_type,
            frame_width=info.width,
            frame_height=info.height,
        )
        self._recorder = EventRecorder(config, job, info, self._inference, self._outbox)
        self._sheet = ScoreSheet()
        self._history: HistoryOutbox | None = None
        if not job.lossless:
            self._history = HistoryOutbox(self._context, config.endpoint("logger"))
        self._scores = ScoreHistory(job.camera.camera_id, NodeId(config.node_id))
        self._pending: dict[int, tuple[Captured, int]] = {}
        self._learning = False
        self._catching_up = False
        self._last: ScoreReply | None = None
        self._frames = 0
        self._first_ns = self._last_ns = 0
        self._ages_ns: deque[int] = deque(maxlen=AGES)
        self._ended = False
        self._warnings: list[str] = []
        self.counts: Counter[str] = Counter()

    # ---- running

    def run(self) -> JobResult:
        """Plays the camera until its input ends or `stopped()`; raises HaetaeError where it cannot go on."""
        self._outbox.interrupt_open()
        self._decide_learning()
        self._capture.start(self._rounds())
        poller = zmq.Poller()
        for handle in (self._capture.wake_fd, self._inference.socket, self._outbox.socket):
            poller.register(handle, zmq.POLLIN)
        while not (self._stopped() or (self._ended and not self._pending)):
            poller.poll(PERIOD_MS)
            self._capture.clear_wake()
            for request_id, reply in self._inference.receive():
                self._on_reply(request_id, reply)
            self._take_captured()
            self._outbox.pump()
            if self._history:
                self._history.pump()
            self._heartbeat.beat(self._phase, self._capture.captured)
        return self._finish()

    def _decide_learning(self) -> None:
        """Asks inference whether there is a state; waits for it to be up, since nothing can be scored before."""
        known = self._known_state()
        own = self._normality_id == self._camera.camera_id
        self._learning = self._job.learn_only or (own and known.state_version == 0)
        self._set_phase(CameraPhase.LEARNING if self._learning else _phase_of(known.state))

    def _known_state(self) -> LearnedReply:
        request = GetState(vad_type=self._camera.vad_type, normality_id=self._normality_id)
        while not self._stopped():
            try:
                return self._ask_control(request, timeout_s=1.0)
            except RemoteError as error:
                if error.code in _FATAL:
                    raise ConfigError(str(error)) from error
                log.info("waiting_for_inference", code=error.code, reason=str(error))
        return LearnedReply(state="learning", state_version=0, learned_s=0, frames=0)

    def _ask_control(self, request: GetState | FinishLearning, timeout_s: float) -> LearnedReply:
        """The reply to a request about the state, with the heart beating while it is awaited; raises WireError."""
        self._control.send(request, timeout_s)
        while True:
            self._heartbeat.beat(self._phase, self._capture.captured)
            for _, reply in self._control.receive(0.2):
                if isinstance(reply, ErrorReply):
                    raise RemoteError(reply.code, reply.message)
                return reply

    def _rounds(self) -> Iterator[tuple[Source, Iterator[SourceFrame], bool, bool]]:
        """What capture plays: simulated time to learn from, then the source itself, again and again if it loops."""
        source, paced = self._source, not self._job.lossless
        if self._learning and not self._job.lossless and isinstance(source, SimulatedSource):
            yield source, source.normal_frames(self._camera.learn_s), False, True
        yield source, source.frames(), paced, False
        for url in self._job.more_urls:
            source.close()
            source = self._reopen(url)
            yield source, source.frames(), paced, False
        while paced and self._camera.loop and source.info.frames is not None and not self._stopped():
            source.close()
            source = self._reopen(self._camera.url)
            yield source, source.frames(), True, False

    def _reopen(self, url: str) -> Source:
        source, first = open_source(url), self._source.info
        if (source.info.width, source.info.height) != (first.width, first.height):
            source.close()
            raise SourceError(
                f"{source.info.name} is {source.info.width}x{source.info.height}, the first was "
                f"{first.width}x{first.height}",
                "files that are learned from together come from one camera",
            )
        self._source = source
        return source

    # ---- frames out, replies in

    def _take_captured(self) -> None:
        while not (self._job.lossless or self._catching_up) or not self._pending:
            try:
                captured = self._capture.take()
            except queue.Empty:
                return
            if captured is None:
                self._ended = True
                if self._capture.error:
                    raise self._capture.error
                return
            self._frames += 1
            if self._history and not captured.learn:
                self._remember(self._scores.picture(captured.at_ns / 1e9))
            if self._catching_up and not captured.learn:
                self._finish_learning()
            self._catching_up = captured.learn
            if captured.analysis is None:
                self._record(captured, None)
            else:
                self._ask(captured, resends=0)

    def _ask(self, captured: Captured, resends: int) -> None:
        assert captured.analysis
        request = ScoreRequest(
            frame=captured.analysis,
            media_s=captured.source_s,
            vad_type=self._camera.vad_type,
            normality_id=self._normality_id,
            learn=self._learning,
            lossless=self._job.lossless or captured.learn,
            priority=3 if captured.learn else 1 if self._capture.hold_gate_open else 2,
            weight=min(max(self._camera.analysis_fps, 1.0), 1000.0),
        )
        request_id = self._inference.send(request, self._config.inference.request_timeout_s)
        self._pending[request_id] = (captured, resends)

    def _on_reply(self, request_id: int, reply: Any) -> None:
        if request_id not in self._pending:
            self._recorder.on_reply(request_id, reply)
            return
        captured, resends = self._pending.pop(request_id)
        if isinstance(reply, ErrorReply):
            self._on_error(captured, resends, reply)
        elif isinstance(reply, ScoreReply):
            self.counts[reply.status] += 1
            if reply.status == "scored":
                self._on_score(captured, reply)
            self._record(captured, reply if reply.status == "scored" else None)
            self._progress_learning(captured, reply)

    def _on_error(self, captured: Captured, resends: int, reply: ErrorReply) -> None:
        self.counts[reply.code] += 1
        if reply.code in _FATAL:
            raise ConfigError(reply.message)
        if reply.code == "no_state" and not self._job.lossless:
            self._learning = True
            self._set_phase(CameraPhase.LEARNING)
        elif self._job.lossless or captured.learn:
            if resends >= _RESENDS or reply.code != "timeout":
                raise HaetaeError(f"inference: {reply.message}")
            self._ask(captured, resends + 1)
            return
        else:
            log.warning("frame_not_scored", code=reply.code, reason=reply.message)
        self._record(captured, None)

    def _on_score(self, captured: Captured, reply: ScoreReply) -> None:
        self._last_ns = time.monotonic_ns()
        self._first_ns = self._first_ns or self._last_ns
        self._ages_ns.append(self._last_ns - captured.captured_ns)
        self._last = reply
        if self._job.learn_only:
            return
        info = self._source.info
        seen = Observation(
            media_s=captured.media_s,
            at=datetime.fromtimestamp(captured.at_ns / 1e9, UTC),
            score=reply.score,
            peak_x=reply.peak_x * info.width,
            peak_y=reply.peak_y * info.height,
            reason=reply.reason,
            state_version=reply.state_version,
            provisional=reply.state != "armed",
        )
        if not self._learning:
            self._set_phase(_phase_of(reply.state))
        if captured.learn:
            return
        if not self._learning:
            self._scores.score(captured.at_ns / 1e9, reply.score)
        raised = reply.score >= self._config.tracker.close_score
        self._recorder.look(captured, reply, raised=raised or self._tracker.open_event is not None)
        for event in self._tracker.observe(seen):
            self._recorder.publish(event)
        self._capture.hold_gate_open = raised or self._tracker.open_event is not None

    def _record(self, captured: Captured, reply: ScoreReply | None) -> None:
        """One row per frame: its own score, or the last one where it was held back."""
        if captured.learn or not self._job.lossless:
            return
        latest = reply or self._last
        self._sheet.add(captured.media_s, latest.score if latest else None)
        self._recorder.annotate(captured, latest, alarm=self._tracker.open_event is not None)

    def _remember(self, minute: ScoreMinute | None) -> None:
        if minute and self._history:
            self._history.add(minute)

    # ---- learning

    def _progress_learning(self, captured: Captured, reply: ScoreReply) -> None:
        wanted = self._learning and not self._job.learn_only and not captured.learn
        if wanted and reply.learned_s >= self._camera.learn_s:
            self._finish_learning()

    def _finish_learning(self) -> None:
        """Has the state fitted, and goes on with it; too little footage is said, and learning goes on."""
        request = FinishLearning(vad_type=self._camera.vad_type, normality_id=self._normality_id)
        try:
            learned = self._ask_control(request, timeout_s=60.0)
        except HaetaeError as error:
            log.warning("learning_not_finished", reason=str(error))
            self._warn(f"nothing learned: {error}")
            return
        self._learning = False
        log.info("learned", seconds=learned.learned_s, frames=learned.frames, version=learned.state_version)
        if learned.file and self._history:
            self._history.add(
                NormalityVersion(
                    camera_id=self._camera.camera_id,
                    vad_type=self._camera.vad_type,
                    version=learned.state_version,
                    node_id=NodeId(self._config.node_id),
                    created_at=utc_iso(datetime.now(UTC)),
                    learned_s=learned.learned_s,
                    frames=learned.frames,
                    reason="learned",
                    file=learned.file,
                    sha256=learned.sha256,
                )
            )
        if self._job.lossless:
            short = (
                "" if learned.state == "armed" else f": too short to trust (at least {self._config.vad.armed_s:.0f} s)"
            )
            self._warn(f"learned from its own beginning, {learned.learned_s:.1f} s{short}")
        if learned.warning:
            self._warn(learned.warning)
        self._set_phase(_phase_of(learned.state))

    def _set_phase(self, phase: CameraPhase) -> None:
        if phase != self._phase:
            log.info("camera_phase", camera_id=self._camera.camera_id, phase=phase)
            self._phase = phase

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.append(text)

    # ---- the end

    def _finish(self) -> JobResult:
        if not self._job.learn_only:
            if self._ended and self._learning:
                self._finish_learning()
            for event in self._tracker.finish():
                assert event.state is EventState.CLOSED
                self._recorder.publish(event)
            self._remember(self._scores.take())
            if self._history:
                self._history.pump()
            self._recorder.finish(1.0 if self._stopped() else self._config.inference.analyze_timeout_s + 1)
        if not self._frames and self._ended:
            raise SourceError(f"{self._source.info.name}: no frame could be decoded")
        if self._job.lossless and not self._job.learn_only and not self._first_ns:
            self._warn("no frame could be scored: too little was learned")
        if self._job.scores:
            self._sheet.save(self._job.scores)
        return JobResult(
            frames=self._frames,
            first_scored_ns=self._first_ns,
            last_scored_ns=self._last_ns,
            event_ids=self._recorder.event_ids,
            warnings=self._warnings,
            age_p50_ms=self._age_ms(0.5),
            age_p99_ms=self._age_ms(0.99),
        )

    def _age_ms(self, share: float) -> float:
        ages = sorted(self._ages_ns)
        return ages[round((len(ages) - 1) * share)] / 1e6 if ages else 0.0

    def close(self) -> None:
        """Ends capture, frees the rings; the outbox gets a moment for what is not acknowledged, its spool keeps it."""
        self._capture.close()
        self._outbox.close(5.0)
        if self._history:
            self._history.close()
        self._recorder.close()
        self._rings.close()
        self._source.close()
        self._inference.close()
        self._control.close()
        self._context.term()


def _phase_of(state: str) -> CameraPhase:
    return CameraPhase.WATCHING if state == "armed" else CameraPhase.PROVISIONAL
