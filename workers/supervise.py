"""supervisord that ends when its parent does, and sees at once what ended: what `haetae up` starts."""

import sys
from collections.abc import Sequence
from typing import Any

from supervisor import poller, supervisord

from workers.process import die_with_parent

__all__ = ["hasten", "main"]

TURN_S = 0.1
"""How long supervisord waits between two looks; by itself a second, and it starts what ended two looks later."""


def hasten() -> None:
    """Lets supervisord's loop turn every `TURN_S`."""
    patient = poller.Poller.poll

    def poll(self: Any, timeout: float) -> Any:
        return patient(self, min(timeout, TURN_S))

    poller.Poller.poll = poll


def main(argv: Sequence[str] | None = None) -> None:
    """`PARENT_PID CONFIGURATION`: runs supervisord until SIGTERM; PyPI's supervisor does the rest."""
    parent, configuration = sys.argv[1:3] if argv is None else argv
    die_with_parent(int(parent))
    hasten()
    supervisord.main(["--nodaemon", "--configuration", configuration])


if __name__ == "__main__":
    main()
