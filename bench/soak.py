"""Does anything of a running house grow?

`python -m bench.soak [--minutes 40] [--speed 10] [--cameras 2] [--json] [--quick]`. All processes under supervisord,
with demo cameras whose time runs `speed` times as fast as the clock and in which events never cease. Private memory,
descriptors and threads of each process are looked at all the time; what they are like once the house has warmed up is
held against what they are like in the end. Exit code 1 if anything grew, or any process was started again.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.chaos import House, waited
from core.config import load_config
from core.heartbeat import list_heartbeats
from core.ids import CameraId

__all__ = ["ProcessReport", "SoakReport", "main", "run_soak"]

START_S = 120.0
LOOK_S = 0.5
WARM = 0.4
"""Share of the run after which nothing may grow any more: caches are full by then, every path was taken."""
GROWTH_MB, GROWTH_SHARE = 4.0, 0.05
"""What the memory may differ by from then to the end; allocators breathe."""
QUICK_MB = 16.0
"""The same where a run is over before a camera has once filled what it keeps of the last seconds."""
GROWTH_COUNT = 2
FPS = 10
"""Of the demo scenes."""
PATIENCE = 20
"""So many times as long as it should take is waited for a machine that does not keep up."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """One process from when the house was warm to the end; growth is of the line through all looks."""

    memory_mb: float
    """Private memory in the end, 10^6 bytes."""
    growth_mb: float
    slope_mb_per_hour: float
    """Of the clock."""
    descriptors: int
    descriptors_growth: int
    threads: int
    threads_growth: int
    restarts: int


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    simulated_minutes: float
    """That the cameras' pictures passed through, the fewest of any."""
    wall_s: float
    cameras: int
    events: int
    grew: list[str]
    """What grew, and in whom; empty as it should be."""
    processes: dict[str, ProcessReport]


class _Look(msgspec.Struct, frozen=True):
    at_s: float
    pid: int
    memory_mb: float
    descriptors: int
    threads: int


def _look(pid: int, at_s: float) -> _Look | None:
    folder = Path(f"/proc/{pid}")
    try:
        _, resident, shared, *_ = (folder / "statm").read_text().split()
        memory_mb = (int(resident) - int(shared)) * PAGE / 1e6
        return _Look(at_s, pid, memory_mb, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir())))
    except OSError:
        return None  # it has just ended


def run_soak(minutes: float, speed: float, cameras: int, data: Path, growth_mb: float = GROWTH_MB) -> SoakReport:
    """Runs a house in `data` until its cameras should have seen so many minutes; raises RuntimeError."""
    names = [CameraId(f"soak-{number}") for number in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="haetae-s-") as run:
        config = load_config(None, {}, paths={"data": str(data), "run": run})
        config.make_dirs()
        house = House(config, None, names, f"&speed={speed:g}")
        try:
            if waited(house.well, START_S) is None:
                raise RuntimeError(f"the house was not well after {START_S:.0f} s")
            looks: dict[str, list[_Look]] = {}
            frames = {name: house.counted(name)[0] for name in names}
            begun, seen = time.monotonic(), 0.0
            while seen < minutes * 60 * FPS and (at_s := time.monotonic() - begun) < PATIENCE * minutes * 60 / speed:
                for name, beat in list_heartbeats(config.run_dir):
                    if look := _look(beat.pid, at_s):
                        looks.setdefault(name, []).append(look)
                time.sleep(LOOK_S)  # between two looks
                seen = min(house.counted(name)[0] - frames[name] for name in names)
            wall_s = time.monotonic() - begun
        finally:
            house.stop()
        events = sum(1 for path in config.journal_dir.glob("*.jsonl") for _ in path.open("rb"))
    processes = {name: _judge(found, wall_s) for name, found in sorted(looks.items())}
    return SoakReport(
        simulated_minutes=round(seen / FPS / 60, 1),
        wall_s=round(wall_s, 1),
        cameras=cameras,
        events=events,
        grew=[f"{name}: {what}" for name, report in processes.items() for what in _grown(report, growth_mb)],
        processes=processes,
    )


def _judge(looks: list[_Look], wall_s: float) -> ProcessReport:
    warm = [one for one in looks if one.at_s >= WARM * wall_s] or looks[-1:]
    times = np.array([one.at_s for one in warm])
    memory = np.array([one.memory_mb for one in warm])
    slope = float(np.polyfit(times, memory, 1)[0]) if len(warm) > 2 else 0.0
    tenth = max(1, len(warm) // 10)
    return ProcessReport(
        memory_mb=round(float(memory[-1]), 1),
        growth_mb=round(slope * float(times[-1] - times[0]), 2),
        slope_mb_per_hour=round(slope * 3600, 1),
        descriptors=warm[-1].descriptors,
        descriptors_growth=_growth([one.descriptors for one in warm], tenth),
        threads=warm[-1].threads,
        threads_growth=_growth([one.threads for one in warm], tenth),
        restarts=len({one.pid for one in looks}) - 1,
    )


def _growth(counts: list[int], tenth: int) -> int:
    """From the first tenth to the last, by their lowest: what is open for a moment is no leak."""
    return min(counts[-tenth:]) - min(counts[:tenth])


def _grown(report: ProcessReport, growth_mb: float) -> list[str]:
    limit_mb = max(growth_mb, GROWTH_SHARE * report.memory_mb)
    found = [f"{report.growth_mb:.1f} MB of memory"] if report.growth_mb > limit_mb else []
    found += [f"{report.descriptors_growth} descriptors"] if report.descriptors_growth > GROWTH_COUNT else []
    found += [f"{report.threads_growth} threads"] if report.threads_growth > GROWTH_COUNT else []
    return found + ([f"started again {report.restarts} times"] if report.restarts else [])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0, help="of the cameras' time (40)")
    parser.add_argument("--speed", type=float, default=10.0, help="of the cameras' time (10)")
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="seconds, with one camera: runs, and finds gross leaks")
    options = parser.parse_args(argv)
    minutes, cameras, growth_mb = options.minutes, options.cameras, GROWTH_MB
    if options.quick:
        minutes, cameras, growth_mb = 1.5, 1, QUICK_MB
    try:
        with tempfile.TemporaryDirectory(prefix="haetae-soak-") as data:
            report = run_soak(minutes, options.speed, cameras, Path(data), growth_mb)
    except RuntimeError as error:
        print(f"bench.soak: {error}", file=sys.stderr)
        return 2
    found: dict[str, Any] = msgspec.to_builtins(report)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            if name != "processes":
                print(f"{name:26}{value}")
        for name, one in report.processes.items():
            print(
                f"  {name:16}{one.memory_mb:8.1f} MB {one.slope_mb_per_hour:+8.1f} MB/h"
                f"{one.descriptors:5} ({one.descriptors_growth:+}) descriptors"
                f"{one.threads:4} ({one.threads_growth:+}) threads"
            )
    return 1 if report.grew else 0


if __name__ == "__main__":
    sys.exit(main())
