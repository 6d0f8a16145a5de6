"""The children of a process."""

import ctypes
import os
import subprocess
import sys
from typing import IO

import structlog

from core.config import Config
from core.process import EXIT_CONFIG, StopFlag, die_with_parent, fail, parse_role_args, process_environment

__all__ = [
    "EXIT_CONFIG",
    "StopFlag",
    "die_with_parent",
    "fail",
    "keep_freed_memory",
    "parse_role_args",
    "process_environment",
    "spawn",
]

log = structlog.get_logger()

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 1 << 29


def keep_freed_memory() -> None:
    """Has glibc keep up to half a gigabyte that was freed, for all threads; to be called before there are any.

    Else each large block is taken from the kernel anew, page by page, and given back: a batch of 16 through a small
    network took 47 ms in a thread and 9,000 page faults, with this 21 ms and none. Elsewhere it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def spawn(
    role: str,
    *args: str,
    config: Config,
    payload: bytes = b"",
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    environment: dict[str, str] | None = None,
    keep_stdin: bool = False,
) -> "subprocess.Popen[bytes]":
    """Starts `python -m workers.ROLE` in a session of its own; it ends when this process does.

    To be called from the main thread: the kernel's parent-death signal follows the spawning thread.
    `payload` goes to its standard input (secrets never into argv), which is closed then unless `keep_stdin`.
    """
    module = role if "." in role or role == "api" else f"workers.{role}"
    child = subprocess.Popen(
        [sys.executable, "-m", module, "--parent", str(os.getpid()), *args],
        stdin=subprocess.PIPE if payload else subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        env={**process_environment(config), **(environment or {})},
    )
    if payload and child.stdin:
        try:
            child.stdin.write(payload)
            child.stdin.flush() if keep_stdin else child.stdin.close()
        except BrokenPipeError:
            log.warning("child_died_at_once", role=role, pid=child.pid)
    return child
