"""The inference server: requests in, batches through the models, a reply to each."""

import hashlib
import os
import queue
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
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
)
from core.wire.rpc import Incoming, RequestServer
from workers.inference.pool import ResourcePool
from workers.inference.scheduler import BatchScheduler, Ticket
from workers.inference.states import Normality, StateStore
from workers.inference.vad.base import Row, VadModel, VadScore

__all__ = ["InferenceServer"]

log = structlog.get_logger()

PERIOD_S = 0.1
ANALYSES = 64
"""Analyses that wait at most; the next are refused, and their cameras describe by themselves."""


class InferenceServer:
    """Sockets, scheduler and models in one loop; only analyses run beside it."""

    def __init__(self, context: zmq.Context[Any], config: Config) -> None:
        self._config = config
        self._server = RequestServer(context, config.endpoint("inference"), InferenceRequest)
        threads = config.inference.threads or os.cpu_count() or 1
        self._pool = ResourcePool(threads)
        self._executor = ThreadPoolExecutor(threads, "vad")
        self._analysts = ThreadPoolExecutor(2, "analysis")
        self._analysed: queue.SimpleQueue[tuple[Incoming, Message | Exception]] = queue.SimpleQueue()
        self._analysing: set[str] = set()
        self._rings = RingSet(config.run_dir)
        self._scheduler = BatchScheduler()
        self._states = StateStore(config.states_dir, config.vad.armed_s)
        self._contexts: dict[tuple[str, int, str], Any] = {}
        self._instance = str(uuid7())
        self._counts: Counter[str] = Counter()
        self._largest = 0

    # ---- the loop

    def step(self) -> None:
        """Takes what came, waiting for it only where nothing waits to be scored; scores one batch."""
        for incoming in self._server.receive(0 if self._scheduler.waiting else PERIOD_S):
            self._take(incoming)
        self._answer_analyses()
        batch, late = self._scheduler.take(time.monotonic_ns(), self._config.inference.max_batch)
        for ticket in late:
            self._answer(ticket.owner, ScoreReply(status="late"))
        if batch:
            self._largest = max(self._largest, len(batch))
            self._counts["batches"] += 1
            self._score(batch)

    @property
    def scored(self) -> int:
        return self._counts["scored"] + self._counts["learning"]

    def _take(self, incoming: Incoming) -> None:
        try:
            reply = self._handle(incoming)
        except StateError as error:
            reply = None
            self._fail(incoming, "bad_state", error)
        except ModelError as error:
            reply = None
            self._fail(incoming, "unknown_type", error)
        except HaetaeError as error:
            reply = None
            self._fail(incoming, "bad_request", error)
        except Exception as error:
            reply = None
            log.exception("request_failed", request=type(incoming.body).__name__)
            self._fail(incoming, "internal", error)
        if reply:
            incoming.reply(reply)

    def _handle(self, incoming: Incoming) -> Message | None:
        match incoming.body:
            case ScoreRequest() as request:
                self._enqueue(incoming, request)
            case AnalyzeRequest() as request:
                self._analyse(incoming, request)
            case GetState() as request:
                return self._state_reply(self._normality(request.vad_type, request.normality_id)[1])
            case ForgetState() as request:
                _, normality = self._normality(request.vad_type, request.normality_id)
                normality.forget()
                return self._state_reply(normality)
            case FinishLearning() as request:
                return self._finish_learning(request)
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
        model = self._pool.get_vad_model(vad_type)
        return model, self._states.get(model, vad_type, check_camera_id(normality_id))

    def _state_reply(self, normality: Normality) -> LearnedReply:
        state = normality.state
        if state is None or state.version == 0:
            learner = normality.learner
            return LearnedReply(
                state="learning",
                state_version=0,
                learned_s=learner.learned_s if learner else 0.0,
                frames=learner.frames if learner else 0,
            )
        return LearnedReply(
            state=state.phase, state_version=state.version, learned_s=state.learned_s, frames=state.frames
        )

    def _finish_learning(self, request: FinishLearning) -> LearnedReply:
        _, normality = self._normality(request.vad_type, request.normality_id)
        begun = time.monotonic()
        file = normality.finish()
        reply = msgspec.structs.replace(
            self._state_reply(normality),
            file=str(file.relative_to(self._config.states_dir)),
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        )
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
        _, normality = self._normality(request.vad_type, request.normality_id)
        if normality.state is None and not request.learn:
            incoming.fail("no_state", f"{request.normality_id} has learned nothing yet")
            return
        ticket = Ticket(request.frame.camera_id, request.vad_type, incoming.deadline_ns, request.lossless, incoming)
        replaced = self._scheduler.put(ticket)
        if replaced is ticket:
            incoming.fail("busy", "too many of this camera's frames are waiting")
        elif replaced:
            self._answer(replaced.owner, ScoreReply(status="superseded"))

    def _score(self, batch: list[Ticket]) -> None:
        model = self._pool.get_vad_model(batch[0].vad_type)
        rows: list[Row] = []
        asked: list[tuple[Incoming, Normality]] = []
        for ticket in batch:
            request: ScoreRequest = ticket.owner.body
            try:
                row, normality = self._row(model, request)
            except FrameGone:
                self._answer(ticket.owner, ScoreReply(status="gone"))
            except StateError as error:
                self._fail(ticket.owner, "bad_state", error)
            else:
                rows.append(row)
                asked.append((ticket.owner, normality))
        try:
            results = model.process(rows, self._executor)
        except Exception as error:
            log.exception("batch_failed", rows=len(rows))
            results = [error] * len(rows)
        for (incoming, normality), result in zip(asked, results, strict=True):
            self._answer_score(incoming, normality, result)

    def _row(self, model: VadModel, request: ScoreRequest) -> tuple[Row, Normality]:
        frame = request.frame
        _, normality = self._normality(request.vad_type, request.normality_id)
        with self._rings.read(frame) as found:
            height, width = found.pixels.shape[0] * 2 // 3, found.pixels.shape[1]
            prepared = model.prepare(found.pixels, width, height)
        return Row(
            prepared=prepared,
            media_s=request.media_s,
            context=self._context(model, frame.camera_id, frame.epoch),
            state=normality.state,
            learner=normality.begin() if request.learn else None,
        ), normality

    def _context(self, model: VadModel, camera_id: str, epoch: int) -> Any:
        key = (camera_id, epoch, model.name)
        if key not in self._contexts:
            for old in [old for old in self._contexts if old[0] == camera_id and old[1] != epoch]:
                del self._contexts[old]
            self._contexts[key] = model.new_context()
        return self._contexts[key]

    def _answer_score(self, incoming: Incoming, normality: Normality, result: VadScore | Exception | None) -> None:
        if isinstance(result, Exception):
            self._fail(incoming, "bad_state" if isinstance(result, StateError) else "internal", result)
            return
        learner, state = normality.learner, normality.state
        if incoming.body.learn:
            normality.fit_provisional(self._config.vad.provisional_s)
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

    # ---- analyses

    def _analyse(self, incoming: Incoming, request: AnalyzeRequest) -> None:
        if len(self._analysing) >= ANALYSES:
            incoming.fail("busy", "too many analyses are waiting")
            return
        analyzer, flow = self._pool.get_vlm_analyzer(), self._pool.get_agent_flow(request.flow)
        key = f"{request.event.id}/{request.event.revision}"
        self._analysing.add(key)

        def work() -> None:
            try:
                decision = flow.run(request.event, request.evidence, analyzer)
                reply: Message | Exception = AnalyzeReply(
                    vlm_type=decision.analysis.vlm_type,
                    description=decision.analysis.description,
                    severity=decision.severity,
                    source=decision.analysis.source,
                    steps=decision.steps,
                )
            except Exception as error:
                log.exception("analysis_failed", event_id=request.event.id)
                reply = error
            self._analysing.discard(key)
            self._analysed.put((incoming, reply))

        self._analysts.submit(work)

    def _answer_analyses(self) -> None:
        while not self._analysed.empty():
            incoming, reply = self._analysed.get()
            if isinstance(reply, Exception):
                self._fail(incoming, "internal", reply)
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
            models={key: msgspec.structs.asdict(one) for key, one in pool.models.items()}
            | {"process": {name: float(size) for name, size in pool.memory.items()}},
        )

    def samples(self) -> list[Sample]:
        """The same for Prometheus."""
        found = self.statistics()
        models = [
            gauge("model_bytes", "Memory of a model, by kind.", value, model=model, kind=kind)
            for model, sizes in found.models.items()
            for kind, value in sizes.items()
            if kind.endswith("bytes")
        ]
        return [
            counter("inference_scored", "Frames scored.", found.scored),
            counter("inference_learned", "Frames learned from.", found.learned),
            counter("inference_superseded", "Frames replaced by newer ones before their turn.", found.superseded),
            counter("inference_late", "Frames whose time was over before their turn.", found.late),
            counter("inference_gone", "Frames overwritten before their turn.", found.gone),
            counter("inference_errors", "Requests that failed.", found.errors),
            counter("inference_batches", "Batches.", found.batches),
            gauge("inference_largest_batch", "Frames of the largest batch.", found.largest_batch),
            gauge("inference_waiting", "Frames that wait for their turn.", self._scheduler.waiting),
            *models,
        ]

    def close(self) -> None:
        """Refuses what still waits, and lets go of the address."""
        while self._scheduler.waiting:
            batch, late = self._scheduler.take(time.monotonic_ns(), 1024)
            for ticket in batch + late:
                ticket.owner.fail("stopping", "inference is stopping")
        self._analysts.shutdown(wait=True, cancel_futures=True)
        self._answer_analyses()
        self._executor.shutdown()
        self._rings.close()
        self._server.close()
