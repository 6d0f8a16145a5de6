"""The inference server: requests in, batches through the models, a reply to each."""

import contextlib
import os
import queue
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import structlog
import zmq

from core.config import Config
from core.errors import FrameGone, HaetaeError, ModelError, StateError
from core.frames import RingSet
from core.ids import check_camera_id, uuid7
from core.metrics import Sample, counter, gauge
from core.wire.messages import (
    AnalyzeReply,
    AnalyzeRequest,
    FinishLearning,
    ForgetState,
    GetState,
    GetStatistics,
    InferenceRequest,
    InferenceStatistics,
    LearnedReply,
    Message,
    Ping,
    Pong,
    ScoreReply,
    ScoreRequest,
    UseVersion,
)
from core.wire.rpc import Incoming, RequestServer
from workers.inference.analysis_link import AnalysisLink
from workers.inference.analysts import Analysts, ConfigWatch
from workers.inference.drift import Burst, Drift
from workers.inference.memory import is_out_of_memory, model_samples
from workers.inference.pool import ResourcePool
from workers.inference.scheduler import BatchScheduler, Ticket
from workers.inference.stages import Job, Outcome, Stages
from workers.inference.states import Normality, StateStore
from workers.inference.vad import VAD_TYPES, create_configured, real_type
from workers.inference.vad.base import NormalityState, Row, VadModel, VadScore
from workers.inference.vad.choice import AUTO

__all__ = ["InferenceServer"]

log = structlog.get_logger()

PERIOD_S = 0.5
BESIDE = 64
"""Fits that wait at most."""
DRAIN_S = 0.5
"""At the end, requests that are on their way are still taken for so long, to be refused."""
SAVE_S = 3.0
"""At the end, so long may what is being learned on be saved: whoever stops the process waits ten seconds."""
SOON_S = 0.001
"""Less than this is not worth waiting for: the poll counts in milliseconds."""


class InferenceServer:
    """Sockets and scheduler in one loop; batches are prepared and run, states fitted and analyses made beside it."""

    def __init__(self, context: zmq.Context[Any], config: Config, pool: ResourcePool | None = None) -> None:
        """`pool` where the models are not to be those of this configuration."""
        self._config = config
        self._server = RequestServer(context, config.endpoint("inference"), InferenceRequest)
        threads = config.inference.threads or os.cpu_count() or 1
        self._pool = pool or ResourcePool(threads, partial(create_configured, config.inference))
        self._executor = ThreadPoolExecutor(threads, "vad")
        # measurements are judged here; a model is asked in a process of its own, whose place rules take where it fails
        self._analysts = Analysts(_by_rules(config), self._pool, self._ended_analysis)
        self._config_watch = ConfigWatch(config)
        self._analysed: dict[int, Incoming] = {}
        self._fitter = ThreadPoolExecutor(1, "fit")
        self._trainer = ThreadPoolExecutor(1, "train")
        self._beside: dict[int, Incoming] = {}
        self._ended_beside: queue.SimpleQueue[tuple[Incoming, Message | Exception]] = queue.SimpleQueue()
        self._rings = RingSet(config.run_dir)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        self._poller.register(self._server.socket, zmq.POLLIN)
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._link = AnalysisLink(context, config, self._ended_analysis, self._analysts.stand_in)
        self._linked: zmq.Socket[bytes] | None = None
        self._stages = Stages(self._rings, self._executor, self._wake)
        self._inside: deque[Job] = deque()
        limits = config.inference
        self._scheduler = BatchScheduler(
            max_batch=limits.max_batch, batch_limit_s=limits.batch_limit_s, ageing_s=limits.ageing_s
        )
        self._states = StateStore(config.states_dir, config.vad)
        self._pool.may_forget = self._states.forget_type
        self._contexts: dict[tuple[str, int, str], Any] = {}
        self._instance = str(uuid7())
        self._counts: Counter[str] = Counter()
        self._told: set[str] = set()
        self._largest = 0

    # ---- the loop

    def step(self) -> None:
        """Waits a little for requests and ended batches, and deals with them; begins batches as they are due."""
        self._follow_link()
        self._poller.poll(round(self._wait_s() * 1000))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        for incoming in self._server.receive(0):
            self._take(incoming)
        self._answer_beside()
        self._analysts.tend()
        self._link.tend()
        changed = self._config_watch.changed()
        if changed:
            self._analysts.take_over(_by_rules(changed))
            self._link.take_over(changed)
        for job in self._stages.take():
            self._inside.popleft()
            self._end(job)
        while self._scheduler.waiting and self._wait_s() == 0:
            self._begin()

    def _follow_link(self) -> None:
        """The analysis process was started, or ended: its answers wake this loop too."""
        socket = self._link.socket
        if socket is self._linked:
            return
        if self._linked is not None:
            self._poller.unregister(self._linked)
        if socket is not None:
            self._poller.register(socket, zmq.POLLIN)
        self._linked = socket

    def _wait_s(self) -> float:
        """Until a batch is to be begun: at once where nothing runs, else so that it is prepared when the device is
        free and not much earlier, since meanwhile newer frames come.
        """
        if not self._scheduler.waiting or len(self._inside) > 1:
            return PERIOD_S
        if not self._inside:
            return 0.0
        job = self._inside[0]
        costs = self._scheduler.costs(job.vad_type)
        due_s = (job.ends_ns - time.monotonic_ns()) / 1e9 - 1.5 * costs.preparation_s(self._scheduler.waiting)
        return min(PERIOD_S, due_s) if due_s >= SOON_S else 0.0

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    @property
    def hung(self) -> bool:
        """Whether a batch takes so long that something must be wrong."""
        limit_ns = self._config.inference.hung_s * 1e9
        return bool(self._inside) and time.monotonic_ns() - self._inside[0].begun_ns > limit_ns

    @property
    def scored(self) -> int:
        return self._counts["scored"] + self._counts["learning"]

    def _take(self, incoming: Incoming) -> None:
        try:
            reply = self._handle(incoming)
        except Exception as error:
            self._refuse(incoming, error)
            return
        if reply:
            incoming.reply(reply)

    def _refuse(self, incoming: Incoming, error: Exception) -> None:
        match error:
            case StateError():
                code = "bad_state"
            case ModelError():
                code = "unknown_type"
            case HaetaeError():
                code = "bad_request"
            case _:
                code = "internal"
                log.error("request_failed", request=type(incoming.body).__name__, exc_info=error)
        self._fail(incoming, code, error)

    def _handle(self, incoming: Incoming) -> Message | None:
        match incoming.body:
            case ScoreRequest() as request:
                self._enqueue(incoming, request)
            case AnalyzeRequest() as request:
                self._analyse(incoming, request)
            case GetState() as request:
                _, normality = self._normality(request.vad_type, request.normality_id)
                if normality.forget_before(request.since):
                    log.info("forgot_another_camera", normality_id=request.normality_id)
                return self._state_reply(normality)
            case ForgetState() as request:
                _, normality = self._normality(request.vad_type, request.normality_id)
                normality.forget()
                return self._state_reply(normality)
            case UseVersion() as request:
                _, normality = self._normality(request.vad_type, request.normality_id)
                normality.use(request.version)
                log.info("version_used", normality_id=request.normality_id, version=request.version)
                return self._state_reply(normality)
            case FinishLearning() as request:
                model, _ = self._normality(request.vad_type, request.normality_id)
                executor = self._trainer if model.trains and request.whole else self._fitter
                self._do_beside(executor, incoming, partial(self._finish_learning, request))
            case GetStatistics():
                return self.statistics()
            case Ping():
                return Pong(pid=os.getpid(), instance=self._instance)
            case _:
                raise HaetaeError(f"no answer to {type(incoming.body).__name__}")
        return None

    def _fail(self, incoming: Incoming, code: str, error: Exception) -> None:
        self._counts["errors"] += 1
        hint = getattr(error, "hint", "")
        incoming.fail(code, f"{error}" + (f" ({hint})" if hint else ""))

    def _answer(self, incoming: Incoming, reply: ScoreReply) -> None:
        self._counts[reply.status] += 1
        incoming.reply(reply)

    # ---- states

    def _normality(self, vad_type: str, normality_id: str) -> tuple[VadModel, Normality]:
        chosen = real_type(vad_type)
        if chosen.reason and vad_type not in self._told:
            self._told.add(vad_type)
            log.info("type_chosen", vad_type=chosen.vad_type, reason=chosen.reason)
        model = self._pool.get_vad_model(chosen.vad_type)
        return model, self._states.get(model, model.name, check_camera_id(normality_id))

    def _state_reply(self, normality: Normality) -> LearnedReply:
        state, versions = normality.state, tuple(normality.versions)
        if state is not None and normality.training:
            return LearnedReply(
                state="provisional",
                state_version=state.version,
                learned_s=state.learned_s,
                frames=state.frames,
                versions=versions,
            )
        if state is None or state.version == 0:
            learner = normality.learner
            return LearnedReply(
                state="learning",
                state_version=0,
                learned_s=learner.learned_s if learner else 0.0,
                frames=learner.frames if learner else 0,
                warning=normality.unusable,
                versions=versions,
            )
        reply = LearnedReply(
            state=state.phase,
            state_version=state.version,
            learned_s=state.learned_s,
            frames=state.frames,
            reason=normality.reason,
            versions=versions,
        )
        file = normality.file
        if file is None or not file.exists():
            return reply
        sha256, made_at = normality.hashed(file)
        return msgspec.structs.replace(
            reply, file=str(file.relative_to(self._config.states_dir)), sha256=sha256, made_at=made_at
        )

    def _finish_learning(self, request: FinishLearning) -> LearnedReply:
        model, normality = self._normality(request.vad_type, request.normality_id)
        if model.trains and not request.whole:
            if normality.begin_training():
                log.info("training", normality_id=request.normality_id, vad_type=request.vad_type)
                self._trainer.submit(self._train, request, normality)
            return self._state_reply(normality)
        begun = time.monotonic()
        normality.finish()
        return self._say_learned(request, normality, begun)

    def _train(self, request: FinishLearning, normality: Normality) -> None:
        begun = time.monotonic()
        try:
            if normality.train() is not None:
                self._say_learned(request, normality, begun)
        except StateError as error:
            log.warning("not_trained", normality_id=request.normality_id, reason=str(error))
        except Exception:
            log.exception("not_trained", normality_id=request.normality_id)

    def _say_learned(self, request: FinishLearning, normality: Normality, begun: float) -> LearnedReply:
        reply = self._state_reply(normality)
        log.info(
            "learned",
            normality_id=request.normality_id,
            vad_type=request.vad_type,
            version=reply.state_version,
            learned_s=round(reply.learned_s, 1),
            frames=reply.frames,
            fit_s=round(time.monotonic() - begun, 2),
        )
        return reply

    # ---- scores

    def _enqueue(self, incoming: Incoming, request: ScoreRequest) -> None:
        model, normality = self._normality(request.vad_type, request.normality_id)
        if normality.state is None and not request.learn:
            incoming.fail("no_state", f"{request.normality_id} has learned nothing yet")
            return
        ticket = Ticket(
            camera_id=request.frame.camera_id,
            vad_type=model.name,
            deadline_ns=incoming.deadline_ns,
            priority=request.priority,
            weight=request.weight,
            lossless=request.lossless,
            owner=incoming,
        )
        replaced = self._scheduler.put(ticket, time.monotonic_ns())
        if replaced is ticket:
            incoming.fail("busy", "too many of this camera's frames are waiting")
        elif replaced:
            self._answer(replaced.owner, ScoreReply(status="superseded"))

    def _begin(self) -> None:
        """Sends the next batch on its way; answers what is too late for it."""
        now_ns = time.monotonic_ns()
        free_ns = self._inside[-1].ends_ns if self._inside else now_ns
        batch, late = self._scheduler.take(now_ns, free_ns)
        for ticket in late:
            self._answer(ticket.owner, ScoreReply(status="late"))
        if not batch:
            return
        try:
            job = self._job(batch, now_ns, free_ns)
        except Exception as error:
            log.exception("batch_not_begun", rows=len(batch))
            for ticket in batch:
                self._fail(ticket.owner, "internal", error)
            return
        self._inside.append(job)
        self._stages.begin(job)

    def _job(self, batch: list[Ticket], now_ns: int, free_ns: int) -> Job:
        vad_type = batch[0].vad_type
        model, costs = self._pool.get_vad_model(vad_type), self._scheduler.costs(vad_type)
        found = [self._row(model, ticket.owner.body) for ticket in batch]
        takes_s = costs.preparation_s(len(batch)) + costs.estimate_s(len(batch), now_ns)
        return Job(
            model=model,
            tickets=batch,
            frames=[ticket.owner.body.frame for ticket in batch],
            rows=[row for row, _ in found],
            normalities=[normality for _, normality in found],
            begun_ns=now_ns,
            ends_ns=max(now_ns, free_ns) + round(takes_s * 1e9),
        )

    def _row(self, model: VadModel, request: ScoreRequest) -> tuple[Row, Normality]:
        frame = request.frame
        _, normality = self._normality(request.vad_type, request.normality_id)
        return Row(
            prepared=None,
            media_s=request.media_s,
            context=self._context(model, frame.camera_id, frame.epoch),
            state=normality.state,
            learner=normality.begin() if request.learn else None,
        ), normality

    def _end(self, job: Job) -> None:
        """Answers a batch that was run, and remembers what it took."""
        assert job.run
        self._largest = max(self._largest, len(job.tickets))
        self._counts["batches"] += 1
        costs, now_ns = self._scheduler.costs(job.vad_type), time.monotonic_ns()
        costs.observe_preparation(len(job.tickets), job.prepare_s)
        if job.run.whole and job.prepared:
            costs.observe(job.prepared, job.run_s, now_ns)
        self._counts["retried"] += not job.run.whole
        if job.run.out_of_memory:
            log.warning("out_of_memory", vad_type=job.vad_type, rows=job.run.out_of_memory)
            costs.out_of_memory(job.run.out_of_memory, now_ns)
        for number in job.run.guilty if len(job.tickets) > 1 else ():
            until_ns = now_ns + round(self._config.inference.isolate_s * 1e9)
            log.warning("camera_isolated", camera_id=job.tickets[number].camera_id, reason=str(job.outcomes[number]))
            self._scheduler.isolate(job.tickets[number].camera_id, job.vad_type, until_ns)
        for ticket, row, normality, outcome in zip(job.tickets, job.rows, job.normalities, job.outcomes, strict=True):
            try:
                self._answer_score(ticket.owner, normality, outcome)
            except Exception as error:
                self._refuse(ticket.owner, error)
            self._learn_on(ticket.owner.body, row, normality, outcome)

    def _learn_on(self, request: ScoreRequest, row: Row, normality: Normality, outcome: Outcome) -> None:
        """Lets the shadow of a camera that watches see its ordinary footage."""
        drift, state = normality.drift, row.state
        if drift is None or state is None or state.version == 0 or request.learn or request.lossless:
            return
        score = outcome.score if isinstance(outcome, VadScore) else None
        burst = drift.offer(row.prepared, request.media_s, score, request.ordinary_below)
        if burst is None or normality.state is not state:
            return
        drift.busy = True
        model = self._pool.get_vad_model(real_type(request.vad_type).vad_type)
        (self._trainer if model.trains else self._fitter).submit(self._take_burst, normality, drift, burst, state)

    def _take_burst(self, normality: Normality, drift: Drift, burst: Burst, state: NormalityState) -> None:
        try:
            if normality.drift is drift:
                normality.recall_drift()
            better = drift.take(burst, state)
            if better is not None and normality.state is state:
                log.info("shadow_promoted", file=str(normality.promote(better)))
            if normality.drift is drift and drift.wants_saving(self._config.vad.drift_save_h * 3600):
                normality.save_drift()
        except Exception:
            log.exception("not_learned_on")
        finally:
            drift.busy = False

    def _context(self, model: VadModel, camera_id: str, epoch: int) -> Any:
        key = (camera_id, epoch, model.name)
        if key not in self._contexts:
            for old in [old for old in self._contexts if old[0] == camera_id and old[1] != epoch]:
                del self._contexts[old]
            self._contexts[key] = model.new_context()
        return self._contexts[key]

    def _answer_score(self, incoming: Incoming, normality: Normality, result: Outcome) -> None:
        if isinstance(result, FrameGone):
            self._answer(incoming, ScoreReply(status="gone"))
            return
        if isinstance(result, Exception):
            code = "bad_state" if isinstance(result, StateError) else "no_memory" if is_out_of_memory(result) else ""
            if not code:
                log.error("frame_failed", camera_id=incoming.body.frame.camera_id, exc_info=result)
            self._fail(incoming, code or "internal", result)
            return
        learner, state = normality.learner, normality.state
        if incoming.body.learn and normality.wants_provisional(self._config.vad.provisional_s):
            # a file gives the same scores each time it is watched; a camera does not wait
            if incoming.body.lossless:
                normality.fit_provisional()
            else:
                self._fitter.submit(self._fit_provisional, normality)
        learned_s = learner.learned_s if learner else state.learned_s if state else 0.0
        if result is None:
            self._answer(incoming, ScoreReply(status="learning", learned_s=learned_s))
            return
        assert state
        self._answer(
            incoming,
            ScoreReply(
                status="scored",
                score=result.score,
                peak_x=result.peak_x,
                peak_y=result.peak_y,
                map=result.map.tobytes(),
                map_rows=result.map.shape[0],
                map_cols=result.map.shape[1],
                reason=result.reason,
                state=state.phase,
                state_version=state.version,
                learned_s=learned_s,
            ),
        )

    # ---- beside the loop

    @staticmethod
    def _fit_provisional(normality: Normality) -> None:
        try:
            normality.fit_provisional()
        except Exception:
            log.exception("state_not_fitted")

    def _analyse(self, incoming: Incoming, request: AnalyzeRequest) -> None:
        deadline_s = min(incoming.deadline_ns / 1e9, time.monotonic() + self._config.vlm.hard_s)
        self._analysed[id(incoming)] = incoming
        asked = self._link if self._link.wanted else self._analysts
        asked.submit(incoming, request, deadline_s)

    def _ended_analysis(self, incoming: Incoming, reply: AnalyzeReply | Exception) -> None:
        self._ended_beside.put((incoming, reply))
        self._wake()

    def _do_beside(self, executor: ThreadPoolExecutor, incoming: Incoming, work: Callable[[], Message]) -> None:
        """Has `work` make the reply in another thread; refuses where too much waits already."""
        if len(self._beside) >= BESIDE:
            incoming.fail("busy", "too much is being learned")
            return
        self._beside[id(incoming)] = incoming

        def do() -> None:
            try:
                reply: Message | Exception = work()
            except Exception as error:
                reply = error
            self._ended_beside.put((incoming, reply))
            self._wake()

        executor.submit(do)

    def _answer_beside(self) -> None:
        while not self._ended_beside.empty():
            incoming, reply = self._ended_beside.get()
            if (self._beside.pop(id(incoming), None) or self._analysed.pop(id(incoming), None)) is None:
                continue
            if isinstance(reply, Exception):
                self._refuse(incoming, reply)
            else:
                incoming.reply(reply)

    # ---- the rest

    def statistics(self) -> InferenceStatistics:
        pool = self._pool.statistics()
        scheduler = self._scheduler.statistics()
        return InferenceStatistics(
            scored=self._counts["scored"],
            learned=self._counts["learning"],
            superseded=scheduler.superseded,
            late=scheduler.late,
            gone=self._counts["gone"],
            errors=self._counts["errors"],
            batches=self._counts["batches"],
            largest_batch=self._largest,
            refused=scheduler.refused,
            waiting=scheduler.waiting,
            retried=self._counts["retried"],
            batch_ms=self._scheduler.batch_ms(),
            vad_types=(AUTO, *VAD_TYPES),
            models=self._link.models | pool.table(),
        )

    def samples(self) -> list[Sample]:
        """The same for Prometheus."""
        found, states = self.statistics(), self._states.statistics()
        models = model_samples(self._pool.statistics().table(), "inference")
        return [
            counter("inference_scored", "Frames scored.", found.scored),
            counter("inference_learned", "Frames learned from.", found.learned),
            counter("inference_superseded", "Frames replaced by newer ones before their turn.", found.superseded),
            counter("inference_late", "Frames whose time was over before their turn.", found.late),
            counter("inference_gone", "Frames overwritten before their turn.", found.gone),
            counter("inference_errors", "Requests that failed.", found.errors),
            counter("inference_batches", "Batches.", found.batches),
            gauge("inference_largest_batch", "Frames of the largest batch.", found.largest_batch),
            counter("inference_states_promoted", "States that took over because they fit better.", states["promoted"]),
            counter("inference_states_refused", "States that were tried and fit no better.", states["refused"]),
            counter("inference_drift_saved", "Times that what is learned on was saved.", states["drift_saved"]),
            counter(
                "inference_drift_put_aside",
                "Files of what was learned on that were no good.",
                states["drift_put_aside"],
            ),
            gauge("inference_waiting", "Frames that wait for their turn.", self._scheduler.waiting),
            *models,
            *self._analysts.samples(),
            *self._link.samples(),
        ]

    def close(self) -> None:
        """Answers what is being scored, refuses what still waits, and lets go of the address."""
        waiting = [ticket.owner for ticket in self._scheduler.clear()]
        give_up = time.monotonic() + DRAIN_S
        while time.monotonic() < give_up and (came := self._server.receive(DRAIN_S / 10)):
            waiting += came
        self._stages.close()
        for job in self._stages.take():
            self._end(job)
        # before the pool ends what is being trained: a shadow that is lost thereby is made again
        self._states.save_drifts(SAVE_S)
        self._link.close()
        self._analysts.close()
        self._pool.close()
        for executor in (self._fitter, self._trainer):
            executor.shutdown(wait=True, cancel_futures=True)
        self._answer_beside()
        for incoming in (*waiting, *self._beside.values(), *self._analysed.values()):
            incoming.fail("stopping", "inference is stopping")
        self._executor.shutdown()
        self._rings.close()
        self._server.close()
        os.close(self._wake_fd)


def _by_rules(config: Config) -> Config:
    return msgspec.structs.replace(config, vlm=msgspec.structs.replace(config.vlm, backend="rules"))
