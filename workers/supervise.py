"""supervisord that ends when its parent does: what `haetae up` starts."""

import sys
from collections.abc import Sequence

from supervisor import supervisord

from workers.process import die_with_parent

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """`PARENT_PID CONFIGURATION`: runs supervisord until SIGTERM; PyPI's supervisor does the rest."""
    parent, configuration = sys.argv[1:3] if argv is None else argv
    die_with_parent(int(parent))
    supervisord.main(["--nodaemon", "--configuration", configuration])


if __name__ == "__main__":
    main()
