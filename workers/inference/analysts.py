"""Analysts: the requests to judge events, queued fairly over cameras and run beside the scoring of frames."""

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import structlog

from core.config import Config, load_config
from core.errors import HaetaeError, ModelError
from core.events import AnalysisStatus
from core.metrics import Sample, counter, gauge
from core.wire.messages import AnalyzeReply, AnalyzeRequest
from workers.inference.flows import Budget, Decision, Policy, Run
from workers.inference.pool import Loading, ResourcePool
from workers.inference.vlm import Call, Finding, Incident, Question, VlmAnalyzer
from workers.inference.vlm.rules import stand_in

__all__ = ["AnalysisJob", "AnalysisQueue", "Analysts", "ConfigWatch", "StandIn", "decide"]

log = structlog.get_logger()

LOOK_S = 2.0
"""How often it is looked whether the configuration has changed."""
LOADING_S = 2.0
"""A model that is being loaded is waited for so long; then rules decide."""
MARGIN_S = 2.0
"""So long before the asking camera gives up, what still waits is decided by rules."""


class AnalysisJob(msgspec.Struct, frozen=True, eq=False):
    """One request; `owner` gets the answer, until `deadline_s` (monotonic)."""

    camera_id: str
    event_id: str
    owner: Any
    request: AnalyzeRequest
    deadline_s: float


class AnalysisQueue:
    """What waits, by camera; pure, and used under its owner's lock.

    One job of a camera runs at a time, cameras take turns, and of one event only the newest request waits.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: OrderedDict[str, deque[AnalysisJob]] = OrderedDict()
        self._running: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        return len(self._running)

    def put(self, job: AnalysisJob) -> AnalysisJob | None:
        """Returns what will not be taken, to be decided at once: an older request of the event, or the job itself."""
        mine = self._waiting.get(job.camera_id)
        if mine:
            for number, other in enumerate(mine):
                if other.event_id == job.event_id:
                    mine[number] = job
                    return other
        if len(self) >= self.most:
            return job
        self._waiting.setdefault(job.camera_id, deque()).append(job)
        return None

    def take(self) -> AnalysisJob | None:
        """The next of the camera that waits longest for its turn; None where all that wait have one running."""
        camera_id = next((one for one in self._waiting if one not in self._running), None)
        if camera_id is None:
            return None
        jobs = self._waiting.pop(camera_id)
        job = jobs.popleft()
        if jobs:
            self._waiting[camera_id] = jobs
        self._running.add(camera_id)
        return job

    def done(self, camera_id: str) -> None:
        self._running.discard(camera_id)

    def overdue(self, now_s: float) -> list[AnalysisJob]:
        """Takes out what would come too late."""
        late: list[AnalysisJob] = []
        for camera_id, jobs in list(self._waiting.items()):
            late += [job for job in jobs if job.deadline_s - MARGIN_S <= now_s]
            kept = deque(job for job in jobs if job.deadline_s - MARGIN_S > now_s)
            if kept:
                self._waiting[camera_id] = kept
            else:
                del self._waiting[camera_id]
        return late

    def clear(self) -> list[AnalysisJob]:
        found = [job for jobs in self._waiting.values() for job in jobs]
        self._waiting.clear()
        return found


class StandIn:
    """Rules in the place of an engine that is not asked, labelled so."""

    name = "rules"

    def __init__(self, status: AnalysisStatus, why: str) -> None:
        self._status, self._why = status, why

    def analyze(self, incident: Incident, question: Question, deadline_s: float = 0.0) -> Finding:  # noqa: ARG002
        analysis = stand_in(incident, question, self._status, self._why)
        return Finding(
            analysis=analysis, calls=(Call(engine="rules", model="", role=question.role, ms=0.0, error=self._why),)
        )

    def close(self) -> None:
        """Nothing to let go of."""


class Analysts:
    """Threads that run flows. `ended` is called from them with each owner and its answer."""

    def __init__(
        self,
        config: Config,
        pool: ResourcePool,
        ended: Callable[[Any, AnalyzeReply | Exception], None],
        *,
        where: str = "inference",
    ) -> None:
        """`where` is the process, for the figures."""
        self._config, self._pool, self._ended, self._where = config, pool, ended, where
        self._policy = Policy(config.flows)
        self._queue = AnalysisQueue(config.vlm.waiting)
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(config.vlm.at_once, "analysis")
        self._quick = ThreadPoolExecutor(1, "stand-in")
        self._counts: Counter[str] = Counter()
        self._closed = False

    def submit(self, owner: Any, request: AnalyzeRequest, deadline_s: float) -> None:
        """Never blocks: it is run, or waits, or is decided by rules where too much waits."""
        job = AnalysisJob(request.event.camera_id, request.event.id, owner, request, deadline_s)
        with self._lock:
            aside = self._queue.put(job)
        if aside:
            self._set_aside(aside, "superseded" if aside is not job else "busy")
        self._feed()

    def tend(self) -> None:
        """To be called often: decides what waited too long."""
        now_s = time.monotonic()
        with self._lock:
            late = self._queue.overdue(now_s)
        for job in late:
            self._set_aside(job, "waited_too_long")

    def stand_in(
        self, owner: Any, request: AnalyzeRequest, deadline_s: float, status: AnalysisStatus, why: str
    ) -> None:
        """Decided by rules, since the engine that was wanted did not; never blocks."""
        self._counts[why] += 1
        job = AnalysisJob(request.event.camera_id, request.event.id, owner, request, deadline_s)
        self._quick.submit(self._answer, job, StandIn(status, why))

    def _feed(self) -> None:
        while not self._closed:
            with self._lock:
                job = self._queue.take() if self._queue.running < self._config.vlm.at_once else None
            if job is None:
                return
            self._threads.submit(self._run, job)

    def _run(self, job: AnalysisJob) -> None:
        answered = False
        try:
            with self._pool.vlm_analyzer(self._config, LOADING_S) as analyzer:
                self._answer(job, analyzer)
                answered = True
        except Loading:
            self._answer(job, StandIn(AnalysisStatus.SKIPPED, "loading"))
        except ModelError as error:
            log.warning("no_analyzer", reason=str(error))
            self._answer(job, StandIn(AnalysisStatus.UNREACHABLE, "not_loaded"))
        except Exception:
            # whatever a library does to whoever loads or lets go of a model: who asked is answered
            log.exception("analysis_failed", event_id=job.event_id, camera_id=job.camera_id)
            if not answered:
                self._answer(job, StandIn(AnalysisStatus.INVALID, "internal"))
        finally:
            with self._lock:
                self._queue.done(job.camera_id)
            self._feed()

    def _set_aside(self, job: AnalysisJob, why: str) -> None:
        self._counts[why] += 1
        self._quick.submit(self._answer, job, StandIn(AnalysisStatus.SKIPPED, why))

    def _answer(self, job: AnalysisJob, analyzer: VlmAnalyzer) -> None:
        try:
            limits = self._config.vlm
            left_s = job.deadline_s - time.monotonic() - MARGIN_S / 2
            decision = decide(
                self._pool, job.request, analyzer, self._policy, min(limits.flow_s, left_s), limits.analyze_s
            )
            self._counts["decided"] += 1
            self._counts[str(decision.analysis.status)] += 1
            self._counts["calls"] += decision.calls
            turn = decision.turn
            reply: AnalyzeReply | Exception = AnalyzeReply(
                analysis=decision.analysis,
                severity=decision.severity,
                steps=list(decision.steps),
                recheck_s=decision.recheck_s,
                turn_to=turn.preset_id if turn else "",
                turn_s=turn.hold_s if turn else 0.0,
            )
        except Exception as error:
            reply = error
        self._ended(job.owner, reply)

    def take_over(self, config: Config) -> None:
        """Goes on with other settings of [vlm] and [flows]; what is under way ends with those that it began with.

        The number of threads stays. The analyzer that serves goes on until the new one is loaded and checked, and
        where that cannot be.
        """
        vlm = msgspec.structs.replace(config.vlm, at_once=self._config.vlm.at_once)
        if (vlm, config.flows) == (self._config.vlm, self._config.flows):
            return
        self._config = msgspec.structs.replace(self._config, vlm=vlm, flows=config.flows)
        self._policy.rules = config.flows
        with self._lock:
            self._queue.most = vlm.waiting
        self._pool.prepare_analyzer(self._config)
        log.info("analysis_settings_taken_over", backend=vlm.backend, model=vlm.model or vlm.folder)

    # ---- the rest

    @property
    def waiting(self) -> int:
        with self._lock:
            return len(self._queue)

    @property
    def running(self) -> int:
        with self._lock:
            return self._queue.running

    def samples(self) -> list[Sample]:
        """In figures."""
        return [
            gauge("analysis_waiting", "Events that wait to be judged.", self.waiting, process=self._where),
            gauge("analysis_running", "Events that are being judged.", self.running, process=self._where),
            *(
                counter("analyses", "Events judged, by what became of them.", count, outcome=name, process=self._where)
                for name, count in sorted(self._counts.items())
            ),
        ]

    def close(self) -> None:
        """Decides by rules what waits, and ends when what runs has."""
        self._closed = True
        with self._lock:
            waiting = self._queue.clear()
        for job in waiting:
            self._set_aside(job, "stopping")
        self._pool.close_analyzers()
        self._quick.shutdown(wait=True)
        self._threads.shutdown(wait=True, cancel_futures=True)


def decide(
    pool: ResourcePool,
    request: AnalyzeRequest,
    analyzer: VlmAnalyzer,
    policy: Policy,
    flow_s: float,
    analyze_s: float,
) -> Decision:
    """Runs the flow that a request names; raises ModelError where there is none of that name."""
    flow = pool.get_agent_flow(request.flow)
    incident = Incident(event=request.event, evidence=request.evidence, attempt=request.attempt)
    budget = Budget(flow.calls, max(flow_s, 0.01), analyze_s)
    return flow.run(Run(flow.name, incident, analyzer, policy, budget))


class ConfigWatch:
    """Tells of a configuration file that was changed; one that cannot be used changes nothing."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._looked_s = time.monotonic()
        self._changed_ns = _changed_ns(config.file)

    def changed(self) -> Config | None:
        """The newest, with what may change while a process runs: [vlm] and [flows]; to be called often."""
        if time.monotonic() - self._looked_s < LOOK_S:
            return None
        self._looked_s = time.monotonic()
        changed_ns = _changed_ns(self._config.file)
        if changed_ns == self._changed_ns:
            return None
        self._changed_ns = changed_ns
        try:
            fresh = load_config(self._config.file)
        except HaetaeError as error:
            log.error("configuration_not_taken_over", reason=str(error))
            return None
        return msgspec.structs.replace(self._config, vlm=fresh.vlm, flows=fresh.flows)


def _changed_ns(file: Path | None) -> int:
    try:
        return file.stat().st_mtime_ns if file else 0
    except OSError:
        return 0
