"""The reconciler: what to start and stop, from what should run and what does; pure, on an injected clock."""

import enum
import random
import signal
from collections import deque
from collections.abc import Callable

import msgspec

from core.cameras import CameraConfig, CameraPhase
from core.cameras.model import needs_restart
from core.clock import Clock
from core.config import ManagerConfig
from core.ids import CameraId

__all__ = ["Action", "Observed", "Reconciler", "Step"]

FLAPPING_EXITS = 5
FLAPPING_WINDOW_S = 120.0
FLAPPING_COOL_DOWN_S = 300.0
EXIT_CONFIG = 78
"""The process said that only a person can mend it (sysexits.h)."""


class Step(enum.Enum):
    START = enum.auto()
    TERMINATE = enum.auto()
    KILL = enum.auto()


class Action(msgspec.Struct, frozen=True):
    """One thing to do to one camera's process, and why."""

    step: Step
    camera_id: CameraId
    reason: str


_PHASES = frozenset(phase.value for phase in CameraPhase)


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's process as seen now; `exit_code` is set once it has ended, `beat_age_s` once it has beaten."""

    exit_code: int | None = None
    beat_age_s: float | None = None
    phase: str = ""
    reason: str = ""
    """Why it says to be in that phase."""
    frames: int = 0
    suspended: bool = False
    private_mb: float = 0.0
    """Memory that is its own, 10^6 bytes."""
    said: str = ""
    """The last thing it said on stderr."""


class _Camera:
    """What is remembered of one camera between reconciliations."""

    def __init__(self, config: CameraConfig) -> None:
        self.config = config
        """What its running process was started with."""
        self.running = False
        self.started_s = 0.0
        self.stopping_s: float | None = None
        self.restart_at_s = 0.0
        self.failures = 0
        self.restarts = 0
        self.exits: deque[float] = deque(maxlen=FLAPPING_EXITS)
        self.reason = ""
        self.broken = False
        """Ended with EXIT_CONFIG: stays down until its configuration changes."""
        self.finished = False
        """Played once, to the end: stays down until its configuration changes."""
        self.cooling = False
        self.age_factor = 1.0
        """Of the age at which it is recycled, so that cameras started together part."""
        self.suspended_s: float | None = None
        self.hung = ""
        """Why it is being killed; "" where it is not."""


class Reconciler:
    """Closes the difference between the desired set and what runs; does nothing where there is none.

    The first restart after a stable run is immediate; then min(60 s, 2^n) with jitter, reset after a stable run;
    a camera that ends too often cools down, and is tried again for ever. Stopping is SIGTERM, then SIGKILL.
    """

    def __init__(
        self, config: ManagerConfig, clock: Clock, jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2)
    ) -> None:
        self._config, self._clock, self._jitter = config, clock, jitter
        self._cameras: dict[CameraId, _Camera] = {}
        self._desired: dict[CameraId, CameraConfig] = {}

    def desire(self, cameras: list[CameraConfig]) -> None:
        """Sets what should run: those that are enabled."""
        self._desired = {camera.camera_id: camera for camera in cameras if camera.enabled}

    def started(self, camera_id: CameraId) -> None:
        """Its process was spawned."""
        camera = self._cameras[camera_id]
        camera.running, camera.started_s, camera.stopping_s = True, self._clock.monotonic(), None
        camera.hung = ""
        camera.suspended_s = None
        camera.age_factor = 1 + (self._jitter() - 1) / 2

    def could_not_start(self, camera_id: CameraId, reason: str) -> None:
        """There is no process: tried again as after a crash."""
        now = self._clock.monotonic()
        self._cameras[camera_id].started_s = now
        self._ended(self._cameras[camera_id], Observed(exit_code=1, said=reason), now)

    def reconcile(self, observed: dict[CameraId, Observed]) -> list[Action]:
        """The next steps; `observed` has each process that was started and not seen to end before."""
        now = self._clock.monotonic()
        actions: list[Action] = []
        for camera_id, seen in observed.items():
            if seen.exit_code is not None:
                self._ended(self._cameras[camera_id], seen, now)
            else:
                actions += self._watch(camera_id, seen, now)
        for camera_id in [key for key, camera in self._cameras.items() if not camera.running]:
            if camera_id not in self._desired:
                del self._cameras[camera_id]
        return actions + self._starts(observed, now)

    def _ended(self, camera: _Camera, seen: Observed, now: float) -> None:
        camera.running = False
        if camera.stopping_s is not None:
            camera.restart_at_s, camera.reason = now, ""
            return
        camera.restarts += 1
        camera.reason = camera.hung or seen.said or _how(seen.exit_code or 0)
        camera.broken = seen.exit_code == EXIT_CONFIG
        camera.finished = seen.exit_code == 0 and not camera.config.loop
        if camera.finished:
            camera.reason = "its file has ended"
        if camera.broken or camera.finished:
            return
        if now - camera.started_s >= self._config.stable_s:
            camera.failures = 0
            camera.exits.clear()
        camera.exits.append(now)
        delay_s = 0.0
        if camera.failures:
            delay_s = min(self._config.backoff_max_s, 2.0 ** min(camera.failures - 1, 20)) * self._jitter()
        camera.failures += 1
        camera.cooling = len(camera.exits) == FLAPPING_EXITS and now - camera.exits[0] < FLAPPING_WINDOW_S
        if camera.cooling:
            delay_s = FLAPPING_COOL_DOWN_S
            camera.exits.clear()
        camera.restart_at_s = now + delay_s

    def _watch(self, camera_id: CameraId, seen: Observed, now: float) -> list[Action]:
        camera = self._cameras[camera_id]
        if camera.stopping_s is not None:
            if now - camera.stopping_s >= self._config.stop_grace_s:
                return [Action(Step.KILL, camera_id, "it did not stop")]
            return []
        wanted = self._desired.get(camera_id)
        if wanted is None or needs_restart(camera.config, wanted):
            camera.stopping_s = now
            return [Action(Step.TERMINATE, camera_id, "no longer wanted" if wanted is None else "its settings changed")]
        camera.config = wanted
        if self._to_recycle(camera, seen, now):
            camera.stopping_s = now
            return [Action(Step.TERMINATE, camera_id, "it is started anew, as planned")]
        if not seen.suspended:
            camera.suspended_s = None
        elif camera.suspended_s is None:
            camera.suspended_s = now
        elif now - camera.suspended_s >= self._config.suspended_s:
            camera.hung = "somebody stopped its process: it was killed"
            return [Action(Step.KILL, camera_id, camera.hung)]
        age = seen.beat_age_s
        hung = now - camera.started_s >= self._config.start_grace_s if age is None else age >= self._config.hung_s
        if hung:
            grace_s = self._config.start_grace_s
            camera.hung = (
                f"it did nothing for {age:.0f} s and was killed"
                if age is not None
                else f"it did not start within {grace_s:.0f} s and was killed"
            )
            return [Action(Step.KILL, camera_id, camera.hung)]
        return []

    def _to_recycle(self, camera: _Camera, seen: Observed, now: float) -> bool:
        """Old or large, and not while others are on their way: recycling never takes two cameras at once."""
        config = self._config
        old = config.recycle_h > 0 and now - camera.started_s >= config.recycle_h * 3600 * camera.age_factor
        large = 0 < config.recycle_mb <= seen.private_mb
        alone = all(other.running and other.stopping_s is None for other in self._cameras.values())
        return (old or large) and alone

    def _starts(self, observed: dict[CameraId, Observed], now: float) -> list[Action]:
        starting = sum(seen.beat_age_s is None and seen.exit_code is None for seen in observed.values())
        actions: list[Action] = []
        for camera_id, config in self._desired.items():
            camera = self._cameras.setdefault(camera_id, _Camera(config))
            if camera.running:
                continue
            if config != camera.config:
                fresh = self._cameras[camera_id] = _Camera(config)
                fresh.restarts = camera.restarts
                camera = fresh
            if camera.broken or camera.finished or now < camera.restart_at_s:
                continue
            if starting + len(actions) >= self._config.concurrent_starts:
                break
            camera.cooling = False
            actions.append(Action(Step.START, camera_id, camera.reason or "wanted"))
        return actions

    def config_of(self, camera_id: CameraId) -> CameraConfig:
        """What it is to be started with."""
        return self._cameras[camera_id].config

    def why(self, camera_id: CameraId) -> str:
        """How its last process ended; "" where none has."""
        camera = self._cameras.get(camera_id)
        return camera.reason if camera else ""

    def phase(self, camera_id: CameraId, seen: Observed | None) -> tuple[CameraPhase, str, int]:
        """(phase, reason, restarts) of a camera whose process is seen so (None: there is none)."""
        camera = self._cameras.get(camera_id)
        if camera is None:
            return CameraPhase.STOPPED, "", 0
        if seen is None or seen.exit_code is not None:
            if camera.broken or camera.cooling:
                return CameraPhase.FAILED, camera.reason, camera.restarts
            waits = camera_id in self._desired and not camera.finished
            return CameraPhase.BACKOFF if waits else CameraPhase.STOPPED, camera.reason, camera.restarts
        if camera.stopping_s is not None:
            return CameraPhase.STOPPING, "", camera.restarts
        known = seen.phase in set(CameraPhase)
        return CameraPhase(seen.phase) if known else CameraPhase.STARTING, seen.reason, camera.restarts


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"its process ended with {exit_code}"
    try:
        return f"its process was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"its process was ended by signal {-exit_code}"
