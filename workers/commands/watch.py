"""`haetae watch`: the same pipeline over files, as fast as it goes, with all results in one folder."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import zmq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from core.cameras import CameraConfig
from core.cameras.job import CameraJob, JobResult
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.event_pages import EventFilter, iterate_events
from core.errors import ConfigError, HaetaeError
from core.events import AnomalyEvent
from core.events.journal import EventLogger
from core.frames import sweep
from core.heartbeat import read_heartbeat
from core.ids import CameraId, camera_id_from_name
from core.wire.messages import FinishLearning, InferenceReply, LearnedReply, LoggerReply, Ping
from core.wire.rpc import RequestClient
from workers.camera.sources import open_source
from workers.process import process_environment

__all__ = ["add_parser", "run"]

SHARED = "shared"
"""The name of the state that all inputs share after --learn."""
OWN_SHARE = 0.5
"""Share of an input that is learned from at most where there is no --learn."""
TRAINING_S = 900.0
"""What a type that trains may take; others take seconds."""
START_S = 20.0
"""Longest wait for inference and logger to answer."""


class _Input(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be played, probed beforehand; `frames` is what its container says (None: nothing)."""

    path: Path
    url: str
    """As a camera's process takes it."""
    camera_id: CameraId
    frames: int | None
    duration_s: float | None


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "watch",
        help="look for anomalies in video files",
        description="Plays video files through the whole pipeline, as fast as it goes, and leaves events, snapshots, "
        "scores and annotated video in a folder.",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="video files (or demo://SCENE?seed=N&duration=60)")
    parser.add_argument(
        "--learn", nargs="+", default=[], metavar="NORMAL", help="videos of the same camera in which all is normal"
    )
    parser.add_argument("--vad", default="motion_stats", metavar="TYPE", help="type of anomaly detection")
    parser.add_argument("--out", default="haetae-out", metavar="DIR", help="folder for the results (haetae-out)")
    parser.add_argument(
        "--learn-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="without --learn: seconds of each input's beginning to learn from, half of it at most (60)",
    )
    parser.add_argument("--no-video", action="store_true", help="leave no annotated video")
    parser.add_argument("--jobs", type=int, default=16, metavar="N", help="inputs played at once (16)")
    parser.add_argument("--json", action="store_true", help="print nothing but a summary as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit code 0, or an error that names the input it is about; raises HaetaeError."""
    console = Console(stderr=args.json, quiet=args.json)
    inputs = _probe_all(args.inputs)
    normal = _probe_all(args.learn, prefix="learn-")
    with tempfile.TemporaryDirectory(prefix="haetae-run-") as run_dir:
        config = _make_config(args, run_dir)
        upgrade(config.database_url)
        with _Watch(config, args, console) as watch:
            summary = watch.play(inputs, normal)
    if args.json:
        print(json.dumps(summary))
    else:
        _report(console, summary, config)
    return 0


def _make_config(args: argparse.Namespace, run_dir: str) -> Config:
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is not a folder", "name a folder with --out")
    config = load_config(getattr(args, "config", None), paths={"data": str(out), "run": run_dir})
    config.make_dirs()
    return config


def _probe_all(paths: Sequence[str], prefix: str = "") -> list[_Input]:
    """Opens each file once, so that what is wrong with one is said before anything starts."""
    probed: list[_Input] = []
    taken: set[str] = set()
    for path in paths:
        source = open_source(path)
        try:
            info = source.info
        finally:
            source.close()
        if info.live or (info.simulated and info.duration_s is None):
            raise ConfigError(
                f"{info.name} never ends, and haetae watch plays its inputs to their end",
                "give a demo scene a duration (demo://SCENE?duration=60); haetae camera add watches what is endless",
            )
        stem = camera_id_from_name(prefix + Path(path).stem)
        name, number = stem, 1
        while name in taken:
            number += 1
            name = CameraId(f"{stem[:58]}-{number}")
        taken.add(name)
        probed.append(
            _Input(
                path=Path(path).absolute(),
                url=path if "://" in path else str(Path(path).absolute()),
                camera_id=CameraId(name),
                frames=info.frames,
                duration_s=info.duration_s,
            )
        )
    return probed


class _Watch:
    """Inference, logger and the camera processes of one run; a context that leaves none of them behind."""

    def __init__(self, config: Config, args: argparse.Namespace, console: Console) -> None:
        self._config, self._args, self._console = config, args, console
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._cameras: list[_Camera] = []
        self._context: zmq.Context[Any] = zmq.Context()

    def __enter__(self) -> Self:
        for role in ("inference", "logger"):
            self._services[role] = self._start(role)
        for role, reply_type in (("inference", InferenceReply), ("logger", LoggerReply)):
            client = RequestClient(self._context, self._config.endpoint(role), reply_type)
            try:
                client.call(Ping(), timeout_s=START_S)
            except HaetaeError as error:
                self.__exit__()
                raise HaetaeError(f"{role} did not start", f"see {self._log(role)}") from error
            finally:
                client.close()
        return self

    def _log(self, name: str) -> Path:
        return self._config.logs_dir / f"{name}.log"

    def _start(self, role: str) -> "subprocess.Popen[bytes]":
        with self._log(role).open("ab") as log:
            return _spawn(role, self._config, stderr=log, stdin=subprocess.DEVNULL)

    def __exit__(self, *_: object) -> None:
        for camera in self._cameras:
            camera.process.terminate()
        for camera in self._cameras:
            _end(camera.process)
        for process in self._services.values():
            process.terminate()
        for process in self._services.values():
            _end(process)
        sweep(self._config.run_dir)
        self._context.term()

    # ---- the run

    def play(self, inputs: list[_Input], normal: list[_Input]) -> dict[str, Any]:
        begun = time.monotonic()
        warnings: list[str] = []
        watching = [self._prepare(one) for one in inputs[: self._args.jobs]]
        if normal:
            learned = self._learn(normal)
            self._console.print(f"learned from {learned.learned_s:.1f} s, {learned.frames} frames: {learned.state}")
            warnings += [learned.warning] if learned.warning else []
        learn_seconds = time.monotonic() - begun if normal else 0.0
        jobs = [self._job(one, shared=bool(normal)) for one in inputs]
        self._play_jobs("watching", inputs, jobs, watching)
        results = [msgspec.json.decode(Path(job.result).read_bytes(), type=JobResult) for job in jobs]
        for one, result in zip(inputs, results, strict=True):
            warnings += [f"{one.path.name}: {warning}" for warning in result.warnings]
        return self._summary(inputs, jobs, results, learn_seconds, warnings)

    def _prepare(self, one: _Input) -> "_Camera":
        """A camera process that has imported all it needs and waits for its job."""
        with self._log(one.camera_id).open("ab") as log:
            camera = _Camera(one, _spawn("camera", self._config, stderr=log, stdin=subprocess.PIPE))
        self._cameras.append(camera)
        return camera

    def _job(self, one: _Input, *, shared: bool) -> CameraJob:
        out = self._config.data_dir
        learn_s = self._args.learn_seconds
        if one.duration_s:
            learn_s = min(learn_s, one.duration_s * OWN_SHARE)
        camera = CameraConfig(
            camera_id=one.camera_id,
            name=one.path.name,
            url=one.url,
            vad_type=self._args.vad,
            learn_s=learn_s,
            loop=False,
        )
        return CameraJob(
            camera=camera,
            normality_id=SHARED if shared else "",
            lossless=True,
            annotated="" if self._args.no_video else str(out / "annotated" / f"{one.camera_id}.mp4"),
            scores=str(out / "scores" / f"{one.camera_id}.npz"),
            result=str(self._config.run_dir / f"{one.camera_id}.json"),
        )

    def _learn(self, normal: list[_Input]) -> LearnedReply:
        """Spreads the normal files over a few cameras that learn into one state, then has it fitted."""
        lanes = [normal[start :: min(4, len(normal))] for start in range(min(4, len(normal)))]
        jobs = [
            CameraJob(
                camera=CameraConfig(
                    camera_id=lane[0].camera_id,
                    name="learning",
                    url=lane[0].url,
                    vad_type=self._args.vad,
                    loop=False,
                ),
                more_urls=[one.url for one in lane[1:]],
                normality_id=SHARED,
                lossless=True,
                learn_only=True,
            )
            for lane in lanes
        ]
        total = sum(one.frames or 0 for one in normal)
        self._play_jobs("learning", [lane[0] for lane in lanes], jobs, [], total)
        client = RequestClient(self._context, self._config.endpoint("inference"), InferenceReply)
        try:
            request = FinishLearning(vad_type=self._args.vad, normality_id=SHARED, whole=True)
            return client.call(request, timeout_s=TRAINING_S)
        finally:
            client.close()

    def _play_jobs(
        self, title: str, inputs: list[_Input], jobs: list[CameraJob], ready: list["_Camera"], total: int = 0
    ) -> None:
        """Runs the jobs, `--jobs` at once, `ready` processes first; raises HaetaeError where one fails."""
        waiting = list(zip(inputs, jobs, strict=True))[::-1]
        running: list[_Camera] = []
        total = total or sum(one.frames or 0 for one in inputs)
        done = 0
        with self._progress(title, total) as (progress, task):
            while waiting or running:
                while waiting and len(running) < max(1, self._args.jobs):
                    one, job = waiting.pop()
                    camera = ready.pop(0) if ready else self._prepare(one)
                    camera.begin(job)
                    running.append(camera)
                time.sleep(0.05)
                for camera in [one for one in running if one.ended(self._config)]:
                    running.remove(camera)
                    self._cameras.remove(camera)
                    done += camera.frames
                    camera.check(self._log(camera.one.camera_id))
                self._check_services()
                progress.update(task, completed=done + sum(camera.frames for camera in running))
            progress.update(task, completed=done, total=done)

    def _check_services(self) -> None:
        """A service that died is started again: its clients ask again, and the journal has what was acknowledged."""
        for role, process in self._services.items():
            if process.poll() is not None:
                self._console.print(f"[yellow]{role} ended with {process.returncode}; starting it again")
                self._services[role] = self._start(role)

    @contextmanager
    def _progress(self, title: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, disable=self._args.json) as progress:
            yield progress, progress.add_task(title, total=total or None)

    # ---- what it found

    def _summary(
        self,
        inputs: list[_Input],
        jobs: list[CameraJob],
        results: list[JobResult],
        learn_seconds: float,
        warnings: list[str],
    ) -> dict[str, Any]:
        events = self._events(inputs)
        first = min((result.first_scored_ns for result in results if result.first_scored_ns), default=0)
        last = max(result.last_scored_ns for result in results)
        frames, seconds = sum(result.frames for result in results), (last - first) / 1e9
        return {
            "inputs": [
                _input_summary(path, result, job.scores, events.get(one.camera_id, []))
                for path, one, job, result in zip(self._args.inputs, inputs, jobs, results, strict=True)
            ],
            "frames": frames,
            "seconds": seconds,
            "fps": frames / seconds if seconds > 0 else 0.0,
            "learn_seconds": learn_seconds,
            "vad": self._args.vad,
            "warnings": warnings,
        }

    def _events(self, inputs: list[_Input]) -> dict[str, list[AnomalyEvent]]:
        """The events of this run as the database has them: what is not there is not reported."""
        engine = make_engine(self._config.database_url)
        found: dict[str, list[AnomalyEvent]] = {}
        for one in inputs:
            wanted = set(self._result_ids(one))
            deadline = time.monotonic() + 10
            while True:
                stored = iterate_events(engine, EventFilter(cameras=(one.camera_id,)))
                events = [one.event for one in stored if one.event.id in wanted]
                if len(events) == len(wanted) and all(event.ended_at for event in events):
                    break
                if time.monotonic() > deadline:
                    raise HaetaeError(
                        f"{len(wanted) - len(events)} events of {one.path.name} are not in the database",
                        f"they are safe in {self._config.journal_dir}; see {self._log('logger')}",
                    )
                time.sleep(0.1)
            found[one.camera_id] = sorted(events, key=lambda event: event.begin_s)
        engine.dispose()
        lines = EventLogger(self._config.data_dir / "events.jsonl")
        for event in (event for events in found.values() for event in events):
            lines.log_event(event)
        lines.close()
        return found

    def _result_ids(self, one: _Input) -> list[str]:
        path = self._config.run_dir / f"{one.camera_id}.json"
        return msgspec.json.decode(path.read_bytes(), type=JobResult).event_ids


class _Camera:
    """A camera process and the file it plays."""

    def __init__(self, one: _Input, process: "subprocess.Popen[bytes]") -> None:
        self.one = one
        self.process = process
        self.frames = 0
        self._camera_id = one.camera_id

    def begin(self, job: CameraJob) -> None:
        self._camera_id = job.camera.camera_id
        assert self.process.stdin
        try:
            self.process.stdin.write(msgspec.json.encode(job))
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it died: check() says of what

    def ended(self, config: Config) -> bool:
        beat = read_heartbeat(config.run_dir, f"camera-{self._camera_id}")
        if beat:
            self.frames = max(self.frames, beat.count)
        return self.process.poll() is not None

    def check(self, log: Path) -> None:
        """Raises HaetaeError with what the process said last, unless it ended well."""
        if self.process.returncode == 0:
            return
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("haetae: ")]
        reason = said[-1].removeprefix("haetae: ") if said else f"its process ended with {self.process.returncode}"
        raise HaetaeError(f"{self.one.path}: {reason}", f"see {log}")


def _spawn(role: str, config: Config, *, stdin: int, stderr: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", f"workers.{role}", "--parent", str(os.getpid())],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
        env=process_environment(config),
    )


def _end(process: "subprocess.Popen[bytes]", grace_s: float = 10.0) -> None:
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _input_summary(path: str, result: JobResult, scores: str, events: list[AnomalyEvent]) -> dict[str, Any]:
    seconds = (result.last_scored_ns - result.first_scored_ns) / 1e9
    return {
        "input": path,
        "frames": result.frames,
        "seconds": seconds,
        "fps": result.frames / seconds if seconds > 0 else 0.0,
        "scores": scores,
        "events": [
            {
                "id": event.id,
                "begin": event.begin_s,
                "end": event.end_s,
                "peak_score": event.peak_score,
                "peak_x": event.peak_x,
                "peak_y": event.peak_y,
                "severity": event.severity,
                "reason": event.reason,
                "provisional": event.provisional,
                "snapshot": event.snapshot,
            }
            for event in events
        ],
        "warnings": result.warnings,
    }


def _report(console: Console, summary: dict[str, Any], config: Config) -> None:
    for one in summary["inputs"]:
        console.print(f"[bold]{one['input']}[/]  {one['frames']} frames, {len(one['events'])} events", highlight=False)
        for event in one["events"]:
            console.print(
                f"  {event['begin']:8.2f} - {event['end']:.2f} s  score {event['peak_score']:.1f}  {event['severity']}"
                f"  {event['reason']}" + ("  [yellow](provisional)[/]" if event["provisional"] else ""),
                highlight=False,
            )
    for warning in summary["warnings"]:
        console.print(f"[yellow]{warning}[/]", highlight=False)
    console.print(f"{summary['frames']} frames, {summary['fps']:.0f} frames/s; results in {config.data_dir}")
