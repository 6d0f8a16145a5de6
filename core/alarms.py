"""Alarms about Haetae's own processes: a small file each in the run folder, for whoever tells people to read."""

import contextlib
from pathlib import Path

import msgspec

__all__ = ["Alarm", "clear_alarm", "list_alarms", "raise_alarm"]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A process that keeps ending, or does not run; it is started again all the same."""

    process: str
    since: str
    """RFC 3339 UTC."""
    reason: str


def raise_alarm(run_dir: Path, alarm: Alarm) -> None:
    """Keeps it until it is cleared; one that stands already keeps its beginning."""
    folder = run_dir / "alarms"
    path = folder / alarm.process
    if path.exists():
        return
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        aside = folder / f".{alarm.process}"
        aside.write_bytes(msgspec.json.encode(alarm))
        aside.replace(path)


def clear_alarm(run_dir: Path, process: str) -> None:
    (run_dir / "alarms" / process).unlink(missing_ok=True)


def list_alarms(run_dir: Path) -> list[Alarm]:
    """Those that stand, by process."""
    found: list[Alarm] = []
    for path in sorted((run_dir / "alarms").glob("[!.]*")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Alarm))
    return found
