"""The inference process: every request gets exactly one answer, whatever else is sent to it, and at its end too."""

import json
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from core.errors import RemoteError
from core.frames import FrameFormat, RingWriter
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.wire.messages import (
    ErrorReply,
    FinishLearning,
    FrameRef,
    GetState,
    GetStatistics,
    InferenceReply,
    Ping,
    Pong,
    ScoreReply,
    ScoreRequest,
)
from core.wire.rpc import RequestClient
from tests.integration.test_api_flow import until
from workers.process import process_environment, spawn

TOUCHY = """
import sys, time
from functools import partial
from pathlib import Path
import numpy as np
import workers.inference.__main__ as process
from workers.inference.pool import ResourcePool
from workers.inference.vad.motion_stats import MotionStats

go = Path(sys.argv[1])

class Touchy(MotionStats):
    "Waits with plain frames for the file; one of 255 makes the whole batch fail, and only two rows find memory."
    def process(self, rows, executor=None):
        while any(np.ptp(row.prepared.grey) == 0 for row in rows) and not go.exists():
            time.sleep(0.005)
        if len(rows) > 2:
            raise MemoryError("no room for so many")
        if any(row.prepared.grey.max() == 255 for row in rows):
            raise ValueError("no kernel takes this")
        return super().process(rows, executor)

pool = ResourcePool(1, lambda name, threads: Touchy())
process.InferenceServer = partial(process.InferenceServer, pool=pool)
sys.exit(process.main([]))
"""


def wait_for(process, config) -> None:
    deadline = time.monotonic() + 90
    while read_heartbeat(config.run_dir, "inference") is None:
        assert process.poll() is None, "it ended at once"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def end(process) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(60)


@pytest.fixture
def inference(config):
    process = spawn("inference", config=config)
    wait_for(process, config)
    yield process
    end(process)


@pytest.fixture
def touchy(config):
    process = subprocess.Popen(
        [sys.executable, "-c", TOUCHY, str(config.data_dir / "go")], env=process_environment(config)
    )
    wait_for(process, config)
    yield process
    end(process)


@pytest.fixture
def client(config):
    with zmq.Context() as context:
        made = RequestClient(context, config.endpoint("inference"), InferenceReply)
        yield made
        made.close()


@pytest.fixture
def rings(config):
    made: dict[str, RingWriter] = {}

    def write(camera: str, value: int, width: int = 64, height: int = 48) -> FrameRef:
        if camera not in made:
            made[camera] = RingWriter.create(
                config.run_dir, CameraId(camera), "analysis", FrameFormat(width, height), 8
            )
        with made[camera].write(0.0, 0, 0) as slot:
            slot.pixels[...] = value
            return slot.ref

    yield write
    for writer in made.values():
        writer.close()


def ask(frame: FrameRef, media_s: float = 0.0, **more) -> ScoreRequest:
    more = {"learn": True, **more}
    return ScoreRequest(frame=frame, media_s=media_s, vad_type="motion_stats", normality_id=frame.camera_id, **more)


def replies(client: RequestClient, wanted: set[int], timeout_s: float = 60) -> dict[int, object]:
    found: dict[int, object] = {}
    deadline = time.monotonic() + timeout_s
    while wanted - found.keys():
        assert time.monotonic() < deadline, f"no answer to {sorted(wanted - found.keys())}"
        for request_id, reply in client.receive(0.2):
            assert request_id not in found
            found[request_id] = reply
    return found


def test_garbage_on_the_socket_harms_nobody(config, inference, client):
    with zmq.Context() as context, context.socket(zmq.DEALER) as vandal:
        vandal.setsockopt(zmq.LINGER, 0)
        vandal.connect(config.endpoint("inference"))
        rng = np.random.default_rng(3)
        for size in (0, 1, 7, 300, 100_000):
            junk = rng.integers(0, 256, size, np.uint8).tobytes()
            vandal.send(junk)
            vandal.send_multipart([junk, junk])
            vandal.send_multipart([b"\x93\x01\x05\x00", junk])  # a good header
            vandal.send_multipart([b"\x93\x63\x05\x00", b"\x80"])  # of another protocol
            vandal.send_multipart([junk] * 5)
        assert isinstance(client.call(Ping(), 60.0), Pong)
    assert inference.poll() is None


def test_a_flood_of_requests_is_answered_one_by_one(inference, client, rings):
    wanted = {client.send(ask(rings(f"cam-{n % 5}", n), n / 10), 60.0) for n in range(200)}
    statuses = [getattr(reply, "status", reply) for reply in replies(client, wanted).values()]
    assert set(statuses) <= {"learning", "superseded", "gone"}
    assert statuses.count("learning") >= 5
    statistics = client.call(GetStatistics(), 60.0)
    assert statistics.waiting == 0
    assert statistics.learned + statistics.superseded + statistics.gone == 200


def test_what_is_wrong_with_one_request_is_its_own_answer(inference, client, rings):
    good = [rings(f"good-{n}", 10) for n in range(3)]
    tiny = rings("tiny", 10, width=16, height=16)
    gone = FrameRef(good[0].camera_id, "analysis", good[0].epoch, 12345)
    nowhere = FrameRef(CameraId("nowhere"), "analysis", 1, 1)
    requests = {
        "good": [ask(frame) for frame in good],
        "bad_state": [ask(tiny)],
        "gone": [ask(nowhere)],
        "no_state": [ScoreRequest(frame=good[0], media_s=0, vad_type="motion_stats", normality_id="other")],
        "unknown_type": [ScoreRequest(frame=good[0], media_s=0, vad_type="crystal_ball", normality_id="x")],
        "bad_request": [ScoreRequest(frame=good[0], media_s=0, vad_type="motion_stats", normality_id="../up")],
    }
    sent = {client.send(request, 60.0): kind for kind, some in requests.items() for request in some}
    for request_id, reply in replies(client, set(sent)).items():
        said = reply.code if isinstance(reply, ErrorReply) else reply.status
        assert said == {"good": "learning"}.get(sent[request_id], sent[request_id])
    [late] = replies(client, {client.send(ask(gone, 1.0), 60.0)}).values()
    assert isinstance(late, ScoreReply)
    assert late.status == "gone"


def test_sigterm_answers_what_is_pending(touchy, config, client, rings):
    frames = [rings(f"cam-{n}", n) for n in range(20) for _ in range(3)]
    wanted = {client.send(ask(frame, lossless=True), 60.0) for frame in frames}
    ping = client.send(Ping(), 60.0)
    found = replies(client, {ping})  # so all that was sent before has come
    touchy.send_signal(signal.SIGTERM)
    (config.data_dir / "go").touch()
    found |= replies(client, wanted - found.keys())
    said = [found[one].code if isinstance(found[one], ErrorReply) else found[one].status for one in wanted]
    assert set(said) == {"learning", "stopping"}
    assert touchy.wait(60) == 0


def test_a_row_that_fails_its_batch_fails_alone_and_too_large_batches_are_halved(touchy, config, client, rings):
    first = client.send(ask(rings("warm", 1), 0.0), 60.0)  # keeps the model busy while the others come
    wanted = {client.send(ask(rings(f"cam-{n}", 255 if n == 4 else n), 0.0), 60.0): n for n in range(8)}
    pong = client.send(Ping(), 60.0)
    found = replies(client, {pong})  # so all the others have come
    (config.data_dir / "go").touch()
    found |= replies(client, {first, *wanted} - found.keys())
    del found[pong]
    assert found.pop(first).status == "learning"
    for request_id, reply in found.items():
        if wanted[request_id] == 4:
            assert (reply.code, "kernel" in reply.message) == ("internal", True)
        else:
            assert reply.status == "learning"
    statistics = client.call(GetStatistics(), 60.0)
    assert statistics.retried >= 1
    again = {client.send(ask(rings(f"cam-{n}", 9), 1.0), 60.0) for n in range(8)}
    assert all(reply.status == "learning" for reply in replies(client, again).values())


def test_a_state_is_asked_for_while_frames_are_scored(inference, client, rings):
    wanted = {client.send(ask(rings("cam", n), n / 10), 60.0) for n in range(20)}
    state = client.send(GetState(vad_type="motion_stats", normality_id="cam"), 60.0)
    found = replies(client, {*wanted, state})
    assert found[state].state == "learning"
    with pytest.raises(RemoteError, match="unknown"):
        client.call(GetState(vad_type="crystal_ball", normality_id="cam"), 60.0)


TRAINS = """
import sys
from functools import partial
from workers.inference import __main__ as process
from workers.inference.pool import ResourcePool
from workers.inference.vad.synthetic import Synthetic

pool = ResourcePool(1, lambda name, threads: Synthetic(steps=int(sys.argv[1])))
process.InferenceServer = partial(process.InferenceServer, pool=pool)
sys.exit(process.main([]))
"""


@pytest.fixture
def training(config):
    """Inference whose one type trains for so many steps."""
    started = []

    def start(steps: int):
        process = subprocess.Popen([sys.executable, "-c", TRAINS, str(steps)], env=process_environment(config))
        started.append(process)
        wait_for(process, config)
        return process

    yield start
    for process in started:
        end(process)


def learn_by_training(client, rings) -> None:
    for n in range(50):
        request = ask(rings("cam", n), n / 10, lossless=True)
        reply = client.call(msgspec.structs.replace(request, vad_type="synthetic"), timeout_s=60)
        assert reply.status in ("learning", "scored")


def test_a_camera_is_scored_while_its_net_is_trained_and_by_the_net_afterwards(training, config, client, rings):
    training(2)
    learn_by_training(client, rings)
    of_camera = {"vad_type": "synthetic", "normality_id": "cam"}
    reply = client.call(FinishLearning(**of_camera), timeout_s=60)
    assert (reply.state, reply.state_version, reply.file) == ("provisional", 0, "")
    deadline, version, n = time.monotonic() + 120, 0, 50
    while version == 0:
        assert time.monotonic() < deadline
        request = ask(rings("cam", n % 200), n / 10, learn=False)
        scored = client.call(msgspec.structs.replace(request, vad_type="synthetic"), timeout_s=60)
        assert scored.status == "scored"
        version, n = scored.state_version, n + 1
    known = client.call(GetState(**of_camera), 60.0)
    assert (known.state_version, known.file) == (1, "synthetic/cam/1.safetensors")
    assert (config.states_dir / known.file).exists()


def test_inference_that_trains_stops_at_once(training, client, rings):
    process = training(1_000_000)
    learn_by_training(client, rings)
    client.call(FinishLearning(vad_type="synthetic", normality_id="cam"), timeout_s=60)
    process.terminate()
    assert process.wait(60) == 0


def watch(client: RequestClient, rings, begin_s: int, end_s: int) -> None:
    """An ordinary camera at two frames a second, as fast as inference answers."""
    for n in range(begin_s * 2, end_s * 2):
        request = ask(rings("cam", 100 + n % 3), n / 2, learn=False, ordinary_below=2.0)
        assert client.call(request, timeout_s=60).status == "scored"


def learned_on(config) -> dict[str, Any]:
    """What the file says that keeps what is learned on."""
    with np.load(config.states_dir / "motion_stats" / "cam" / "drift.npz") as stored:
        return json.loads(str(stored["head"]))


def test_what_is_learned_on_goes_on_after_inference_was_killed_and_after_it_was_stopped(config, client, rings):
    kept = config.states_dir / "motion_stats" / "cam" / "drift.npz"
    log, saves = config.logs_dir / "inference.log", {"HAETAE_VAD__DRIFT_SAVE_H": "0.01"}

    def start():
        with log.open("ab") as file:
            process = spawn("inference", config=config, stderr=file, environment=saves)
        wait_for(process, config)
        return process

    process = start()
    try:
        for n in range(80):
            assert client.call(ask(rings("cam", 100 + n % 3), n / 10, lossless=True), timeout_s=60).status
        assert client.call(FinishLearning(vad_type="motion_stats", normality_id="cam"), timeout_s=60).file
        watch(client, rings, 100, 240)
        until("it is saved as time goes by", kept.exists)
        process.kill()
        process.wait(60)
        first = learned_on(config)
        assert first["older"]["frames"] >= 8
        assert first["watched_s"] > 36

        process = start()
        watch(client, rings, 1000, 1140)
        until("it goes on and is saved", lambda: learned_on(config)["watched_s"] > first["watched_s"])
        second = learned_on(config)
        assert second["older"]["frames"] >= first["older"]["frames"] + 8
        assert "drift_goes_on" in log.read_text()
        watch(client, rings, 1140, 1150)
        process.terminate()
        assert process.wait(60) == 0
        assert learned_on(config)["watched_s"] > second["watched_s"] + 8

        kept.write_bytes(b"PK\x03\x04 of somebody else")
        process = start()
        watch(client, rings, 2000, 2140)
        until("it is put aside", lambda: "drift_put_aside" in log.read_text())
        until("and what follows is saved", kept.exists)
        assert client.call(GetState(vad_type="motion_stats", normality_id="cam")).state_version == 1
    finally:
        end(process)
