"""MultiCameraManager: spawns, watches and ends the camera processes that the reconciler asks for."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
import structlog
from sqlalchemy.exc import DBAPIError

from core.cameras import CameraPhase, CameraStatus
from core.cameras.history import CameraStateChange
from core.cameras.job import CameraJob
from core.clock import Clock, utc_iso
from core.config import Config
from core.db import make_engine
from core.db.cameras import list_cameras
from core.frames import ring_budget, sweep
from core.heartbeat import read_heartbeat, remove_heartbeat
from core.ids import CameraId, NodeId, uuid7
from workers.manager.reconciler import Action, Observed, Reconciler, Step
from workers.process import spawn

__all__ = ["MultiCameraManager"]

log = structlog.get_logger()

LOG_BYTES = 10_000_000
"""A camera's log is put aside when it is larger; one such is kept."""
ROTATE_EVERY_S = 5.0


class MultiCameraManager:
    """The running camera processes of one machine; used by one thread, the main one."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._engine = make_engine(config.database_url)
        self._reconciler = Reconciler(config.manager, clock)
        self._processes: dict[CameraId, subprocess.Popen[bytes]] = {}
        self._desired: dict[CameraId, bool] = {}
        self._log_starts: dict[CameraId, int] = {}
        self._progress: dict[CameraId, tuple[int, float]] = {}
        """Frames that a camera had counted, and since when it has that many."""
        self._rotate_at = 0.0
        self._told: dict[CameraId, tuple[CameraPhase, str, int]] = {}
        sweep(config.run_dir)

    def read_desired(self) -> None:
        """Reads the desired state from the database; one that is away leaves things as they are."""
        try:
            cameras = list_cameras(self._engine)
        except (DBAPIError, msgspec.ValidationError) as error:
            log.error("cameras_not_read", reason=str(error))
            return
        desired = {camera.camera_id: camera.enabled for camera in cameras}
        if desired != self._desired:
            self._desired = desired
            self._check_memory()
        self._reconciler.desire(cameras)

    def _check_memory(self) -> None:
        """Says so where not all cameras will find room; each is refused by its own process, with the reason."""
        wanted = [camera_id for camera_id, enabled in self._desired.items() if enabled]
        budget = ring_budget(self._config.bus, self._config.run_dir, wanted)
        if budget.needed > budget.allowed:
            log.warning("shared_memory_too_small", reason=budget.describe(), hint=budget.hint())

    def stop_all(self) -> None:
        """From now on nothing is wanted."""
        self._reconciler.desire([])

    def reconcile(self) -> None:
        """One round: looks at all processes, then starts, stops and kills what must be."""
        observed = {camera_id: self._observe(camera_id) for camera_id in self._processes}
        for camera_id, seen in observed.items():
            self._frame_age_s(camera_id, seen.frames)
        actions = self._reconciler.reconcile(observed)
        for camera_id, seen in observed.items():
            if seen.exit_code is not None:
                self._forget(camera_id, seen)
        for action in actions:
            self._carry_out(action)
        if self._clock.monotonic() >= self._rotate_at:
            self._rotate_at = self._clock.monotonic() + ROTATE_EVERY_S
            self._rotate_logs()

    def _rotate_logs(self) -> None:
        """Keeps each camera's log small: a large one is copied aside and emptied under its writer, who appends."""
        for camera_id in self._processes:
            path = self._log(camera_id)
            try:
                if path.stat().st_size > LOG_BYTES:
                    shutil.copyfile(path, path.with_name(path.name + ".1"))
                    os.truncate(path, 0)
                    self._log_starts[camera_id] = 0
            except OSError as error:
                log.warning("log_not_rotated", camera_id=camera_id, reason=error.strerror)

    def _observe(self, camera_id: CameraId) -> Observed:
        process = self._processes[camera_id]
        exit_code = process.poll()
        beat = read_heartbeat(self._config.run_dir, f"camera-{camera_id}")
        if beat and beat.pid != process.pid:
            beat = None
        return Observed(
            exit_code=exit_code,
            beat_age_s=beat.age_s if beat else None,
            phase=beat.phase if beat else "",
            frames=beat.count if beat else 0,
            said=_last_words(self._log(camera_id), self._log_starts[camera_id]) if exit_code else "",
        )

    def _frame_age_s(self, camera_id: CameraId, frames: int) -> float | None:
        """Seconds since the camera's count of frames last rose, as seen here; None where it has had none."""
        now = self._clock.monotonic()
        counted, since = self._progress.get(camera_id, (0, now))
        if frames != counted:
            counted, since = frames, now
        self._progress[camera_id] = counted, since
        return now - since if frames else None

    def _forget(self, camera_id: CameraId, seen: Observed) -> None:
        process = self._processes.pop(camera_id)
        log.info("camera_ended", camera_id=camera_id, pid=process.pid, exit_code=seen.exit_code, said=seen.said)
        remove_heartbeat(self._config.run_dir, f"camera-{camera_id}")
        sweep(self._config.run_dir)

    def _carry_out(self, action: Action) -> None:
        log.info("camera_action", step=action.step.name, camera_id=action.camera_id, reason=action.reason)
        if action.step is Step.START:
            self._start(action.camera_id)
            return
        number = signal.SIGTERM if action.step is Step.TERMINATE else signal.SIGKILL
        try:
            os.killpg(self._processes[action.camera_id].pid, number)
        except ProcessLookupError:
            pass  # it ended by itself meanwhile: seen in the next round

    def _start(self, camera_id: CameraId) -> None:
        job = CameraJob(camera=self._reconciler.config_of(camera_id))
        try:
            with self._log(camera_id).open("ab") as file:
                self._log_starts[camera_id] = file.tell()
                self._progress.pop(camera_id, None)
                self._processes[camera_id] = spawn(
                    "camera", config=self._config, payload=msgspec.json.encode(job), stderr=file
                )
        except OSError as error:
            log.error("camera_not_started", camera_id=camera_id, reason=str(error))
            self._reconciler.could_not_start(camera_id, f"cannot start its process: {error.strerror}")
            return
        self._reconciler.started(camera_id)

    def _log(self, camera_id: CameraId) -> Path:
        return self._config.logs_dir / f"camera-{camera_id}.log"

    @property
    def running(self) -> int:
        return len(self._processes)

    def statuses(self) -> list[CameraStatus]:
        """Desired and observed of each camera in the database."""
        found: list[CameraStatus] = []
        for camera_id, enabled in self._desired.items():
            seen = self._observe(camera_id) if camera_id in self._processes else None
            phase, reason, restarts = self._reconciler.phase(camera_id, seen)
            found.append(
                CameraStatus(
                    camera_id=camera_id,
                    desired="running" if enabled else "stopped",
                    phase=phase,
                    pid=self._processes[camera_id].pid if seen else None,
                    restarts=restarts,
                    frames=seen.frames if seen else 0,
                    age_s=self._frame_age_s(camera_id, seen.frames) if seen else None,
                    reason=reason,
                )
            )
        return found

    def changes(self) -> list[CameraStateChange]:
        """What changed in the cameras' phases since this was asked last."""
        statuses = self.statuses()
        changed: list[CameraStateChange] = []
        for status in statuses:
            now = (status.phase, status.reason, status.restarts)
            before = self._told.get(status.camera_id)
            if before != now:
                self._told[status.camera_id] = now
                again = before is not None and before[2] != status.restarts
                changed.append(
                    CameraStateChange(
                        id=str(uuid7()),
                        camera_id=status.camera_id,
                        node_id=NodeId(self._config.node_id),
                        at=utc_iso(self._clock.now()),
                        phase=status.phase,
                        # one that ended and runs again between two looks changed nothing else
                        reason=status.reason or (self._reconciler.why(status.camera_id) if again else ""),
                    )
                )
        for gone in self._told.keys() - {status.camera_id for status in statuses}:
            del self._told[gone]
        return changed

    def close(self) -> None:
        self._engine.dispose()
        sweep(self._config.run_dir)


def _last_words(path: Path, start: int) -> str:
    """The last message for a person, its hint included, in a camera's log from byte `start` on."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("haetae: "):
            hint = lines[number + 1].strip() if lines[number + 1 : number + 2] else ""
            return lines[number].removeprefix("haetae: ") + (f" ({hint})" if hint else "")
    return ""
