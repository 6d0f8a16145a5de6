"""Is "about N false events a day" true? The demo scene for simulated hours, with anomalies whose times are known.

`python -m bench.promise [--json] [--quick] [--scene NAME] [--hours H]`. A state is learned from ordinary footage, the
threshold from other ordinary footage, as a camera does it; then the scene runs with its anomalies, and each event
is either at one of these or false. The false ones are counted against the footage in which nothing unusual happens.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import msgspec
import numpy as np

from core.config import TrackerConfig
from core.events import AnomalyEvent, EventState
from core.events.promise import EventLadder, poisson_interval, promise_of
from core.events.tracker import EventTracker, Observation
from core.ids import CameraId, NodeId
from workers.camera.sources.demo import DemoAnomaly, DemoSource
from workers.inference.vad import NormalityState, Row, create_model

__all__ = ["main", "measure"]

FPS = 10
WIDTH = 192
"""Small enough that a simulated day takes minutes."""
LEARN_S = 1800.0
SLACK_S = 5.0
"""An event so close to an anomaly is about it: events go on until the score has fallen, and what was left behind or
stood still may be unusual when it goes."""
START = datetime(2026, 1, 1, tzinfo=UTC)


class Scored(msgspec.Struct, frozen=True):
    """One frame."""

    media_s: float
    score: float
    x: float
    y: float
    """Of the peak, in pixels."""


def _observed(one: Scored) -> Observation:
    at = START + timedelta(seconds=one.media_s)
    return Observation(media_s=one.media_s, at=at, score=one.score, peak_x=one.x, peak_y=one.y)


class Camera:
    """The demo scene, scored without processes between."""

    def __init__(self, scene: str, vad_type: str, width: int) -> None:
        self._scene, self._model = scene, create_model(vad_type, 1)
        self.width, self.height = width, width * 9 // 32 * 2
        self._pixels = np.empty((self.height * 3 // 2, width), np.uint8)

    def source(self, seed: int, *, anomalies: bool) -> DemoSource:
        size = f"width={self.width}&height={self.height}"
        return DemoSource(f"demo://{self._scene}?seed={seed}&fps={FPS}&{size}&anomalies={int(anomalies)}")

    def learn(self, source: DemoSource, seconds: float) -> NormalityState:
        learner, context = self._model.new_learner(), self._model.new_context()
        for frame in source.normal_frames(seconds):
            frame.write_i420(self._pixels)
            self._model.process(
                [Row(self._model.prepare(self._pixels, self.width, self.height), frame.media_s, context, None, learner)]
            )
        return self._model.fit(learner, 1, 120.0)

    def score(self, source: DemoSource, state: NormalityState, begin_s: float, end_s: float) -> Iterator[Scored]:
        """Frames of the source between two of its times; before zero nothing unusual happens."""
        context = self._model.new_context()
        for index in range(round(begin_s * FPS), round(end_s * FPS)):
            source.frame_at(index).write_i420(self._pixels)
            prepared = self._model.prepare(self._pixels, self.width, self.height)
            (result,) = self._model.process([Row(prepared, index / FPS - begin_s, context, state)])
            if isinstance(result, Exception):
                raise result
            if result is not None:
                x, y = result.peak_x * self.width, result.peak_y * self.height
                yield Scored(index / FPS - begin_s, result.score, x, y)

    def tracker(self, config: TrackerConfig) -> EventTracker:
        return EventTracker(
            config,
            camera_id=CameraId("bench"),
            node_id=NodeId("bench"),
            vad_type="",
            frame_width=self.width,
            frame_height=self.height,
        )


def _events(scores: list[Scored], tracker: EventTracker) -> list[AnomalyEvent]:
    found = [event for one in scores for event in tracker.observe(_observed(one))] + tracker.finish()
    return [event for event in found if event.state is EventState.CLOSED]


def _is_at(event: AnomalyEvent, anomaly: DemoAnomaly) -> bool:
    return event.begin_s <= anomaly.end_s + SLACK_S and event.end_s >= anomaly.begin_s - SLACK_S


def _figures(events: list[AnomalyEvent], truth: list[DemoAnomaly], hours: float, per_day: float) -> dict[str, Any]:
    false = [event for event in events if not any(_is_at(event, one) for one in truth)]
    busy_s = sum(one.end_s - one.begin_s + 2 * SLACK_S for one in truth)
    quiet_days = (hours * 3600 - busy_s) / 86_400
    expected = per_day * quiet_days
    low, high = poisson_interval(round(expected))
    there = Counter(one.kind for one in truth)
    found = Counter(one.kind for one in truth if any(_is_at(event, one) for event in events))
    return {
        "asked_per_day": per_day,
        "false_events": len(false),
        "quiet_days": round(quiet_days, 4),
        "expected_events": round(expected, 2),
        "measured_per_day": round(len(false) / quiet_days, 2),
        "interval_of_asked": [round(low, 2), round(high, 2)],
        "inside": low <= len(false) <= high,
        "recall": round(sum(found.values()) / max(1, len(truth)), 4),
        "recall_per_kind": {kind: round(found[kind] / there[kind], 3) for kind in sorted(there)},
        "anomalies": dict(there),
    }


def measure(*, hours: float = 12.0, scene: str = "plaza", vad_type: str, width: int = WIDTH) -> dict[str, Any]:
    """All figures."""
    cv2.setNumThreads(1)
    began = time.process_time()
    camera = Camera(scene, vad_type, width)
    state = camera.learn(camera.source(1, anomalies=False), min(LEARN_S, hours * 3600))
    config = TrackerConfig()
    ladder, tracker = EventLadder(config), camera.tracker(config)
    ordinary = camera.source(1, anomalies=False)
    for one in camera.score(ordinary, state, 200_000.0, 200_000.0 + hours * 3600):
        seen = _observed(one)
        tracker.observe(seen)
        ladder.observe(
            one.media_s, tracker.smoothed, one.score, seen.peak_x / camera.height, seen.peak_y / camera.height
        )
    watched = camera.source(1, anomalies=True)
    scores = list(camera.score(watched, state, 0.0, hours * 3600))
    truth = [one for one in watched.ground_truth(0.0, hours * 3600) if one.end_s <= hours * 3600]
    figures: dict[str, Any] = {"scene": scene, "vad_type": vad_type, "width": width, "hours": hours}
    for per_day in (24.0, 1.0):
        promise = promise_of(ladder.evidence, per_day, config.open_score)
        events = _events(scores, camera.tracker(config.at(promise.open_score)))
        told = _figures(events, truth, hours, per_day)
        figures[f"asked_{per_day:g}"] = {"promise": msgspec.to_builtins(promise), **told}
    return figures | {"cpu_s": round(time.process_time() - began, 1)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.promise", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="minutes instead of hours: no figure to quote")
    parser.add_argument("--scene", default="plaza", help="plaza, street or corridor")
    parser.add_argument("--hours", type=float, default=12.0, help="simulated hours with anomalies, and as many before")
    parser.add_argument("--vad", default="motion_objects", metavar="TYPE")
    parser.add_argument("--width", type=int, default=WIDTH, help="of the pictures, in pixels")
    options = parser.parse_args(argv)
    hours = 0.06 if options.quick else options.hours
    figures = measure(hours=hours, scene=options.scene, vad_type=options.vad, width=options.width)
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, value in figures.items():
        if isinstance(value, dict):
            print(name)
            for key, number in value.items():
                print(f"  {key:20} {number}")
        else:
            print(f"{name:22} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
