"""WatchdogKeeper: it watches the manager, and the manager watches it, so that neither hangs unseen."""

import os
import signal
from pathlib import Path

import structlog

from core.alarms import Alarm, clear_alarm, raise_alarm
from core.clock import Clock, utc_iso
from core.heartbeat import read_heartbeat
from core.process import has_run_since, is_suspended

__all__ = ["WatchdogKeeper"]

log = structlog.get_logger()

EVERY_S = 0.5
HUNG_S = 15.0
SUSPENDED_S = 0.5
ABSENT_S = 30.0


class WatchdogKeeper:
    """Ends a watchdog that hangs or was stopped; supervisord starts it again. Where there never was one, nothing."""

    def __init__(self, run_dir: Path, clock: Clock) -> None:
        self._run_dir, self._clock = run_dir, clock
        self._due = 0.0
        self._suspended: tuple[int, float] | None = None
        self._seen_at: float | None = None
        self._alarmed = False
        self.killed = 0

    def turn(self) -> None:
        """Cheap; to be called often."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_S
        beat = read_heartbeat(self._run_dir, "watchdog")
        alive = beat is not None and has_run_since(beat.pid, beat.started_ns)
        if beat and alive:
            self._seen_at = now
            if self._hangs(beat.pid, beat.age_s, now):
                log.error("hung_watchdog_killed", pid=beat.pid, age_s=round(beat.age_s, 1))
                self.killed += 1
                try:
                    os.kill(beat.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self._tell(now)

    def _hangs(self, pid: int, age_s: float, now: float) -> bool:
        if not is_suspended(pid):
            self._suspended = None
            return age_s >= HUNG_S
        if self._suspended is None or self._suspended[0] != pid:
            self._suspended = pid, now
        return now - self._suspended[1] >= SUSPENDED_S

    def _tell(self, now: float) -> None:
        absent = self._seen_at is not None and now - self._seen_at >= ABSENT_S
        if absent and not self._alarmed:
            reason = f"it has not run for {ABSENT_S:.0f} s"
            raise_alarm(self._run_dir, Alarm(process="watchdog", since=utc_iso(self._clock.now()), reason=reason))
        elif self._alarmed and not absent:
            clear_alarm(self._run_dir, "watchdog")
        self._alarmed = absent
