"""Which processes hang, and whether all is well; pure, on what was observed."""

import msgspec

from core.config import WatchdogConfig

__all__ = ["ROLES", "Seen", "Watch"]

HUNG_S = {"inference": 60.0, "housekeeper": 120.0}
"""A model may load, and a backup may write, for so long between two beats."""
OTHERS_S = 15.0
SUSPENDED_S = 0.5
ROLES = ("logger", "inference", "manager")
"""Without these nothing is watched: the dead-man call waits for them."""


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
