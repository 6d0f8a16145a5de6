"""The camera process: one camera, from its source to its events. Its job comes on standard input."""

import os
import sys

import cv2
import msgspec
import structlog

from core.cameras.job import CameraJob
from core.errors import ConfigError, HaetaeError, SourceError, StateError
from core.heartbeat import Heartbeat
from workers.camera.pipeline import CameraPipeline
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["main"]

log = structlog.get_logger()


def read_job(text: bytes) -> CameraJob:
    """A CameraJob from JSON; raises ConfigError."""
    try:
        return msgspec.json.decode(text, type=CameraJob)
    except msgspec.DecodeError as error:
        raise ConfigError(f"no camera job on standard input: {error}") from error


def main(argv: list[str] | None = None) -> int:
    """Runs until the input ends or SIGTERM; exit code 78 where a person has to change something first."""
    stop = StopFlag()
    _, config = parse_role_args("camera", argv)
    cv2.setNumThreads(1)
    os.nice(5)  # detection may wait a little; answering and logging may not
    pipeline = None
    heartbeat = None
    try:
        job = read_job(sys.stdin.buffer.read())
        structlog.contextvars.bind_contextvars(camera_id=job.camera.camera_id)
        heartbeat = Heartbeat(config.run_dir, f"camera-{job.camera.camera_id}")
        pipeline = CameraPipeline(config, job, heartbeat, stop.is_set)
        result = pipeline.run()
        if job.result:
            with open(job.result, "wb") as file:  # noqa: PTH123
                file.write(msgspec.json.encode(result))
    except (ConfigError, SourceError, StateError) as error:
        return fail(error)
    except HaetaeError as error:
        fail(error)
        return 1
    finally:
        if pipeline:
            pipeline.close()
        if heartbeat:
            heartbeat.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
