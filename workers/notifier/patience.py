"""When to try again: the pause before a message's next attempt, and the rest of a channel that keeps failing. Pure."""

import random

from core.config import NotifierConfig

__all__ = ["Breaker", "retry_after_s"]


def retry_after_s(attempts: int, config: NotifierConfig, luck: random.Random, asked_s: float = 0.0) -> float:
    """Seconds after so many failed attempts (1 or more), a half more or less, or what the server asked for."""
    pause = config.retry_s * 2.0 ** min(attempts - 1, 40)
    pause = min(pause, config.retry_max_s) * luck.uniform(0.5, 1.5)
    return min(max(pause, config.retry_s, asked_s), config.retry_max_s)


class Breaker:
    """Lets everything through until `broken_after` failures in a row; then nothing for a while, then one to try.

    Times are monotonic seconds. A success makes it whole.
    """

    def __init__(self, config: NotifierConfig) -> None:
        self._config = config
        self._failures = 0
        self._rest_s = 0.0
        self._until = 0.0

    @property
    def is_broken(self) -> bool:
        return self._rest_s > 0

    def slots(self, now: float, under_way: int) -> int:
        """How many more messages may be sent now."""
        if not self.is_broken:
            return max(0, self._config.at_once - under_way)
        return 1 if now >= self._until and not under_way else 0

    def succeeded(self) -> bool:
        """Returns whether it had been broken."""
        was_broken = self.is_broken
        self._failures, self._rest_s = 0, 0.0
        return was_broken

    def failed(self, now: float) -> bool:
        """Returns whether it broke just now."""
        self._failures += 1
        if self._failures < self._config.broken_after:
            return False
        breaks = not self.is_broken
        if breaks:
            self._rest_s = self._config.rest_s
        elif now >= self._until:  # the one that was let through to try
            self._rest_s = min(2 * self._rest_s, self._config.rest_max_s)
        else:
            return False  # it was under way when the others broke it
        self._until = now + self._rest_s
        return breaks
