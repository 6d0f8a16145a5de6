"""CameraPipeline: one camera from its captured frames to its events.

Capture runs in a thread; everything else is this one loop: ask for scores, track events, keep them safe.
"""

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import zmq

from core.cameras import CameraPhase, Light, normality_id
from core.cameras.history import NormalityVersion, ScoreMinute
from core.cameras.job import CameraJob, JobResult
from core.cameras.live import LearningPace, LiveRow, LiveView, Stage
from core.cameras.onvif import go_to_preset
from core.cameras.outbox import HistoryOutbox
from core.cameras.turned import by_hand_file, way_back_file
from core.cameras.urls import CameraUrl, check_address, open_url
from core.config import Config
from core.errors import ConfigError, HaetaeError, RemoteError, SourceError
from core.events import EventState
from core.events.outbox import EventOutbox
from core.events.tracker import EventTracker, Observation
from core.heartbeat import Heartbeat
from core.ids import NodeId
from core.metrics import MetricsFile, Sample, counter, gauge
from core.security.secrets import SecretBox
from core.wire.messages import (
    ErrorReply,
    FinishLearning,
    ForgetState,
    GetState,
    InferenceReply,
    LearnedReply,
    ScoreReply,
    ScoreRequest,
)
from core.wire.rpc import RequestClient
from workers.camera.capture import Capture, Captured, Pace, Rings, Round
from workers.camera.clips import ClipRecorder
from workers.camera.flat import FlatScore
from workers.camera.jobs import JobFeed
from workers.camera.lessons import Lessons
from workers.camera.live import Health, LivePlayer, PacketPump, knock
from workers.camera.masks import Masks
from workers.camera.pixels import MotionGate
from workers.camera.promise import PromiseKeeper
from workers.camera.recorder import EventRecorder, ScoreSheet
from workers.camera.score_history import ScoreHistory
from workers.camera.sight import GOOD, Finding, Sight
from workers.camera.sources import LIVE, Source, SourceOptions, open_source, source_url
from workers.camera.sources.base import Activity, SimulatedSource, Wanted
from workers.camera.tampering import Tampering
from workers.camera.turning import Turned, Turning, TurnStep

__all__ = ["CameraPipeline", "CaptureHung"]

log = structlog.get_logger()

_FATAL = {"unknown_type", "bad_state", "bad_request"}
"""Error codes of inference that asking again does not mend."""
PERIOD_MS = 500
"""How long the loop waits at most: it looks after time-outs, and gives a sign of life."""
AGES = 4096
"""Scores whose age is remembered."""
_RESENDS = 20
"""How often a lossless frame is asked for again: inference may be restarting."""
_TRAINING_S = 900.0
"""What a type that trains may take of a file's time; others take seconds."""
_NAME_SERVER_S = 15.0
"""What the resolver takes at worst before it gives up."""
_STOP_S = 1.0
"""How long a thread that reads a live source may take to notice the end; it may be waiting for a packet."""
_HANDS_S = 0.5
"""How often it is looked whether somebody turns the camera."""
_CLIPS_S = 1.5
"""How long the last clips are waited for at the end."""


class CaptureHung(HaetaeError):
    """A library does not come back from a call: only the end of the process helps."""


class CameraPipeline:
    """Everything one camera process does; made, run once, closed, all in one thread."""

    def __init__(
        self,
        config: Config,
        job: CameraJob,
        heartbeat: Heartbeat,
        stopped: Callable[[], bool],
        changes: JobFeed | None = None,
    ) -> None:
        """Opens a source that is no live one, and its rings; raises SourceError, BusError, SecretError or ConfigError.

        `changes` brings what changes of the job while it runs.
        """
        self._config, self._job, self._heartbeat, self._stopped = config, job, heartbeat, stopped
        self._changes = changes
        self._camera = job.camera
        self._normality_id = job.normality_id or job.camera.camera_id
        self._own_state = self._normality_id == job.camera.camera_id
        """Whether what it learns is its own: then day and infra-red have a state each."""
        self._light = Light.DAY
        self._phase = CameraPhase.CONNECTING
        self._heartbeat.beat(self._phase)
        self._live_row = None if job.lossless else LiveRow(config.run_dir, job.camera.camera_id)
        self._pace = LearningPace()
        self._rings = Rings(config, job.camera.camera_id)
        self._gate = MotionGate(config.vad.gate_max_closed_s)
        self._url, self._sub_url = self._open_urls()
        shown = self._sub_url or self._url
        self._live = shown.kind in LIVE and not job.lossless
        self._health = Health(job.camera.settings.frozen_s)
        self._sight: Sight | None = None
        if config.sight.enabled and not job.lossless:
            self._sight = Sight(config.sight, job.camera.settings.frozen_s)
            self._sight.colour = self._colour_shown()
        self._capture = Capture(
            self._rings,
            self._gate,
            analysis_fps=0 if job.lossless else job.camera.analysis_fps,
            masks=Masks(job.zones, config.site.time_zone),
            watcher=self._health if self._live else None,
            sight=self._sight,
        )
        self._clips: ClipRecorder | None = None
        if not job.lossless:
            self._clips = ClipRecorder(config, job.camera.camera_id, job.camera.settings)
        self._set_masks()
        self._pump: PacketPump | None = None
        if self._sub_url and self._clips and self._url.kind in LIVE:
            main = self._options(self._clips, Activity())
            self._pump = PacketPump(lambda: open_source(self._url, main), config.cameras, self._capture.stopped)
        self._source: Source | None = None
        self._size = (0, 0)
        if not self._live:
            self._source = self._opened(shown)
            self._rings.fit(self._source.info.width, self._source.info.height)
            self._health.trouble = None
        self._context: zmq.Context[Any] = zmq.Context()
        self._inference = RequestClient(self._context, config.endpoint("inference"), InferenceReply)
        self._control = RequestClient(self._context, config.endpoint("inference"), InferenceReply)
        self._outbox = EventOutbox(self._context, config, job.camera.camera_id)
        self._promise: PromiseKeeper | None = None
        if not job.lossless:
            self._promise = self._new_promise()
        self._lessons = Lessons((), job.camera.vad_type)
        self._hear(job)
        self._tracker = self._new_tracker(0, 0)
        info = self._source.info if self._source else None
        self._recorder = EventRecorder(config, job, info, self._inference, self._outbox, self._clips)
        self._flat = FlatScore(config.cameras.flat_s)
        self._tampering = Tampering(
            config.sight.tamper,
            camera_id=job.camera.camera_id,
            node_id=NodeId(config.node_id),
            vad_type=job.camera.vad_type,
            score=config.tracker.open_score,
        )
        self._turning: Turning | None = None
        if self._sight:
            self._turning = Turning(
                way_back_file(config, job.camera.camera_id),
                lambda preset: go_to_preset(config, self._camera, preset),
            )
        self._by_hand_ns = self._turned_by_hand_ns()
        self._hands_seen_s = time.monotonic()
        self._newest: Captured | None = None
        self._finding: Finding = GOOD
        """What the last picture that was looked at is like."""
        self._new_views = 0
        self._vetoed = 0
        self._notice = ""
        """What is not as it should be, though the camera watches."""
        self._sheet = ScoreSheet()
        self._history: HistoryOutbox | None = None
        self._metrics: MetricsFile | None = None
        if not job.lossless:
            self._metrics = MetricsFile(config.run_dir, f"camera-{job.camera.camera_id}")
            self._history = HistoryOutbox(self._context, config.endpoint("logger"))
        self._scores = ScoreHistory(job.camera.camera_id, NodeId(config.node_id))
        self._pending: dict[int, tuple[Captured, int]] = {}
        self._learning = False
        self._version = 0
        self._catching_up = False
        self._last: ScoreReply | None = None
        self._last_captured_ns = 0
        self._stage: Stage | None = None
        self._learned_s = 0.0
        self._frames = 0
        self._first_ns = self._last_ns = 0
        self._ages_ns: deque[int] = deque(maxlen=AGES)
        self._ended = False
        self._warnings: list[str] = []
        self.counts: Counter[str] = Counter()

    def _open_urls(self) -> tuple[CameraUrl, CameraUrl | None]:
        """The camera's URLs with their credentials: here alone are these unsealed."""
        camera = self._camera
        box = SecretBox(self._config.secrets_dir) if camera.sealed_url or camera.sealed_sub_url else None
        sub = open_url(camera.sub_url, camera.sealed_sub_url, box)
        return source_url(open_url(camera.url, camera.sealed_url, box)), source_url(sub) if sub else None

    def _options(self, packets: ClipRecorder | None, activity: Activity, wanted: Wanted | None = None) -> SourceOptions:
        limits = self._config.cameras
        return SourceOptions(
            settings=self._camera.settings,
            open_s=limits.open_s,
            read_s=limits.read_s,
            addresses=lambda url: check_address(url, self._config),
            activity=activity,
            hardware=limits.hardware_decoding,
            packets=packets,
            wanted=wanted,
            stopped=self._capture.stopped,
        )

    def _opened(self, url: CameraUrl) -> Source:
        """The source of the pictures; its packets are for clips unless another stream's are."""
        packets = None if self._sub_url else self._clips
        return open_source(url, self._options(packets, self._capture.activity, self._capture.wanted))

    def _new_promise(self) -> PromiseKeeper:
        return PromiseKeeper(
            self._config.data_dir / "promises" / f"{self._normality_id}.json",
            self._config.tracker,
            self._camera.vad_type,
            self._false_events_per_day(),
        )

    @property
    def _colour_file(self) -> Path:
        return self._config.data_dir / "promises" / f"{self._camera.camera_id}.colour"

    def _colour_shown(self) -> float:
        """The most colour that the camera has shown before this process; 0 where nobody knows."""
        try:
            return min(255.0, max(0.0, float(self._colour_file.read_text())))
        except (OSError, ValueError):
            return 0.0

    def _keep_colour(self) -> None:
        if not self._sight:
            return
        try:
            self._colour_file.parent.mkdir(parents=True, exist_ok=True)
            self._colour_file.write_text(f"{self._sight.colour:.2f}")
        except OSError as error:
            log.warning("colour_not_kept", file=str(self._colour_file), reason=error.strerror)

    def _change_light(self, media_s: float, light: Light) -> None:
        """Day and infra-red look so different that each has its own state, threshold and evidence."""
        log.info("camera_light", light="infra-red" if light is Light.NIGHT else "day")
        for event in self._tracker.finish():
            self._recorder.publish(event, media_s)
        self._capture.hold_gate_open = False
        if self._promise:
            self._promise.save()
        self._keep_colour()
        self._light = light
        self._normality_id = normality_id(self._camera.camera_id, light)
        if self._promise:
            self._promise = self._new_promise()
        self._hear(self._job)
        self._tracker = self._new_tracker(*self._size)
        self._decide_learning()

    def _new_tracker(self, width: int, height: int) -> EventTracker:
        return EventTracker(
            self._promise.settings if self._promise else self._config.tracker,
            camera_id=self._camera.camera_id,
            node_id=NodeId(self._config.node_id),
            vad_type=self._camera.vad_type,
            frame_width=width,
            frame_height=height,
        )

    def _hear(self, job: CameraJob) -> None:
        """What people said of the camera's events."""
        self._lessons = Lessons(job.judgements, job.camera.vad_type)
        if self._promise:
            self._promise.judge(one.event_id for one in job.judgements)

    def _set_masks(self) -> None:
        if self._clips:
            masks = self._capture.masks
            self._clips.blacken = masks.blacken if masks.private else None

    # ---- running

    def run(self) -> JobResult:
        """Plays the camera until its input ends or `stopped()`; raises HaetaeError where it cannot go on."""
        self._outbox.interrupt_open()
        self._decide_learning()
        self._capture.start(self._rounds())
        if self._pump:
            self._pump.start()
        poller = zmq.Poller()
        for handle in (self._capture.wake_fd, self._inference.socket, self._outbox.socket):
            poller.register(handle, zmq.POLLIN)
        while not (self._stopped() or (self._ended and not self._pending)):
            ready = dict(poller.poll(PERIOD_MS))
            self._capture.clear_wake()
            self._watch_capture()
            if self._inference.waiting or self._inference.socket in ready:
                for request_id, reply in self._inference.receive():
                    self._on_reply(request_id, reply)
            self._take_captured()
            self._outbox.pump()
            if self._clips:
                for made in self._clips.poll():
                    self._recorder.add_clip(made)
            self._recorder.look_again()
            self._turn()
            if self._history and self._history.pending:
                self._history.pump()
            if self._changes:
                self._take_over(self._changes.newest())
            self._beat()
            if self._metrics and self._metrics.due:
                self._metrics.write(self._samples())
        return self._finish()

    def _beat(self) -> None:
        fault = (CameraPhase.DEGRADED, self._finding.reason) if self._finding.fault else None
        well = self._phase, self._trouble_of_clips() or self._notice
        if self._turning and self._turning.trouble:
            fault = CameraPhase.DEGRADED, self._turning.trouble
        phase, reason = self._health.trouble or fault or well
        self._heartbeat.beat(phase, self._capture.captured, reason)
        if self._live_row:
            self._live_row.write(self._view(phase))

    def _view(self, phase: CameraPhase) -> LiveView:
        """What this camera makes of its newest picture."""
        last, event, wanted_s = self._last, self._tracker.open_event, self._camera.learn_s
        return LiveView(
            at_ns=time.monotonic_ns(),
            phase=phase,
            stage="learning" if self._learning else self._stage,
            analysis_fps=self._camera.analysis_fps,
            fault=self._finding.fault,
            learned_s=self._learned_s,
            wanted_s=wanted_s,
            left_s=self._pace.left_s(self._learned_s, wanted_s) if self._learning else None,
            score=last.score if last and not self._learning else None,
            scored_ns=self._last_captured_ns,
            open_score=(self._promise.settings if self._promise else self._config.tracker).open_score,
            event_id=event.id if event else "",
            peak_x=last.peak_x if last else 0.5,
            peak_y=last.peak_y if last else 0.5,
            map_rows=last.map_rows if last else 0,
            map_cols=last.map_cols if last else 0,
            map=last.map if last else b"",
            night=self._light is Light.NIGHT,
        )

    def _samples(self) -> list[Sample]:
        """This camera in figures."""
        labels = {"camera": self._camera.camera_id}
        samples = [
            counter("camera_frames", "Pictures captured.", self._capture.captured, **labels),
            counter(
                "camera_frames_skipped", "Pictures that came too fast to be looked at.", self._capture.skipped, **labels
            ),
            counter("camera_frames_still", "Pictures of a still scene, not scored.", self._gate.held, **labels),
            counter("camera_frames_vetoed", "Pictures of no use, neither scored nor learned.", self._vetoed, **labels),
            counter("camera_reconnects", "Connections lost.", self._health.reconnects, **labels),
            counter("camera_events", "Events raised.", len(self._recorder.event_ids), **labels),
            gauge(
                "camera_unacknowledged",
                "Messages of events that the logger has not yet.",
                self._outbox.pending,
                **labels,
            ),
        ]
        samples += [
            counter("camera_scores", "Answers to frames, by what became of them.", count, status=status, **labels)
            for status, count in self.counts.items()
        ]
        if self._promise:
            promise = self._promise.promise
            samples += [
                gauge("camera_open_score", "Threshold of events, -log10 P.", promise.open_score, **labels),
                gauge("camera_false_events_per_day", "To be expected of it.", promise.expected_per_day, **labels),
            ]
        if self._clips:
            samples.append(counter("camera_clips_lost", "Clips that were not written.", self._clips.lost, **labels))
        return samples

    def _trouble_of_clips(self) -> str:
        if not self._clips or not self._clips.settings.record:
            return ""
        return self._clips.trouble or (self._pump.trouble if self._pump else "")

    def _watch_capture(self) -> None:
        """Raises CaptureHung where the capturing thread is in one call for longer than that may take."""
        limits = self._config.cameras
        allowed = {
            "open": 2 * limits.open_s + _NAME_SERVER_S,
            "read": limits.open_s + limits.read_s,
            "decode": limits.decode_s,
        }
        what, for_s = self._capture.activity.for_s()
        if what and for_s > allowed[what]:
            raise CaptureHung(f"its source hung for {for_s:.0f} s ({what})", "it is started anew")

    def _take_over(self, job: CameraJob | None) -> None:
        """Goes on with a job that differs in nothing that needs a new process."""
        if job is None:
            return
        self._job, self._camera = job, job.camera
        self._capture.analysis_fps = job.camera.analysis_fps
        self._capture.masks = Masks(job.zones, self._config.site.time_zone)
        self._health.frozen_s = job.camera.settings.frozen_s
        self._recorder.take_over(job)
        self._hear(job)
        if self._sight:
            self._sight.frozen_s = job.camera.settings.frozen_s
        if self._clips:
            self._clips.settings = job.camera.settings
        if self._promise and (tracker := self._promise.aim(self._false_events_per_day())):
            self._tracker.retune(tracker)
        self._set_masks()
        log.info("settings_taken_over", zones=len(job.zones), normal_events=self._lessons.learned)

    def _false_events_per_day(self) -> float:
        """That are tolerable: the camera's own number, else the site's."""
        own = self._camera.settings.false_events_per_day
        return self._config.tracker.false_events_per_day if own is None else own

    def _decide_learning(self) -> None:
        """Asks inference whether there is a state; waits for it to be up, since nothing can be scored before."""
        known = self._known_state()
        self._learning = self._job.learn_only or (self._own_state and known.state == "learning")
        self._version = known.state_version
        self._note_version(known)
        if known.warning:
            log.warning("learning_anew", reason=known.warning)
            self._warn(known.warning)
        if self._learning:
            self._set_phase(CameraPhase.LEARNING)
        else:
            self._judge_as(known.state)

    def _known_state(self) -> LearnedReply:
        request = GetState(vad_type=self._camera.vad_type, normality_id=self._normality_id, since=self._job.added_at)
        while not self._stopped():
            try:
                return self._ask_control(request, timeout_s=1.0)
            except RemoteError as error:
                if error.code in _FATAL:
                    raise ConfigError(str(error)) from error
                log.info("waiting_for_inference", code=error.code, reason=str(error))
        return LearnedReply(state="learning", state_version=0, learned_s=0, frames=0)

    def _ask_control(self, request: GetState | FinishLearning | ForgetState, timeout_s: float) -> LearnedReply:
        """The reply to a request about the state, with the heart beating while it is awaited; raises WireError."""
        self._control.send(request, timeout_s)
        while True:
            self._beat()
            for _, reply in self._control.receive(0.2):
                if isinstance(reply, ErrorReply):
                    raise RemoteError(reply.code, reply.message)
                return reply

    def _rounds(self) -> Iterator[Round]:
        """What capture plays: simulated time to learn from, then the source itself, again and again if it loops."""
        shown = self._sub_url or self._url
        if self._live:
            addresses = partial(check_address, shown, self._config)
            reachable = partial(knock, addresses, shown.port) if shown.host else None
            opened = partial(self._opened, shown)
            player = LivePlayer(opened, self._health, self._config.cameras, self._capture.stopped, reachable)
            yield from player.rounds()
            return
        source, pace = self._source, Pace.FAST if self._job.lossless else Pace.TIMED
        assert source
        if self._learning and not self._job.lossless and isinstance(source, SimulatedSource):
            yield Round(source=source, frames=source.normal_frames(self._camera.learn_s), pace=Pace.FAST, learn=True)
        yield Round(source=source, frames=source.frames(), pace=pace)
        for url in self._job.more_urls:
            source.close()
            source = self._reopen(source_url(url))
            yield Round(source=source, frames=source.frames(), pace=pace)
        finite = not source.info.simulated
        while pace is Pace.TIMED and self._camera.loop and finite and not self._stopped():
            source.close()
            source = self._source = self._opened(shown)
            yield Round(source=source, frames=source.frames(), pace=pace)

    def _reopen(self, url: CameraUrl) -> Source:
        assert self._source
        source, first = self._opened(url), self._source.info
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
            self._newest = captured
            self._fit_size(captured)
            if self._history and not captured.learn:
                self._remember(self._scores.picture(captured.at_ns / 1e9))
            if self._catching_up and not captured.learn:
                self._finish_learning()
            self._catching_up = captured.learn
            self._see(captured)
            if captured.analysis is None:
                self._record(captured, None)
            else:
                if not (captured.learn or self._job.learn_only):
                    self._recorder.measure(captured, self._capture.masks.holding())
                self._ask(captured, resends=0)

    def _see(self, captured: Captured) -> None:
        """A picture of no use ends what goes on; a view that is new for good is learned."""
        self._vetoed += captured.vetoed
        light = Light.NIGHT if self._sight and self._sight.night else Light.DAY
        if self._own_state and light is not self._light:
            self._change_light(captured.media_s, light)
        found = captured.finding
        if found is None or found is self._finding:
            return
        before, self._finding = self._finding, found
        if found.fault and found.fault is not before.fault:
            log.warning("camera_fault", fault=found.fault, reason=found.reason)
            for event in self._tracker.finish():
                self._recorder.publish(event, captured.media_s)
            self._capture.hold_gate_open = False
            if self._promise:
                self._promise.pause()
        elif before.fault and not found.fault:
            log.info("camera_sees_again", fault=before.fault)
        self._tell_tampering(captured, found)
        if self._sight and self._sight.new_views != self._new_views:
            self._new_views = self._sight.new_views
            if self._own_state:
                self._learn_anew("the camera shows another view, and has for a while")

    def _tell_tampering(self, captured: Captured, found: Finding) -> None:
        """A view that is covered, turned away or blurred is an event of its own, from when it is certain until it is
        over.
        """
        event = self._tampering.see(
            found.fault,
            found.reason,
            captured.media_s,
            datetime.fromtimestamp(captured.at_ns / 1e9, UTC),
            (captured.width, captured.height),
            suspected_s=self._config.sight.confirm_s,
            version=self._version,
            provisional=self._learning,
        )
        if event:
            self._recorder.blinded(captured, event, str(self._tampering.fault or ""))

    def _turn(self) -> None:
        """To the preset for alarms where a flow wants that, and back; nothing is compared or learned meanwhile."""
        turning, sight, settings = self._turning, self._sight, self._camera.settings
        if not (turning and sight):
            return
        by_hand_ns, now = self._by_hand_ns, time.monotonic()
        if now - self._hands_seen_s >= _HANDS_S:
            by_hand_ns, self._hands_seen_s = self._turned_by_hand_ns(), now
        if by_hand_ns != self._by_hand_ns:
            self._by_hand_ns = by_hand_ns
            log.info("camera_turned_by_hand")
            sight.turned_by_hand()
        wish = self._recorder.take_turn()
        if wish:
            log.info("camera_turns", preset=wish.preset, event_id=wish.event_id)
            refused = turning.turn(wish.event_id, wish.preset, settings.ptz_home, wish.hold_s)
            if refused:
                self._recorder.note_turn(Turned(wish.event_id, TurnStep.STAYS, refused), None)
        for told in turning.poll():
            log.info("camera_turned", step=told.step, reason=told.text, event_id=told.event_id)
            self._recorder.note_turn(told, self._newest)
        sight.turned = turning.away
        can = settings.ptz_home and settings.ptz_preset and settings.ptz_home != settings.ptz_preset
        self._recorder.may_turn = bool(can) and not turning.away

    def _turned_by_hand_ns(self) -> int:
        """When somebody last turned it; 0 where nobody did."""
        try:
            return by_hand_file(self._config, self._camera.camera_id).stat().st_mtime_ns
        except OSError:
            return 0

    def _fit_size(self, captured: Captured) -> None:
        """Another picture size: what goes on now is over, and the next events are measured in the new one."""
        if (captured.width, captured.height) == self._size:
            return
        if self._size != (0, 0):
            log.info("picture_size_changed", before=self._size, now=(captured.width, captured.height))
        for event in self._tracker.finish():
            self._recorder.publish(event, captured.media_s)
        self._size = (captured.width, captured.height)
        self._tracker = self._new_tracker(*self._size)

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
            ordinary_below=self._ordinary_below(),
        )
        request_id = self._inference.send(request, self._config.inference.request_timeout_s)
        self._pending[request_id] = (captured, resends)

    def _ordinary_below(self) -> float:
        """The score under which a frame may be learned on from; 0 where something goes on, or all is new."""
        if self._learning or not self._promise or self._finding.vetoed or self._tracker.open_event:
            return 0.0
        return self._promise.settings.open_score

    def _on_reply(self, request_id: int, reply: Any) -> None:
        if request_id not in self._pending:
            self._recorder.on_reply(request_id, reply)
            return
        captured, resends = self._pending.pop(request_id)
        if isinstance(reply, ErrorReply):
            self._on_error(captured, resends, reply)
        elif isinstance(reply, ScoreReply):
            self.counts[reply.status] += 1
            self._learned_s = reply.learned_s or self._learned_s
            if reply.status == "scored":
                self._on_score(captured, reply)
            self._record(captured, reply if reply.status == "scored" else None)
            self._progress_learning(captured, reply)

    def _on_error(self, captured: Captured, resends: int, reply: ErrorReply) -> None:
        self.counts[reply.code] += 1
        if reply.code == "bad_state" and self._live:
            self._learn_anew(reply.message)
        elif reply.code in _FATAL:
            raise ConfigError(reply.message)
        elif reply.code == "no_state" and not self._job.lossless:
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
        self._last, self._last_captured_ns = reply, captured.captured_ns
        if self._job.learn_only:
            return
        chosen = self._learning and reply.state_version > 0 and not captured.learn  # an earlier one, by somebody
        if chosen or (not self._learning and reply.state_version != self._version):
            self._learning = False
            self._use(self._known_state())
        reply = self._lessons.apply(reply, captured.width / max(captured.height, 1))
        seen = Observation(
            media_s=captured.media_s,
            at=datetime.fromtimestamp(captured.at_ns / 1e9, UTC),
            score=reply.score,
            peak_x=reply.peak_x * captured.width,
            peak_y=reply.peak_y * captured.height,
            reason=reply.reason,
            state_version=reply.state_version,
            provisional=reply.state != "armed",
        )
        if not self._learning:
            self._judge_as(reply.state)
        if captured.learn:
            return
        if not self._learning:
            self._scores.score(captured.at_ns / 1e9, reply.score)
        flat = self._flat.scored(reply.score, captured.media_s)
        self._notice = "its score does not change although there is movement: detection is broken" if flat else ""
        tuned = self._promise.settings if self._promise else self._config.tracker
        raised = reply.score >= tuned.close_score
        self._recorder.look(captured, reply, raised=raised or self._tracker.open_event is not None)
        for event in self._tracker.observe(seen):
            x, y = event.peak_x / max(captured.width, 1), event.peak_y / max(captured.height, 1)
            self._recorder.publish(event, captured.media_s, self._capture.masks.around(x, y))
        self._capture.hold_gate_open = raised or self._tracker.open_event is not None
        if self._promise and not self._learning:
            going_on = self._tracker.open_event
            if going_on:
                self._promise.raised(going_on.id, self._tracker.smoothed)
            tuned = self._promise.scored(seen, self._tracker.smoothed, max(captured.height, 1))
            if tuned:
                self._tracker.retune(tuned)

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
        whole = self._job.lossless
        request = FinishLearning(vad_type=self._camera.vad_type, normality_id=self._normality_id, whole=whole)
        try:
            learned = self._ask_control(request, timeout_s=_TRAINING_S if whole else 60.0)
        except HaetaeError as error:
            log.warning("learning_not_finished", reason=str(error))
            self._warn(f"nothing learned: {error}")
            return
        self._learning = False
        log.info("learned", seconds=learned.learned_s, frames=learned.frames, version=learned.state_version)
        self._use(learned)
        if self._job.lossless:
            short = (
                "" if learned.state == "armed" else f": too short to trust (at least {self._config.vad.armed_s:.0f} s)"
            )
            self._warn(f"learned from its own beginning, {learned.learned_s:.1f} s{short}")
        if learned.warning:
            self._warn(learned.warning)

    def _use(self, learned: LearnedReply) -> None:
        """Goes on with a version: what the camera may say from now on."""
        self._version = learned.state_version
        if self._promise and learned.reason == "drift":
            self._promise.carry_over(learned.state_version)
        self._note_version(learned)
        self._judge_as(learned.state)

    def _note_version(self, learned: LearnedReply) -> None:
        """Has the version in use remembered, whoever made it while this process was away; once is enough."""
        if not (learned.file and self._history and self._own_state) or learned.reason == "rolled back":
            return
        self._history.add(
            NormalityVersion(
                camera_id=self._camera.camera_id,
                vad_type=self._camera.vad_type,
                version=learned.state_version,
                node_id=NodeId(self._config.node_id),
                created_at=learned.made_at,
                learned_s=learned.learned_s,
                frames=learned.frames,
                reason=learned.reason,
                file=learned.file,
                sha256=learned.sha256,
                light=self._light,
            )
        )

    def _learn_anew(self, reason: str) -> None:
        """What was learned does not fit the pictures any more: it is put aside, and the camera learns again."""
        if self._learning:
            return
        log.warning("learning_anew", reason=reason)
        try:
            self._ask_control(ForgetState(vad_type=self._camera.vad_type, normality_id=self._normality_id), 5.0)
        except HaetaeError as error:
            log.warning("not_forgotten", reason=str(error))
            return
        self._learning = True
        self._set_phase(CameraPhase.LEARNING)

    def _judge_as(self, state: str) -> None:
        self._stage = "armed" if state == "armed" else "provisional"
        self._set_phase(CameraPhase.WATCHING if state == "armed" else CameraPhase.PROVISIONAL)

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
            now_s = time.monotonic() - self._capture.begun_s
            blind = self._tampering.finish(now_s, datetime.now(UTC))
            for event in (*self._tracker.finish(), *((blind,) if blind else ())):
                assert event.state is EventState.CLOSED
                self._recorder.publish(event, now_s)
            if self._clips:
                for made in self._clips.finish(_CLIPS_S):
                    self._recorder.add_clip(made)
            self._remember(self._scores.take())
            if self._promise:
                self._promise.save()
                self._keep_colour()
            if self._history:
                self._history.pump()
            self._recorder.finish(1.0 if self._stopped() else self._config.vlm.hard_s + 1)
        if not self._frames and self._ended and self._source:
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

    def close(self) -> bool:
        """Ends capture, frees the rings; the outbox gets a moment for what is not acknowledged, its spool keeps it.

        False where a thread hangs in a library: the process must be ended without another word to it.
        """
        stopped = self._capture.stop(_STOP_S if self._live else 5.0)
        stopped = (self._pump is None or self._pump.stop(_STOP_S)) and stopped
        self._outbox.close(5.0)
        if self._history:
            self._history.close()
        self._recorder.close()
        if self._metrics:
            self._metrics.close()
        if self._live_row:
            self._live_row.close()
        if stopped:
            self._rings.close()
            if self._source:
                self._source.close()
        self._inference.close()
        self._control.close()
        self._context.term()
        return stopped
