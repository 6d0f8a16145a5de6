"""What a camera costs from its file to its scores: beside decoding alone, and beside the usual program of threads.

    python -m bench.pipeline [--json] [--quick] [--data DIR]

Four cameras of H.264 in 720p at 15 frames/s, analysed at 5, made here from real footage of a fixed camera with a
little sensor noise; P frames only and a key frame each 2 s, as cameras send. `cpu_over_decode` is the CPU time of all
processes (cameras, inference, logger) over that of PyAV decoding the same frames at the same pace, a process for each
camera, and doing nothing with them, in rounds that take turns; `cpu_over_fast_decode` over decoding as fast as it
goes, which finds its data in the caches. `still` is a scene in which nothing moves, `moving` one in which somebody
always does. Of a still scene few pictures are scored, and after three seconds 2.5 a second are looked at.
`age_p99_ms` is from a frame's capture to its score in the camera's hands.

`cameras_over_threads`: how many cameras go on without falling behind when 80 % of the time is still, against one
program of OpenCV threads, one for each camera, with the same detector on five frames a second of each camera, still or
not.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av
import cv2
import msgspec
import numpy as np
import zmq
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from bench.figures import spread
from core.cameras import CameraConfig
from core.cameras.job import CameraJob, JobResult
from core.config import Config, load_config
from core.frames import fit_size, sweep
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.wire.messages import FinishLearning, InferenceReply
from core.wire.rpc import RequestClient
from workers.inference.vad import Row, create_model
from workers.process import spawn

__all__ = ["main"]

WIDTH, HEIGHT, FPS, ANALYSED_FPS = 1280, 720, 15, 5.0
CAMERAS = 4
CLIP = "one-by-one-person-detection.mp4"
STILL, MOVING = range(54), range(60, 210)
"""Frames of the clip in which nothing moves, and in which somebody walks."""
NOISE = 1.5
"""Grey levels of a sensor's noise, standard deviation."""
SETTLE_S = 3.0
BEHIND_S = 0.5
"""A camera that is later than this has fallen behind."""


# ---- footage


def make_video(clip: Path, target: Path, parts: Sequence[Sequence[int]]) -> None:
    """Encodes the numbered frames of `clip`, one part after the other, at 720p."""
    with av.open(str(clip)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    rng = np.random.default_rng(5)
    noise = [rng.normal(0, NOISE, (HEIGHT, WIDTH, 1)).astype(np.float32) for _ in range(8)]
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "24", "bf": "0", "g": str(2 * FPS)}
        stream.time_base = Fraction(1, FPS)
        for number, index in enumerate(index for part in parts for index in part):
            large = cv2.resize(pictures[index], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
            noisy = np.clip(large + noise[number % len(noise)], 0, 255).astype(np.uint8)
            frame = VideoFrame.from_ndarray(noisy, "bgr24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def to_and_fro(frames: Sequence[int], count: int) -> list[int]:
    """`count` frames without a cut: forwards, backwards, forwards."""
    cycle = [*frames, *reversed(frames)]
    return [cycle[number % len(cycle)] for number in range(count)]


def make_videos(data: Path, folder: Path, seconds: int, names: Sequence[str]) -> dict[str, Path]:
    """Of `still`, `moving` and `mixed` (80 % still) those that are named, each of so many seconds."""
    frames = seconds * FPS
    still, moving = to_and_fro(STILL, frames), to_and_fro(MOVING, frames)
    parts = {"still": [still], "moving": [moving], "mixed": [still[: frames * 4 // 5], moving[: frames // 5]]}
    for name in names:
        make_video(data / "clips" / CLIP, folder / f"{name}.mp4", parts[name])
    return {name: folder / f"{name}.mp4" for name in names}


# ---- ours


class Site:
    """Logger, inference and cameras, as `haetae up` runs them; a context that leaves none of them behind."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cameras: list[tuple[subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> Self:
        for role in ("logger", "inference"):
            self._processes.append(spawn(role, config=self._config, stderr=subprocess.DEVNULL))
        for role in ("logger", "inference"):
            _until(f"{role} runs", lambda role=role: read_heartbeat(self._config.run_dir, role))
        return self

    def learn(self, video: Path, cameras: int) -> None:
        """All cameras know this footage."""
        first = _camera_id(0)
        camera = CameraConfig(camera_id=first, name=first, url=str(video), loop=False, analysis_fps=ANALYSED_FPS)
        job = CameraJob(camera=camera, lossless=True, learn_only=True)
        learning = spawn("camera", config=self._config, payload=msgspec.json.encode(job), stderr=subprocess.DEVNULL)
        if learning.wait(120):
            raise RuntimeError("the cameras could not learn")
        with zmq.Context() as context:
            client = RequestClient(context, self._config.endpoint("inference"), InferenceReply)
            client.call(FinishLearning(vad_type=camera.vad_type, normality_id=first), 60.0)
            client.close()
        states = self._config.states_dir / camera.vad_type
        for number in range(1, cameras):
            shutil.copytree(states / first, states / _camera_id(number))

    def watch(self, video: Path, cameras: int, seconds: float) -> dict[str, float]:
        """So many cameras for so long: CPU seconds of all processes, frames, and ages in milliseconds."""
        self._cameras = [self._start(number, video) for number in range(cameras)]
        names = [f"camera-{_camera_id(number)}" for number in range(cameras)]
        try:
            for name in names:
                _until(f"{name} watches", lambda name=name: self._frames(name) > FPS)
            time.sleep(min(SETTLE_S, seconds / 2))
            cpu, begun, before = self._cpu_s(), time.monotonic(), sum(map(self._frames, names))
            time.sleep(seconds)
            cpu, took = self._cpu_s() - cpu, time.monotonic() - begun
            frames = sum(map(self._frames, names)) - before
        finally:
            results = [self._stop(process, result) for process, result in self._cameras]
        return {
            "cpu_s": cpu,
            "frames": float(frames),
            "frames_over_due": frames / (took * FPS * cameras),
            "age_p50_ms": statistics.median(result.age_p50_ms for result in results),
            "age_p99_ms": max(result.age_p99_ms for result in results),
        }

    def _start(self, number: int, video: Path) -> tuple["subprocess.Popen[bytes]", Path]:
        name = _camera_id(number)
        result = self._config.data_dir / f"{name}.json"
        camera = CameraConfig(camera_id=name, name=name, url=str(video), analysis_fps=ANALYSED_FPS)
        job = CameraJob(camera=camera, result=str(result))
        payload = msgspec.json.encode(job)
        return spawn("camera", config=self._config, payload=payload, stderr=subprocess.DEVNULL), result

    def _frames(self, name: str) -> int:
        beat = read_heartbeat(self._config.run_dir, name)
        return beat.count if beat else 0

    def _cpu_s(self) -> float:
        return sum(_cpu_s(process.pid) for process in (*self._processes, *(camera for camera, _ in self._cameras)))

    @staticmethod
    def _stop(process: "subprocess.Popen[bytes]", result: Path) -> JobResult:
        process.terminate()
        process.wait(20)
        return msgspec.json.decode(result.read_bytes(), type=JobResult)

    def __exit__(self, *_: object) -> None:
        for process in (*(camera for camera, _ in self._cameras), *self._processes):
            if process.poll() is None:
                process.terminate()
                process.wait(20)
        sweep(self._config.run_dir)


def _camera_id(number: int) -> CameraId:
    return CameraId(f"cam-{number}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until(what: str, condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within 60 s: {what}")
        time.sleep(0.05)


# ---- what it is compared with


def decode(video: Path, seconds: float, *, paced: bool) -> dict[str, float]:
    """PyAV decodes, one thread, and nothing is done with the pictures: CPU seconds for each frame."""
    frames, cpu, begun = 0, 0.0, time.monotonic()
    while time.monotonic() - begun < seconds:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            before = time.process_time()
            for _ in container.decode(stream):
                frames += 1
                if paced:
                    time.sleep(max(0.0, begun + frames / FPS - time.monotonic()))
                if time.monotonic() - begun >= seconds:
                    break
            cpu += time.process_time() - before
    return {"cpu_s": cpu / frames}


def decode_in_processes(video: Path, cameras: int, seconds: float, *, paced: bool) -> float:
    """As many decoders at a time as there are cameras, each in a process: CPU seconds for each frame."""
    words = ["--decode", str(video), str(seconds), "paced" if paced else "fast"]
    command = [sys.executable, "-m", "bench.pipeline", *words]
    decoders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cameras)]
    return statistics.mean(json.loads(decoder.communicate(timeout=120)[0])["cpu_s"] for decoder in decoders)


def run_threads(video: Path, states: Path, cameras: int, seconds: float) -> dict[str, float]:
    """The usual program: a thread for each camera that reads, scales and scores; the same detector and states."""
    model = create_model("motion_stats")
    state = model.load(states / f"{(states / 'current').read_text()}.npz")
    behind: list[float] = []
    begun = time.monotonic() + 0.5
    cpu = time.process_time()

    def camera() -> None:
        capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG)
        context, number, late = model.new_context(), 0, 0.0
        while (due := begun + number / FPS) < begun + seconds:
            good, picture = capture.read()
            if not good:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                continue
            now = time.monotonic()
            time.sleep(max(0.0, due - now))
            late = max(late, now - due)
            if number % round(FPS / ANALYSED_FPS) == 0:
                size = fit_size(WIDTH, HEIGHT, 640, 360)
                small = cv2.cvtColor(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2YUV_I420)
                row = Row(prepared=model.prepare(small, *size), media_s=number / FPS, context=context, state=state)
                model.process([row])
            number += 1
        behind.append(late)

    threads = [threading.Thread(target=camera) for _ in range(cameras)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"cpu_s": time.process_time() - cpu, "behind_s": max(behind)}


def threads_in_a_process(video: Path, states: Path, cameras: int, seconds: float) -> dict[str, float]:
    """run_threads() in a process of its own: what this one has loaded and runs is not the program's."""
    words = ["--threads", str(video), str(states), str(cameras), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.pipeline", *words], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


# ---- what is measured


def measure(data: Path, *, quick: bool) -> dict[str, Any]:
    """All figures by scene; `quick` is one short round of the two scenes."""
    rounds, seconds = (1, 2.0) if quick else (5, 6.0)
    scenes = ["still", "moving"] if quick else ["still", "moving", "mixed"]
    with tempfile.TemporaryDirectory(prefix="haetae-bench-") as name:
        folder = Path(name)
        videos = make_videos(data, folder, 5 if quick else 20, scenes)
        config = load_config(environ={}, paths={"data": f"{folder}/data", "run": f"{folder}/run"})
        config.make_dirs()
        found: dict[str, Any] = {}
        with Site(config) as site:
            site.learn(videos["moving"], CAMERAS)
            for scene in ("still", "moving"):
                found[scene] = _measure_scene(site, videos[scene], rounds, seconds)
            if not quick:
                states = config.states_dir / "motion_stats" / _camera_id(0)
                found |= _measure_threads(site, videos["mixed"], states, rounds)
    return found


def _measure_scene(site: Site, video: Path, rounds: int, seconds: float) -> dict[str, float]:
    runs: list[dict[str, float]] = []
    paced: list[float] = []
    fast: list[float] = []
    for _ in range(rounds):
        paced.append(decode_in_processes(video, CAMERAS, seconds, paced=True))
        runs.append(site.watch(video, CAMERAS, seconds))
        fast.append(decode_in_processes(video, 1, seconds / 5, paced=False))
    costs = [run["cpu_s"] / run["frames"] for run in runs]
    return {
        **spread("cpu_over_decode", [cost / alone for cost, alone in zip(costs, paced, strict=True)]),
        **spread("cpu_over_fast_decode", [cost / alone for cost, alone in zip(costs, fast, strict=True)]),
        "cpu_ms_per_frame": statistics.median(costs) * 1e3,
        "decode_ms_per_frame": statistics.median(paced) * 1e3,
        "fast_decode_ms_per_frame": statistics.median(fast) * 1e3,
        "frames_over_due": statistics.median(run["frames_over_due"] for run in runs),
        "age_p50_ms": statistics.median(run["age_p50_ms"] for run in runs),
        "age_p99_ms": statistics.median(run["age_p99_ms"] for run in runs),
    }


def _measure_threads(site: Site, video: Path, states: Path, rounds: int) -> dict[str, float]:
    """By CPU time: how many cameras a core carries with each. Whole clips, so that all is 80 % still."""
    seconds = 20.0
    ratios: list[float] = []
    ours_s: list[float] = []
    theirs_s: list[float] = []
    for _ in range(min(rounds, 5)):
        ours_s.append(site.watch(video, CAMERAS, seconds)["cpu_s"])
        theirs_s.append(threads_in_a_process(video, states, CAMERAS, seconds)["cpu_s"])
        ratios.append(theirs_s[-1] / ours_s[-1])
    return {
        **spread("cameras_over_threads", ratios),
        "cameras_per_core": CAMERAS * seconds / statistics.median(ours_s),
        "threads_cameras_per_core": CAMERAS * seconds / statistics.median(theirs_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="one short round, for CI")
    parser.add_argument("--data", type=Path, help="folder that holds clips/ (default: $HAETAE_DATA)")
    parser.add_argument("--threads", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--decode", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.decode:
        video, seconds, pace = args.decode
        print(json.dumps(decode(Path(video), float(seconds), paced=pace == "paced")))
        return
    if args.threads:
        video, states, cameras, seconds = args.threads
        print(json.dumps(run_threads(Path(video), Path(states), int(cameras), float(seconds))))
        return
    data = args.data or Path(os.environ.get("HAETAE_DATA") or "../shared/data")
    if not (data / "clips" / CLIP).is_file():
        parser.error(f"there is no {data / 'clips' / CLIP}: name the folder that holds clips/ with --data")
    found = measure(data, quick=args.quick)
    if args.json:
        print(json.dumps(found))
        return
    for scene in ("still", "moving"):
        row = found[scene]
        print(
            f"{scene:<7} {row['cpu_over_decode']:.2f} times decoding alone ({row['cpu_ms_per_frame']:.2f} of "
            f"{row['decode_ms_per_frame']:.2f} ms a frame), age p50 {row['age_p50_ms']:.0f} ms, p99 "
            f"{row['age_p99_ms']:.0f} ms"
        )
    if "cameras_over_threads" in found:
        print(
            f"{found['cameras_per_core']:.0f} cameras a core, {found['cameras_over_threads']:.2f} times the program of "
            f"OpenCV threads ({found['threads_cameras_per_core']:.0f})"
        )


if __name__ == "__main__":
    main()
