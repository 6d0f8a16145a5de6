"""The benchmarks run in their quick form and find what must never be: figures are theirs to tell, not to be tested."""

import json
import platform
import subprocess
import sys

import torch

LIMIT_S = 500
"""More than any of them takes on a busy machine: one that hangs is to be told by its own output."""


def test_the_frame_bench_runs_and_accepts_no_torn_frame():
    command = [sys.executable, "-m", "bench.frames", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["torn_accepted"] == 0
    assert found["torn_rejected"] > 0
    assert found["cameras_16"]["frames"] > 0
    assert found["cameras_64"]["frames"] > 0
    assert found["wake_p50_over_zmq"] > 0
    assert found["wake_p50_over_bare"] > 0
    for size in ("1080p_i420", "720p_i420", "720p_bgr"):
        assert found[size]["publish_over_memcpy"] > 0
    measured = found["1080p_i420"]
    for peer in ("queue", "zmq", "iceoryx2", "iceoryx2_keeping", "segment_per_frame"):
        assert peer in measured.get("skipped", {}) or measured[f"fps_over_{peer}"] > 0


def test_the_inference_bench_runs_and_answers_every_request():
    command = [sys.executable, "-m", "bench.inference", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for regime in ("heavy", "light"):
        assert found[regime]["throughput_over_direct"] > 0
    assert found["heavy"]["overload"]["unanswered"] == 0
    assert found["heavy"]["overload"]["failed"] == 0


def test_the_device_bench_runs_every_type_that_has_a_net_or_says_that_there_is_no_such_device():
    command = [sys.executable, "-m", "bench.inference", "--json", "--quick", "--device"]
    done = subprocess.run([*command, "cpu"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("device") == "cpu"
    assert "synthetic" in found
    for name, batches in found.items():
        assert all(row["over_plain"] > 0 for row in batches.values()), name
    if not torch.cuda.is_available():
        refused = subprocess.run([*command, "cuda"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert refused.returncode == 1
        assert "no CUDA device is at hand" in refused.stderr


def test_the_pipeline_bench_runs_on_real_footage(clips):
    command = [sys.executable, "-m", "bench.pipeline", "--json", "--quick", "--data", str(clips.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for scene in ("still", "moving"):
        assert found[scene]["cpu_over_decode"] > 0
        assert found[scene]["age_p99_ms"] > 0


def test_the_soak_runs_and_nothing_of_a_running_house_grows():
    command = [sys.executable, "-m", "bench.soak", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["simulated_minutes"] > 0.3
    assert found["events"] > 0
    assert {"api", "camera-soak-0", "inference", "logger", "manager", "notifier", "watchdog"} <= set(found["processes"])


def test_the_report_tells_medians_spreads_aims_and_what_was_left_out(tmp_path):
    kept = {"still": {"cpu_over_decode": 1.2345, "cpu_over_decode_q1": 1.1, "cpu_over_decode_q3": 1.3}}
    (tmp_path / "pipeline.json").write_text(json.dumps(kept | {"skipped": {"threads": "too slow here"}}))
    target = tmp_path / "benchmarks.md"
    command = [sys.executable, "-m", "bench.report", "pipeline", "--keep", str(tmp_path), "--output", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    text = target.read_text()
    assert "| 1.23 | 1.1 to 1.3 | <= 1.25 |" in text
    assert "Left out: threads (too slow here)." in text
    assert platform.node() not in text


def test_the_event_bench_runs_on_both_databases():
    command = [sys.executable, "-m", "bench.events", "--json", "--quick", "--events", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"sqlite", "postgresql"}
    for one in found.values():
        assert one["insert_over_single"] > 0
        assert one["insert_over_executemany"] > 0
        assert all(one[f"{name}_p99_ms"] > 0 for name in ("ack", "first", "deep", "statistics_day", "statistics_month"))


def test_the_chaos_bench_finds_nothing_lost_and_nothing_left_behind():
    command = [sys.executable, "-m", "bench.chaos", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["faults"] == found["recovered"] > 0
    assert found["events_acknowledged"] > 0
    for name in ("events_lost", "events_doubled", "orphan_segments", "orphan_processes"):
        assert found[name] == 0, name


def test_the_api_bench_runs():
    command = [sys.executable, "-m", "bench.api", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["over_bare"] > 0
    assert found["page_bytes"] > 10_000


def test_the_notification_bench_runs_and_drains_in_order():
    command = [sys.executable, "-m", "bench.notify", "--json", "--quick", "--database", "sqlite"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rules_p99_ms"] > 0
    one = found["sqlite"]
    assert one["first_attempt_p99_ms"] > 0
    assert one["told"] == one["events"]
    assert (one["drain_out_of_order"], one["drain_doubles"]) == (0, 0)


def test_the_health_bench_runs_on_real_footage_and_calls_nothing_ordinary_a_fault(clips):
    command = [sys.executable, "-m", "bench.health", "--json", "--quick", "--data", str(clips.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["false_events"] == []
    assert found["named_in_time"] > 0.9


def test_the_bench_of_detection_tells_what_a_frame_costs_by_how_many_cameras_there_are(ped2):
    command = [sys.executable, "-m", "bench.vad", "--data", str(ped2), "--cameras", "--quick", "--type", "motion_stats"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["cameras_1"]["cost_over_one_camera"] == 1.0
    assert all(found[f"cameras_{n}"]["fps"] > 0 for n in (1, 2, 4, 8, 16))


def test_the_promise_bench_runs_and_promises_nothing_from_some_minutes():
    command = [sys.executable, "-m", "bench.promise", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["asked_24"]["promise"]["stage"] == "learning"
    assert found["asked_24"]["anomalies"]


def test_the_stream_bench_runs_and_encodes_once_a_tick():
    command = [sys.executable, "-m", "bench.stream", "--json", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    each = found["sockets"] / found["cameras"]
    assert 0.5 < found["encodes_per_tick"] < 1.5 < each, f"not once for each of the {each:.0f} that watch a camera"
    assert found["lost_sockets"] == 0
    assert found["frames_s"] > 0.5 * found["bare_frames_s"], "beside a server that only sends, under the same load"
    assert found["event_p99_ms"] > 0
