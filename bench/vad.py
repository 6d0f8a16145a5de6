"""How well does motion_stats tell abnormal frames of UCSD Ped2 from normal ones, and how fast?

`python -m bench.vad --data PATH/TO/ped2 [--json] [--quick] [--first N] [--calibration]`. Everything goes through
the VadModel protocol, as in the product. Nothing is learned from the test clips, scores are neither rescaled per clip
nor smoothed with what comes later, and all frames of all clips are pooled into one curve.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from core.config import TrackerConfig
from workers.inference.vad import NormalityState, Row, VadModel, VadScore, create_model

__all__ = ["auroc", "causal_mean", "main", "measure", "measure_calibration"]

FPS = 10.0
SMOOTH_FRAMES = 5
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


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve of (N,) scores for (N,) bool truth; ties count half. NaN without both classes."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2.0
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    return float((middle_rank[inverse][positive].sum() - ones * (ones + 1) / 2.0) / (ones * zeros))


def causal_mean(scores: np.ndarray, frames: int = SMOOTH_FRAMES) -> np.ndarray:
    """The mean of each value and the `frames` - 1 before it, fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], scores]))
    last = np.arange(1, len(scores) + 1)
    first = np.maximum(0, last - frames)
    return (sums[last] - sums[first]) / (last - first)


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


def measure(data: Path, *, quick: bool = False, first: int | None = None) -> dict[str, Any]:
    """All figures; `quick` learns from 4 clips and scores 3, `first` learns from so many clips only."""
    cv2.setNumThreads(1)
    model = create_model("motion_stats", 1)
    training, testing = sorted((data / "train").glob("*.mp4")), sorted((data / "test").glob("*.mp4"))
    if not training or not testing:
        raise FileNotFoundError(f"no train/*.mp4 and test/*.mp4 in {data}")
    if quick:
        training, testing = training[::4], testing[:3]
    training = training[:first]
    state, learn_s, fit_s = learn(model, training)
    clips: list[Clip] = []
    scored_s = cpu_s = 0.0
    for path in testing:
        frames = list(decode(path))
        began, cpu = time.perf_counter(), time.process_time()
        found = score(model, state, frames)
        scored_s, cpu_s = scored_s + time.perf_counter() - began, cpu_s + time.process_time() - cpu
        abnormal, masks = _truth(data, path.stem, len(frames))
        clips.append(Clip(path.stem, np.array([s.score for s in found]), abnormal, *_pointing(found, masks)))
    return _report(clips, state) | {
        "learned_s": round(state.learned_s, 1),
        "learn_s": round(learn_s, 2),
        "fit_s": round(fit_s, 3),
        "fps": round(sum(len(c.scores) for c in clips) / scored_s, 1),
        "cpu_ms_per_frame": round(1000 * cpu_s / sum(len(c.scores) for c in clips), 3),
    }


def measure_calibration(data: Path) -> dict[str, Any]:
    """Of normal clips never learned from, how many frames reach a level, against the share it stands for.

    Learned from the first half of the training clips, or from the first clip alone; no test clip is touched.
    """
    cv2.setNumThreads(1)
    model = create_model("motion_stats", 1)
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
    return {"calibration": figures}


def _report(clips: Sequence[Clip], state: NormalityState) -> dict[str, Any]:
    raw = np.concatenate([clip.scores for clip in clips])
    smooth = np.concatenate([causal_mean(clip.scores) for clip in clips])
    truth = np.concatenate([clip.abnormal for clip in clips])
    threshold = TrackerConfig().open_score
    return {
        "vad_type": state.vad_type,
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
        "clips_reached": sum(bool((causal_mean(c.scores)[c.abnormal] >= threshold).any()) for c in clips),
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.vad", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="PATH/TO/ped2")
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="4 training and 3 test clips: no figure to quote")
    parser.add_argument("--first", type=int, metavar="N", help="learn from the first N training clips only")
    parser.add_argument("--calibration", action="store_true", help="only: do levels mean what they say?")
    options = parser.parse_args(argv)
    try:
        figures = (
            measure_calibration(options.data)
            if options.calibration
            else measure(options.data, quick=options.quick, first=options.first)
        )
    except FileNotFoundError as error:
        print(f"bench.vad: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, value in figures.items():
        if isinstance(value, dict):
            for clip, details in value.items():
                print(f"  {clip}  " + "  ".join(f"{key} {number}" for key, number in details.items()))
        else:
            print(f"{name:24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
