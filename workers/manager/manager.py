"""MultiCameraManager: spawns, watches and ends the camera processes that the reconciler asks for."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import msgspec
import structlog
from msgspec import structs
from sqlalchemy.exc import DBAPIError

from core.cameras import CameraConfig, CameraPhase, CameraStatus, Zone
from core.cameras.history import CameraStateChange
from core.cameras.job import CameraJob
from core.cameras.model import needs_restart
from core.cameras.urls import without_addresses
from core.clock import Clock, utc_iso
from core.config import Config
from core.db import make_engine
from core.db.cameras import added_at, all_zones, list_cameras, set_enabled
from core.db.events import judgements
from core.events.judgements import Judgement
from core.frames import ring_budget, sweep
from core.heartbeat import read_heartbeat, remove_heartbeat
from core.ids import CameraId, NodeId, uuid7
from core.metrics import Sample, counter, gauge
from core.process import is_suspended
from workers.manager.reconciler import Action, Observed, Reconciler, Step
from workers.process import spawn

__all__ = ["MultiCameraManager"]

log = structlog.get_logger()

LOG_BYTES = 10_000_000
"""A camera's log is put aside when it is larger; one such is kept."""
ROTATE_EVERY_S = 5.0


_UP = {CameraPhase.LEARNING, CameraPhase.PROVISIONAL, CameraPhase.WATCHING}


class MultiCameraManager:
    """The running camera processes of one machine; used by one thread, the main one."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self._engine = make_engine(config.database_url)
        self._reconciler = Reconciler(config.manager, clock)
        self._booted = _is_first_since_boot(config.data_dir / "boot-id")
        """The machine was started since cameras were last read: some are not to start with it."""
        self._processes: dict[CameraId, subprocess.Popen[bytes]] = {}
        self._desired: dict[CameraId, CameraConfig] = {}
        self._zones: dict[CameraId, list[Zone]] = {}
        self._added_at: dict[CameraId, str] = {}
        self._judgements: dict[CameraId, tuple[Judgement, ...]] = {}
        self._sent: dict[CameraId, CameraJob] = {}
        """The job that each process has now."""
        self._log_starts: dict[CameraId, int] = {}
        self._progress: dict[CameraId, tuple[int, float]] = {}
        """Frames that a camera had counted, and since when it has that many."""
        self._memory: dict[CameraId, float] = {}
        """Private memory of each process, 10^6 bytes, as last looked at."""
        self._rotate_at = 0.0
        self._told: dict[CameraId, tuple[CameraPhase, str, int]] = {}
        sweep(config.run_dir)

    def read_desired(self) -> None:
        """Reads the desired state from the database; one that is away leaves things as they are."""
        try:
            cameras = list_cameras(self._engine)
            zones = all_zones(self._engine)
            self._added_at = added_at(self._engine)
            self._judgements = judgements(self._engine, utc_iso(self._clock.now()))
        except (DBAPIError, msgspec.ValidationError) as error:
            log.error("cameras_not_read", reason=str(error))
            return
        if self._booted:
            cameras = self._rest_after_boot(cameras)
        desired = {camera.camera_id: camera for camera in cameras}
        if desired != self._desired:
            self._desired = desired
            self._check_memory()
        self._zones = zones
        self._reconciler.desire(cameras)

    def _rest_after_boot(self, cameras: list[CameraConfig]) -> list[CameraConfig]:
        """Switches off what does not start with the machine; it runs again when somebody starts it."""
        resting = {camera.camera_id for camera in cameras if camera.enabled and not camera.autostart}
        if resting:
            writer = make_engine(self._config.database_url, writer=True)
            try:
                for camera_id in resting:
                    set_enabled(writer, camera_id, enabled=False)
                    log.info("camera_rests", camera_id=camera_id, reason="it does not start with the machine")
            except DBAPIError as error:
                log.error("camera_not_switched_off", reason=str(error))
                return cameras
            finally:
                writer.dispose()
        (self._config.data_dir / "boot-id").write_text(_boot_id())
        self._booted = False
        return [structs.replace(one, enabled=False) if one.camera_id in resting else one for one in cameras]

    def _check_memory(self) -> None:
        """Says so where not all cameras will find room; each is refused by its own process, with the reason."""
        wanted = [camera_id for camera_id, camera in self._desired.items() if camera.enabled]
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
        self._send_changes()
        if self._clock.monotonic() >= self._rotate_at:
            self._rotate_at = self._clock.monotonic() + ROTATE_EVERY_S
            self._rotate_logs()
            self._memory = {camera_id: _private_mb(process.pid) for camera_id, process in self._processes.items()}

    def _send_changes(self) -> None:
        """Tells running cameras of changes that they can take over."""
        for camera_id, process in self._processes.items():
            config, sent = self._desired.get(camera_id), self._sent.get(camera_id)
            if config is None or sent is None or needs_restart(sent.camera, config) or process.stdin is None:
                continue
            job = self._job(config)
            if job == sent:
                continue
            try:
                if _unread(process.stdin.fileno()):
                    continue  # one that hangs does not read: to write on would be to wait for it
                process.stdin.write(_line(job))
                process.stdin.flush()
            except (OSError, ValueError):
                continue  # it has ended, or does not read: seen elsewhere
            self._sent[camera_id] = job
            log.info("camera_told", camera_id=camera_id)

    def _job(self, camera: CameraConfig) -> CameraJob:
        return CameraJob(
            camera=camera,
            zones=tuple(self._zones.get(camera.camera_id, ())),
            judgements=self._judgements.get(camera.camera_id, ()),
            added_at=self._added_at.get(camera.camera_id, ""),
        )

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
            reason=beat.reason if beat else "",
            frames=beat.count if beat else 0,
            suspended=is_suspended(process.pid),
            private_mb=self._memory.get(camera_id, 0.0),
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
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
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
        job = self._job(self._reconciler.config_of(camera_id))
        try:
            with self._log(camera_id).open("ab") as file:
                self._log_starts[camera_id] = file.tell()
                self._progress.pop(camera_id, None)
                self._processes[camera_id] = spawn(
                    "camera", config=self._config, payload=_line(job), stderr=file, keep_stdin=True
                )
                self._sent[camera_id] = job
        except OSError as error:
            log.error("camera_not_started", camera_id=camera_id, reason=str(error))
            self._reconciler.could_not_start(camera_id, f"cannot start its process: {error.strerror}")
            return
        self._reconciler.started(camera_id)

    def _log(self, camera_id: CameraId) -> Path:
        return self._config.logs_dir / f"camera-{camera_id}.log"

    @property
    def somebody_ended(self) -> bool:
        """Whether a camera's process has ended since the last round; cheap."""
        return any(process.poll() is not None for process in self._processes.values())

    @property
    def running(self) -> int:
        return len(self._processes)

    def statuses(self) -> list[CameraStatus]:
        """Desired and observed of each camera in the database."""
        found: list[CameraStatus] = []
        for camera_id, camera in self._desired.items():
            seen = self._observe(camera_id) if camera_id in self._processes else None
            phase, reason, restarts = self._reconciler.phase(camera_id, seen)
            found.append(
                CameraStatus(
                    camera_id=camera_id,
                    desired="running" if camera.enabled else "stopped",
                    phase=phase,
                    pid=self._processes[camera_id].pid if seen else None,
                    restarts=restarts,
                    frames=seen.frames if seen else 0,
                    age_s=self._frame_age_s(camera_id, seen.frames) if seen else None,
                    # viewers read it, and addresses are for administrators
                    reason=without_addresses(reason, camera.url, camera.sub_url),
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

    def samples(self) -> list[Sample]:
        """The cameras in figures."""
        found: list[Sample] = []
        for status in self.statuses():
            labels = {"camera": status.camera_id}
            found += [
                counter("camera_restarts", "Ends of the camera's process.", status.restarts, **labels),
                gauge("camera_up", "1 while the camera watches or learns.", status.phase in _UP, **labels),
                gauge(
                    "camera_private_bytes",
                    "Memory of its process without shared segments.",
                    self._memory.get(status.camera_id, 0.0) * 1e6,
                    **labels,
                ),
            ]
            if status.age_s is not None:
                found.append(gauge("camera_picture_age_seconds", "Since its last picture.", status.age_s, **labels))
        return found

    def close(self) -> None:
        self._engine.dispose()
        sweep(self._config.run_dir)


def _boot_id() -> str:
    """Another one after each start of the machine; "" where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _is_first_since_boot(marker: Path) -> bool:
    try:
        return marker.read_text() != _boot_id()
    except OSError:
        return False  # the first start of all


def _private_mb(pid: int) -> float:
    """Resident memory that is no shared segment."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _line(job: CameraJob) -> bytes:
    return msgspec.json.encode(job) + b"\n"


def _unread(fd: int) -> int:
    """Bytes in a pipe that its other end has not taken yet."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


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
