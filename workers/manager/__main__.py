"""The manager process: the command channel, and the reconcile loop around MultiCameraManager."""

import os
import select
import sys
from typing import Any

import structlog
import zmq

from core.cameras.outbox import HistoryOutbox
from core.clock import SystemClock
from core.errors import WireError
from core.heartbeat import Heartbeat
from core.ids import uuid7
from core.metrics import MetricsFile, counter, gauge
from core.wire.messages import ApplyCameras, CameraStatuses, Done, GetCameras, ManagerRequest, Message, Ping, Pong
from core.wire.rpc import RequestServer, serve
from workers.manager.keeper import WatchdogKeeper
from workers.manager.manager import MultiCameraManager
from workers.process import StopFlag, fail, parse_role_args

__all__ = ["main"]

log = structlog.get_logger()

TURN_S = 0.05
"""How soon a camera's process that ended is missed."""
READ_EVERY_S = 1.0
"""How often the desired state is read again without being told to."""


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM, then stops all cameras; exit code 78 where another manager serves this data folder."""
    stop = StopFlag()
    _, config = parse_role_args("manager", argv)
    context: zmq.Context[Any] = zmq.Context()
    clock = SystemClock()
    try:
        server = RequestServer(context, config.endpoint("manager"), ManagerRequest)
    except WireError as error:
        return fail(error)
    manager = MultiCameraManager(config, clock)
    keeper = WatchdogKeeper(config.run_dir, clock)
    history = HistoryOutbox(context, config.endpoint("logger"))
    heartbeat = Heartbeat(config.run_dir, "manager")
    instance = str(uuid7())
    read_at = 0.0
    reconcile_at = 0.0
    slowest_s = 0.0
    metrics = MetricsFile(config.run_dir, "manager")

    def handle(request: object) -> Message:
        match request:
            case ApplyCameras():
                manager.read_desired()
                manager.reconcile()
                return Done()
            case GetCameras():
                return CameraStatuses(cameras=manager.statuses())
            case Ping():
                return Pong(pid=os.getpid(), instance=instance)
            case _:
                raise TypeError(type(request).__name__)

    def turn() -> None:
        nonlocal read_at, reconcile_at, slowest_s
        now = clock.monotonic()
        if now >= read_at:
            read_at = now + READ_EVERY_S
            manager.read_desired()
        if now >= reconcile_at or manager.somebody_ended:
            reconcile_at = now + config.manager.reconcile_s
            manager.reconcile()
            for change in manager.changes():
                history.add(change)
            slowest_s = max(slowest_s, clock.monotonic() - now)
        if metrics.due:
            took = gauge("reconcile_seconds", "The slowest round of the manager of late.", slowest_s)
            ended = counter("watchdogs_killed", "Watchdogs that hung and were ended.", keeper.killed)
            metrics.write([*manager.samples(), took, ended])
            slowest_s = 0.0
        keeper.turn()
        history.pump()
        heartbeat.beat("running", manager.running)

    log.info("manager_ready")
    serve(server, handle, stop.is_set, turn, period_s=min(TURN_S, config.manager.reconcile_s))
    manager.stop_all()
    while manager.running:
        manager.reconcile()
        heartbeat.beat("stopping", manager.running)
        select.select([], [], [], 0.05)
    for change in manager.changes():
        history.add(change)
    give_up = clock.monotonic() + 1.0
    while history.pending and clock.monotonic() < give_up:
        history.pump(0.1)
    history.close()
    manager.close()
    server.close()
    metrics.close()
    heartbeat.close()
    context.term()
    log.info("manager_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
