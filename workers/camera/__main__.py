"""The camera process: one camera, from its source to its events. Its job comes on standard input."""

import os
import sys

if __name__ == "__main__":  # before all that is slow to import: a start takes no more from other cameras than a camera
    os.nice(5)  # detection may wait a little; answering and logging may not

import cv2
import msgspec
import structlog

from core.errors import ConfigError, HaetaeError, SecretError, SourceError, StateError
from core.heartbeat import Heartbeat
from workers.camera.jobs import JobFeed
from workers.camera.pipeline import CameraPipeline
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["main"]

log = structlog.get_logger()


LAST_RESORT_S = 20
"""An orderly end takes a few seconds at most; whatever hangs in it goes with the process, even where nobody watches."""


def main(argv: list[str] | None = None) -> int:
    """Runs until the input ends or SIGTERM; exit code 78 where a person has to change something first."""
    stop = StopFlag(ends_within_s=LAST_RESORT_S)
    _, config = parse_role_args("camera", argv)
    cv2.setNumThreads(1)
    pipeline = None
    heartbeat = None
    hung = False
    code = 0
    try:
        jobs = JobFeed()
        job = jobs.first()
        structlog.contextvars.bind_contextvars(camera_id=job.camera.camera_id)
        heartbeat = Heartbeat(config.run_dir, f"camera-{job.camera.camera_id}")
        pipeline = CameraPipeline(config, job, heartbeat, stop.is_set, None if job.lossless else jobs)
        result = pipeline.run()
        if job.result:
            with open(job.result, "wb") as file:  # noqa: PTH123
                file.write(msgspec.json.encode(result))
    except (ConfigError, SecretError, SourceError, StateError) as error:
        code = fail(error)
    except HaetaeError as error:
        fail(error)
        code = 1
    finally:
        if pipeline:
            hung = not pipeline.close()
        if heartbeat:
            heartbeat.close()
    if hung:
        os._exit(code)  # a thread hangs in a library, and would take the interpreter's orderly end with it
    return code


if __name__ == "__main__":
    sys.exit(main())
