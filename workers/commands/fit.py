"""`haetae fit`: has a camera learn from files, or a running one learn anew, and says what became of it."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from core.cameras import CameraConfig, Light, normality_id
from core.cameras.history import NormalityVersion
from core.cameras.live import read_live
from core.config import Config, TrackerConfig
from core.curves import causal_mean
from core.db import make_engine, upgrade
from core.db.cameras import get_camera, update_camera
from core.db.history import upsert_versions
from core.errors import ConfigError, HaetaeError
from core.events.promise import EventLadder, Promise, promise_of
from core.ids import NodeId, check_camera_id
from core.wire.messages import ApplyCameras, ForgetState, GetState, UseVersion
from workers.camera.promise import Kept
from workers.commands.camera import ask_inference, ask_manager, configure, parse_duration
from workers.commands.charts import score_chart
from workers.commands.footage import Clip, learn_from, probe_clips, score_clip
from workers.inference.states import Normality
from workers.inference.vad import create_configured

__all__ = ["add_parser", "progress_bar"]

FILES_HELP = "what the files show: night is infra-red (day)"
JUDGED_SHARE = 0.2
"""The end of each file is not learned from: what was learned is judged by it."""
ASK_S = 1.0


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="have a camera learn from files, or anew",
        description="With files: learns from the first four fifths of each, in which all must be normal, judges that "
        "by the last fifth, and has the camera use it. Without: a running camera learns anew from what it sees, and "
        "what it knew of the other light is put aside too.",
    )
    parser.add_argument("name", help="the camera")
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="files of this camera in which all is normal")
    parser.add_argument("--light", type=Light, choices=list(Light), help=FILES_HELP)
    parser.add_argument("--for", dest="learn", metavar="TIME", help="without files: how long it learns, such as 10m")
    parser.add_argument("--report", type=Path, metavar="FILE.png", help="a chart of scores and threshold")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = configure(args)
    upgrade(config.database_url)
    if args.report and args.report.suffix.lower() != ".png":
        raise ConfigError(f"{args.report} is no PNG", "name a file that ends in .png")
    engine = make_engine(config.database_url)
    camera = get_camera(engine, check_camera_id(args.name))
    engine.dispose()
    if args.videos and args.learn:
        raise ConfigError("--for is for a running camera", "leave it out, or leave the files out")
    if args.light and not args.videos:
        raise ConfigError("--light is for files", "a running camera learns of the light that it sees in")
    return _from_files(args, config, camera) if args.videos else _from_camera(args, config, camera)


@contextmanager
def progress_bar(title: str, total: int | None, *, quiet: bool) -> Iterator[Any]:
    """Gives a function that is told how many more are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, advance=done)


# ---- from files


def _from_files(args: argparse.Namespace, config: Config, camera: CameraConfig) -> int:
    clips = probe_clips(args.videos, config)
    total = sum(clip.frames or 0 for clip in clips) or None
    model = create_configured(config.inference, camera.vad_type, config.inference.threads or 1)
    try:
        learner = model.new_learner()
        with progress_bar("learning", total, quiet=args.json) as progress:
            for clip in clips:
                learn_from(model, learner, clip, until_s=_judged_from_s(clip), progress=progress)
        with progress_bar("fitting", None, quiet=args.json):
            state = model.fit(learner, 1, config.vad.armed_s)
        scores: list[np.ndarray] = []
        ladder = EventLadder(config.tracker)
        with progress_bar("judging", total, quiet=args.json) as progress:
            for clip in clips:
                found = list(score_clip(model, state, clip, from_s=_judged_from_s(clip) or 0.0, progress=progress))
                if found:
                    scores.append(np.array([one.score for _, one in found]))
                    ladder.pause()
                    for (at_s, one), smooth in zip(found, causal_mean(scores[-1]), strict=True):
                        ladder.observe(
                            at_s, float(smooth), one.score, one.peak_x * clip.width / clip.height, one.peak_y
                        )
        light = args.light or Light.DAY
        state_id = normality_id(camera.camera_id, light)
        normality = Normality(model, config.states_dir / model.name / state_id, config.vad.armed_s)
        normality.adopt(state)
    finally:
        model.close()
    version = normality.version
    _record(config, camera, light, normality)
    used = ask_inference(config, UseVersion(vad_type=camera.vad_type, normality_id=state_id, version=version))
    judged = np.concatenate(scores) if scores else np.zeros(0)
    tracker = config.tracker
    promise = promise_of(ladder.evidence, tracker.false_events_per_day, tracker.open_score)
    told = {
        "camera": camera.camera_id,
        "vad_type": camera.vad_type,
        "light": light,
        "version": version,
        "state": state.phase,
        "learned_s": round(state.learned_s, 1),
        "frames": state.frames,
        "judged_frames": len(judged),
        "over_1": round(float((judged >= 1).mean()), 4) if len(judged) else None,
        "over_2": round(float((judged >= 2).mean()), 4) if len(judged) else None,
        "threshold": promise.open_score,
        "promise": promise.stage,
        "in_use": used is not None,
    }
    _tell(args, told, promise)
    if args.report:
        lines = [f"{camera.vad_type}, version {version}: {state.learned_s:.0f} s learned, {len(judged)} frames judged"]
        score_chart(args.report, camera.camera_id, {"ordinary": judged}, promise.open_score, lines)
    return 0


def _judged_from_s(clip: Clip) -> float | None:
    return clip.frames / clip.fps * (1 - JUDGED_SHARE) if clip.frames and clip.fps else None


def _record(config: Config, camera: CameraConfig, light: Light, normality: Normality) -> None:
    state, file = normality.state, normality.file
    assert state
    assert file
    sha256, made_at = normality.hashed(file)
    made = NormalityVersion(
        camera_id=camera.camera_id,
        vad_type=camera.vad_type,
        version=state.version,
        node_id=NodeId(config.node_id),
        created_at=made_at,
        learned_s=state.learned_s,
        frames=state.frames,
        reason="fitted from files",
        file=str(file.relative_to(config.states_dir)),
        sha256=sha256,
        light=light,
    )
    engine = make_engine(config.database_url, writer=True)
    with engine.begin() as connection:
        upsert_versions(connection, [made])
    engine.dispose()


def _tell(args: argparse.Namespace, told: dict[str, Any], promise: Promise) -> None:
    if args.json:
        print(json.dumps(told | {"report": str(args.report) if args.report else None}))
        return
    print(
        f"{told['camera']} learned from {told['learned_s']:.0f} s, {told['frames']} frames: "
        f"version {told['version']} of {told['vad_type']}, {told['state']}"
    )
    if told["judged_frames"]:
        print(
            f"of {told['judged_frames']} ordinary frames that it did not learn from, {told['over_1']:.1%} are over 1 "
            f"(10 % should be), {told['over_2']:.1%} over 2 (1 %)"
        )
    else:
        print("nothing was left to judge it by: the files do not say how long they are, or are very short")
    if promise.stage == "learning":
        print(f"too little to promise a number of false events: the threshold stays at {promise.open_score:.2f}")
    else:
        print(f"threshold {promise.open_score:.2f}: {promise.expected_per_day:.1f} false events a day to be expected")
    print("it judges by that from now on" if told["in_use"] else "it judges by that when Haetae runs: haetae up")
    if args.report:
        print(f"chart: {args.report}")


# ---- from a running camera


def _from_camera(args: argparse.Namespace, config: Config, camera: CameraConfig) -> int:
    live = read_live(config.run_dir, camera.camera_id)
    light = Light.NIGHT if live and live.night else Light.DAY
    state_id = normality_id(camera.camera_id, light)
    asked = GetState(vad_type=camera.vad_type, normality_id=state_id)
    before = ask_inference(config, asked)
    if before is None or ask_manager(config, ApplyCameras()) is None:
        raise HaetaeError("Haetae is not running here", "haetae up starts it; or name files to learn from")
    if not camera.enabled:
        raise ConfigError(f"{args.name} does not run", f"haetae camera start {args.name}")
    seconds = parse_duration(args.learn) if args.learn else camera.learn_s
    if seconds != camera.learn_s:
        engine = make_engine(config.database_url, writer=True)
        update_camera(engine, msgspec.structs.replace(camera, learn_s=seconds))
        engine.dispose()
        ask_manager(config, ApplyCameras())
    for each in Light:
        told = ForgetState(vad_type=camera.vad_type, normality_id=normality_id(camera.camera_id, each))
        ask_inference(config, told)
    last, heard_s, done = 0.0, time.monotonic(), before
    with progress_bar("learning", round(seconds), quiet=args.json) as progress:
        while True:
            time.sleep(ASK_S)
            found = ask_inference(config, asked)
            if found is None:
                raise HaetaeError("inference does not answer any more", "see its log; the camera learns on by itself")
            if found.state_version > 0:
                done = found
                break
            if found.learned_s > last:
                progress(min(found.learned_s, seconds) - last)
                last, heard_s = min(found.learned_s, seconds), time.monotonic()
            elif time.monotonic() - heard_s > 60:
                raise HaetaeError(
                    f"{args.name} has learned nothing for a minute",
                    "haetae camera list says what is wrong with it; it learns on by itself",
                )
    told = {
        "camera": camera.camera_id,
        "vad_type": camera.vad_type,
        "light": light,
        "version": done.state_version,
        "state": done.state,
        "learned_s": round(done.learned_s, 1),
        "frames": done.frames,
    }
    if args.json:
        print(json.dumps(told))
    else:
        print(f"{args.name} learned from {done.learned_s:.0f} s, {done.frames} frames: version {done.state_version}")
    if args.report:
        _chart_of_watching(args.report, config, state_id)
    return 0


def _chart_of_watching(path: Path, config: Config, state_id: str) -> None:
    """What it has watched since; of a camera that has only just learned that is little."""
    tracker: TrackerConfig = config.tracker
    try:
        kept = msgspec.json.decode((config.data_dir / "promises" / f"{state_id}.json").read_bytes(), type=Kept)
        seconds, threshold = np.array(kept.evidence.histogram), kept.promise.open_score
    except (OSError, msgspec.DecodeError):
        seconds, threshold = np.zeros(0), tracker.open_score
    levels = np.repeat((np.arange(len(seconds)) + 0.5) * 0.25, np.round(seconds * 10).astype(int))
    score_chart(
        path,
        state_id,
        {"ordinary": levels},
        threshold,
        ["smoothed scores since it learned, tenths of a second"],
    )
