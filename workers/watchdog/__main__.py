"""The watchdog process."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import structlog

from core.alarms import Alarm, clear_alarm, raise_alarm
from core.clock import utc_iso
from core.config import Config
from core.errors import AddressRefused
from core.heartbeat import Heartbeat, list_heartbeats
from core.metrics import MetricsFile, Sample, counter, gauge
from core.process import EXPECTED, StopFlag, has_run_since, is_suspended, parse_role_args
from core.security.networks import AllowedNetworks, resolve_now
from workers.watchdog.watch import Roll, Seen, Watch

__all__ = ["main"]

log = structlog.get_logger()

TURN_S = 0.1
CALL_S = 10.0


def look(config: Config) -> list[Seen]:
    """All processes that have beaten, but for cameras and ourselves."""
    return [
        Seen(name=name, pid=beat.pid, age_s=beat.age_s, suspended=is_suspended(beat.pid))
        for name, beat in list_heartbeats(config.run_dir)
        if not name.startswith("camera-") and name != "watchdog" and has_run_since(beat.pid, beat.started_ns)
    ]


class Teller:
    """Keeps the alarms that stand where others read them."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self.standing: dict[str, str] = {}
        for name in EXPECTED:
            clear_alarm(run_dir, name)  # what a watchdog before us left

    def tell(self, alarms: dict[str, str]) -> None:
        for name in alarms.keys() - self.standing.keys():
            log.error("process_alarm", name=name, reason=alarms[name])
            raise_alarm(self._run_dir, Alarm(process=name, since=utc_iso(datetime.now(UTC)), reason=alarms[name]))
        for name in self.standing.keys() - alarms.keys():
            log.info("process_alarm_over", name=name)
            clear_alarm(self._run_dir, name)
        self.standing = alarms


class DeadMan:
    """Calls a URL while all is well; in threads of its own, and never two at once. The URL is a secret."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self.calls = self.failures = 0

    def turn(self, *, well: bool) -> None:
        now = time.monotonic()
        busy = self._thread and self._thread.is_alive()
        if not self._config.watchdog.dead_man_url or not well or now < self._due or busy:
            return
        self._due = now + self._config.watchdog.dead_man_s
        self._thread = threading.Thread(target=self._call, name="dead-man", daemon=True)
        self._thread.start()

    def _call(self) -> None:
        url = self._config.watchdog.dead_man_url
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            allowed = AllowedNetworks(self._config.networks.webhooks)
            resolve_now(parts.hostname or "", port, allowed, purpose="webhooks")
            httpx.get(url, timeout=CALL_S, follow_redirects=False).raise_for_status()
            self.calls += 1
        except (httpx.HTTPError, httpx.InvalidURL, AddressRefused, ValueError) as error:
            self.failures += 1
            log.warning("dead_man_call_failed", reason=type(error).__name__)


def _of_roles(roll: Roll, teller: Teller) -> Iterator[Sample]:
    for name in EXPECTED:
        yield counter("process_restarts", "Starts after the first one seen.", roll.restarts[name], process=name)
        alarmed = name in teller.standing
        yield gauge("process_alarm", "1 while it keeps ending, or does not run.", value=alarmed, process=name)


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM."""
    stop = StopFlag()
    _, config = parse_role_args("watchdog", argv)
    heartbeat = Heartbeat(config.run_dir, "watchdog")
    metrics = MetricsFile(config.run_dir, "watchdog")
    watch, dead_man = Watch(config.watchdog), DeadMan(config)
    killed: dict[str, int] = {}
    roll, teller = Roll(time.monotonic()), Teller(config.run_dir)
    log.info("watchdog_ready")
    while not stop.wait(TURN_S):
        seen = look(config)
        for one, reason in watch.hung(seen, time.monotonic()):
            log.error("hung_process_killed", name=one.name, pid=one.pid, reason=reason)
            killed[one.name] = killed.get(one.name, 0) + 1
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        teller.tell(roll.alarms(seen, time.monotonic()))
        dead_man.turn(well=watch.well(seen) and not teller.standing)
        if metrics.due:
            metrics.write(
                [
                    *(counter("processes_killed", "Ended since they hung.", n, process=p) for p, n in killed.items()),
                    *_of_roles(roll, teller),
                    counter("dead_man_calls", "Calls that told that all is well.", dead_man.calls),
                    counter("dead_man_failures", "Such calls that failed.", dead_man.failures),
                ]
            )
        heartbeat.beat("running", dead_man.calls)
    teller.tell({})
    metrics.close()
    heartbeat.close()
    log.info("watchdog_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
