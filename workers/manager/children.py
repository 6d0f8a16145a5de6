"""Children: the camera processes themselves, what they write on standard error, and how they end."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from core.cameras import CameraConfig
from core.cameras.job import CameraJob
from core.config import Config
from core.heartbeat import read_heartbeat, remove_heartbeat
from core.ids import CameraId
from core.logs import redact
from workers.manager.reconciler import Observed
from workers.process import spawn

__all__ = ["Children", "last_words"]

log = structlog.get_logger()

LOG_BYTES = 10 << 20
"""A camera's log is moved aside (once) when it is larger."""


@dataclass(slots=True)
class _Child:
    process: "subprocess.Popen[bytes]"
    pidfd: int
    log: Path
    log_from: int
    """Where in its log this process's own lines begin."""


class Children:
    """The processes of all cameras; used by the main thread only, since the parent-death signal follows it."""

    def __init__(self, config: Config, role: str = "camera") -> None:
        self._config, self._role = config, role
        self._children: dict[CameraId, _Child] = {}
        self._unborn: dict[CameraId, str] = {}

    def start(self, camera: CameraConfig) -> None:
        """Starts the camera's process; one that cannot be started is observed as ended at once."""
        camera_id = camera.camera_id
        path = self._config.logs_dir / f"camera-{camera_id}.log"
        try:
            with path.open("ab") as stderr:
                child = spawn(
                    self._role,
                    config=self._config,
                    payload=msgspec.json.encode(CameraJob(camera=camera)),
                    stdout=stderr,
                    stderr=stderr,
                )
                pidfd = os.pidfd_open(child.pid)
                self._children[camera_id] = _Child(child, pidfd, path, stderr.tell())
        except OSError as error:
            self._unborn[camera_id] = f"cannot be started: {error.strerror}"
            return
        log.info("camera_started", camera_id=camera_id, pid=child.pid)

    def observe(self) -> Mapping[CameraId, Observed]:
        """All processes as they are; those that ended are reaped, shown this once, and forgotten."""
        found = {
            camera_id: Observed(pid=0, exit_code=1, last_words=reason) for camera_id, reason in self._unborn.items()
        }
        self._unborn.clear()
        for camera_id, child in list(self._children.items()):
            found[camera_id] = self._observe(camera_id, child)
        return found

    def _observe(self, camera_id: CameraId, child: _Child) -> Observed:
        name, pid, code = f"camera-{camera_id}", child.process.pid, child.process.poll()
        beat = read_heartbeat(self._config.run_dir, name)
        if code is None:
            return Observed(pid=pid, beat=beat)
        os.close(child.pidfd)
        del self._children[camera_id]
        _signal_group(pid, signal.SIGKILL)
        if beat and beat.pid == pid:
            remove_heartbeat(self._config.run_dir, name)
        words = last_words(child.log, child.log_from)
        log.info("camera_ended", camera_id=camera_id, pid=pid, exit_code=code, last_words=words)
        return Observed(pid=pid, exit_code=code, last_words=words)

    def terminate(self, camera_id: CameraId) -> None:
        """Asks the process to end; it closes its open events first."""
        if child := self._children.get(camera_id):
            log.info("camera_stopping", camera_id=camera_id, pid=child.process.pid)
            child.process.send_signal(signal.SIGTERM)

    def kill(self, camera_id: CameraId, reason: str) -> None:
        if child := self._children.get(camera_id):
            log.warning("camera_killed", camera_id=camera_id, pid=child.process.pid, reason=reason)
            _signal_group(child.process.pid, signal.SIGKILL)

    @property
    def pidfds(self) -> list[int]:
        """Descriptors that become readable when a child ends."""
        return [child.pidfd for child in self._children.values()]

    def __len__(self) -> int:
        return len(self._children)

    def trim_logs(self) -> None:
        """Moves logs that have grown large aside; the process goes on writing into the same, emptied file."""
        for child in self._children.values():
            if child.log.stat().st_size > LOG_BYTES:
                shutil.copyfile(child.log, child.log.with_suffix(".log.1"))
                os.truncate(child.log, 0)
                child.log_from = 0


def _signal_group(pid: int, number: int) -> None:
    """To the whole session that the child leads, and so to what it may have started."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def last_words(path: Path, start: int = 0) -> str:
    """Why the process says that it ended: its error and hint if it wrote them, else its last line; "" for none."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 8192))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("haetae: "):
            hint = lines[number + 1 : number + 2]
            told = lines[number].removeprefix("haetae: ")
            return redact(told + (f" ({hint[0].strip()})" if hint and hint[0].startswith("  ") else ""))
    plain = [line for line in lines if not line.startswith("{")]
    return redact(plain[-1].strip())[:300] if plain else ""
