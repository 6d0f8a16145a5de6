"""Which processes hang or keep ending, and whether all is well; pure, on what was observed."""

from collections import deque

import msgspec

from core.config import WatchdogConfig
from core.process import EXPECTED

__all__ = ["ROLES", "Roll", "Seen", "Watch"]

HUNG_S = {"inference": 60.0, "housekeeper": 120.0}
"""A model may load, and a backup may write, for so long between two beats."""
OTHERS_S = 15.0
SUSPENDED_S = 0.5
ROLES = ("logger", "inference", "manager")
"""Without these nothing is watched: the dead-man call waits for them."""
ENDS, WINDOW_S = 5, 120.0
"""So many ends within so long are told."""
ABSENT_S = 30.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One process as it is now; cameras are the manager's to watch."""

    name: str
    pid: int
    age_s: float
    suspended: bool


class Watch:
    """Judges one look after the other."""

    def __init__(self, config: WatchdogConfig) -> None:
        self._config = config
        self._suspended: dict[int, float] = {}

    def hung(self, seen: list[Seen], now_s: float) -> list[tuple[Seen, str]]:
        """Those to be killed, and why. A process is watched from its first beat on."""
        self._suspended = {one.pid: self._suspended.get(one.pid, now_s) for one in seen if one.suspended}
        found: list[tuple[Seen, str]] = []
        for one in seen:
            limit_s = self._config.hung_s.get(one.name, HUNG_S.get(one.name, OTHERS_S))
            if one.age_s >= limit_s:
                found.append((one, f"it did nothing for {one.age_s:.0f} s"))
            elif one.suspended and now_s - self._suspended[one.pid] >= SUSPENDED_S:
                found.append((one, "somebody stopped it"))
        return found

    def well(self, seen: list[Seen]) -> bool:
        """Whether everything that watching takes is alive."""
        alive = {one.name for one in seen if not one.suspended and one.age_s < OTHERS_S}
        return alive.issuperset(ROLES)


class Roll:
    """Which processes keep ending, or do not run: supervisord goes on starting them, and people are told."""

    def __init__(self, now_s: float) -> None:
        """`now_s`: monotonic, as in all that follows; from then on they are expected."""
        self._pids: dict[str, int] = {}
        self._seen_at: dict[str, float] = dict.fromkeys(EXPECTED, now_s)
        self._ends: dict[str, deque[float]] = {name: deque(maxlen=ENDS) for name in EXPECTED}
        self._alarmed: set[str] = set()
        self.restarts: dict[str, int] = dict.fromkeys(EXPECTED, 0)

    def alarms(self, seen: list[Seen], now_s: float) -> dict[str, str]:
        """Name and reason of each alarm that stands; it ends once a process has stayed for `WINDOW_S`."""
        for one in seen:
            if one.name in self._seen_at:
                self._seen_at[one.name] = now_s
                if self._pids.setdefault(one.name, one.pid) != one.pid:
                    self._ends[one.name].append(now_s)
                    self.restarts[one.name] += 1
                    self._pids[one.name] = one.pid
        found = {name: reason for name in EXPECTED if (reason := self._reason(name, now_s))}
        self._alarmed = set(found)
        return found

    def _reason(self, name: str, now_s: float) -> str:
        absent_s = now_s - self._seen_at[name]
        if absent_s >= ABSENT_S:
            return f"it has not run for {ABSENT_S:.0f} s: its log says why"
        ends = self._ends[name]
        often = len(ends) == ENDS and now_s - ends[0] < WINDOW_S
        still = name in self._alarmed and ends and now_s - ends[-1] < WINDOW_S
        return f"it ended {ENDS} times within {WINDOW_S / 60:.0f} minutes: its log says why" if often or still else ""
