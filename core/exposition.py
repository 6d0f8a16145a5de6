"""All figures of this machine in Prometheus' text format."""

import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.config import Config
from core.errors import BusError
from core.frames import RingReader, list_rings
from core.heartbeat import list_heartbeats
from core.metrics import Sample, counter, gauge, read_samples

__all__ = ["gather"]


def gather(config: Config) -> bytes:
    """Everything in Prometheus' text format: what the processes wrote, their heartbeats, and the frame rings."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gatherer(config))
    return generate_latest(registry)


class _Gatherer(Collector):
    def __init__(self, config: Config) -> None:
        self._config = config

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._samples():
            family = families.get(sample.name)
            if family is None:
                made = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
                family = families[sample.name] = made(sample.name, sample.help)
            name = f"{sample.name}_total" if sample.kind == "counter" else sample.name
            family.add_sample(name, sample.labels, sample.value)
        yield from families.values()

    def _samples(self) -> Iterator[Sample]:
        run_dir = self._config.run_dir
        for name, beat in list_heartbeats(run_dir):
            yield gauge("heartbeat_age_seconds", "Since the process last showed life.", beat.age_s, process=name)
            uptime_s = (time.monotonic_ns() - beat.started_ns) / 1e9
            yield gauge("process_uptime_seconds", "Since the process started.", uptime_s, process=name)
            yield gauge(
                "process_resident_bytes", "Memory of the process, shared memory included.", _rss(beat.pid), process=name
            )
        yield from self._rings()
        yield from read_samples(run_dir)

    def _rings(self) -> Iterator[Sample]:
        for info in list_rings(self._config.run_dir):
            labels = {"camera": info.camera_id, "stream": info.stream}
            try:
                reader = RingReader.open(self._config.run_dir, info.camera_id, info.stream)
            except BusError:
                continue
            found = reader.statistics()
            reader.close()
            if found.age_s != float("inf"):
                yield gauge("frame_age_seconds", "Since the newest frame of the ring.", found.age_s, **labels)
            yield counter("frames_torn", "Frames overwritten while they were read.", found.all_torn, **labels)


def _rss(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096.0
    except (OSError, ValueError, IndexError):
        return 0.0
