"""The watchdog's judgement, and the metrics that all processes leave."""

from prometheus_client.parser import text_string_to_metric_families

from core.config import WatchdogConfig
from core.exposition import gather
from core.heartbeat import Heartbeat
from core.metrics import MetricsFile, counter, gauge
from workers.watchdog.watch import Seen, Watch


def seen(name: str = "logger", pid: int = 7, age_s: float = 0.1, *, suspended: bool = False) -> Seen:
    return Seen(name=name, pid=pid, age_s=age_s, suspended=suspended)


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
