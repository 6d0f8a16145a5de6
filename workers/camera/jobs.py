"""JobFeed: the camera's job, and each later change of it, a line of JSON on standard input."""

import os
import select

import msgspec

from core.cameras.job import CameraJob
from core.errors import ConfigError

__all__ = ["JobFeed"]


class JobFeed:
    """Reads jobs from a pipe whose other end may be closed at any time."""

    def __init__(self, fd: int = 0) -> None:
        self.fd = fd
        self._rest = b""
        self.ended = False

    def first(self) -> CameraJob:
        """Waits for the job to begin with; raises ConfigError where there is none."""
        while b"\n" not in self._rest and not self.ended:
            self._read()
        line, _, self._rest = self._rest.partition(b"\n")
        return _decoded(line)

    def newest(self) -> CameraJob | None:
        """The newest of the jobs that came meanwhile; None where none did."""
        while not self.ended and select.select([self.fd], [], [], 0)[0]:
            self._read()
        *lines, self._rest = self._rest.split(b"\n")
        return _decoded(lines[-1]) if lines else None

    def _read(self) -> None:
        data = os.read(self.fd, 65_536)
        self._rest += data
        self.ended = not data


def _decoded(line: bytes) -> CameraJob:
    try:
        return msgspec.json.decode(line, type=CameraJob)
    except msgspec.DecodeError as error:
        raise ConfigError(f"no camera job on standard input: {error}") from error
