"""The benchmarks run in their quick form and find what must never be: figures are theirs to tell, not to be tested."""

import json
import subprocess
import sys

import pytest


def test_the_frame_bench_runs_and_accepts_no_torn_frame():
    command = [sys.executable, "-m", "bench.frames", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["torn_accepted"] == 0
    assert found["torn_rejected"] > 0
    assert found["cameras_16"]["frames"] > 0
    assert found["cameras_64"]["frames"] > 0
    assert found["wake_p50_over_zmq"] > 0
    for size in ("1080p_i420", "720p_i420", "720p_bgr"):
        assert found[size]["publish_over_memcpy"] > 0
    measured = found["1080p_i420"]
    for peer in ("queue", "zmq", "iceoryx2", "segment_per_frame"):
        assert peer in measured.get("skipped", {}) or measured[f"fps_over_{peer}"] > 0


@pytest.mark.timeout(300)
def test_the_event_bench_runs_on_both_databases():
    command = [sys.executable, "-m", "bench.events", "--json", "--quick", "--events", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"sqlite", "postgresql"}
    for one in found.values():
        assert one["insert_over_single"] > 0
        assert one["insert_over_executemany"] > 0
        assert all(one[f"{name}_p99_ms"] > 0 for name in ("ack", "first", "deep", "statistics_day", "statistics_month"))
