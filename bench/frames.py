"""What the frame bus costs: publishing over a bare memcpy, waking a reader, and whether a torn frame ever passes.

    python -m bench.frames [--json] [--quick]

`publish_over_memcpy` compares, in this very run and turn by turn over the same slots, writing a frame through the
ring (the doorbell apart: nobody listens) with np.copyto of the same frame into a slot.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BusError, FrameGone
from core.frames import Doorbell, FrameFormat, RingReader, RingWriter, sweep
from core.ids import CameraId

__all__ = ["main"]

SIZES = {
    "1080p_i420": FrameFormat(1920, 1080),
    "720p_i420": FrameFormat(1280, 720),
    "720p_bgr": FrameFormat(1280, 720, "bgr"),
}
SLOTS = 6
CAMERAS, FPS, PROCESSES = 16, 15, 4

WRITERS = """
import sys, time
from pathlib import Path
from core.frames import FrameFormat, RingWriter
run, first, count, fps, seconds = Path(sys.argv[1]), *map(int, sys.argv[2:6])
rings = [RingWriter.create(run, f"cam{first + n}", "main", FrameFormat(1280, 720), 6) for n in range(count)]
print("ready", flush=True)
sys.stdin.readline()
due = [time.monotonic() + n / count / fps for n in range(count)]
end, number = time.monotonic() + seconds, 0
while time.monotonic() < end:
    number += 1
    for n, ring in enumerate(rings):
        time.sleep(max(0.0, due[n] - time.monotonic()))
        due[n] += 1 / fps
        with ring.write(0.0, 0, 0) as slot:
            slot.pixels[...] = number % 251
            # what a reader compares its own clock with: taken last, just before the frame is published
            slot.pixels[0, :8] = memoryview(time.monotonic_ns().to_bytes(8, "little"))
print(number, flush=True)
sys.stdin.readline()
for ring in rings:
    ring.close()
"""

TEARER = """
import sys
from pathlib import Path
from core.frames import FrameFormat, RingWriter
writer = RingWriter.create(Path(sys.argv[1]), "tearer", "main", FrameFormat(1280, 720), 3)
number = 0
while True:
    number += 1
    with writer.write(0.0, 0, 0) as slot:
        slot.pixels[...] = number % 251
"""


def publish_over_memcpy(run_dir: Path, fmt: FrameFormat, turns: int) -> dict[str, float]:
    """Median microseconds of both, and the median and the quartiles of their ratio over rounds of paired turns."""
    writer = RingWriter.create(run_dir, CameraId("bench"), "main", fmt, SLOTS)
    frame = np.random.default_rng(1).integers(0, 255, fmt.shape, np.uint8)
    slots: list[np.ndarray] = []
    for _ in range(SLOTS):
        with writer.write(0, 0, 0) as slot:
            np.copyto(slot.pixels, frame)
        slots.append(slot.pixels)
    published: list[int] = []
    copied: list[int] = []
    for turn in range(turns * SLOTS):
        begun = time.perf_counter_ns()
        with writer.write(0, begun, begun) as slot:
            np.copyto(slot.pixels, frame)
        published.append(time.perf_counter_ns() - begun)
        target = slots[(turn + SLOTS // 2) % SLOTS]  # as cold in the caches as the slot that is published
        begun = time.perf_counter_ns()
        np.copyto(target, frame)
        copied.append(time.perf_counter_ns() - begun)
    writer.close()
    ratios = [
        statistics.median(published[start : start + SLOTS * 5]) / statistics.median(copied[start : start + SLOTS * 5])
        for start in range(0, len(published), SLOTS * 5)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "publish_us": statistics.median(published) / 1e3,
        "memcpy_us": statistics.median(copied) / 1e3,
        "publish_over_memcpy": middle,
        "publish_over_memcpy_q1": low,
        "publish_over_memcpy_q3": high,
    }


def tear(run_dir: Path, seconds: float) -> dict[str, int]:
    """Reads frames of a writer that goes round three slots as fast as it can; a frame is torn if its bytes differ."""
    process = subprocess.Popen([sys.executable, "-c", TEARER, str(run_dir)])
    accepted = rejected = torn = 0
    try:
        reader = _open(run_dir, "tearer")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with reader.read(reader.latest() or _wait_first(reader)) as frame:
                    uniform = frame.pixels.min() == frame.pixels.max() == frame.seq % 251
                accepted += 1
                torn += not uniform
            except FrameGone:
                rejected += 1
        reader.close()
    finally:
        process.kill()
        process.wait()
    return {"torn_accepted": torn, "torn_rejected": rejected, "accepted": accepted}


def wake(run_dir: Path, seconds: int) -> dict[str, float]:
    """16 cameras of 720p at 15 frames/s in 4 processes: from a frame's publishing to this process having seen it."""
    each = CAMERAS // PROCESSES
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITERS, str(run_dir), *map(str, (number * each, each, FPS, seconds))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    bell = Doorbell(run_dir, "bench")
    for writer in writers:
        _line(writer)
    readers = [_open(run_dir, f"cam{number}") for number in range(CAMERAS)]
    for writer in writers:
        _go(writer)
    ages, seen = _look(bell, readers, seconds)
    frames = sum(int(_line(writer)) * each for writer in writers)
    for reader in readers:
        reader.close()
    for writer in writers:
        _go(writer)
        writer.wait(10)
    bell.close()
    cuts = np.percentile(ages, [50, 99]) / 1e3
    return {
        "wake_p50_us": float(cuts[0]),
        "wake_p99_us": float(cuts[1]),
        "seen_share": seen / frames,
        "frames": float(frames),
    }


def _look(bell: Doorbell, readers: list[RingReader], seconds: int) -> tuple[list[int], int]:
    """Ages in nanoseconds of the frames seen, and their number."""
    ages: list[int] = []
    last = [0] * len(readers)
    deadline = time.monotonic() + seconds + 0.5
    while time.monotonic() < deadline:
        bell.wait(0.1)
        for number, reader in enumerate(readers):
            ref = reader.latest()
            if ref is None or ref.seq == last[number]:
                continue
            try:
                with reader.read(ref) as frame:
                    published_ns = int.from_bytes(frame.pixels[0, :8].tobytes(), "little")
                    now_ns = time.monotonic_ns()
            except FrameGone:
                continue
            ages.append(now_ns - published_ns)
            last[number] = ref.seq
    return ages, len(ages)


def _open(run_dir: Path, camera_id: str) -> RingReader:
    deadline = time.monotonic() + 20
    while True:
        try:
            return RingReader.open(run_dir, CameraId(camera_id), "main")
        except BusError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _wait_first(reader: RingReader) -> Any:
    while (ref := reader.latest()) is None:
        time.sleep(0.001)
    return ref


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures by name; `quick` is a few seconds, for CI."""
    with tempfile.TemporaryDirectory(prefix="haetae-bench-") as folder:
        run_dir = Path(folder)
        try:
            found: dict[str, Any] = {
                name: publish_over_memcpy(run_dir, fmt, 40 if quick else 200) for name, fmt in SIZES.items()
            }
            found |= tear(run_dir, 1.0 if quick else 5.0)
            found |= wake(run_dir, 3 if quick else 10)
        finally:
            sweep(run_dir)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a few seconds, less precise")
    args = parser.parse_args()
    found = measure(quick=args.quick)
    if args.json:
        print(json.dumps(found))
        return
    for name in SIZES:
        row = found[name]
        spread = f"{row['publish_over_memcpy_q1']:.3f} to {row['publish_over_memcpy_q3']:.3f}"
        times = f"publish {row['publish_us']:6.0f} us  memcpy {row['memcpy_us']:6.0f} us"
        print(f"{name:<11} {times}  ratio {row['publish_over_memcpy']:.3f} ({spread})")
    torn = f"rejected {found['torn_rejected']}, good {found['accepted']}"
    print(f"torn frames accepted {found['torn_accepted']} ({torn})")
    print(
        f"{CAMERAS} cameras at {FPS} frames/s: publish to seen p50 {found['wake_p50_us']:.0f} us, "
        f"p99 {found['wake_p99_us']:.0f} us, seen {found['seen_share']:.4f}"
    )


if __name__ == "__main__":
    main()
