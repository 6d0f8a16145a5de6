"""Does detection hold up where it was not made for? Other geometries, other kinds of anomaly, the same constants.

`python -m bench.scenes [--data PATH] [--type TYPE ...] [--json] [--quick] [--curve]`; `--data` holds `clips/`, by
default $HAETAE_DATA. Demo scenes of four geometries show one kind of anomaly after another; into real clips synthetic
ones are pasted (bench.synthetic_anomalies). Learned from ordinary footage of the same camera alone, scored as it comes,
smoothed by a causal mean of half a second: AUROC of the frames in which something is to be seen against ordinary ones.
With `--curve`: from how much footage what can be told, beside what the system says of itself.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.synthetic_anomalies import SKIPPED, Case, make_cases
from bench.vad import decode, score
from core.config import TrackerConfig, VadConfig
from core.curves import auroc, causal_mean
from core.events.promise import EventLadder, promise_of
from workers.camera.sources.demo import DemoSource
from workers.inference.vad import VAD_TYPES, NormalityState, Row, VadModel, create_model

__all__ = ["CLIP_KINDS", "KINDS", "main", "measure", "measure_clips", "measure_curve", "measure_scenes"]

WIDTH, HEIGHT, FPS = 320, 180, 10
SCENES = ("plaza", "overhead", "avenue", "hallway")
KINDS = {
    "runner": "motion",
    "cyclist": "motion",
    "trespass": "place",
    "loitering": "place",
    "abandoned_object": "place",
    "wrong_way": "direction",
    "cart": "size",
    "odd": "appearance",
    "fall": "appearance",
}
CLIP_KINDS = {
    "fast": "motion",
    "faster scene": "motion",
    "hops": "motion",
    "slides": "appearance",
    "texture": "appearance",
    "large": "size",
    "backwards scene": "direction",
}
KNOWN_AFTER_S = {"fall": 2.5, "loitering": 10.0, "abandoned_object": 5.0, "wrong_way": 1.0}
"""Until then it is somebody who walks, or stands for a moment: such frames count on neither side."""
LEARN_S, BEFORE_S, WARM_S, LONGEST_S, APART_S = 600.0, 12.0, 6.0, 25.0, 2.0
SEED = 5


def _source(scene: str, *, kind: str = "", seed: int = SEED) -> DemoSource:
    kinds = f"&kinds={kind}" if kind else "&anomalies=0"
    return DemoSource(f"demo://{scene}?seed={seed}&fps={FPS}&width={WIDTH}&height={HEIGHT}{kinds}")


def learn_scene(model: VadModel, scene: str, seconds: float) -> NormalityState:
    """From ordinary footage of the same camera, before anything happens."""
    learner, context = model.new_learner(), model.new_context()
    pixels = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    for frame in _source(scene).normal_frames(seconds):
        frame.write_i420(pixels)
        (result,) = model.process([Row(model.prepare(pixels, WIDTH, HEIGHT), frame.media_s, context, None, learner)])
        if isinstance(result, Exception):
            raise result
    return model.fit(learner, 1, VadConfig().armed_s)


def curve(model: VadModel, state: NormalityState, source: DemoSource, begin_s: float, end_s: float) -> np.ndarray:
    """A score for each frame between two times, NaN where there is none, (N,)."""
    context, found = model.new_context(), []
    pixels = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    for index in range(round(begin_s * FPS), round(end_s * FPS)):
        source.frame_at(index).write_i420(pixels)
        row = Row(model.prepare(pixels, WIDTH, HEIGHT), index / FPS - begin_s, context, state)
        (result,) = model.process([row])
        if isinstance(result, Exception):
            raise result
        found.append(result.score if result is not None else np.nan)
    return np.array(found)


def _smoothed(scores: np.ndarray) -> np.ndarray:
    return causal_mean(np.where(np.isnan(scores), 0.0, scores))


def _of_kind(
    model: VadModel, state: NormalityState, scene: str, kind: str, times: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of ordinary frames and of those that show the kind."""
    source, ordinary, unusual = _source(scene, kind=kind), [], []
    for one in source.ground_truth(0.0, 200.0 * times)[:times]:
        end_s = min(one.end_s, one.begin_s + LONGEST_S)
        begin_s = one.begin_s - BEFORE_S
        scores = _smoothed(curve(model, state, source, begin_s, end_s))
        at = begin_s + np.arange(len(scores)) / FPS
        ordinary.append(scores[(at >= begin_s + WARM_S) & (at < one.begin_s - 0.1)])
        known = at >= one.begin_s + KNOWN_AFTER_S.get(kind, 0.0)
        shown = np.array([bool(source.shown(moment)) for moment in at])
        unusual.append(scores[known & shown])
    return np.concatenate(ordinary), np.concatenate(unusual)


def _area(ordinary: np.ndarray, unusual: np.ndarray) -> float:
    truth = np.arange(len(ordinary) + len(unusual)) >= len(ordinary)
    return round(auroc(np.concatenate([ordinary, unusual]), truth), 4)


def measure_scenes(vad_type: str, *, quick: bool = False) -> dict[str, Any]:
    """AUROC of each kind in each demo scene; ordinary frames of all kinds of a scene are pooled."""
    cv2.setNumThreads(1)
    model, found = create_model(vad_type, 1), {}
    kinds = ("runner", "trespass") if quick else tuple(KINDS)
    for scene in SCENES[1:2] if quick else SCENES:
        state = learn_scene(model, scene, 40.0 if quick else LEARN_S)
        parts = {kind: _of_kind(model, state, scene, kind, 1 if quick else 4) for kind in kinds}
        ordinary = np.concatenate([part[0] for part in parts.values()])
        found[scene] = {kind: _area(ordinary, parts[kind][1]) for kind in kinds}
        found[scene]["over_2"] = round(float((ordinary >= 2).mean()), 4)
    model.close()
    return found


def measure_clips(vad_type: str, data: Path, *, per_kind: int = 12) -> dict[str, Any]:
    """The same of real clips: two thirds are learned from, the last third in which something could be followed has
    things done to it.
    """
    cv2.setNumThreads(1)
    model, found = create_model(vad_type, 1), {}
    clips = sorted((data / "clips").glob("*.mp4"))
    if not clips:
        raise FileNotFoundError(f"no clips/*.mp4 in {data}")
    for path in clips:
        grey = np.stack([_small(frame) for frame in decode(path)])
        cases, known = _cases(grey, per_kind)
        if not cases:
            found[path.stem] = {"none": "nothing could be followed"}
            continue
        learner = model.new_learner()
        for part in known:
            context = model.new_context()
            for index, frame in enumerate(part):
                prepared = model.prepare(_i420(frame), frame.shape[1], frame.shape[0])
                model.process([Row(prepared, index / FPS, context, None, learner)])
        state = model.fit(learner, 1, VadConfig().armed_s)
        areas: dict[str, Any] = {}
        for kind, pairs in groupby(cases, lambda case: case.of):
            scores: dict[bool, list[np.ndarray]] = {False: [], True: []}
            for case in pairs:
                seen = np.array([one.score for one in score(model, state, [_i420(frame) for frame in case.frames])])
                scores[case.changed].append(causal_mean(seen)[SKIPPED:])
            areas[kind] = _area(np.concatenate(scores[False]), np.concatenate(scores[True]))
        found[path.stem] = areas
    model.close()
    return found


def _cases(grey: np.ndarray, per_kind: int) -> tuple[list[Case], list[np.ndarray]]:
    """Cases of one third of a clip, and the parts of the rest."""
    thirds = np.array_split(grey, 3)
    for held in (2, 1, 0):
        known = [third for number, third in enumerate(thirds) if number != held]
        still = np.median(np.concatenate(known)[::5], axis=0).astype(np.uint8)
        try:
            return list(make_cases([thirds[held]], still, per_kind=per_kind)), known
        except ValueError:
            continue
    return [], []


def _small(pixels: np.ndarray) -> np.ndarray:
    luma = pixels[: len(pixels) * 2 // 3]
    return cv2.resize(luma, (luma.shape[1] // 4 * 2, luma.shape[0] // 4 * 2), interpolation=cv2.INTER_AREA)


def _i420(grey: np.ndarray) -> np.ndarray:
    return np.vstack([grey, np.full((grey.shape[0] // 2, grey.shape[1]), 128, np.uint8)])


CURVE_S = (10.0, 60.0, 300.0, 1800.0)


def measure_curve(vad_type: str, *, scene: str = "plaza", quick: bool = False) -> list[dict[str, Any]]:
    """After so much ordinary footage: what the system says of itself, and what it can do.

    `state` is that of what was learned; `promise` is that of the threshold, after as much footage was watched again.
    """
    cv2.setNumThreads(1)
    model, rows = create_model(vad_type, 1), []
    kinds = ("runner",) if quick else tuple(KINDS)
    for seconds in CURVE_S[:2] if quick else CURVE_S:
        state = learn_scene(model, scene, seconds)
        parts = [_of_kind(model, state, scene, kind, 1 if quick else 2) for kind in kinds]
        watched = curve(model, state, _source(scene), 50_000.0, 50_000.0 + seconds)
        config = TrackerConfig()
        ladder = EventLadder(config)
        for index, smooth in enumerate(_smoothed(watched)):
            ladder.observe(index / FPS, float(smooth))
        promise = promise_of(ladder.evidence, config.false_events_per_day, config.open_score)
        ordinary = np.concatenate([part[0] for part in parts])
        rows.append(
            {
                "learned_s": seconds,
                "state": state.phase,
                "promise": promise.stage,
                "open_score": promise.open_score,
                "auroc_mean": round(float(np.mean([_area(ordinary, part[1]) for part in parts])), 4),
                "ordinary_over_2": round(float((_smoothed(watched) >= 2).mean()), 4),
                "unusual_over_2": round(float((np.concatenate([part[1] for part in parts]) >= 2).mean()), 4),
            }
        )
    model.close()
    return rows


def measure(types: Sequence[str], data: Path | None, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """The table of each type."""
    for vad_type in types:
        began = time.perf_counter()
        found: dict[str, Any] = {"type": vad_type, "scenes": measure_scenes(vad_type, quick=quick)}
        if data:
            found["scenes"] |= measure_clips(vad_type, data, per_kind=2 if quick else 12)
        areas = [
            (area, scene, kind)
            for scene, kinds in found["scenes"].items()
            for kind, area in kinds.items()
            if kind in KINDS or kind in CLIP_KINDS
        ]
        found["worst"] = min(areas)
        found["mean"] = round(float(np.mean([area for area, _, _ in areas])), 4)
        yield found | {"took_s": round(time.perf_counter() - began, 1)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.scenes", description=__doc__)
    home = os.environ.get("HAETAE_DATA")
    parser.add_argument("--data", type=Path, default=Path(home) if home else None, help="folder with clips/")
    parser.add_argument("--type", action="append", choices=VAD_TYPES, help="only this type; may be repeated")
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="one scene, two kinds: no figure to quote")
    parser.add_argument("--curve", action="store_true", help="only: from how much footage what can be told")
    options = parser.parse_args(argv)
    types = options.type or ["motion_stats"]
    try:
        if options.curve:
            figures = [{"type": name, "curve": measure_curve(name, quick=options.quick)} for name in types]
        else:
            figures = list(measure(types, options.data, quick=options.quick))
    except FileNotFoundError as error:
        print(f"bench.scenes: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
        return 0
    for one in figures:
        print(one["type"])
        for row in one.get("curve", ()):
            print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))
        for scene, kinds in one.get("scenes", {}).items():
            print(f"  {scene:30}" + "  ".join(f"{kind} {area}" for kind, area in kinds.items()))
        if "worst" in one:
            print(f"  mean {one['mean']}, least {one['worst']}, {one['took_s']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
