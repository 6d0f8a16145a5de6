"""What judging events costs: the flows by themselves, many cameras at once, and the scoring of frames beside it.

`python -m bench.flows [--json] [--quick]`. The model is a scripted HTTP server on loopback: what is measured is ours.
"""

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import zmq

from bench.fake_vlm import FakeVlm, Said
from bench.vlm_load import Load
from core.clock import utc_iso
from core.config import Config, FlowsConfig, LogConfig, load_config
from core.events import AnomalyEvent, EventState
from core.events.evidence import Evidence, FrameRole, KeyFrame, Scene, Track
from core.frames import FrameFormat, RingWriter
from core.heartbeat import read_heartbeat
from core.ids import CameraId, EventId, NodeId, uuid7
from core.logs import configure_logging
from core.wire.messages import AnalyzeReply, AnalyzeRequest, InferenceReply, ScoreRequest
from core.wire.rpc import RequestClient
from workers.inference.analysts import decide
from workers.inference.flows import FLOWS, Policy
from workers.inference.pool import ResourcePool
from workers.inference.vlm import RulesAnalyzer
from workers.process import spawn

__all__ = ["Inference", "main", "make_event", "make_evidence", "measure", "measure_crowd"]

CAMERAS = 64
WIDTH, HEIGHT = 640, 360
MODEL_S = 0.5
"""What the scripted model takes for an answer."""
SCORED = 4
"""Cameras whose frames are scored while events are judged."""
FPS = 10.0
SLOT_S = 2.0
SETTLE_S = 0.3
"""At a slot's beginning, what was sent in the one before may still go on."""
PAIRS = 40
DRAWS = 400


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(0.99 * len(values)))] if values else float("nan")


def make_event(camera_id: str) -> AnomalyEvent:
    now = utc_iso(datetime.now(UTC))
    return AnomalyEvent(
        id=EventId(str(uuid7())),
        revision=1,
        camera_id=CameraId(camera_id),
        node_id=NodeId("bench"),
        state=EventState.OPEN,
        began_at=now,
        ended_at=None,
        begin_s=1.0,
        end_s=4.0,
        peak_score=4.2,
        peak_at=now,
        peak_s=2.0,
        peak_x=320,
        peak_y=180,
        frame_width=WIDTH,
        frame_height=HEIGHT,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        reason="3.1 x the usual speed here",
    )


def make_evidence(media: Path | None = None) -> Evidence:
    track = Track(
        age_s=4, x=0.5, y=0.7, width=0.06, height=0.2, speed=2.6, heading=90, travelled=0.5, dwell_s=1, still_s=0
    )
    frames = [_key_frame(media, number) for number in range(5)] if media else []
    return Evidence(
        duration_s=3.0,
        scene=Scene(usual_speed=0.8, usual_spread=0.06, count_peak=6, outward=1, stayed_s=9),
        tracks=(track,) * 6,
        frames=tuple(frames),
    )


def _key_frame(media: Path, number: int) -> KeyFrame:
    picture = np.random.default_rng(number).integers(90, 140, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    data = cv2.imencode(".jpg", cv2.blur(picture, (5, 5)), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    (media / f"key{number}.jpg").write_bytes(data)
    role = FrameRole.PEAK if number == 2 else FrameRole.DURING
    return KeyFrame(
        role=role,
        at_s=float(number),
        file=f"key{number}.jpg",
        sha256=hashlib.sha256(data).hexdigest(),
        width=WIDTH,
        height=HEIGHT,
    )


def measure_overhead(runs: int) -> dict[str, Any]:
    """Each flow with measurements alone: all that is not the model."""
    pool, evidence = ResourcePool(1), make_evidence()
    policy = Policy(FlowsConfig())
    found: dict[str, Any] = {}
    for flow in FLOWS:
        times: list[float] = []
        request = AnalyzeRequest(event=make_event("gate"), evidence=evidence, flow=flow)
        for _ in range(runs):
            began = time.perf_counter()
            decide(pool, request, RulesAnalyzer(), policy, 15.0, 8.0)
            times.append(1000 * (time.perf_counter() - began))
        found[flow] = {"p50_ms": round(statistics.median(times), 3), "p99_ms": round(p99(times), 3)}
    return {"flows": found, "flow_overhead_p99_ms": max(one["p99_ms"] for one in found.values())}


class Inference:
    """An inference process of its own, and a client."""

    def __init__(self, folder: Path, engine: str | Path, context: zmq.Context[Any], nice: int = 10) -> None:
        """`engine` is a server's URL, or a model's folder."""
        self.file = folder / "haetae.toml"
        named = (
            f'backend = "openai"\nurl = "{engine}"\nmodel = "scripted"\nnice = {nice}'
            if isinstance(engine, str)
            else f'backend = "transformers"\nfolder = "{engine}"\ndevice = "cpu"\nthreads = 1\nnice = {nice}'
        )
        self.file.write_text(f'[vlm]\n{named}\ndescribe = false\n[paths]\ndata = "{folder}"\nrun = "{folder}/run"\n')
        self.config: Config = load_config(self.file, environ={})
        self.config.make_dirs()
        self.process = spawn("inference", config=self.config)
        give_up = time.monotonic() + 90
        while read_heartbeat(self.config.run_dir, "inference") is None:
            if time.monotonic() > give_up:
                raise TimeoutError("inference did not start")
            time.sleep(0.02)
        self.client = RequestClient(context, self.config.endpoint("inference"), InferenceReply)

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(60)


def measure_crowd(inference: Inference, server: FakeVlm, within_s: float = 30.0) -> dict[str, Any]:
    """All cameras raise at once: each event is judged, or decided by rules and labelled."""
    evidence = make_evidence(inference.config.media_dir)
    server.most_at_once = 0
    began = time.monotonic()
    asked = {
        inference.client.send(AnalyzeRequest(event=make_event(f"cam-{number}"), evidence=evidence), within_s): number
        for number in range(CAMERAS)
        for _ in range(2)
    }
    judged, labelled, lost = 0, 0, 0
    times: list[float] = []
    while asked and time.monotonic() < began + within_s + 5:
        for request_id, reply in inference.client.receive(0.2):
            if asked.pop(request_id, None) is None:
                continue
            times.append(time.monotonic() - began)
            if isinstance(reply, AnalyzeReply):
                judged += reply.analysis.status == "ok"
                labelled += reply.analysis.status != "ok"
            else:
                lost += 1
    return {
        "cameras": CAMERAS,
        "events": 2 * CAMERAS,
        "judged": judged,
        "decided_by_rules_and_labelled": labelled,
        "lost": lost + len(asked),
        "at_once_most": server.most_at_once,
        "last_s": round(max(times, default=0.0), 2),
    }


def measure_beside(folder: Path, context: zmq.Context[Any], pairs: int) -> dict[str, Any]:
    """The latency of scores while events are judged and while not, in slots of SLOT_S by turns.

    Both kinds of slot lie next to each other in time, so that what else the machine does is in both; the ratio's spread
    is that over pairs of slots drawn again and again (bootstrap).
    """
    command = [sys.executable, "-m", "bench.vlm_load"]
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert load.stdin
    assert load.stdout
    inference = Inference(folder, load.stdout.readline().strip(), context)
    try:
        told = Load(inference.config.endpoint("inference"), str(inference.config.media_dir), SLOT_S)
        load.stdin.write(msgspec.json.encode(told).decode() + "\n")
        load.stdin.flush()
        slots = _score(inference, 2 * pairs)
        load.stdin.close()
        judged = int(load.stdout.readline())
    finally:
        load.kill()
        load.wait()
        inference.close()
    return _compared(slots) | {"judged_beside": judged}


def _score(inference: Inference, slots: int) -> list[tuple[list[float], list[float]]]:
    """Pairs of latencies in ms, in an even slot (nothing judged) and in the odd one behind it."""
    rings = [
        RingWriter.create(
            inference.config.run_dir, CameraId(f"vad-{number}"), "analysis", FrameFormat(WIDTH, HEIGHT), 8
        )
        for number in range(SCORED)
    ]
    luck = np.random.default_rng(1)
    frames = [luck.integers(100, 130, (HEIGHT * 3 // 2, WIDTH)).astype(np.uint8) for _ in range(6)]
    client, sent = inference.client, dict[int, float]()
    found: dict[int, list[float]] = {}
    # the first slots warm everything up, and the first pair begins with an even one
    first = int(time.monotonic() // SLOT_S) + 3
    first += first % 2
    number, due_s = 0, time.monotonic()
    try:
        while (now := time.monotonic()) < (first + slots) * SLOT_S or sent:
            if now > (first + slots) * SLOT_S + 10:
                break
            if now >= due_s and now < (first + slots) * SLOT_S:
                due_s = max(due_s + 1 / (FPS * len(rings)), now - 0.1)
                ring = rings[number % len(rings)]
                with ring.write(now, 0, 0) as slot:
                    np.copyto(slot.pixels, frames[number % len(frames)])
                    ref = slot.ref
                number += 1
                request = ScoreRequest(
                    frame=ref, media_s=now, vad_type="motion_stats", normality_id=str(ref.camera_id), learn=True
                )
                sent[client.send(request)] = time.monotonic()
            for request_id, _ in client.receive(max(0.0005, min(0.005, due_s - time.monotonic()))):
                at_s = sent.pop(request_id)
                if at_s % SLOT_S >= SETTLE_S:
                    found.setdefault(int(at_s // SLOT_S), []).append(1000 * (time.monotonic() - at_s))
    finally:
        for ring in rings:
            ring.close()
    return [(found.get(one, []), found.get(one + 1, [])) for one in range(first, first + slots, 2)]


def _compared(slots: list[tuple[list[float], list[float]]]) -> dict[str, Any]:
    """Percentiles of both, pooled, and the ratio of the 99th with its spread."""

    def pooled(chosen: list[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
        return [one for plain, _ in chosen for one in plain], [one for _, busy in chosen for one in busy]

    without, under = pooled(slots)
    luck = random.Random(1)
    ratios = sorted(
        p99(busy) / p99(plain) for plain, busy in (pooled(luck.choices(slots, k=len(slots))) for _ in range(DRAWS))
    )
    return {
        "pairs": len(slots),
        "samples": [len(without), len(under)],
        "vad_p50_ms": [round(statistics.median(one), 2) for one in (without, under)],
        "vad_p99_ms": [round(p99(one), 2) for one in (without, under)],
        "vad_p50_under_vlm_over_without": round(statistics.median(under) / statistics.median(without), 3),
        "vad_p99_under_vlm_over_without": round(p99(under) / p99(without), 3),
        "spread_5_to_95": [round(ratios[round(share * (DRAWS - 1))], 3) for share in (0.05, 0.95)],
    }


def measure(*, quick: bool = False) -> dict[str, Any]:
    """All figures; `quick` takes seconds: nothing to quote."""
    cv2.setNumThreads(1)
    figures = measure_overhead(200 if quick else 3000)
    release = threading.Event()

    def answer(_: dict[str, Any]) -> Said:
        release.wait(MODEL_S)
        return Said()

    with (
        FakeVlm(answer) as server,
        tempfile.TemporaryDirectory(prefix="haetae-b-") as folder,
        zmq.Context() as context,
    ):
        inference = Inference(Path(folder), server.url, context)
        try:
            figures |= {"crowd": measure_crowd(inference, server)}
        finally:
            inference.close()
    with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder, zmq.Context() as context:
        figures |= measure_beside(Path(folder), context, 2 if quick else PAIRS)
    return figures


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.flows", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: no figure to quote")
    options = parser.parse_args(argv)
    configure_logging(LogConfig(level="warning"), "bench")
    figures = measure(quick=options.quick)
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, value in figures.items():
        print(f"{name:32} {msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
