"""`haetae evaluate`: how well a type of detection tells what is labelled in a folder of videos."""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from core.config import Config
from core.curves import auroc, causal_mean
from core.errors import ConfigError
from core.events import AnomalyEvent, EventState
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, NodeId
from workers.commands.camera import configure
from workers.commands.charts import score_chart
from workers.commands.fit import progress_bar
from workers.commands.footage import Clip, learn_from, probe_clips, score_clip
from workers.inference.vad import create_configured

__all__ = ["Labels", "add_parser", "read_labels"]

VIDEOS = {".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".ts"}
FORMAT = (
    'labels.json holds {"abnormal_s": {"NAME": [[begin, end], ...]}} in seconds, or "abnormal_intervals_zero_based_'
    'inclusive" in frames; NAME is a file of test/ without its ending, [] is a file in which all is normal'
)
Span = tuple[float, float]


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What labels.json says; other keys are left alone."""

    abnormal_s: dict[str, list[Span]] | None = None
    abnormal_intervals_zero_based_inclusive: dict[str, list[tuple[int, int]]] | None = None


class _Result(NamedTuple):
    clip: Clip
    times: np.ndarray
    scores: np.ndarray
    abnormal: np.ndarray
    events: list[AnomalyEvent]
    spans: list[Span]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="measure detection on a labelled folder",
        description="Learns from DIR/train, in which all is normal, scores DIR/test as it comes, and compares with "
        f"DIR/labels.json. {FORMAT}.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--vad", default="motion_stats", metavar="TYPE", help="type of anomaly detection")
    parser.add_argument("--report", type=Path, metavar="FILE.png", help="a chart of the scores of both kinds of frames")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_run)


def read_labels(folder: Path, clips: Sequence[Clip]) -> dict[str, list[Span]]:
    """Spans of seconds for each clip, by its stem; raises ConfigError that says what is wrong, and where."""
    file = folder / "labels.json"
    try:
        labels = msgspec.json.decode(file.read_bytes(), type=Labels)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {file}", FORMAT) from error
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{file}: {error}", FORMAT) from error
    in_frames = labels.abnormal_intervals_zero_based_inclusive
    if (labels.abnormal_s is None) == (in_frames is None):
        raise ConfigError(f"{file} has none, or both, of the two kinds of labels", FORMAT)
    told: dict[str, list[Any]] = dict(labels.abnormal_s or in_frames or {})
    found: dict[str, list[Span]] = {}
    for clip in clips:
        stem = Path(clip.path).stem
        if stem not in told:
            raise ConfigError(f"{file} says nothing of {stem}", "[] stands for a file in which all is normal")
        for begin, end in told[stem]:
            if not 0 <= begin <= end:
                raise ConfigError(f"{file}: {stem} has the interval {begin} to {end}", "0 <= begin <= end")
            if in_frames is not None and clip.frames and end >= clip.frames:
                raise ConfigError(f"{file}: {stem} has {clip.frames} frames, and an interval to {end}", FORMAT)
        spans = told.pop(stem)
        found[stem] = [(b / clip.fps, (e + 1) / clip.fps) if in_frames is not None else (b, e) for b, e in spans]
    if told:
        raise ConfigError(f"{file} tells of {', '.join(sorted(told)[:5])}, not in {folder / 'test'}", FORMAT)
    return found


def _videos(folder: Path, name: str) -> list[str]:
    found = sorted(str(path) for path in (folder / name).glob("*") if path.suffix.lower() in VIDEOS)
    if not found:
        raise ConfigError(
            f"there are no videos in {folder / name}", "train/ holds normal footage, test/ what labels.json is about"
        )
    return found


def _run(args: argparse.Namespace) -> int:
    config = configure(args)
    if not args.folder.is_dir():
        raise ConfigError(f"{args.folder} is no folder", "it holds train/, test/ and labels.json")
    training = probe_clips(_videos(args.folder, "train"), config)
    testing = probe_clips(_videos(args.folder, "test"), config)
    if (testing[0].width, testing[0].height) != (training[0].width, training[0].height):
        raise ConfigError("train/ and test/ have different sizes", "both come from one camera")
    labels = read_labels(args.folder, testing)
    model = create_configured(config.inference, args.vad, config.inference.threads or 1)
    try:
        learner = model.new_learner()
        with progress_bar("learning", sum(clip.frames or 0 for clip in training) or None, quiet=args.json) as progress:
            for clip in training:
                learn_from(model, learner, clip, progress=progress)
        with progress_bar("fitting", None, quiet=args.json):
            state = model.fit(learner, 1, config.vad.armed_s)
        results: list[_Result] = []
        with progress_bar("scoring", sum(clip.frames or 0 for clip in testing) or None, quiet=args.json) as progress:
            for clip in testing:
                spans = labels[Path(clip.path).stem]
                found = list(score_clip(model, state, clip, progress=progress))
                times = np.array([at_s for at_s, _ in found])
                abnormal = np.zeros(len(times), bool)
                for begin, end in spans:
                    abnormal |= (times >= begin - 1e-6) & (times < end - 1e-6)
                scores = np.array([one.score for _, one in found])
                results.append(_Result(clip, times, scores, abnormal, _events(config, args.vad, clip, found), spans))
    finally:
        model.close()
    told = _summary(args, state.learned_s, results)
    if args.report:
        _chart(args.report, args, config, results)
    _tell(args, told, results)
    return 0


def _events(config: Config, vad_type: str, clip: Clip, found: list[Any]) -> list[AnomalyEvent]:
    tracker = EventTracker(
        config.tracker,
        camera_id=CameraId("evaluate"),
        node_id=NodeId(config.node_id),
        vad_type=vad_type,
        frame_width=clip.width,
        frame_height=clip.height,
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    events: list[AnomalyEvent] = []
    for at_s, one in found:
        at = start + timedelta(seconds=at_s)
        seen = Observation(
            media_s=at_s, at=at, score=one.score, peak_x=one.peak_x * clip.width, peak_y=one.peak_y * clip.height
        )
        events += tracker.observe(seen)
    return [event for event in (*events, *tracker.finish()) if event.state is EventState.CLOSED]


def _summary(args: argparse.Namespace, learned_s: float, results: list[_Result]) -> dict[str, Any]:
    raw = np.concatenate([one.scores for one in results])
    smooth = np.concatenate([causal_mean(one.scores) for one in results])
    truth = np.concatenate([one.abnormal for one in results])
    inside = np.concatenate([_inside(one) for one in results])
    spans = [(one, span) for one in results for span in one.spans]
    reached = sum(any(_meet(event, span) for event in one.events) for one, span in spans)
    false = sum(not any(_meet(event, span) for span in one.spans) for one in results for event in one.events)
    normal_h = float((~truth).sum()) / max(1e-9, len(truth)) * sum(_length_s(one) for one in results) / 3600
    return {
        "vad_type": args.vad,
        "learned_s": round(learned_s, 1),
        "clips": len(results),
        "frames": len(raw),
        "abnormal_frames": int(truth.sum()),
        "auroc_micro": _rounded(auroc(raw, truth)),
        "auroc_micro_causal": _rounded(auroc(smooth, truth)),
        "intervals": len(spans),
        "intervals_with_an_event": reached,
        "event_recall": round(reached / len(spans), 4) if spans else None,
        "normal_frames_in_events": round(float(inside[~truth].mean()), 4) if (~truth).any() else None,
        "false_events": false,
        "normal_hours": round(normal_h, 4),
    }


def _rounded(area: float) -> float | None:
    return None if np.isnan(area) else round(area, 4)


def _meet(event: AnomalyEvent, span: Span) -> bool:
    return event.begin_s <= span[1] and event.end_s >= span[0]


def _inside(one: _Result) -> np.ndarray:
    found = np.zeros(len(one.times), bool)
    for event in one.events:
        found |= (one.times >= event.begin_s) & (one.times <= event.end_s)
    return found


def _length_s(one: _Result) -> float:
    return float(one.times[-1]) if len(one.times) else 0.0


def _chart(path: Path, args: argparse.Namespace, config: Config, results: list[_Result]) -> None:
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path} is no PNG", "name a file that ends in .png")
    smooth = np.concatenate([causal_mean(one.scores) for one in results])
    truth = np.concatenate([one.abnormal for one in results])
    parts = {"ordinary": smooth[~truth], "abnormal": smooth[truth]}
    score_chart(path, f"{args.folder.name}, {args.vad}", parts, config.tracker.open_score, ["smoothed scores"])


def _tell(args: argparse.Namespace, told: dict[str, Any], results: list[_Result]) -> None:
    each = [
        {
            "clip": Path(one.clip.path).stem,
            "auroc": _rounded(auroc(causal_mean(one.scores), one.abnormal)),
            "intervals": len(one.spans),
            "found": sum(any(_meet(event, span) for event in one.events) for span in one.spans),
            "events": len(one.events),
        }
        for one in results
    ]
    if args.json:
        print(json.dumps(told | {"per_clip": each}))
        return
    table = Table(*each[0])
    for row in each:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    Console().print(table)
    for name, value in told.items():
        print(f"{name:26} {'-' if value is None else value}")
