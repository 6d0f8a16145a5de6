"""The analysis process: judges events with a model, beside the scoring of frames and never in its way.

`inference` starts it where a model is configured, and stands in for it with rules. It has an interpreter of its own, so
that no thread here holds up a batch there, and a lower priority, so that frames go first where both want a core.
"""

import contextlib
import os
import queue
import sys
import time
from typing import Any

import structlog
import zmq

from core.config import Config
from core.errors import HaetaeError, WireError
from core.metrics import MetricsFile
from core.wire.messages import AnalyzeReply, AnalyzeRequest, GetStatistics, InferenceStatistics, Ping, Pong
from core.wire.rpc import Incoming, RequestServer
from workers.inference.analysts import Analysts, ConfigWatch
from workers.inference.memory import device_memory, model_samples
from workers.inference.pool import ResourcePool
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["ENDPOINT", "main"]

log = structlog.get_logger()

ENDPOINT = "analysis"
PERIOD_S = 0.25
AnalysisMessage = AnalyzeRequest | GetStatistics | Ping


class AnalysisServer:
    """Requests in, a reply to each; the work is done by threads."""

    def __init__(self, context: zmq.Context[Any], config: Config) -> None:
        self._config = config
        self._server = RequestServer(context, config.endpoint(ENDPOINT), AnalysisMessage)
        self._pool = ResourcePool(1)
        self._analysts = Analysts(config, self._pool, self._ended, where=ENDPOINT)
        self._pool.prepare_analyzer(config)
        self._watch = ConfigWatch(config)
        self._done: queue.SimpleQueue[tuple[Incoming, AnalyzeReply | Exception]] = queue.SimpleQueue()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        self._poller.register(self._server.socket, zmq.POLLIN)
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._metrics = MetricsFile(config.run_dir, ENDPOINT)

    def step(self) -> None:
        """Waits a little for something to do, and does it."""
        self._poller.poll(round(PERIOD_S * 1000))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
        for incoming in self._server.receive(0):
            self._take(incoming)
        while not self._done.empty():
            incoming, reply = self._done.get()
            if isinstance(reply, Exception):
                if not isinstance(reply, HaetaeError):
                    log.error("analysis_failed", exc_info=reply)
                incoming.fail("unknown_type" if isinstance(reply, HaetaeError) else "internal", str(reply))
            else:
                incoming.reply(reply)
        self._analysts.tend()
        changed = self._watch.changed()
        if changed:
            self._analysts.take_over(changed)
        if self._metrics.due:
            models = self._statistics().models
            self._metrics.write([*self._analysts.samples(), *model_samples(models, ENDPOINT)])

    def _take(self, incoming: Incoming) -> None:
        if incoming.expired(time.monotonic_ns()):
            incoming.fail("deadline", "the time allowed was over before work began")
            return
        match incoming.body:
            case AnalyzeRequest() as request:
                deadline_s = min(incoming.deadline_ns / 1e9, time.monotonic() + self._config.vlm.hard_s)
                self._analysts.submit(incoming, request, deadline_s)
            case GetStatistics():
                incoming.reply(self._statistics())
            case _:
                incoming.reply(Pong(pid=os.getpid(), instance=ENDPOINT))

    def _ended(self, incoming: Incoming, reply: AnalyzeReply | Exception) -> None:
        self._done.put((incoming, reply))
        os.eventfd_write(self._wake_fd, 1)

    def _statistics(self) -> InferenceStatistics:
        return InferenceStatistics(
            scored=0,
            learned=0,
            superseded=0,
            late=0,
            gone=0,
            errors=0,
            batches=0,
            largest_batch=0,
            models=self._pool.statistics().table(),
        )

    def close(self) -> None:
        self._pool.close_analyzers()
        self._metrics.close()
        self._server.close()


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM, or the end of `inference`."""
    stop = StopFlag(ends_within_s=5)
    _, config = parse_role_args("analysis", argv)
    os.nice(config.vlm.nice)
    context: zmq.Context[Any] = zmq.Context()
    try:
        server = AnalysisServer(context, config)
    except WireError as error:
        return fail(error)
    log.info("analysis_ready", backend=config.vlm.backend, memory_bytes=device_memory()["cpu_resident"])
    while not stop.is_set():
        server.step()
    server.close()
    log.info("analysis_stopped")
    sys.stdout.flush()
    sys.stderr.flush()
    # a model in the middle of a question, or of its loading, is not waited for: who asked has been told
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
