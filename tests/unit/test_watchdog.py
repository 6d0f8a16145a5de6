"""The watchdog's judgement, and the metrics that all processes leave."""

import subprocess
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from core.config import WatchdogConfig
from core.exposition import gather
from core.heartbeat import Heartbeat
from core.metrics import MetricsFile, counter, gauge
from core.process import EXPECTED
from workers.watchdog.__main__ import look
from workers.watchdog.watch import Roll, Seen, Watch


def seen(name: str = "logger", pid: int = 7, age_s: float = 0.1, *, suspended: bool = False) -> Seen:
    return Seen(name=name, pid=pid, age_s=age_s, suspended=suspended)


def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_one_that_beat(tmp_path):
    """What a crash or a restart of a container left is nobody's: its number may be supervisord's."""
    ours, left = Heartbeat(tmp_path, "logger"), Heartbeat(tmp_path, "manager")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        left._pid, left._started_ns = other.pid, left._started_ns // 2
        for one in (ours, left):
            one.beat("running")
        assert [one.name for one in look(SimpleNamespace(run_dir=tmp_path))] == ["logger"]


def test_a_process_is_hung_when_its_heart_stood_still_for_as_long_as_its_role_may():
    watch = Watch(WatchdogConfig(hung_s={"logger": 3.0}))
    assert watch.hung([seen(age_s=2.9), seen("inference", 8, 50.0)], 0.0) == []
    (one, reason), *more = watch.hung([seen(age_s=3.0), seen("inference", 8, 50.0)], 1.0)
    assert (one.name, more) == ("logger", [])
    assert "3 s" in reason


def test_a_stopped_process_is_ended_after_a_moment_and_one_that_goes_on_is_not():
    watch = Watch(WatchdogConfig())
    assert watch.hung([seen(suspended=True)], 0.0) == []
    assert watch.hung([seen()], 0.5) == []
    assert watch.hung([seen(suspended=True)], 0.9) == []
    assert len(watch.hung([seen(suspended=True)], 2.0)) == 1


def test_all_is_well_only_while_everything_that_watching_takes_lives():
    watch = Watch(WatchdogConfig())
    three = [seen("logger", 1), seen("inference", 2), seen("manager", 3)]
    assert watch.well([*three, seen("housekeeper", 4, 100.0)])
    assert not watch.well(three[1:])
    assert not watch.well([*three[1:], seen("logger", 1, suspended=True)])


def all_run(first_pid: int = 1, **pids: int) -> list[Seen]:
    return [seen(name, pids.get(name, first_pid + number)) for number, name in enumerate(EXPECTED)]


def test_a_process_that_keeps_ending_is_told_until_it_has_stayed():
    roll = Roll(0.0)
    told = [bool(roll.alarms(all_run(logger=100 + number), 20.0 * number)) for number in range(6)]
    assert told == [False] * 5 + [True]
    assert roll.restarts["logger"] == 5
    assert "5 times" in roll.alarms(all_run(logger=105), 219.0)["logger"]
    assert roll.alarms(all_run(logger=105), 221.0) == {}


def test_a_process_that_ends_now_and_then_is_not_told():
    roll = Roll(0.0)
    assert not any(roll.alarms(all_run(logger=100 + number), 31.0 * number) for number in range(20))


def test_a_process_that_never_comes_up_is_told_and_its_return_ends_it():
    roll = Roll(0.0)
    without = [one for one in all_run() if one.name != "api"]
    assert roll.alarms(without, 29.0) == {}
    assert list(roll.alarms(without, 30.0)) == ["api"]
    assert roll.alarms(all_run(), 31.0) == {}


def test_what_processes_measure_is_gathered_in_one_text(config):
    beat = Heartbeat(config.run_dir, "logger")
    beat.beat("running", 3)
    for camera in ("gate", "yard"):
        samples = [
            counter("camera_frames", "Pictures.", 5, camera=camera),
            gauge("up", "Up.", value=True, camera=camera),
        ]
        MetricsFile(config.run_dir, f"camera-{camera}").write(samples)
    (config.run_dir / "metrics" / "broken.json").write_text("{")
    families = {one.name: one for one in text_string_to_metric_families(gather(config).decode())}
    frames = families["haetae_camera_frames"]
    assert frames.type == "counter"
    assert {one.labels["camera"]: one.value for one in frames.samples} == {"gate": 5.0, "yard": 5.0}
    assert [one.value for one in families["haetae_up"].samples] == [1.0, 1.0]
    assert families["haetae_heartbeat_age_seconds"].samples[0].labels == {"process": "logger"}
    beat.close()
