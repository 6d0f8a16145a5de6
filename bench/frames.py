"""What the frame bus costs, beside a bare memcpy and beside its peers, and whether a torn frame ever passes.

    python -m bench.frames [--json] [--quick] [PART...]

`publish_over_memcpy` compares, in this very run and turn by turn over the same slots, writing a frame through the
ring (the doorbell apart: nobody listens) with np.copyto of the same frame into a slot.

`fps_over_*` and `cpu_over_*` compare bringing frames from one process to another as fast as it goes, with every other
way that there is (see bench.transports), in rounds that take turns. The peers are installed by `pip install
.[bench]`; one that is not is left out, with the reason under `skipped`.

`wake_*` is from publishing a small frame to having it in another process, a thousand times a second. In turn with it
go ZeroMQ's smallest messages, and `bare`: one byte in a pipe, and the time in shared memory, which is the least that
waking a process takes from Python. `wake_bare_p50_over_zmq` is what `wake_p50_over_zmq` can be at best.

`cameras_16` and `cameras_64` are whole systems at 15 frames/s, four processes of cameras and one reader of all.

Each size, `tear`, `wake` and each fleet is a part that can be measured alone.
"""

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from bench.figures import spread
from bench.transports import TRANSPORTS, Pair, missing, pair
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
FPS, PROCESSES = 15, 4
FLEETS = {"cameras_16": (16, FrameFormat(1280, 720)), "cameras_64": (64, FrameFormat(320, 180))}
WAKE_S = 0.001
PATIENCE_S = 60.0
"""So long it is waited for a frame that is overwritten while it is read, where a busy machine brings none together."""

WRITERS = """
import sys, time
from pathlib import Path
from core.frames import FrameFormat, RingWriter
run, first, count, fps, seconds, width, height = Path(sys.argv[1]), *map(int, sys.argv[2:8])
rings = [RingWriter.create(run, f"cam{first + n}", "main", FrameFormat(width, height), 6) for n in range(count)]
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
        begun = time.monotonic()
        while (now := time.monotonic()) < begun + seconds or (now < begun + PATIENCE_S and not (accepted and rejected)):
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


WAKER = """
import mmap, os, sys, time
from pathlib import Path
import zmq
from core.frames import FrameFormat, RingWriter
run, count, every = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
ring = RingWriter.create(run, "waker", "main", FrameFormat(64, 48), 6)
socket = zmq.Context().socket(zmq.PUSH)
socket.bind(f"ipc://{run / 'waker.sock'}")
with (run / "waker.words").open("r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
pipe = os.open(run / "waker.pipe", os.O_WRONLY)
print("ready", flush=True)
while way := sys.stdin.readline().strip():
    for _ in range(count):
        time.sleep(every)
        stamp = time.monotonic_ns()
        if way == "ring":
            with ring.write(0.0, stamp, 0):
                pass
        elif way == "bare":
            words[0] = stamp
            words[1] += 1
            os.write(pipe, b"!")
        else:
            socket.send(stamp.to_bytes(8, "little"))
ring.close()
socket.close(0)
"""


def compare_peers(run_dir: Path, fmt: FrameFormat, rounds: int, seconds: float) -> dict[str, Any]:
    """The ring beside each peer: medians over `rounds` of ratios of neighbouring runs, and their quartiles."""
    found: dict[str, Any] = {}
    skipped = {name: reason for name in TRANSPORTS if (reason := missing(name))}
    for name in [name for name in TRANSPORTS if name != "ring" and name not in skipped]:
        with pair("ring", run_dir, fmt) as ours, pair(name, run_dir, fmt) as peer:
            counts = {one: _warm_up(one, seconds) for one in (ours, peer)}
            runs = [(ours.run(counts[ours]), peer.run(counts[peer])) for _ in range(rounds)]
        found |= spread(f"fps_over_{name}", [mine[0] / its[0] for mine, its in runs])
        found |= spread(f"cpu_over_{name}", [mine[1] / its[1] for mine, its in runs])
        found[f"fps_{name}"] = statistics.median(its[0] for _, its in runs)
        found["fps_ring"] = statistics.median(mine[0] for mine, _ in runs)
    return found | ({"skipped": skipped} if skipped else {})


def _warm_up(one: Pair, seconds: float) -> int:
    """How many frames take about so long."""
    one.run(20)
    return max(20, round(one.run(20)[0] * seconds))


def wake(run_dir: Path, rounds: int, count: int) -> dict[str, float]:
    """Microseconds from publishing to having it, and their ratio to those of a ZeroMQ message and of a bare byte."""
    words_path, pipe_path = run_dir / "waker.words", run_dir / "waker.pipe"
    words_path.write_bytes(bytes(16))
    os.mkfifo(pipe_path)
    pipe = os.open(pipe_path, os.O_RDWR)
    with words_path.open("r+b") as file:
        words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")
    waker = subprocess.Popen(
        [sys.executable, "-c", WAKER, str(run_dir), str(count), str(WAKE_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _line(waker)
    bell = Doorbell(run_dir, "bench")
    reader = _open(run_dir, "waker")
    socket = zmq.Context.instance().socket(zmq.PULL)
    socket.connect(f"ipc://{run_dir / 'waker.sock'}")
    ways = {
        "ring": lambda: _ring_ages(bell, reader, count),
        "zmq": lambda: _zmq_ages(socket, count),
        "bare": lambda: _bare_ages(pipe, words, count),
    }
    ages: dict[str, list[np.ndarray]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, measured in ways.items():
            _go(waker, way)
            ages[way].append(measured())
    assert waker.stdin
    waker.stdin.close()
    waker.wait(10)
    reader.close()
    bell.close()
    socket.close(0)
    os.close(pipe)
    p50, p99 = np.percentile(np.concatenate(ages["ring"]), [50, 99])
    medians = {way: np.array([np.median(of_round) for of_round in found]) for way, found in ages.items()}
    return {
        "wake_p50_us": float(p50) / 1e3,
        "wake_p99_us": float(p99) / 1e3,
        "wake_zmq_p50_us": float(np.median(np.concatenate(ages["zmq"]))) / 1e3,
        "wake_bare_p50_us": float(np.median(np.concatenate(ages["bare"]))) / 1e3,
        **spread("wake_p50_over_zmq", (medians["ring"] / medians["zmq"]).tolist()),
        **spread("wake_p50_over_bare", (medians["ring"] / medians["bare"]).tolist()),
        **spread("wake_bare_p50_over_zmq", (medians["bare"] / medians["zmq"]).tolist()),
    }


def _bare_ages(pipe: int, words: memoryview, count: int) -> np.ndarray:
    """As with the ring, what comes while it is looked is looked at once."""
    ages: list[int] = []
    until = words[1] + count
    while words[1] < until:
        os.read(pipe, 64)
        ages.append(time.monotonic_ns() - words[0])
    return np.array(ages)


def _ring_ages(bell: Doorbell, reader: RingReader, count: int) -> np.ndarray:
    first = reader.latest()
    seq, begun = (first.seq if first else 0), 0
    last = seq
    ages: list[int] = []
    while last < seq + count:
        bell.wait(0.1)
        ref = reader.latest()
        if ref is None or ref.seq == last:
            continue
        last = ref.seq
        with reader.read(ref) as frame:
            begun = frame.captured_ns
        ages.append(time.monotonic_ns() - begun)
    return np.array(ages)


def _zmq_ages(socket: Any, count: int) -> np.ndarray:
    ages: list[int] = []
    for _ in range(count):
        stamp = int.from_bytes(socket.recv(), "little")
        ages.append(time.monotonic_ns() - stamp)
    return np.array(ages)


def fleet(run_dir: Path, cameras: int, fmt: FrameFormat, seconds: int) -> dict[str, float]:
    """Many cameras at 15 frames/s in 4 processes: from a frame's publishing to this process having seen it."""
    each = cameras // PROCESSES
    writers = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", WRITERS, str(run_dir)),
                *map(str, (number * each, each, FPS, seconds, fmt.width, fmt.height)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    bell = Doorbell(run_dir, "bench")
    for writer in writers:
        _line(writer)
    readers = [_open(run_dir, f"cam{number}") for number in range(cameras)]
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
    cuts = np.percentile(ages, [50, 99]) / 1e6
    return {
        "age_p50_ms": float(cuts[0]),
        "age_p99_ms": float(cuts[1]),
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


def _go(process: "subprocess.Popen[str]", word: str = "go") -> None:
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


PARTS = (*SIZES, "tear", "wake", *FLEETS)


def measure(*, quick: bool, parts: Collection[str] = PARTS) -> dict[str, Any]:
    """All figures by name; `quick` is a few seconds, for CI, with one size and one round of the peers."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="haetae-bench-") as folder:
        run_dir = Path(folder)
        try:
            for name, fmt in SIZES.items():
                if name in parts:
                    found[name] = publish_over_memcpy(run_dir, fmt, 40 if quick else 200)
            for name, fmt in list(SIZES.items())[:: 3 if quick else 1]:
                if name in parts:
                    found[name] |= compare_peers(run_dir, fmt, 1 if quick else 7, 0.1 if quick else 0.5)
            if "tear" in parts:
                found |= tear(run_dir, 1.0 if quick else 5.0)
            if "wake" in parts:
                found |= wake(run_dir, 1 if quick else 7, 300 if quick else 1000)
            for name, (cameras, fmt) in FLEETS.items():
                if name in parts:
                    found[name] = fleet(run_dir, cameras, fmt, 2 if quick else 10)
        finally:
            sweep(run_dir)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a few seconds, less precise")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    found = measure(quick=args.quick, parts=args.parts or PARTS)
    print(json.dumps(found) if args.json else "\n".join(told(found)))


def told(found: dict[str, Any]) -> list[str]:
    """The figures in words."""
    lines: list[str] = []
    for name in SIZES:
        lines += _size_told(name, found[name]) if name in found else []
    if "torn_accepted" in found:
        seen = f"rejected {found['torn_rejected']}, good {found['accepted']}"
        lines.append(f"torn frames accepted {found['torn_accepted']} ({seen})")
    if "wake_p50_us" in found:
        lines.append(
            f"published to seen p50 {found['wake_p50_us']:.1f} us, p99 {found['wake_p99_us']:.0f} us, "
            f"{found['wake_p50_over_zmq']:.3f} of a ZeroMQ message's p50 (a bare byte: "
            f"{found['wake_bare_p50_over_zmq']:.3f}), {found['wake_p50_over_bare']:.2f} times a bare byte's"
        )
    for name, (cameras, fmt) in FLEETS.items():
        if row := found.get(name):
            lines.append(
                f"{cameras} cameras of {fmt.width}x{fmt.height} at {FPS} frames/s: age p50 {row['age_p50_ms']:.3f} "
                f"ms, p99 {row['age_p99_ms']:.3f} ms, seen {row['seen_share']:.4f}"
            )
    return lines


def _size_told(name: str, row: dict[str, Any]) -> list[str]:
    spread = f"{row['publish_over_memcpy_q1']:.3f} to {row['publish_over_memcpy_q3']:.3f}"
    times = f"publish {row['publish_us']:6.0f} us  memcpy {row['memcpy_us']:6.0f} us"
    lines = [f"{name:<11} {times}  ratio {row['publish_over_memcpy']:.3f} ({spread})"]
    lines += [
        f"{'':<11} {row['fps_ring']:.0f} frames/s, {row[f'fps_over_{peer}']:.2f} times {peer}, "
        f"with {row[f'cpu_over_{peer}']:.2f} of its CPU time a frame"
        for peer in TRANSPORTS
        if f"fps_{peer}" in row and peer != "ring"
    ]
    lines += [f"{'':<11} {peer} skipped: {reason}" for peer, reason in row.get("skipped", {}).items()]
    return lines


if __name__ == "__main__":
    main()
