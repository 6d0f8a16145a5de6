"""What scoring costs beside the model: throughput, delay and fairness of the inference process, against its peers.

    python -m bench.inference [--json] [--quick] [--device cuda|cpu]

Two regimes of the same small network (see bench.serving): `heavy`, 20 ms and more a batch of 16, and `light`, well
under 1 ms a frame. `throughput_over_direct` is against the network alone, called in one process with full batches of
inputs that are prepared already. LitServe and Ray Serve serve the same network to as many clients, over HTTP and, for
Ray Serve, through its handle as well. Rounds take turns; ratios are of neighbouring rounds.

`overload` is the heavy regime with 16 cameras that send twice what fits, one of them four times as fast as the
others: how far the worst served camera is from an equal share, how old a frame is when its score comes, and how many
requests got no answer.

With `--device` instead: what the types of detection that run nets reach there (see bench.devices).
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zmq

from bench.figures import spread
from bench.serving import BATCH, FRAME, REGIMES, keep_asking, summary
from core.config import Config, load_config
from core.errors import HaetaeError, RemoteError
from core.frames import FrameFormat, RingWriter, sweep
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.wire.messages import ErrorReply, GetState, GetStatistics, InferenceReply, ScoreReply, ScoreRequest
from core.wire.rpc import RequestClient
from workers.process import process_environment

__all__ = ["main"]

CLIENTS = 32
"""Requests under way at any time: two full batches."""
CAMERAS = 16
HOT = 4
"""How much faster than the others camera 0 sends."""
SLOTS = 8
"""Frames in a camera's ring, and so the most that it asks about at once: an older one would be overwritten."""


# ---- ways to be scored


class Way:
    """A server in a process of its own, in its own session; `run(seconds)` puts it under load."""

    def __init__(self, words: list[str], environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.serving", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", **(environment or {})},
            start_new_session=True,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(("ready", "{")):
                return line
        raise RuntimeError(f"{self.process.args} ended: exit code {self.process.wait()}")

    def run(self, seconds: float) -> dict[str, float]:
        raise NotImplementedError

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        if not isinstance(self, (Direct, RayHandle)):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        for pid in _session(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _session(leader: int) -> list[int]:
    """The processes of a session that we began: what a server started and left behind."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(folder.name))
    return found


class Direct(Way):
    def __init__(self, regime: str) -> None:
        super().__init__(["direct", regime])
        self.hear()

    def run(self, seconds: float) -> dict[str, float]:
        self.tell(str(seconds))
        return json.loads(self.hear())


class Haetae(Way):
    """Frames in rings, requests over the socket, as cameras send them."""

    def __init__(self, regime: str, config: Config) -> None:
        self._config, self._vad_type = config, f"bench_{regime}"
        states = config.states_dir / self._vad_type / "bench"
        states.mkdir(parents=True)
        (states / "current").write_text("1")
        super().__init__(["haetae", regime], process_environment(config))
        self._context = zmq.Context()
        self._client = RequestClient(self._context, config.endpoint("inference"), InferenceReply)
        self._rings = [
            RingWriter.create(config.run_dir, CameraId(f"cam-{number}"), "analysis", FrameFormat(*FRAME), SLOTS)
            for number in range(CLIENTS)
        ]
        self._frame = np.random.default_rng(1).integers(0, 255, (FRAME[1] * 3 // 2, FRAME[0]), np.uint8)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while read_heartbeat(self._config.run_dir, "inference") is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the inference process does not start")
            time.sleep(0.05)
        try:
            self._client.call(GetState(vad_type=self._vad_type, normality_id="bench"), 60.0)
        except RemoteError as error:
            raise RuntimeError(str(error)) from error

    def ask(self, number: int, *, lossless: bool) -> int:
        with self._rings[number].write(0.0, 0, 0) as slot:
            np.copyto(slot.pixels, self._frame)
        request = ScoreRequest(
            frame=slot.ref, media_s=0.0, vad_type=self._vad_type, normality_id="bench", lossless=lossless
        )
        return self._client.send(request, 10.0)

    def receive(self, timeout_s: float) -> list[tuple[int, Any]]:
        return self._client.receive(timeout_s)

    def run(self, seconds: float) -> dict[str, float]:
        asked: dict[int, tuple[int, float]] = {}
        times: list[float] = []
        begun = time.perf_counter()
        for number in range(CLIENTS):
            asked[self.ask(number, lossless=True)] = number, time.perf_counter()
        while asked:
            for request_id, reply in self.receive(1.0):
                now = time.perf_counter()
                number, at = asked.pop(request_id)
                assert isinstance(reply, ScoreReply), reply
                assert reply.status == "scored"
                times.append(now - at)
                if now - begun < seconds:
                    asked[self.ask(number, lossless=True)] = number, now
        return summary(times, time.perf_counter() - begun)

    def batch_s(self) -> float:
        """What the inference process says a full batch takes."""
        return self._client.call(GetStatistics()).batch_ms[self._vad_type][BATCH] / 1e3

    def close(self) -> None:
        super().close()
        self._client.close()
        for ring in self._rings:
            ring.close()
        self._context.term()


class Http(Way):
    """A peer over HTTP: connections that stay open, no client library in the way."""

    def __init__(self, name: str, regime: str) -> None:
        self._port = _free_port()
        super().__init__([name, regime, "--port", str(self._port)])
        frame = np.random.default_rng(1).integers(0, 255, FRAME[0] * FRAME[1] * 3 // 2, np.uint8).tobytes()
        body = json.dumps({"frame": b64encode(frame).decode()}).encode() if name == "litserve" else frame
        kind = "application/json" if name == "litserve" else "application/octet-stream"
        head = (
            f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        if name == "rayserve":
            self.hear()
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, RuntimeError):
                self.run(0.2)
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.process.args} does not answer")
            time.sleep(0.2)

    def run(self, seconds: float) -> dict[str, float]:
        return asyncio.run(self._run(seconds))

    async def _run(self, seconds: float) -> dict[str, float]:
        streams = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(CLIENTS)]
        idle = list(streams)

        async def ask() -> None:
            stream = idle.pop()
            await _post(*stream, self._request)
            idle.append(stream)

        try:
            return await keep_asking(ask, seconds, CLIENTS)
        finally:
            for _, writer in streams:
                writer.close()


def _free_port() -> int:
    """Below those that the system gives out by itself, which a peer's own connections might take meanwhile."""
    while True:
        port = random.randrange(18_000, 28_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode(errors="replace").splitlines()[0])
    length = re.search(rb"content-length: *(\d+)", head.lower())
    if length:
        await reader.readexactly(int(length[1]))
    else:  # in chunks, of which the last is empty
        await reader.readuntil(b"\r\n0\r\n\r\n")


class RayHandle(Http):
    """Ray Serve; its handle is asked from within its own driver."""

    def __init__(self, regime: str) -> None:
        super().__init__("rayserve", regime)

    def run_handle(self, seconds: float) -> dict[str, float]:
        self.tell(f"{seconds} {CLIENTS}")
        return json.loads(self.hear())


# ---- what is measured


AnyWay = TypeVar("AnyWay", bound=Way)


@contextlib.contextmanager
def opened(way: AnyWay) -> Iterator[AnyWay]:
    try:
        yield way
    finally:
        way.close()


def in_turns(runs: dict[str, Callable[[float], dict[str, float]]], rounds: int, seconds: float) -> dict[str, Any]:
    """Each in each round; `haetae` is what the others are compared with."""
    for run in runs.values():
        run(seconds / 2)
    found = [{name: run(seconds) for name, run in runs.items()} for _ in range(rounds)]
    figures: dict[str, Any] = {}
    for name in runs:
        if name != "haetae":
            ratios = [one["haetae"]["fps"] / one[name]["fps"] for one in found]
            figures |= spread(f"throughput_over_{name}", ratios)
        for figure in found[0][name]:
            figures[f"{name}_{figure}"] = statistics.median(one[name][figure] for one in found)
    return figures


def overload(ours: Haetae, capacity_fps: float, seconds: float) -> dict[str, float]:
    """Twice what fits, from 16 cameras that do not wait for answers, as long as their rings hold what they ask about;
    one is hot.
    """
    interval = CAMERAS / (2 * capacity_fps)
    begun = time.perf_counter() + 0.1
    due = [begun + interval * number / CAMERAS for number in range(CAMERAS)]
    asked: dict[int, tuple[int, float]] = {}
    ages: list[float] = []
    served: Counter[int] = Counter()
    fates: Counter[str] = Counter()
    sent: Counter[int] = Counter()
    under_way: Counter[int] = Counter()
    held = 0
    while (now := time.perf_counter()) < begun + seconds or asked:
        if now < begun + seconds:
            for number in [number for number in range(CAMERAS) if due[number] <= now]:
                if under_way[number] < SLOTS:
                    asked[ours.ask(number, lossless=False)] = number, due[number]
                    sent[number] += 1
                    under_way[number] += 1
                else:
                    held += 1
                due[number] += interval / (HOT if number == 0 else 1)
        for request_id, reply in ours.receive(max(0.0, min(*due, now + 0.01) - time.perf_counter())):
            number, at = asked.pop(request_id)
            under_way[number] -= 1
            fate = reply.code if isinstance(reply, ErrorReply) else reply.status
            fates[fate] += 1
            if fate == "scored":
                served[number] += 1
                ages.append(time.perf_counter() - at)
    fair = fair_shares([sent[number] for number in range(CAMERAS)], served.total())
    batch_s = ours.batch_s()
    return {
        "cameras": CAMERAS,
        "interval_ms": interval * 1e3,
        "batch_ms": batch_s * 1e3,
        "worst_share_error": max(abs(served[number] / fair[number] - 1) for number in range(CAMERAS)),
        "age_p99_ms": float(np.percentile(ages, 99)) * 1e3,
        "age_limit_ms": (interval + 2 * batch_s) * 1e3,
        "scored_fps": served.total() / seconds,
        "sent": sent.total(),
        "held_back": held,
        "superseded": fates["superseded"],
        "gone": fates["gone"],
        "failed": fates.total() - fates["scored"] - fates["superseded"] - fates["gone"],
        "unanswered": sent.total() - fates.total() + fates["timeout"],
    }


def fair_shares(wanted: list[int], served: int) -> list[float]:
    """What each would get of `served` were all served alike, and nobody more than was wanted (max-min fairness)."""
    level, left, asking = 0.0, float(served), sorted(wanted)
    for number, most in enumerate(asking):
        level = left / (len(asking) - number)
        if most >= level:
            break
        left -= most
    return [min(float(most), level) for most in wanted]


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures by regime; `quick` is a few seconds, for CI, without the peers."""
    rounds, seconds = (1, 0.5) if quick else (5, 3.0)
    found: dict[str, Any] = {}
    for regime in REGIMES:
        with tempfile.TemporaryDirectory(prefix="haetae-bench-") as folder:
            config = load_config(environ={}, paths={"data": f"{folder}/data", "run": f"{folder}/run"})
            config.make_dirs()
            try:
                found[regime] = _measure_regime(regime, config, rounds, seconds, peers=not quick)
            finally:
                sweep(config.run_dir)
    return found


def _measure_regime(regime: str, config: Config, rounds: int, seconds: float, *, peers: bool) -> dict[str, Any]:
    skipped: dict[str, str] = {}
    wanted = {"litserve": "litserve", "rayserve": "ray"}
    for name, module in wanted.items():
        if not peers:
            skipped[name] = "not part of the quick form"
        elif importlib.util.find_spec(module) is None:
            skipped[name] = "not installed: pip install .[bench]"
    with opened(Haetae(regime, config)) as ours:
        with opened(Direct(regime)) as direct:
            found = in_turns({"haetae": ours.run, "direct": direct.run}, rounds, seconds)
            if regime == "heavy":
                found["overload"] = overload(ours, found["haetae_fps"], 3 * seconds)
        if "litserve" not in skipped:
            with opened(Http("litserve", regime)) as peer:
                found = in_turns({"haetae": ours.run, "litserve": peer.run}, rounds, seconds) | found
        if "rayserve" not in skipped:
            with opened(RayHandle(regime)) as peer:
                ways = {"haetae": ours.run, "rayserve": peer.run_handle, "rayserve_http": peer.run}
                found = in_turns(ways, rounds, seconds) | found
    return found | ({"skipped": skipped} if skipped else {})


def tell_device(device: str, *, quick: bool, as_json: bool) -> None:
    """Prints what was measured there, or why it could not be; exit code 1 then."""
    from bench.devices import measure_device  # noqa: PLC0415 - torch, which nothing else here needs

    try:
        found = measure_device(device, quick=quick)
    except HaetaeError as error:
        raise SystemExit(f"{error} ({error.hint})") from error
    if as_json:
        print(json.dumps(found))
        return
    print(found.pop("device"))
    for name, batches in found.items():
        if "skipped" in batches:
            print(f"{name}: skipped, {batches['skipped']}")
            continue
        for batch, row in batches.items():
            print(
                f"{name} x {batch:>2}: {row['fps']:8.0f} frames/s, {row['over_plain']:.2f} of the bare net's; "
                f"{row['hidden']:.0%} of preparation hidden"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="a few seconds, less precise, without the peers")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="measure the types that run nets on it instead")
    args = parser.parse_args()
    if args.device:
        tell_device(args.device, quick=args.quick, as_json=args.json)
        return
    found = measure(quick=args.quick)
    if args.json:
        print(json.dumps(found))
        return
    for regime, row in found.items():
        print(f"{regime}: {row['haetae_fps']:.0f} frames/s, p99 {row['haetae_p99_ms']:.1f} ms")
        for name in ("direct", "litserve", "rayserve", "rayserve_http"):
            if f"{name}_fps" in row:
                late = f", its p99 {row[f'{name}_p99_ms']:.1f} ms" if f"{name}_p99_ms" in row else ""
                print(f"  {row[f'throughput_over_{name}']:.2f} times {name} ({row[f'{name}_fps']:.0f} frames/s{late})")
        for name, reason in row.get("skipped", {}).items():
            print(f"  {name} skipped: {reason}")
        if over := row.get("overload"):
            print(
                f"  at twice the load: worst share off by {over['worst_share_error']:.1%}, age p99 "
                f"{over['age_p99_ms']:.0f} ms (limit {over['age_limit_ms']:.0f}), unanswered {over['unanswered']}"
            )


if __name__ == "__main__":
    main()
