"""What do many cameras cost, and does anything grow?

`python -m bench.fleet [--cameras 64] [--seconds 60] [--json]`. A manager, an inference and a logger process with demo
cameras: how long until all run, how long the manager's rounds take, and how memory, descriptors and threads of all
processes change from the middle of the run to its end. With few cameras and many seconds it is a soak.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from core.cameras import CameraConfig
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.heartbeat import list_heartbeats
from core.ids import CameraId
from core.metrics import read_samples
from core.process import process_environment

__all__ = ["FleetReport", "main", "run_fleet"]

ROLES = ("logger", "inference", "manager")
LOOK_S = 1.0
PAGE = os.sysconf("SC_PAGE_SIZE")


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """Slopes are of the second half of the run, over all processes together."""

    cameras: int
    started: int
    all_started_s: float
    restarts: int
    reconcile_max_ms: float
    reconcile_p50_ms: float
    camera_private_mb_mean: float
    camera_private_mb_max: float
    frames_per_s: float
    memory_slope_mb_per_h: float
    memory_mb: float
    descriptors_change: int
    threads_change: int


class _Look(msgspec.Struct, frozen=True):
    at_s: float
    memory_mb: float
    descriptors: int
    threads: int


def _private_mb(pid: int) -> float:
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * PAGE / 1e6


def _look(config: Config, at_s: float) -> _Look:
    memory, descriptors, threads = 0.0, 0, 0
    for _, beat in list_heartbeats(config.run_dir):
        folder = Path(f"/proc/{beat.pid}")
        try:
            memory += _private_mb(beat.pid)
            descriptors += len(list((folder / "fd").iterdir()))
            threads += len(list((folder / "task").iterdir()))
        except OSError:
            continue  # it has just ended
    return _Look(at_s, memory, descriptors, threads)


def _frames(config: Config) -> float:
    return sum(sample.value for sample in read_samples(config.run_dir) if sample.name == "haetae_camera_frames")


def run_fleet(cameras: int, seconds: float, data: Path, run: str) -> FleetReport:
    """Runs so many demo cameras for so long."""
    config = load_config(None, {}, paths={"data": str(data), "run": run})
    config.make_dirs()
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    for number in range(cameras):
        camera_id = CameraId(f"camera-{number:03}")
        url = f"demo://{('plaza', 'street')[number % 2]}?seed={number}"
        add_camera(engine, CameraConfig(camera_id=camera_id, name=camera_id, url=url, learn_s=30.0))
    engine.dispose()
    processes: list[subprocess.Popen[bytes]] = []
    begun = time.monotonic()
    try:
        for role in ROLES:
            with (config.logs_dir / f"{role}.log").open("ab") as log:
                command = [sys.executable, "-m", f"workers.{role}"]
                processes.append(
                    subprocess.Popen(command, env=process_environment(config), stderr=log, stdin=subprocess.DEVNULL)
                )
        return _watch(config, cameras, seconds, begun)
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _watch(config: Config, cameras: int, seconds: float, begun: float) -> FleetReport:
    looks: list[_Look] = []
    rounds: list[float] = []
    started, all_started_s, restarts, first = 0, 0.0, 0.0, (0.0, 0.0)
    while (passed := time.monotonic() - begun) < seconds:
        time.sleep(LOOK_S)  # between two looks
        beats = dict(list_heartbeats(config.run_dir))
        started = sum(name.startswith("camera-") for name in beats)
        if started == cameras and not all_started_s:
            all_started_s = passed
            first = passed, _frames(config)
        samples = list(read_samples(config.run_dir))
        rounds += [1e3 * sample.value for sample in samples if sample.name == "haetae_reconcile_seconds"]
        restarts = sum(sample.value for sample in samples if sample.name == "haetae_camera_restarts")
        looks.append(_look(config, passed))
    half = looks[len(looks) // 2 :]
    slope = np.polyfit([one.at_s for one in half], [one.memory_mb for one in half], 1)[0] * 3600 if len(half) > 2 else 0
    beats = list_heartbeats(config.run_dir)
    private = [_private_mb(beat.pid) for name, beat in beats if name.startswith("camera-")] or [0.0]
    span_s = time.monotonic() - begun - first[0]
    return FleetReport(
        cameras=cameras,
        started=started,
        all_started_s=round(all_started_s, 1),
        restarts=int(restarts),
        reconcile_max_ms=round(max(rounds, default=0.0), 1),
        reconcile_p50_ms=round(float(np.median(rounds)) if rounds else 0.0, 1),
        camera_private_mb_mean=round(float(np.mean(private)), 1),
        camera_private_mb_max=round(max(private), 1),
        frames_per_s=round((_frames(config) - first[1]) / span_s, 1) if span_s > 0 else 0.0,
        memory_slope_mb_per_h=round(float(slope), 1),
        memory_mb=round(half[-1].memory_mb, 1),
        descriptors_change=half[-1].descriptors - half[0].descriptors,
        threads_change=half[-1].threads - half[0].threads,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.fleet", description=__doc__)
    parser.add_argument("--cameras", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="haetae-fleet-") as data,
        tempfile.TemporaryDirectory(prefix="haetae-f-") as run,
    ):
        report = run_fleet(options.cameras, options.seconds, Path(data), run)
    found = msgspec.to_builtins(report)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:26}{value}")
    return 0 if report.started == report.cameras else 1


if __name__ == "__main__":
    sys.exit(main())
