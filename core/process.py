"""What every process of Haetae does at its start and end: arguments, parent, signals."""

import argparse
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import structlog

from core.config import Config, load_config
from core.errors import HaetaeError
from core.logs import configure_logging

__all__ = [
    "EXIT_CONFIG",
    "EXPECTED",
    "StopFlag",
    "die_with_parent",
    "fail",
    "has_run_since",
    "is_suspended",
    "parse_role_args",
    "process_environment",
]

log = structlog.get_logger()

EXIT_CONFIG = 78
"""sysexits.h EX_CONFIG: starting again will not help until a person changes something."""

EXPECTED = ("logger", "inference", "manager", "notifier", "housekeeper", "api")
"""What a whole house runs, beside its watchdog and the cameras: where one of them does not beat, all is not well."""
_PR_SET_PDEATHSIG = 1


class StopFlag:
    """Set by SIGTERM or SIGINT, or by hand; made in the main thread.

    No lock is taken in the signal's handler: a second signal may come while the first one's still runs, from a parent
    that asks and then ends, say, and would wait for ever for a lock that its own thread holds.
    """

    def __init__(self, *, ends_within_s: int = 0) -> None:
        """With `ends_within_s` the kernel ends the process so long after the first signal, however it hangs."""
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopped = False
        self._ends_within_s = ends_within_s
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopped:  # at once: a call here would let the next signal's handler begin inside this one, and so on
            return
        self.set()
        if self._ends_within_s:
            signal.alarm(self._ends_within_s)

    def set(self) -> None:
        self._stopped = True
        os.eventfd_write(self._wake_fd, 1)

    def is_set(self) -> bool:
        return self._stopped

    def wait(self, timeout_s: float) -> bool:
        """Sleeps up to `timeout_s`; returns whether to stop."""
        if not self._stopped:
            select.select([self._wake_fd], [], [], max(0.0, timeout_s))
        return self._stopped


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGTERM when the parent's spawning thread ends; exits at once if it already has."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        log.warning("parent_gone", parent=parent)
        sys.exit(0)


def parse_role_args(role: str, argv: Sequence[str] | None = None, **more: str) -> tuple[argparse.Namespace, Config]:
    """The arguments all roles share (--parent, --config, --data) and those named in `more` (name=help, required).

    Configures logging under the role's name; a configuration that cannot be used ends the process with EXIT_CONFIG.
    """
    parser = argparse.ArgumentParser(prog=f"haetae {role}")
    parser.add_argument("--parent", type=int, default=0, help="end when this process, our parent, ends")
    parser.add_argument("--supervised", action="store_true", help="end when whoever started us ends")
    parser.add_argument("--config", type=Path, help="haetae.toml")
    parser.add_argument("--data", help="data folder")
    for name, text in more.items():
        parser.add_argument(f"--{name}", required=True, help=text)
    args = parser.parse_args(argv)
    if args.supervised and not args.parent:
        args.parent = os.getppid()
    try:
        config = load_config(args.config, **({"paths": {"data": args.data}} if args.data else {}))
        configure_logging(config.log, role)
        config.make_dirs()
    except HaetaeError as error:
        sys.exit(fail(error))
    if args.parent:
        die_with_parent(args.parent)
    return args, config


def fail(error: HaetaeError) -> int:
    """Says on stderr what is wrong and what to do, and returns EXIT_CONFIG."""
    print(f"haetae: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr, flush=True)
    return EXIT_CONFIG


def is_suspended(pid: int) -> bool:
    """Whether somebody stopped the process (SIGSTOP), so that it does nothing until it is told to go on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    except (OSError, IndexError):
        return False


def has_run_since(pid: int, since_ns: int) -> bool:
    """Whether the process `pid` is there, and was so at `since_ns` (monotonic): numbers are given anew.

    After a crash, a restart of the machine or of a container, what a process left names a number that may be another's.
    """
    now_ns = time.monotonic_ns()
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return False
    asleep_s = time.clock_gettime(time.CLOCK_BOOTTIME) - now_ns / 1e9
    began_s = ticks / os.sysconf("SC_CLK_TCK") - asleep_s
    return since_ns <= now_ns and began_s <= since_ns / 1e9 + 0.1


def process_environment(config: Config) -> dict[str, str]:
    """The environment in which a child finds the same data and run folders, wherever it runs."""
    return {
        **os.environ,
        "HAETAE_PATHS__DATA": str(config.data_dir),
        "HAETAE_PATHS__RUN": str(config.run_dir),
        **({"HAETAE_CONFIG": str(config.file)} if config.file else {}),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
