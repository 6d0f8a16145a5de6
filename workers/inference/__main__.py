"""The inference process: scores the frames of all cameras."""

import sys
from typing import Any

import cv2
import structlog
import zmq

from core.errors import WireError
from core.heartbeat import Heartbeat
from core.metrics import MetricsFile
from workers.inference.server import InferenceServer
from workers.process import StopFlag, fail, keep_freed_memory, parse_role_args

__all__ = ["main"]

log = structlog.get_logger()


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM; exit code 78 where another one serves this data folder."""
    stop = StopFlag()
    keep_freed_memory()
    _, config = parse_role_args("inference", argv)
    cv2.setNumThreads(1)
    # a thread that judges an event lets one that has a batch to run go first after so long, instead of 5 ms
    sys.setswitchinterval(0.0005)
    context: zmq.Context[Any] = zmq.Context()
    try:
        server = InferenceServer(context, config)
    except WireError as error:
        return fail(error)
    heartbeat = Heartbeat(config.run_dir, "inference")
    metrics = MetricsFile(config.run_dir, "inference")
    log.info("inference_ready")
    while not stop.is_set():
        server.step()
        if not server.hung:
            heartbeat.beat("running", server.scored)
        if metrics.due:
            metrics.write(server.samples())
    server.close()
    metrics.close()
    heartbeat.close()
    context.term()
    log.info("inference_stopped", scored=server.scored)
    return 0


if __name__ == "__main__":
    sys.exit(main())
