"""How well does each type of detection tell abnormal frames of UCSD Ped2 from normal ones, and how fast?

`python -m bench.vad --data PATH/TO/ped2 [--type TYPE ...] [--json] [--quick] [--first N] [--calibration] [--cameras]
[--flow cuda]`; without `--data`, $HAETAE_DATA/ped2. Everything goes through the VadModel protocol, as in the product.
Nothing is learned from the test clips, scores are neither rescaled per clip nor smoothed with what comes later, and all
frames of all clips are pooled into one curve; `auroc_literature` alone rescales each clip to 0..1 first, as many papers
do. Types that train are run with three seeds: the figures are means, `seeds` has each.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from bench.figures import spread
from bench.synthetic_anomalies import NO_ANOMALY, SKIPPED, make_cases
from core.config import TrackerConfig
from core.curves import auroc, causal_mean
from workers.inference.vad import OPENCV, VAD_TYPES, NormalityState, Row, VadModel, VadScore, create_model

__all__ = [
    "COLUMNS",
    "auroc",
    "causal_mean",
    "main",
    "measure",
    "measure_calibration",
    "measure_cameras",
    "measure_selection",
    "measure_type",
    "region_rates",
]

FPS = 10.0
POINTING_SLACK = 8
"""Pixels by which a peak may miss the mask: a cell of the location map."""


@dataclass(frozen=True)
class Clip:
    """A test clip's scores and truth, one row for each frame."""

    name: str
    scores: np.ndarray
    abnormal: np.ndarray
    hits: int
    pointed: int
    maps: np.ndarray
    """(frames, rows, columns) uint8."""
    masks: np.ndarray
    """(frames, h, w) 0 or 1."""


def decode(path: Path) -> Iterator[np.ndarray]:
    """The frames of a file as I420, (h * 3 // 2, w) uint8."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p")


def learn(model: VadModel, clips: Sequence[Path], armed_s: float = 120.0) -> tuple[NormalityState, float, float]:
    """The state from all clips, the seconds that taking them in took, and those that `fit` took."""
    began = time.perf_counter()
    learner = model.new_learner()
    for clip in clips:
        context = model.new_context()
        for index, pixels in enumerate(decode(clip)):
            height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
            row = Row(model.prepare(pixels, width, height), index / FPS, context, None, learner)
            (result,) = model.process([row])
            if isinstance(result, Exception):
                raise result
    taken_in = time.perf_counter()
    state = model.fit(learner, 1, armed_s)
    return state, taken_in - began, time.perf_counter() - taken_in


def score(model: VadModel, state: NormalityState, frames: Sequence[np.ndarray]) -> list[VadScore]:
    """A score per frame; the first frames, which have no history yet, get the first score there is."""
    context, found, missing = model.new_context(), [], 0
    for index, pixels in enumerate(frames):
        height, width = pixels.shape[0] * 2 // 3, pixels.shape[1]
        (result,) = model.process([Row(model.prepare(pixels, width, height), index / FPS, context, state)])
        if isinstance(result, Exception):
            raise result
        if result is None:
            missing += 1
        else:
            found += [result] * (missing + 1)
            missing = 0
    return found


def runs(high: np.ndarray) -> int:
    """How many times a (N,) bool curve rises."""
    return int(np.count_nonzero(np.diff(np.concatenate([[False], high]).astype(np.int8)) == 1))


def _truth(data: Path, name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = json.loads((data / "labels.json").read_text())["abnormal_intervals_zero_based_inclusive"]
    abnormal = np.zeros(n, bool)
    for first, last in labels[name]:
        abnormal[first : last + 1] = True
    with np.load(data / "masks.npz") as stored:
        shape = stored[f"{name}_shape"]
        masks = np.unpackbits(stored[name], axis=-1)[..., : shape[2]]
    return abnormal, masks


def _pointing(found: Sequence[VadScore], masks: np.ndarray) -> tuple[int, int]:
    """How many peaks lie within POINTING_SLACK of the mask, of how many frames that have one."""
    hits = frames = 0
    for result, mask in zip(found, masks, strict=False):
        if not mask.any():
            continue
        frames += 1
        height, width = mask.shape
        distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
        x, y = min(width - 1, int(result.peak_x * width)), min(height - 1, int(result.peak_y * height))
        hits += bool(distance[y, x] <= POINTING_SLACK)
    return hits, frames


LEVELS = np.arange(8, 256, 8)
"""Thresholds over the location map that region_rates looks at."""
OVERLAP, SHARE_OF_TRACK = 0.1, 0.1
LEAST_REGION = 20
"""Pixels of a true region: less is the rim of a mask."""


def region_rates(clips: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """RBDC and TBDC of Ramachandra and Jones, "Street Scene" (WACV 2020), from each clip's maps and masks.

    A region of a mask is found where the box of a region of the map overlaps its box by a tenth (intersection over
    union); a track where a tenth of its regions is. Both are areas under the rate over false regions a frame, up to
    one. Tracks are regions that overlap from frame to frame, since the masks tell no objects apart.
    """
    regions = tracks = frames = 0
    found_regions, false_regions, found_tracks = (np.zeros(len(LEVELS)) for _ in range(3))
    for maps, masks in clips:
        frames += len(maps)
        height, width = masks.shape[1:]
        to_pixels = np.array([width / maps.shape[2], height / maps.shape[1]] * 2)
        of_track: dict[int, list[np.ndarray]] = {}
        before: list[tuple[int, np.ndarray]] = []
        for shown, mask in zip(maps, masks, strict=False):
            truth = _boxes(mask, LEAST_REGION)
            hits = np.zeros((len(truth), len(LEVELS)), bool)
            for number, level in enumerate(LEVELS):
                seen = _boxes((shown >= level).astype(np.uint8), 1) * to_pixels
                overlap = _overlaps(truth, seen)
                hits[:, number] = (overlap >= OVERLAP).any(axis=1)
                false_regions[number] += int((~(overlap >= OVERLAP).any(axis=0)).sum())
            now: list[tuple[int, np.ndarray]] = []
            for box, hit in zip(truth, hits, strict=True):
                near = [(float(_overlaps(box[None], old[None])[0, 0]), track) for track, old in before]
                best, track = max(near, default=(0.0, -1))
                track = track if best >= OVERLAP else len(of_track)
                of_track.setdefault(track, []).append(hit)
                now.append((track, box))
            before = now
            regions += len(truth)
            found_regions += hits.sum(axis=0)
        tracks += len(of_track)
        found_tracks += sum(np.mean(hits, axis=0) >= SHARE_OF_TRACK for hits in of_track.values())
    rate = false_regions / max(1, frames)
    return _area(rate, found_regions / max(1, regions)), _area(rate, found_tracks / max(1, tracks))


def _boxes(mask: np.ndarray, least: int) -> np.ndarray:
    """(N, 4) x0, y0, x1, y1 of the connected regions of a 0/1 mask that have so many pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask, np.uint8))
    stats = stats[1:][stats[1:, 4] >= least].astype(np.float64)
    return np.concatenate([stats[:, :2], stats[:, :2] + stats[:, 2:4]], axis=1)


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a), len(b)) intersection over union of boxes."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    sizes = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / np.maximum(sizes[0][:, None] + sizes[1][None] - shared, 1e-9)


def _area(false_rate: np.ndarray, rate: np.ndarray) -> float:
    """Under `rate` over `false_rate` from 0 to 1; the last of it goes on where it ends before."""
    order = np.lexsort((rate, false_rate))
    x, y = np.concatenate([[0.0], false_rate[order]]), np.concatenate([[0.0], np.maximum.accumulate(rate[order])])
    at = np.linspace(0.0, 1.0, 1001)
    return float(np.trapezoid(np.interp(at, x, y), at))


SEEDS = 3


def measure_type(
    data: Path,
    vad_type: str,
    *,
    quick: bool = False,
    first: int | None = None,
    seeds: int = SEEDS,
    steps: int | None = None,
    flow: str = OPENCV,
) -> dict[str, Any]:
    """The figures of one type; means over `seeds` where chance is in it (a single, short training where `quick`)."""
    model = create_model(vad_type, 1, flow=flow)
    if not model.trains:
        return measure(data, model, quick=quick, first=first)
    made: list[dict[str, Any]] = []
    for seed in range(1 if quick else seeds):
        model = create_model(vad_type, 1, steps=60 if quick else steps, seed=seed, flow=flow)
        made.append(measure(data, model, quick=quick, first=first))
    if len(made) == 1:
        return made[0]
    means = {
        name: round(float(np.mean([one[name] for one in made])), 4)
        for name, value in made[0].items()
        if isinstance(value, float)
    }
    each = [{name: one[name] for name in ("auroc_micro", "auroc_micro_causal", "pointing_game")} for one in made]
    return made[0] | means | {"seeds": each}


def measure(
    data: Path, model: VadModel | None = None, *, quick: bool = False, first: int | None = None
) -> dict[str, Any]:
    """All figures of a model (default: motion_stats); `quick` learns from 4 clips and scores 3, `first` learns from
    so many clips only.
    """
    cv2.setNumThreads(1)
    model = model or create_model("motion_stats", 1)
    training, testing = sorted((data / "train").glob("*.mp4")), sorted((data / "test").glob("*.mp4"))
    if not training or not testing:
        raise FileNotFoundError(f"no train/*.mp4 and test/*.mp4 in {data}")
    if quick:
        training, testing = training[::4], testing[:3]
    training = training[:first]
    state, learn_s, fit_s = learn(model, training)
    clips: list[Clip] = []
    scored_s = cpu_s = 0.0
    flow_s: list[float] = []
    for path in testing:
        frames = list(decode(path))
        flow_s += _flow_costs_s(frames)
        began, cpu = time.perf_counter(), time.process_time()
        found = score(model, state, frames)
        scored_s, cpu_s = scored_s + time.perf_counter() - began, cpu_s + time.process_time() - cpu
        abnormal, masks = _truth(data, path.stem, len(frames))
        scores, maps = np.array([s.score for s in found]), np.stack([s.map for s in found])
        clips.append(Clip(path.stem, scores, abnormal, *_pointing(found, masks), maps, masks))
    return _report(clips, state) | {
        "device": model.device,
        "params": model.parameters,
        "learned_s": round(state.learned_s, 1),
        "learn_s": round(learn_s, 2),
        "fit_s": round(fit_s, 3),
        "fps": round(sum(len(c.scores) for c in clips) / scored_s, 1),
        "cpu_ms_per_frame": round(1000 * cpu_s / sum(len(c.scores) for c in clips), 3),
        "cpu_over_flow": round(cpu_s / sum(len(c.scores) for c in clips) / float(np.mean(flow_s)), 3),
    }


FLOW_STEP, FLOW_EVERY = 3, 10


def _flow_costs_s(frames: Sequence[np.ndarray]) -> list[float]:
    """CPU seconds of bare DIS flow, preset FAST, over a baseline as motion_stats has it: what its own cost is held
    against, since machines differ threefold in it.
    """
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    height = len(frames[0]) * 2 // 3
    no_guess: Any = None
    costs: list[float] = []
    for index in range(0, len(frames) - FLOW_STEP, FLOW_EVERY):
        began = time.process_time()
        engine.calc(frames[index][:height], frames[index + FLOW_STEP][:height], no_guess)
        costs.append(time.process_time() - began)
    return costs


CAMERAS = (1, 2, 4, 8, 16)
CAMERA_FRAMES, CAMERA_ROUNDS = 240, 5
CAMERA_WARM = 12
"""Batches before the clock starts."""


def measure_cameras(data: Path, vad_type: str, *, quick: bool = False, flow: str = OPENCV) -> dict[str, Any]:
    """Frames a second of this machine's cores together, by how many cameras send a frame in each batch.

    The clips move in every frame. Rounds of one camera and of many take turns; ratios are of neighbours.
    """
    cv2.setNumThreads(1)
    cores = len(os.sched_getaffinity(0))
    model = create_model(vad_type, cores, steps=60 if quick else None, flow=flow)
    training, testing = sorted((data / "train").glob("*.mp4")), sorted((data / "test").glob("*.mp4"))
    if not training or not testing:
        raise FileNotFoundError(f"no train/*.mp4 and test/*.mp4 in {data}")
    state, _, _ = learn(model, training[:4] if quick else training)
    clips = [list(decode(path)) for path in testing[: 2 if quick else None]]
    found: dict[int, list[float]] = {cameras: [] for cameras in CAMERAS}
    with ThreadPoolExecutor(cores) as executor:
        for _ in range(1 if quick else CAMERA_ROUNDS):
            for cameras, costs in found.items():
                played = [clips[number % len(clips)] for number in range(cameras)]
                steps = max(2, CAMERA_FRAMES // cameras)
                costs.append(_batch_cost_s(model, state, played, steps, executor) / (cameras * steps))
    figures: dict[str, Any] = {"type": vad_type, "device": model.device, "cores": cores}
    for cameras, costs in found.items():
        figures[f"cameras_{cameras}"] = {
            "fps": round(1.0 / float(np.median(costs)), 1),
            **spread("cost_over_one_camera", [many / one for many, one in zip(costs, found[1], strict=True)]),
        }
    return figures


def _batch_cost_s(
    model: VadModel, state: NormalityState, played: Sequence[list[np.ndarray]], steps: int, executor: Executor
) -> float:
    """Seconds for so many batches of a frame of each camera, once each has a history."""
    contexts = [model.new_context() for _ in played]

    def batch(step: int) -> None:
        frames = [clip[step % len(clip)] for clip in played]
        prepared = executor.map(lambda one: model.prepare(one, one.shape[1], one.shape[0] * 2 // 3), frames)
        rows = [Row(one, step / FPS, context, state) for one, context in zip(prepared, contexts, strict=True)]
        for result in model.process(rows, executor):
            if isinstance(result, Exception):
                raise result

    for step in range(CAMERA_WARM):
        batch(step)
    began = time.perf_counter()
    for step in range(CAMERA_WARM, CAMERA_WARM + steps):
        batch(step)
    return time.perf_counter() - began


def measure_calibration(data: Path, vad_type: str = "motion_stats") -> dict[str, Any]:
    """Of normal clips never learned from, how many frames reach a level, against the share it stands for.

    Learned from the first half of the training clips, or from the first clip alone; no test clip is touched.
    """
    cv2.setNumThreads(1)
    model = create_model(vad_type, 1)
    training = sorted((data / "train").glob("*.mp4"))
    if not training:
        raise FileNotFoundError(f"no train/*.mp4 in {data}")
    half = len(training) // 2
    figures: dict[str, Any] = {}
    for name, clips in (("half", training[:half]), ("one_clip", training[:1])):
        state, _, _ = learn(model, clips)
        found = [score(model, state, list(decode(path))) for path in training[half:]]
        raw = np.concatenate([[s.score for s in clip] for clip in found])
        smooth = np.concatenate([causal_mean(np.array([s.score for s in clip])) for clip in found])
        figures[name] = {"learned_s": round(state.learned_s, 1), "frames": len(raw)}
        for level in (1.0, 2.0, 3.0):
            figures[name][f"raw_over_{level:g}"] = round(float((raw >= level).mean()), 4)
            figures[name][f"smoothed_over_{level:g}"] = round(float((smooth >= level).mean()), 4)
    return {"type": vad_type, "calibration": figures}


def _report(clips: Sequence[Clip], state: NormalityState) -> dict[str, Any]:
    raw = np.concatenate([clip.scores for clip in clips])
    smooth = np.concatenate([causal_mean(clip.scores) for clip in clips])
    truth = np.concatenate([clip.abnormal for clip in clips])
    threshold = TrackerConfig().open_score
    areas = [auroc(causal_mean(clip.scores), clip.abnormal) for clip in clips]
    stretched = [(c.scores - c.scores.min()) / max(1e-9, float(np.ptp(c.scores))) for c in clips]
    reached = sum(bool((causal_mean(c.scores)[c.abnormal] >= threshold).any()) for c in clips)
    rbdc, tbdc = region_rates([(clip.maps, clip.masks) for clip in clips])
    return {
        "type": state.vad_type,
        "auroc_macro": round(float(np.nanmean(areas)), 4),
        "auroc_literature": round(auroc(np.concatenate(stretched), truth), 4),
        "event_recall": round(reached / len(clips), 4),
        "rbdc": round(rbdc, 4),
        "tbdc": round(tbdc, 4),
        "phase": state.phase,
        "clips": len(clips),
        "frames": len(raw),
        "normal_frames": int((~truth).sum()),
        "auroc_micro": round(auroc(raw, truth), 4),
        "auroc_micro_causal": round(auroc(smooth, truth), 4),
        "pointing_game": round(sum(c.hits for c in clips) / max(1, sum(c.pointed for c in clips)), 4),
        "pointing_frames": sum(c.pointed for c in clips),
        "threshold": threshold,
        "true_positive_rate": round(float((smooth[truth] >= threshold).mean()), 4),
        "false_positive_rate": round(float((smooth[~truth] >= threshold).mean()), 4),
        "clips_reached": reached,
        "false_runs": sum(runs((causal_mean(c.scores) >= threshold) & ~c.abnormal) for c in clips),
        "per_clip": {c.name: _per_clip(c, threshold) for c in clips},
    }


def _per_clip(clip: Clip, threshold: float) -> dict[str, float | None]:
    """`auroc` is None for a clip that is abnormal from beginning to end."""
    area, high = auroc(clip.scores, clip.abnormal), causal_mean(clip.scores) >= threshold
    return {
        "auroc": None if np.isnan(area) else round(area, 4),
        "abnormal_over_threshold": round(float(high[clip.abnormal].mean()), 3),
        "normal_over_threshold": round(float(high[~clip.abnormal].mean()), 3) if (~clip.abnormal).any() else None,
        "median_normal": round(float(np.median(clip.scores[~clip.abnormal])), 2) if (~clip.abnormal).any() else None,
        "median_abnormal": round(float(np.median(clip.scores[clip.abnormal])), 2),
    }


def measure_selection(data: Path, vad_type: str, *, per_kind: int = 15, flow: str = OPENCV) -> dict[str, Any]:
    """AUROC per kind of synthetic anomaly, to choose between variants: every fourth training clip has things done to
    it, the others are learned from; no test clip is touched.
    """
    cv2.setNumThreads(1)
    training = sorted((data / "train").glob("*.mp4"))
    if len(training) < 4:
        raise FileNotFoundError(f"fewer than four train/*.mp4 in {data}")
    held = [np.stack([frame[: len(frame) * 2 // 3] for frame in decode(path)]) for path in training[3::4]]
    still = np.median(np.concatenate(held)[::5], axis=0).astype(np.uint8)
    model = create_model(vad_type, 1, flow=flow)
    state, _, _ = learn(model, [path for index, path in enumerate(training) if index % 4 != 3])
    found: dict[str, dict[bool, list[float]]] = {}
    for kind, pairs in groupby(make_cases(held, still, per_kind=per_kind), lambda case: case.of):
        for case in pairs:
            grey = np.full((case.frames.shape[1] // 2, case.frames.shape[2]), 128, np.uint8)
            scores = [one.score for one in score(model, state, [np.vstack([frame, grey]) for frame in case.frames])]
            found.setdefault(kind, {False: [], True: []})[case.changed] += scores[SKIPPED:]
    areas = {
        kind: round(auroc(np.array(of[False] + of[True]), np.arange(len(of[False] + of[True])) >= len(of[False])), 4)
        for kind, of in found.items()
    }
    told = [area for kind, area in areas.items() if kind != NO_ANOMALY]
    return {"type": vad_type, "select": areas, "mean": round(float(np.mean(told)), 4)}


COLUMNS = (
    "type",
    "auroc_micro",
    "auroc_micro_causal",
    "auroc_macro",
    "auroc_literature",
    "event_recall",
    "pointing_game",
    "rbdc",
    "tbdc",
    "false_positive_rate",
    "learn_s",
    "fit_s",
    "fps",
    "params",
    "device",
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.vad", description=__doc__)
    home = os.environ.get("HAETAE_DATA")
    default = Path(home) / "ped2" if home else None
    parser.add_argument("--data", type=Path, default=default, required=default is None, help="PATH/TO/ped2")
    parser.add_argument("--type", action="append", choices=VAD_TYPES, help="only this type; may be repeated")
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="4 training and 3 test clips: no figure to quote")
    parser.add_argument("--first", type=int, metavar="N", help="learn from the first N training clips only")
    parser.add_argument("--steps", type=int, help="of training: no time limit then, for a machine that is busy")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="trainings of a type that trains")
    parser.add_argument("--calibration", action="store_true", help="only: do the levels of a type mean what they say?")
    parser.add_argument("--cameras", action="store_true", help="only: frames a second by how many cameras there are")
    parser.add_argument("--select", action="store_true", help="only: synthetic anomalies of training clips")
    parser.add_argument("--flow", default=OPENCV, help="by torch on this device, instead of OpenCV: cuda, or cpu")
    options = parser.parse_args(argv)
    try:
        if options.select:
            print(
                json.dumps(
                    [measure_selection(options.data, name, flow=options.flow) for name in options.type or VAD_TYPES]
                )
            )
            return 0
        if options.cameras:
            names = options.type or ["motion_stats", "motion_objects"]
            print(
                json.dumps(
                    [measure_cameras(options.data, name, quick=options.quick, flow=options.flow) for name in names]
                )
            )
            return 0
        if options.calibration:
            for name in options.type or ["motion_stats"]:
                print(json.dumps(measure_calibration(options.data, name)))
            return 0
        figures = [
            measure_type(
                options.data,
                name,
                quick=options.quick,
                first=options.first,
                seeds=options.seeds,
                steps=options.steps,
                flow=options.flow,
            )
            for name in options.type or VAD_TYPES
        ]
    except FileNotFoundError as error:
        print(f"bench.vad: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
        return 0
    table = [COLUMNS, *([str(one[name]) for name in COLUMNS] for one in figures)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for one in figures:
        print(f"\n{one['type']}")
        for clip, details in one["per_clip"].items():
            print(f"  {clip}  " + "  ".join(f"{key} {number}" for key, number in details.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
