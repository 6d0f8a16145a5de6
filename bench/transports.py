"""Ways to bring frames from one process to another: the frame bus and its peers, each at its best, all the same way.

Each is a `Producer`, which lives in a process of its own, and a `Consumer`, which lives in the benchmark's. All are
lossless here: `credits`, where a way has no flow control of its own, are frames that may be on their way.
A peer is spared the write of the frame where it can send from where the decoder left it.
"""

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import zmq

from core.frames import Doorbell, FrameFormat, RingReader, RingWriter, segments
from core.ids import CameraId
from core.wire.messages import FrameRef

__all__ = ["TRANSPORTS", "Pair", "missing", "pair"]

SLOTS = 6
AHEAD = SLOTS - 2
"""Frames on their way at most: one slot is being written, one read."""
SOURCES = 8
"""Frames that are sent in turn: a decoder does not write the same one again and again, hot in the cache, either."""
TIMEOUT_S = 10.0
CAMERA = CameraId("bench")


class Producer(Protocol):
    def send(self, frame: np.ndarray) -> None: ...
    def close(self) -> None: ...


class Consumer(Protocol):
    def receive(self) -> int:
        """Waits for the next frame and adds its first and last byte."""
        ...

    def close(self) -> None: ...


class Shared:
    """What both ends are given."""

    def __init__(self, run_dir: Path, fmt: FrameFormat) -> None:
        context = multiprocessing.get_context("spawn")
        self.run_dir, self.fmt = run_dir, fmt
        self.credits = context.Semaphore(AHEAD)
        self.queue: Any = context.Queue(AHEAD)
        self.name = f"bench-{os.getpid()}-{time.monotonic_ns()}"

    def spend(self) -> None:
        if not self.credits.acquire(timeout=TIMEOUT_S):
            raise TimeoutError("nobody takes the frames")


# ---- ours


class RingProducer:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._writer = RingWriter.create(shared.run_dir, CAMERA, "main", shared.fmt, SLOTS)

    def send(self, frame: np.ndarray) -> None:
        self._shared.spend()
        with self._writer.write(0.0, 0, 0) as slot:
            np.copyto(slot.pixels, frame)

    def close(self) -> None:
        self._writer.close()


class RingConsumer:
    def __init__(self, shared: Shared) -> None:
        self._credits = shared.credits
        self._bell = Doorbell(shared.run_dir, shared.name)
        self._reader = RingReader.open(shared.run_dir, CAMERA, "main")
        self._seq = 0

    def receive(self) -> int:
        while (ref := self._reader.latest()) is None or ref.seq == self._seq:
            self._bell.wait(0.1)
        self._seq += 1
        with self._reader.read(FrameRef(CAMERA, "main", ref.epoch, self._seq)) as frame:
            seen = int(frame.pixels.flat[0]) + int(frame.pixels.flat[-1])
        self._credits.release()
        return seen

    def close(self) -> None:
        self._reader.close()
        self._bell.close()


# ---- multiprocessing.Queue


class QueueProducer:
    def __init__(self, shared: Shared) -> None:
        self._queue = shared.queue

    def send(self, frame: np.ndarray) -> None:
        self._queue.put(frame, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._queue.close()


class QueueConsumer:
    def __init__(self, shared: Shared) -> None:
        self._queue = shared.queue

    def receive(self) -> int:
        frame = self._queue.get(timeout=TIMEOUT_S)
        return int(frame.flat[0]) + int(frame.flat[-1])

    def close(self) -> None:
        self._queue.close()


# ---- pyzmq, copy=False


def _zmq_socket(shared: Shared, kind: int) -> Any:
    socket = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, AHEAD)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.SNDTIMEO, round(TIMEOUT_S * 1000))
    socket.setsockopt(zmq.RCVTIMEO, round(TIMEOUT_S * 1000))
    endpoint = f"ipc://{shared.run_dir / 'zmq.sock'}"
    socket.bind(endpoint) if kind == zmq.PUSH else socket.connect(endpoint)
    return socket


class ZmqProducer:
    def __init__(self, shared: Shared) -> None:
        self._socket = _zmq_socket(shared, zmq.PUSH)

    def send(self, frame: np.ndarray) -> None:
        self._socket.send(frame, copy=False)

    def close(self) -> None:
        self._socket.close()


class ZmqConsumer:
    def __init__(self, shared: Shared) -> None:
        self._socket = _zmq_socket(shared, zmq.PULL)

    def receive(self) -> int:
        buffer = self._socket.recv(copy=False).buffer
        return buffer[0] + buffer[-1]

    def close(self) -> None:
        self._socket.close()


# ---- iceoryx2, its pool tuned to as many slots


def _iceoryx(shared: Shared, history: int) -> tuple[Any, Any, Any]:
    iox2: Any = importlib.import_module("iceoryx2")
    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    pixels = (
        node.service_builder(iox2.ServiceName.new(f"{shared.name}-pixels"))
        .publish_subscribe(iox2.Slice[ctypes.c_uint8])
        .max_publishers(1)
        .max_subscribers(1)
        .subscriber_max_buffer_size(max(AHEAD, history))
        .history_size(history)
        .subscriber_max_borrowed_samples(1)
        .enable_safe_overflow(False)
        .open_or_create()
    )
    bell = node.service_builder(iox2.ServiceName.new(f"{shared.name}-bell")).event().open_or_create()
    return iox2, pixels, (node, bell)


class IceoryxProducer:
    history = 0
    """Older frames that a reader may still ask for."""

    def __init__(self, shared: Shared) -> None:
        iox2, pixels, self._kept = _iceoryx(shared, self.history)
        self._size = shared.fmt.nbytes
        self._shared = shared
        self._publisher = (
            pixels.publisher_builder()
            .initial_max_slice_len(self._size)
            .max_loaned_samples(1)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        self._notifier = self._kept[1].notifier_builder().create()

    def send(self, frame: np.ndarray) -> None:
        self._shared.spend()
        sample = self._publisher.loan_slice_uninit(self._size)
        ctypes.memmove(sample.payload_ptr, frame.ctypes.data, self._size)
        sample.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        self._publisher.delete()
        self._notifier.delete()


class IceoryxConsumer:
    history = 0

    def __init__(self, shared: Shared) -> None:
        iox2, pixels, self._kept = _iceoryx(shared, self.history)
        self._credits, self._size = shared.credits, shared.fmt.nbytes
        self._subscriber = pixels.subscriber_builder().create()
        self._listener = self._kept[1].listener_builder().create()
        self._wait = iox2.Duration.from_millis(100)

    def receive(self) -> int:
        while (sample := self._subscriber.receive()) is None:
            self._listener.timed_wait(self._wait)
        first, byte = sample.payload_ptr, ctypes.c_uint8
        seen = byte.from_address(first).value + byte.from_address(first + self._size - 1).value
        sample.delete()
        self._credits.release()
        return seen

    def close(self) -> None:
        self._subscriber.delete()
        self._listener.delete()


# ---- iceoryx2 that keeps as many older frames as the ring does, instead of filling the same slot again


class KeepingIceoryxProducer(IceoryxProducer):
    history = SLOTS - 1


class KeepingIceoryxConsumer(IceoryxConsumer):
    history = SLOTS - 1


# ---- a segment for each slot, opened and closed for each frame, its name sent through a queue


class SegmentProducer:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._names = [f"{shared.name}-{number}" for number in range(SLOTS)]
        for name in self._names:
            segments.create(name, shared.fmt.nbytes, 1.0).close()
        self._next = 0

    def send(self, frame: np.ndarray) -> None:
        self._shared.spend()
        name = self._names[self._next]
        self._next = (self._next + 1) % SLOTS
        segment = segments.attach(name)
        pixels = np.frombuffer(cast("memoryview", segment.buf), np.uint8, frame.size)
        np.copyto(pixels.reshape(frame.shape), frame)
        del pixels
        segment.close()
        self._shared.queue.put(name, timeout=TIMEOUT_S)

    def close(self) -> None:
        for name in self._names:
            segments.unlink(name)


class SegmentConsumer:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def receive(self) -> int:
        segment = segments.attach(self._shared.queue.get(timeout=TIMEOUT_S))
        view = cast("memoryview", segment.buf)
        seen = view[0] + view[self._shared.fmt.nbytes - 1]
        del view
        segment.close()
        self._shared.credits.release()
        return seen

    def close(self) -> None:
        pass


TRANSPORTS: dict[str, tuple[type[Any], type[Any]]] = {
    "ring": (RingProducer, RingConsumer),
    "queue": (QueueProducer, QueueConsumer),
    "zmq": (ZmqProducer, ZmqConsumer),
    "iceoryx2": (IceoryxProducer, IceoryxConsumer),
    "iceoryx2_keeping": (KeepingIceoryxProducer, KeepingIceoryxConsumer),
    "segment_per_frame": (SegmentProducer, SegmentConsumer),
}


def missing(name: str) -> str:
    """Why this way cannot be measured here; "" where it can."""
    if not name.startswith("iceoryx2"):
        return ""
    try:
        importlib.import_module("iceoryx2")
    except ImportError as error:
        return f"not installed: {error}"
    return ""


def _produce(name: str, shared: Shared, control: Connection) -> None:
    """The producer's process: for each number that it is told it sends so many frames and tells its CPU seconds."""
    producer: Producer = TRANSPORTS[name][0](shared)
    frames = [np.random.default_rng(1).integers(0, 255, shared.fmt.shape, np.uint8) for _ in range(SOURCES)]
    control.send(int(frames[0].flat[0]) + int(frames[0].flat[-1]))
    while count := control.recv():
        begun = time.process_time()
        for number in range(count):
            producer.send(frames[number % SOURCES])
        control.send(time.process_time() - begun)
    producer.close()


class Pair:
    """A producer in a process of its own, and its consumer here."""

    def __init__(self, name: str, run_dir: Path, fmt: FrameFormat) -> None:
        shared = Shared(run_dir, fmt)
        self._control, far = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_produce, args=(name, shared, far), daemon=True)
        self._process.start()
        far.close()
        self._sum: int = self._control.recv()
        self._consumer: Consumer = TRANSPORTS[name][1](shared)

    def run(self, frames: int) -> tuple[float, float]:
        """Frames a second, and the CPU seconds of both ends for each frame."""
        cpu, begun = time.process_time(), time.perf_counter()
        self._control.send(frames)
        for _ in range(frames):
            if self._consumer.receive() != self._sum:
                raise AssertionError("another frame came than was sent")
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        return frames / took, (cpu + self._control.recv()) / frames

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._control.send(0)
        self._consumer.close()
        self._process.join(TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()


@contextlib.contextmanager
def pair(name: str, run_dir: Path, fmt: FrameFormat) -> Iterator[Pair]:
    made = Pair(name, run_dir, fmt)
    try:
        yield made
    finally:
        made.close()
