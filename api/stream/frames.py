"""The frames socket: live pictures straight from the rings, encoded once for all who watch, the newest only.

A stream is one camera in one size. While anybody watches, the hub waits for the frame that is due, has it encoded in a
thread, and hands it to each viewer that has credit and room; whoever has none gets a newer one later.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import cv2
import msgspec
import structlog

from api.services import Services
from api.stream.outlet import Outlet, framed
from api.stream.pictures import Picture, encode, header
from api.stream.viewers import HEARTBEAT_S, Ended, SocketViewer, Viewers
from core.cameras.live import LiveView, read_live
from core.errors import BusError, FrameGone
from core.frames import Doorbell, RingReader
from core.ids import CameraId
from core.metrics import Sample, counter, gauge
from core.rest.stream import CameraView, Credit, FrameSize, Hello, Ready, Watch, WatchedCamera, Watching
from core.security.permissions import Principal
from core.wire.messages import FrameRef

__all__ = ["FrameHub", "FrameViewer", "StreamKey"]

log = structlog.get_logger()

EARLY = 0.25
"""Share of a period by which a frame may come early: the next would be later than it should."""
LATE = 0.5
"""Share of a period that a newer frame is waited for, where the newest is old already."""
FRESH_S = 0.04
"""A frame that was captured so lately is as new as they come."""
LOOK_S = 0.1
"""A bell is a hint: how often it is looked without one."""
GONE_S = 2.0
"""Without a new frame for so long there is no picture."""
REOPEN_S = 0.5
WATCH_S = 2.0
SILENT_S = 10.0
"""A stream for another program ends where no picture came for so long."""
TRIES = 3
MAX_CREDIT = 1000
MAX_CHANNEL = 0xFFFF


class StreamKey(msgspec.Struct, frozen=True, order=True):
    """What is encoded once."""

    camera_id: CameraId
    size: FrameSize


class _Subscription:
    """One viewer's part in one stream."""

    __slots__ = ("fps", "heat", "missed", "next_due", "seq", "viewer")

    def __init__(self, viewer: "_Taker", fps: float, *, heat: bool) -> None:
        self.viewer, self.fps, self.heat = viewer, fps, heat
        self.next_due = 0.0
        self.seq = 0
        """Of the last frame that it got."""
        self.missed = False
        """A frame was left out, and a newer one is wanted as soon as may be."""

    def due(self, now: float, fps: float) -> bool:
        """As near to its rate as the camera's own rate allows; `fps` is what the stream is encoded at."""
        return self.fps >= fps or now + EARLY / self.fps >= self.next_due

    def served(self, seq: int, now: float) -> None:
        self.seq, self.next_due, self.missed = seq, _next_due(self.next_due, self.fps, now), False


def _next_due(due: float, fps: float, now: float) -> float:
    """A period later; whoever fell behind does not catch up."""
    return due + 1 / fps if now < due + 1 / fps else now + 1 / fps


class _Taker(Protocol):
    """Whoever gets pictures."""

    @property
    def ready(self) -> bool:
        """Whether it would take one now."""
        ...

    def take(self, one: _Subscription, stream: "_Stream") -> bool:
        """False where it cannot after all."""
        ...

    def end(self, code: str, message: str) -> None: ...


class _Stream:
    """One camera in one size, while anybody watches it."""

    def __init__(self, key: StreamKey, channel: int) -> None:
        self.key, self.channel = key, channel
        self.subscriptions: list[_Subscription] = []
        self.reader: RingReader | None = None
        self.opened_at = 0.0
        self.seq = 0
        """Of the picture."""
        self.newest = 0
        """Of the newest frame in the ring, and when it was first seen."""
        self.seen_at = 0.0
        self.next_due = 0.0
        self.encoding = False
        self.picture: Picture | None = None
        self.live: LiveView | None = None
        self._ready: dict[bool, bytes] = {}

    @property
    def fps(self) -> float:
        return max(one.fps for one in self.subscriptions)

    def show(self, picture: Picture, live: LiveView | None) -> None:
        self.picture, self.live = picture, live
        self._ready = {}

    def message(self, *, heat: bool) -> bytes:
        """Framed for the wire, once for all who want the same."""
        if heat not in self._ready:
            assert self.picture
            self._ready[heat] = framed(header(self.channel, self.picture, self.live, heat=heat), self.picture.jpeg)
        return self._ready[heat]

    def has_picture(self, now: float) -> bool:
        return self.picture is not None and now - self.seen_at < GONE_S

    def wanted(self, now: float) -> bool:
        """Whether anybody would take a picture now."""
        fps = self.fps
        return any(one.viewer.ready and one.due(now, fps) for one in self.subscriptions)

    def close(self) -> None:
        if self.reader:
            self.reader.close()
            self.reader = None


class _Made(msgspec.Struct, frozen=True):
    """What an encoding thread gives back."""

    picture: Picture
    live: LiveView | None
    took_s: float
    """CPU time."""


class FrameViewer(SocketViewer):
    """One frames socket: any number of cameras."""

    def __init__(self, connection: Any, outlet: Outlet, principal: Principal, hub: "FrameHub") -> None:
        super().__init__(connection, outlet, principal)
        self._hub = hub
        self.credit = 0
        self._wanted: tuple[CameraView, ...] = ()
        self._subscribed: dict[StreamKey, _Subscription] = {}
        self._told: list[WatchedCamera] | None = None
        self._watching = True

    async def opened(self, hello: Hello) -> None:  # noqa: ARG002 - frames have no past
        self.send(Ready(sequence=0, heartbeat_s=HEARTBEAT_S))

    def received(self, message: Watch | Credit) -> None:
        if isinstance(message, Credit):
            self.credit = min(MAX_CREDIT, self.credit + message.frames)
            self.room()
            return
        self._wanted = tuple({(view.camera_id, view.size): view for view in message.cameras}.values())
        self._told = None
        camera_ids = [view.camera_id for view in self._wanted]
        if self.services.knows_lately(*camera_ids):
            self._subscribe()
        else:
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, self.services.read_cameras, *camera_ids).add_done_callback(self._looked_up)

    def _looked_up(self, cameras: "asyncio.Future[None]") -> None:
        if not cameras.cancelled() and (error := cameras.exception()):
            log.warning("cameras_not_read", reason=str(error))  # those known before are shown
        if self._watching:
            self._subscribe()

    def _subscribe(self) -> None:
        """Watches what is wanted and may be seen, and nothing else."""
        limits = self.services.config.api
        allowed = {
            StreamKey(CameraId(view.camera_id), view.size): view
            for view in self._wanted
            if self.principal.sees(view.camera_id) and self._hub.exists(view.camera_id)
        }
        for key in self._subscribed.keys() - allowed.keys():
            self._hub.leave(key, self._subscribed.pop(key))
        for key, view in allowed.items():
            fps = min(view.fps or limits.frames_per_s, limits.frames_per_s_max)
            one = self._subscribed.get(key)
            if one is None:
                one = _Subscription(self, fps, heat=view.heat)
                if not self._hub.join(key, one):
                    continue
                self._subscribed[key] = one
                self._hub.audit(self.connection, key.camera_id)
            one.fps, one.heat = fps, view.heat
        self.tell()

    @property
    def ready(self) -> bool:
        return self.credit > 0 and self.outlet.has_room

    def take(self, one: _Subscription, stream: _Stream) -> bool:
        if not self.ready:
            self.skipped += 1
            return False
        self.credit -= 1
        self.outlet.push(stream.message(heat=one.heat))
        return True

    def room(self) -> None:
        """Whatever was left out longest comes first."""
        waiting = [(one.next_due, key, one) for key, one in self._subscribed.items() if one.missed]
        for _, key, one in sorted(waiting, key=lambda item: item[:2]):
            if not self.ready:
                return
            self._hub.serve_late(key, one)

    def tell(self) -> None:
        """What is shown and what is not, where that has changed."""
        if not self._wanted and not self._told:
            return
        channels: list[WatchedCamera] = []
        for view in self._wanted:
            key = StreamKey(CameraId(view.camera_id), view.size)
            one = self._subscribed.get(key)
            channel, live, has_picture = self._hub.state(key) if one else (0, None, False)
            channels.append(
                WatchedCamera(
                    camera_id=view.camera_id,
                    size=view.size,
                    channel=channel,
                    problem="not_found" if not one else "" if has_picture else "no_picture",
                    fps=one.fps if one else 0.0,
                    heat=bool(one and one.heat),
                    phase=live.phase if live else None,
                    fault=live.fault if live else None,
                )
            )
        if channels != self._told:
            self._told = channels
            self.send(Watching(channels=channels))

    def changed(self) -> None:
        self._subscribe()

    def closed(self) -> None:
        self._watching = False
        for key, one in self._subscribed.items():
            self._hub.leave(key, one)
        self._subscribed.clear()


class _PictureViewer:
    """A stream of pictures for another program, over HTTP: one camera."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.ended = ""
        self.wake = asyncio.Event()
        self.stream: _Stream | None = None

    def end(self, code: str, message: str) -> None:  # noqa: ARG002 - HTTP has no word for it
        self.ended = code
        self.wake.set()

    def changed(self) -> None:
        self.wake.set()

    @property
    def ready(self) -> bool:
        return self.stream is None

    def take(self, one: _Subscription, stream: _Stream) -> bool:  # noqa: ARG002
        self.stream = stream
        self.wake.set()
        return True


class FrameHub:
    """All streams that are watched; of one event loop, with threads that encode."""

    def __init__(self, services: Services, viewers: Viewers) -> None:
        self._services, self._viewers = services, viewers
        self._config = services.config
        self._streams: dict[StreamKey, _Stream] = {}
        self._number = 0
        self._threads: ThreadPoolExecutor | None = None
        self._bell: Doorbell | None = None
        self._next: asyncio.Handle | None = None
        """When the rings are looked at next."""
        self._told_at = 0.0
        self._watched: dict[CameraId, float] = {}
        self.encoded = self.sent = self.torn = self.failed = 0
        self.encode_s = 0.0

    # ---- coming and going

    def exists(self, camera_id: str) -> bool:
        """Whether there was such a camera when that was looked up last."""
        return self._services.remembers_camera(camera_id)

    def join(self, key: StreamKey, one: _Subscription) -> bool:
        """False where channels have run out."""
        stream = self._streams.get(key)
        if stream is None:
            number = self._free_number()
            if not number:
                return False
            self._streams[key] = stream = _Stream(key, number)
        stream.subscriptions.append(one)
        one.missed = True
        self.serve_late(key, one)
        self._look_soon()
        return True

    def _free_number(self) -> int:
        """A channel's number that was not used lately: frames of another may be on their way; 0 where none is free."""
        used = {stream.channel for stream in self._streams.values()}
        for _ in range(len(used) + 1):
            self._number = self._number % MAX_CHANNEL + 1
            if self._number not in used:
                return self._number
        return 0

    def leave(self, key: StreamKey, one: _Subscription) -> None:
        stream = self._streams.get(key)
        if stream is None or one not in stream.subscriptions:
            return
        stream.subscriptions.remove(one)
        if not stream.subscriptions:
            del self._streams[key]
            if not stream.encoding:
                stream.close()

    def audit(self, connection: Any, camera_id: CameraId) -> None:
        """Who looks at what is remembered, in a thread."""
        asyncio.get_running_loop().run_in_executor(None, self._audit, connection, camera_id)

    def _audit(self, connection: Any, camera_id: CameraId) -> None:
        try:
            self._services.audit_view(connection, camera_id, "live")
        except Exception:
            log.exception("view_not_audited")

    def state(self, key: StreamKey) -> tuple[int, LiveView | None, bool]:
        """(channel, what the camera last said of itself, whether there is a picture)."""
        stream = self._streams[key]
        return stream.channel, stream.live, stream.has_picture(time.monotonic())

    async def close(self) -> None:
        self._rest()
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        if self._threads:
            self._threads.shutdown(wait=True)
            self._threads = None

    # ---- looking at the rings: callbacks, since a task and its time-outs would cost more than what they do here

    def _look_soon(self) -> None:
        if self._next:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._next = None
        if not self._streams:
            self._rest()
            return
        loop = asyncio.get_running_loop()
        try:
            if self._bell is None:
                self._bell = Doorbell(self._config.run_dir, f"api-{os.getpid()}")
                loop.add_reader(self._bell.fileno(), self._on_bell, self._bell)
            now = time.monotonic()
            if any(self._is_due(stream, now) for stream in self._streams.values()):
                self._bell.answer()  # before the rings are looked at: what comes later rings again
            wait_s = self._turn(now)
        except Exception:
            log.exception("frames_not_served")
            self.failed += 1
            for viewer in {one.viewer for stream in self._streams.values() for one in stream.subscriptions}:
                viewer.end("unavailable", "pictures cannot be served; the log says why")
            wait_s = REOPEN_S
        self._next = loop.call_later(wait_s, self._look)

    def _rest(self) -> None:
        """Nobody watches: no bell is rung for nothing."""
        if self._next:
            self._next.cancel()
            self._next = None
        if self._bell:
            asyncio.get_running_loop().remove_reader(self._bell.fileno())
            self._bell.close()
            self._bell = None

    def _on_bell(self, bell: Doorbell) -> None:
        """It stays silent until something is due again."""
        bell.hush()
        self._look_soon()

    @staticmethod
    def _is_due(stream: _Stream, now: float) -> bool:
        return not stream.encoding and now + EARLY / stream.fps >= stream.next_due

    def _turn(self, now: float) -> float:
        """Starts what is due; returns the seconds after which to look again, unless a bell rings."""
        if now - self._told_at >= REOPEN_S:
            self._told_at = now
            self._tell(now)
        wait_s = LOOK_S
        for stream in list(self._streams.values()):
            try:
                wait_s = min(wait_s, self._serve_stream(stream, now))
            except Exception:  # of one camera: the others go on
                log.exception("frames_not_served", camera_id=stream.key.camera_id)
                self.failed += 1
                for viewer in {one.viewer for one in stream.subscriptions}:
                    viewer.end("unavailable", "pictures cannot be served; the log says why")
                wait_s = min(wait_s, REOPEN_S)
        return max(0.001, wait_s)

    def _serve_stream(self, stream: _Stream, now: float) -> float:
        """Starts what is due of one stream; returns the seconds after which to look again."""
        ref = self._newest(stream, now)
        early_s = stream.next_due - EARLY / stream.fps - now
        if early_s > 0:
            return early_s
        # what is slower than its rate looks again when it is done
        if not stream.encoding and ref and stream.reader and ref.seq != stream.seq and stream.wanted(now):
            patience_s = self._patience_s(stream, ref, now)
            if patience_s > 0:
                return patience_s
            self._encode(stream, stream.reader, ref, now)
        return LOOK_S

    @staticmethod
    def _patience_s(stream: _Stream, ref: FrameRef, now: float) -> float:
        """How long to wait for a newer frame: one that lay there before it was due is old, and the next is near."""
        left_s = stream.next_due + LATE / stream.fps - now
        if stream.picture is None or left_s <= 0 or not stream.reader:
            return 0.0
        try:
            with stream.reader.read(ref) as frame:
                age_s = time.monotonic_ns() / 1e9 - frame.captured_ns / 1e9
        except FrameGone:
            return 0.0
        return left_s if age_s > FRESH_S else 0.0

    def _newest(self, stream: _Stream, now: float) -> FrameRef | None:
        """The newest frame there is; opens the ring where there is a new one."""
        if not stream.encoding and now - max(stream.seen_at, stream.opened_at) >= REOPEN_S:
            stream.opened_at = now
            if stream.reader and not stream.reader.is_current():
                stream.close()
            if stream.reader is None:
                with contextlib.suppress(BusError):
                    stream.reader = RingReader.open(self._config.run_dir, stream.key.camera_id, "main")
                    stream.seq = stream.newest = 0
        if stream.reader is None:
            return None
        self._want_all(stream, now)
        ref = stream.reader.latest()
        if ref and ref.seq != stream.newest:
            stream.newest, stream.seen_at = ref.seq, now
        return ref

    def _want_all(self, stream: _Stream, now: float) -> None:
        """Where more frames are wanted than the camera analyses, it is asked for all."""
        camera_id = stream.key.camera_id
        if now < self._watched.get(camera_id, 0.0) or not stream.reader:
            return
        if stream.live is None or stream.fps > stream.live.analysis_fps:
            self._watched[camera_id] = now + WATCH_S / 2
            stream.reader.watch(WATCH_S)

    def _encode(self, stream: _Stream, reader: RingReader, ref: FrameRef, now: float) -> None:
        if self._threads is None:
            cv2.setNumThreads(1)
            self._threads = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="encode")
        limits = self._config.api
        width = limits.tile_width if stream.key.size == "tile" else limits.full_width
        stream.encoding = True
        stream.next_due = _next_due(stream.next_due, stream.fps, now)
        made = self._threads.submit(self._make, reader, ref, width, limits.jpeg_quality)
        made.add_done_callback(partial(self._hand_back, asyncio.get_running_loop(), stream))

    def _hand_back(self, loop: asyncio.AbstractEventLoop, stream: _Stream, made: "Future[_Made | None]") -> None:
        """In the thread that encoded."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._encoded, stream, made)

    def _encoded(self, stream: _Stream, future: "Future[_Made | None]") -> None:
        stream.encoding = False
        if not stream.subscriptions:
            stream.close()
            return
        try:
            made = future.result()
        except Exception:
            log.exception("frame_not_encoded", camera_id=stream.key.camera_id)
            self.failed += 1
            made = None
        if made is None:
            self.torn += 1
        if made is None or self._is_due(stream, time.monotonic()):
            self._look_soon()
        if made is None:
            return
        stream.seq = made.picture.seq
        stream.show(made.picture, made.live)
        self.encoded += 1
        self.encode_s += made.took_s
        now, fps = time.monotonic(), stream.fps
        for one in list(stream.subscriptions):
            if one.due(now, fps):
                self._serve(stream, one, now)

    def _make(self, reader: RingReader, ref: FrameRef, width: int, quality: int) -> _Made | None:
        """In a thread: the newest frame as JPEG, and what the camera made of it; None where it was gone each time."""
        begun = time.thread_time()
        for _ in range(TRIES):
            ref = reader.latest() or ref
            with contextlib.suppress(FrameGone):
                with reader.read(ref) as frame:
                    jpeg, wide, high = encode(frame.pixels, reader.format, width, quality)
                    picture = Picture(jpeg, wide, high, frame.seq, frame.captured_ns, frame.captured_at_ns)
                live = read_live(self._config.run_dir, ref.camera_id)
                return _Made(picture, live, time.thread_time() - begun)
        return None

    # ---- handing out

    def _serve(self, stream: _Stream, one: _Subscription, now: float) -> None:
        if one.viewer.take(one, stream):
            one.served(stream.seq, now)
            self.sent += 1
        else:
            one.missed = True

    def serve_late(self, key: StreamKey, one: _Subscription) -> None:
        """The newest picture, to whoever had no credit or no room when it came; a new one where that is old."""
        stream = self._streams.get(key)
        now = time.monotonic()
        if stream is None:
            return
        fresh = stream.picture and time.monotonic_ns() - stream.picture.captured_ns < 1e9 / stream.fps
        if fresh and stream.seq != one.seq:
            self._serve(stream, one, now)
        else:
            self._look_soon()

    def _tell(self, now: float) -> None:
        """Viewers hear of cameras that give no picture, and of those that do again."""
        for stream in self._streams.values():
            if not stream.has_picture(now):
                stream.live = read_live(self._config.run_dir, stream.key.camera_id)
        viewers = {one.viewer for stream in self._streams.values() for one in stream.subscriptions}
        for viewer in viewers:
            if isinstance(viewer, FrameViewer):
                viewer.tell()

    # ---- for other programs

    def has_ring(self, camera_id: str) -> bool:
        """Whether the camera runs, so that there are pictures, or will be soon."""
        try:
            RingReader.open(self._config.run_dir, CameraId(camera_id), "main").close()
        except BusError:
            return False
        return True

    def admits(self, principal: Principal) -> bool:
        return self._viewers.admits(principal)

    async def pictures(
        self, principal: Principal, again: Callable[[], Principal | None], key: StreamKey, fps: float
    ) -> AsyncGenerator[Picture]:
        """One camera's pictures, the newest only, as fast as they are taken.

        Ends where they may not be seen any more, or where none came for `SILENT_S`. Raises Ended where there are too
        many streams.
        """
        viewer = _PictureViewer(principal)
        self._viewers.add(viewer, again)
        one = _Subscription(viewer, fps, heat=False)
        try:
            if not self.join(key, one):
                raise Ended("too_many", "there are too many streams")
            while True:
                async with asyncio.timeout(SILENT_S):
                    await viewer.wake.wait()
                viewer.wake.clear()
                if viewer.ended or not viewer.principal.sees(key.camera_id):
                    return
                if viewer.stream and viewer.stream.picture:
                    yield viewer.stream.picture
                    viewer.stream = None
                    self.serve_late(key, one)
        except TimeoutError:
            return  # whoever reads it asks again, and hears why there is none
        finally:
            self.leave(key, one)
            self._viewers.remove(viewer)

    def samples(self) -> list[Sample]:
        return [
            gauge("api_frame_streams", "Cameras, by size, that somebody watches.", len(self._streams)),
            counter("api_frames_encoded", "Pictures encoded for viewers.", self.encoded),
            counter("api_frames_sent", "Pictures sent to viewers.", self.sent),
            counter("api_frames_torn", "Pictures overwritten each time they were read.", self.torn),
            counter(
                "api_frames_failed",
                "Times that a stream of pictures could not be served; the log says why.",
                self.failed,
            ),
            counter("api_frames_encode_seconds", "CPU time of encoding.", self.encode_s),
        ]
