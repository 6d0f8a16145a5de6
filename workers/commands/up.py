"""`haetae up`: runs all of Haetae on this machine under supervisord, and tells what happens."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import zmq
from rich.console import Console

from core.cameras import CameraConfig, CameraPhase
from core.clock import time_zone
from core.config import Config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera, list_cameras
from core.errors import HaetaeError
from core.events import EventState
from core.frames import sweep
from core.heartbeat import read_heartbeat, remove_heartbeat
from core.ids import CameraId
from core.wire.feeds import FeedSubscriber
from core.wire.messages import (
    Committed,
    GetCameras,
    InferenceReply,
    LoggerReply,
    ManagerReply,
    Ping,
)
from core.wire.rpc import RequestClient
from workers.commands.camera import ask_manager, configure
from workers.commands.events import describe
from workers.process import process_environment

__all__ = ["add_parser"]

SUPERVISORD_CONF = Path(__file__).resolve().parents[2] / "deploy" / "supervisord.conf"
START_S = 30.0
STOP_S = 45.0
DEMO_LEARN_S = 125.0
"""Simulated seconds; learned as fast as inference goes."""
DEMO = {"demo-plaza": "demo://plaza?seed=1", "demo-street": "demo://street?seed=2"}
ROLES = {"logger": LoggerReply, "inference": InferenceReply, "manager": ManagerReply}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("up", help="run everything on this machine")
    parser.add_argument("--demo", action="store_true", help="with two demo cameras, if there are no cameras yet")
    parser.add_argument("--quiet", action="store_true", help="do not show events")
    parser.set_defaults(run=_run)


class _Stopped(Exception):
    """SIGINT or SIGTERM arrived."""


def _raise_stopped(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


def _run(args: argparse.Namespace) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise_stopped)
    console = Console(highlight=False, soft_wrap=True)
    config = configure(args)
    _refuse_second(config)
    supervisor = None
    code = 0
    try:
        _prepare(config, console, demo=args.demo)
        console.print("starting logger, inference, manager, notifier, housekeeper and api under supervisord")
        supervisor = _supervise(config)
        _wait_ready(config, supervisor)
        _tell_api(config, supervisor, console)
        console.print(f"running; data in {config.data_dir}; Ctrl-C stops everything")
        _follow(config, supervisor, console, quiet=args.quiet)
    except _Stopped:
        console.print("stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        if supervisor:
            code = _stop(config, supervisor, console)
    console.print("stopped")
    return code


def _refuse_second(config: Config) -> None:
    """Raises HaetaeError where a supervisord, or a process by itself, serves this data folder already."""
    with socket.socket(socket.AF_UNIX) as probe:
        running = probe.connect_ex(str(config.run_dir / "supervisor.sock")) == 0
    for role, reply_type in ROLES.items():
        if (config.run_dir / f"{role}.sock").exists():
            running = running or _answers(config, role, reply_type, 0.5)
    if running:
        raise HaetaeError(
            f"Haetae is already running with {config.data_dir}", "stop it first, or name another folder with --data"
        )


def _answers(config: Config, role: str, reply_type: Any, timeout_s: float) -> bool:
    with zmq.Context() as context:
        client = RequestClient(context, config.endpoint(role), reply_type)
        try:
            client.call(Ping(), timeout_s)
        except HaetaeError:
            return False
        finally:
            client.close()
    return True


def _prepare(config: Config, console: Console, *, demo: bool) -> None:
    for name in sweep(config.run_dir):
        console.print(f"removed {name}, left by a process that died")
    (config.run_dir / "api.url").unlink(missing_ok=True)
    remove_heartbeat(config.run_dir, "api")
    console.print("bringing the database up to date")
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    cameras = list_cameras(engine)
    if demo and not cameras:
        for name, url in DEMO.items():
            camera_id = CameraId(name)
            add_camera(engine, CameraConfig(camera_id=camera_id, name=name, url=url, learn_s=DEMO_LEARN_S))
            console.print(f"added the camera {name} ({url})")
    elif not cameras:
        console.print("no cameras yet: haetae camera add NAME URL")
    engine.dispose()


def _supervise(config: Config) -> "subprocess.Popen[bytes]":
    """Supervisord with our configuration, in a session of its own, so that Ctrl-C reaches only us."""
    return subprocess.Popen(
        [sys.executable, "-m", "workers.supervise", str(os.getpid()), str(SUPERVISORD_CONF)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd=config.run_dir,
        env={**process_environment(config), "HAETAE_PYTHON": sys.executable},
    )


def _wait_ready(config: Config, supervisor: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    for role, reply_type in ROLES.items():
        while not _answers(config, role, reply_type, 0.5):
            if supervisor.poll() is not None:
                raise HaetaeError(
                    f"supervisord ended with {supervisor.returncode}", f"see {config.logs_dir / 'supervisord.log'}"
                )
            if time.monotonic() > deadline:
                raise HaetaeError(
                    f"{role} did not answer within {START_S:.0f} s: {_tail(config.logs_dir / f'{role}.log')}",
                    f"see {config.logs_dir / f'{role}.log'}",
                )


def _tell_api(config: Config, supervisor: "subprocess.Popen[bytes]", console: Console) -> None:
    """Where the API is, and how the first account is made; an API that does not come up stops nothing else."""
    deadline = time.monotonic() + START_S
    while read_heartbeat(config.run_dir, "api") is None and supervisor.poll() is None:
        if time.monotonic() > deadline:
            console.print(f"the API does not answer: {_tail(config.logs_dir / 'api.log')}", markup=False)
            return
        time.sleep(0.05)
    try:
        url = (config.run_dir / "api.url").read_text()
        token = config.secrets_dir / "setup.token"
        if token.exists():
            # behind the hash it stays in the browser: no log has it
            page = f"{url}/setup#token={token.read_text().strip()}"
            console.print(f"open {page} and make the first account", markup=False)
        else:
            console.print(f"open {url}", markup=False)
        console.print(f"the API's reference is at {url}/api/v1/schema", markup=False)
    except OSError as error:
        console.print(f"the API's address cannot be read: {error.strerror}", markup=False)


def _tail(path: Path) -> str:
    try:
        return (path.read_text(errors="replace").strip().splitlines() or [""])[-1][:300]
    except OSError:
        return ""


def _follow(config: Config, supervisor: "subprocess.Popen[bytes]", console: Console, *, quiet: bool) -> None:
    """Prints events and changes of the cameras' phases until it is stopped."""
    phases: dict[str, tuple[CameraPhase, str]] = {}
    shown: dict[str, EventState] = {}
    asked_at = 0.0
    zone = time_zone(config.site.time_zone)
    with zmq.Context() as context:
        feed = FeedSubscriber(context, config.endpoint("logger-feed"), Committed)
        try:
            while supervisor.poll() is None:
                for _, _, message in feed.receive(0.5):
                    event = message.event
                    if not quiet and shown.get(event.id) != event.state:
                        shown[event.id] = event.state
                        console.print(describe(event, zone), markup=False)
                for key in list(shown)[:-1000]:
                    del shown[key]
                if time.monotonic() >= asked_at:
                    asked_at = time.monotonic() + 1.0
                    _show_phases(config, console, phases)
        finally:
            feed.close()
    raise HaetaeError(f"supervisord ended with {supervisor.returncode}", f"see {config.logs_dir / 'supervisord.log'}")


def _show_phases(config: Config, console: Console, phases: dict[str, tuple[CameraPhase, str]]) -> None:
    reply = ask_manager(config, GetCameras(), 1.0)
    for status in reply.cameras if reply else ():
        now = (status.phase, status.reason)
        if phases.get(status.camera_id) != now:
            phases[status.camera_id] = now
            console.print(f"{status.camera_id}: {status.phase}" + (f" ({status.reason})" if status.reason else ""))


def _stop(config: Config, supervisor: "subprocess.Popen[bytes]", console: Console) -> int:
    """Ends supervisord and all below it; 1 where something had to be killed or was left behind."""
    code = 0
    supervisor.terminate()
    try:
        supervisor.wait(STOP_S)
    except subprocess.TimeoutExpired:
        console.print("supervisord did not stop in time; killing it")
        supervisor.kill()
        supervisor.wait()
        code = 1
    for name in sweep(config.run_dir):
        console.print(f"removed {name}, left by a process that died")
    return code
