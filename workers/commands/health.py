"""`haetae health`: whether what must run does, for whoever supervises from outside."""

import argparse
from pathlib import Path
from typing import Any

from core.alarms import list_alarms
from core.config import load_config
from core.heartbeat import list_heartbeats

__all__ = ["add_parser"]

NEEDED = ("logger", "inference", "manager")
FRESH_S = 15.0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("health", help="say whether everything runs; exit code 1 if not")
    parser.add_argument("process", nargs="*", default=list(NEEDED), help=f"such as camera-gate ({', '.join(NEEDED)})")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = load_config(args.config, **({"paths": {"data": args.data}} if args.data else {}))
    beats = dict(list_heartbeats(config.run_dir))
    well = True
    for name in args.process:
        beat = beats.get(name)
        alive = beat is not None and beat.age_s < FRESH_S and Path(f"/proc/{beat.pid}").exists()
        well = well and alive
        said = f"{beat.phase}, last sign of life {beat.age_s:.1f} s ago" if beat else "does not run"
        print(f"{name}: {said}" + (f" ({beat.reason})" if beat and beat.reason else ""))
    for alarm in list_alarms(config.run_dir):
        well = False
        print(f"{alarm.process}: {alarm.reason} (since {alarm.since})")
    return 0 if well else 1
