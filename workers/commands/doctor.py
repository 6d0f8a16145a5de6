"""`haetae doctor`: checks what Haetae needs of this machine, and says what to do about each."""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.cameras import list_cameras
from core.errors import HaetaeError
from core.frames import camera_bytes, ring_budget
from core.frames.budget import ASSUMED
from workers.inference.vad import real_type
from workers.inference.vad.choice import AUTO

__all__ = ["add_parser"]


class Check(msgspec.Struct, frozen=True):
    """`status` is ok, warn or fail; `todo` says what to do unless it is ok."""

    name: str
    status: str
    found: str
    todo: str = ""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("doctor", help="check this machine, and say what to do")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    """Exit code 1 where anything fails."""
    config = load_config(args.config, **({"paths": {"data": args.data}} if args.data else {}))
    checks = [check(config) for check in CHECKS]
    if args.json:
        print(json.dumps([msgspec.to_builtins(check) for check in checks]))
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        console = Console(highlight=False)
        for check in checks:
            console.print(f"[{colours[check.status]}]{check.status:>4}[/]  {check.name}: {check.found}", soft_wrap=True)
            if check.todo:
                console.print(f"      {check.todo}", soft_wrap=True)
    return 1 if any(check.status == "fail" for check in checks) else 0


def _shared_memory(config: Config) -> Check:
    """Room for the cameras that are to run; where there are none yet, for some."""
    try:
        engine = make_engine(config.database_url)
        cameras = [camera.camera_id for camera in list_cameras(engine) if camera.enabled]
        engine.dispose()
    except (HaetaeError, SQLAlchemyError):
        cameras = []  # the database has a check of its own
    budget = ring_budget(config.bus, config.run_dir, cameras)
    more = max(0, budget.allowed - budget.needed) // camera_bytes(config.bus, *ASSUMED)
    if budget.needed > budget.allowed:
        return Check("shared memory", "fail", budget.describe(), budget.hint())
    found = f"{budget.describe()}: enough for about {more} more of 1080p"
    if cameras or more >= 4:
        return Check("shared memory", "ok", found)
    return Check(
        "shared memory",
        "fail" if more < 1 else "warn",
        found,
        "enlarge it: mount -o remount,size=2G /dev/shm, or --shm-size=2g for a container",
    )


def _folders(config: Config) -> Check:
    try:
        config.make_dirs()
    except HaetaeError as error:
        return Check("folders", "fail", str(error), error.hint)
    free = shutil.disk_usage(config.data_dir).free
    found = f"{config.data_dir} and {config.run_dir} can be written; {free / 1e9:.1f} GB free"
    if free < 1e9:
        return Check("folders", "warn", found, "make room: snapshots and the database need some")
    return Check("folders", "ok", found)


def _database(config: Config) -> Check:
    try:
        upgrade(config.database_url)
        engine = make_engine(config.database_url)
        shown = engine.url.render_as_string(hide_password=True)
        engine.dispose()
    except HaetaeError as error:
        return Check("database", "fail", str(error), error.hint)
    return Check("database", "ok", f"{shown}, up to date")


def _video(config: Config) -> Check:
    from av import codecs_available, library_versions  # noqa: PLC0415 - heavy, and what is checked here

    from workers.camera.sources.hardware import usable_hardware  # noqa: PLC0415

    wanted = ("h264", "hevc", "mjpeg", "mpeg4", "vp9")
    missing = [name for name in wanted if name not in codecs_available]
    version = ".".join(map(str, library_versions["libavcodec"]))
    found = f"libavcodec {version} decodes {', '.join(name for name in wanted if name not in missing)}"
    if missing:
        return Check("video", "warn", f"{found}; not {', '.join(missing)}", "install the av package as it is published")
    if "libx264" not in codecs_available:
        return Check("video", "warn", f"{found}; cannot write H.264", "haetae watch needs --no-video")
    hardware, asked = usable_hardware(), config.cameras.hardware_decoding
    there = ", ".join(kind for kind, missing in hardware.items() if not missing) or "none"
    found += (
        f"; hardware that decodes: {there} of {', '.join(hardware) or 'none'}; cameras.hardware_decoding is {asked}"
    )
    why = "" if asked in {"off", "auto"} else hardware.get(asked, "this FFmpeg does not offer it")
    if why:
        return Check("video", "warn", f"{found}: {why}", "the processor decodes; set it to off, or install the driver")
    return Check("video", "ok", found)


def _device(_: Config) -> Check:
    code = (
        "import torch; c = torch.cuda.is_available(); "
        "print(torch.__version__, torch.cuda.get_device_name(0) if c else 'CPU only')"
    )
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return Check("torch", "warn", "did not answer within 60 s", "motion_stats works without it")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return Check("torch", "warn", last, "install torch for this machine; motion_stats works without it")
    return Check("torch", "ok", done.stdout.strip())


def _limits(_: Config) -> Check:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files allowed, {os.cpu_count()} cores"
    if soft < 1024:
        return Check("limits", "warn", found, "raise it: ulimit -n 4096")
    return Check("limits", "ok", found)


def _supervisor(config: Config) -> Check:
    running = (config.run_dir / "manager.sock").exists() and (Path(config.run_dir) / "beats" / "manager").exists()
    return Check("running", "ok", "Haetae runs with this data folder" if running else "Haetae does not run now")


def _detection(_config: Config) -> Check:
    """What cameras whose type is `auto` get."""
    choice = real_type(AUTO)
    return Check("detection", "ok", f"{AUTO} is {choice.vad_type}: {choice.reason}")


CHECKS: list[Callable[[Config], Check]] = [
    _folders,
    _shared_memory,
    _video,
    _device,
    _database,
    _limits,
    _supervisor,
    _detection,
]
