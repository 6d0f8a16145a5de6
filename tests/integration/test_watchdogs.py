"""Who watches the watchdog: the manager, with real processes."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from supervisor import poller

from core.alarms import Alarm, list_alarms, raise_alarm
from core.clock import FakeClock
from core.config import Config
from core.db import upgrade
from core.heartbeat import Heartbeat, read_heartbeat
from tests.servers import until
from workers.manager.keeper import WatchdogKeeper
from workers.process import spawn
from workers.supervise import hasten


@contextmanager
def process(role: str, config: Config) -> Iterator["subprocess.Popen[bytes]"]:
    with (config.logs_dir / f"{role}.log").open("ab") as log:
        child = spawn(role, config=config, stderr=log)
    try:
        until(lambda: read_heartbeat(config.run_dir, role), f"{role} beats")
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        child.wait(60)


def test_a_watchdog_that_somebody_stopped_is_ended_by_the_manager(config):
    upgrade(config.database_url)
    with process("manager", config), process("watchdog", config) as watchdog:
        watchdog.send_signal(signal.SIGSTOP)
        assert watchdog.wait(60) == -signal.SIGKILL
    assert "hung_watchdog_killed" in (config.logs_dir / "manager.log").read_text()


def test_a_watchdog_forgets_the_alarms_of_the_one_before_it(config):
    raise_alarm(config.run_dir, Alarm(process="logger", since="2026-01-01T00:00:00Z", reason="it ended"))
    with process("watchdog", config):
        assert list_alarms(config.run_dir) == []


@pytest.mark.parametrize("ever", [False, True])
def test_a_watchdog_that_does_not_come_back_is_told_where_there_was_one(config, ever):
    clock = FakeClock()
    keeper = WatchdogKeeper(config.run_dir, clock)
    clock.advance(1)
    if ever:
        heart = Heartbeat(config.run_dir, "watchdog")
        heart.beat("running")
        keeper.turn()
        heart.close()
    for _ in range(32):
        clock.advance(1)
        keeper.turn()
    assert [one.process for one in list_alarms(config.run_dir)] == (["watchdog"] if ever else [])


def test_supervisord_looks_again_long_before_its_second_is_over(monkeypatch):
    asked: list[float] = []
    monkeypatch.setattr(poller.Poller, "poll", lambda _, timeout: asked.append(timeout))  # put back afterwards
    hasten()
    poller.Poller(None).poll(5)
    poller.Poller(None).poll(0.01)
    assert 0.01 < asked[0] < 0.5
    assert asked[1] == 0.01
