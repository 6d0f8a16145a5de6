"""Clips: the packets of the last seconds are kept as they came, and an event makes an MP4 of them.

Nothing is encoded again, unless a browser could not play it (MJPEG), the picture is turned, or a privacy zone must be
black in it. Writing happens in a thread of its own: a slow or full disk never holds up the camera.
"""

import hashlib
import io
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import msgspec
import numpy as np
import structlog
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from core.cameras import CameraSettings
from core.config import Config
from core.events import EventMedia
from core.ids import CameraId
from workers.camera.sources.pictures import copy_i420, shown_size

__all__ = ["ClipRecorder", "Made"]

log = structlog.get_logger()

PLAYABLE = {"h264", "hevc", "av1", "vp9"}
"""Codecs that browsers play in MP4; the tags that Apple's want are set too."""
TAGS = {"hevc": "hvc1"}
STAMPS = Fraction(1, 90_000)
WAITING = 8
"""Clips that wait for the disk, at most."""


class _Kept(msgspec.Struct, frozen=True):
    """A packet, independent of the container that it came from."""

    arrived_s: float
    data: bytes
    pts: int | None
    dts: int | None
    key: bool


class _Stream(msgspec.Struct, frozen=True):
    """What a writer must know of the packets' stream, when that may be closed already."""

    template: VideoStream
    """Belongs to a container in memory that is kept open for it."""
    holder: Any
    codec: str
    extradata: bytes
    time_base: Fraction
    rotation: int


class _Pending(msgspec.Struct):
    event_id: str
    begin_s: float
    end_s: float | None = None


class _Job(msgspec.Struct, frozen=True):
    event_id: str
    stream: _Stream
    packets: list[_Kept]


class Made(msgspec.Struct, frozen=True):
    """What became of an event's clip: its file, or None where there is none."""

    event_id: str
    media: EventMedia | None


class ClipRecorder:
    """Keeps packets, and makes clips; a PacketSink for the reading thread, the rest for the pipeline's.

    Times are monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        camera_id: CameraId,
        settings: CameraSettings,
        blacken: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        """`blacken` paints privacy zones on an I420 picture; None where there are none."""
        self._config, self._camera_id = config, camera_id
        self.settings, self.blacken = settings, blacken
        """Both may be changed while it runs."""
        self._lock = threading.Lock()
        self._stream: _Stream | None = None
        self._groups: deque[list[_Kept]] = deque()
        """Each begins with a key frame."""
        self._bytes = 0
        self._pending: dict[str, _Pending] = {}
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING)
        self._made: queue.SimpleQueue[Made] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.trouble = ""
        """Why no clips are written, for a person; "" where they are."""
        self.lost = 0
        """Clips that were not written."""

    # ---- the reading thread

    def begin(self, stream: VideoStream, rotation: int) -> None:
        """Another stream: what waits for more of the last one gets what there is."""
        holder = av.open(io.BytesIO(), "w", format="mp4")
        context = stream.codec_context
        with self._lock:
            now = time.monotonic()
            for pending in list(self._pending.values()):
                self._cut(pending, now)
            self._groups.clear()
            self._bytes = 0
            self._stream = None
            if stream.time_base is None:
                return
            try:
                template = holder.add_stream_from_template(stream)
            except (av.error.FFmpegError, ValueError) as error:
                log.warning("no_clips", codec=context.name, reason=str(error))
                return
            extradata = bytes(context.extradata or b"")
            self._stream = _Stream(template, holder, context.name, extradata, stream.time_base, rotation)

    def add(self, packet: Packet) -> None:
        if self._stream is None or not packet.size or not self.settings.record:
            return
        now = time.monotonic()
        kept = _Kept(now, bytes(packet), packet.pts, packet.dts, packet.is_keyframe)
        with self._lock:
            if kept.key:
                self._groups.append([])
            elif not self._groups:
                return  # nothing can be played before the first key frame
            self._groups[-1].append(kept)
            self._bytes += len(kept.data)
            self._trim(now)

    def _trim(self, now: float) -> None:
        wanted_s = min([now, *(pending.begin_s for pending in self._pending.values())]) - self.settings.pre_s
        limit = self._config.cameras.clip_mb * 1e6
        while len(self._groups) > 1 and (self._groups[1][0].arrived_s <= wanted_s or self._bytes > limit):
            self._bytes -= sum(len(one.data) for one in self._groups.popleft())

    # ---- the pipeline

    def start(self, event_id: str, begin_s: float) -> bool:
        """An event began: packets are kept from `settings.pre_s` before on. False where it gets no clip."""
        with self._lock:
            if not self.settings.record or self._stream is None:
                return False
            self._pending[event_id] = _Pending(event_id, begin_s)
            return True

    def stop(self, event_id: str, end_s: float) -> None:
        """It ended: its clip is written once `settings.post_s` more have come."""
        with self._lock:
            if event_id in self._pending:
                self._pending[event_id].end_s = end_s

    def poll(self) -> list[Made]:
        """Hands what is complete to the disk; returns what became of clips since the last call, one for each start."""
        now = time.monotonic()
        with self._lock:
            for pending in list(self._pending.values()):
                end_s = pending.begin_s + self._config.cameras.clip_max_s
                if pending.end_s is not None:
                    end_s = min(end_s, pending.end_s + self.settings.post_s)
                if now >= end_s:
                    self._cut(pending, end_s)
        made: list[Made] = []
        while not self._made.empty():
            made.append(self._made.get())
        return made

    def _cut(self, pending: _Pending, end_s: float) -> None:
        """Under the lock."""
        del self._pending[pending.event_id]
        packets = [one for group in self._groups for one in group]
        begin_s = pending.begin_s - self.settings.pre_s
        starts = [n for n, one in enumerate(packets) if one.key and one.arrived_s <= begin_s]
        packets = [one for one in packets[starts[-1] if starts else 0 :] if one.arrived_s <= end_s]
        if self._stream is None or not packets:
            self._made.put(Made(pending.event_id, None))
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="clips", daemon=True)
            self._thread.start()
        try:
            self._jobs.put_nowait(_Job(pending.event_id, self._stream, packets))
        except queue.Full:
            self.lost += 1
            self.trouble = "clips are lost: the disk is too slow for them"
            self._made.put(Made(pending.event_id, None))

    def finish(self, timeout_s: float) -> list[Made]:
        """Cuts what is open now, and waits up to `timeout_s` for the disk."""
        with self._lock:
            now = time.monotonic()
            for pending in list(self._pending.values()):
                self._cut(pending, now)
        if self._thread:
            try:
                self._jobs.put(None, timeout=timeout_s)
            except queue.Full:
                pass
            self._thread.join(timeout_s)
        return self.poll()

    # ---- the writing thread

    def _write_all(self) -> None:
        while job := self._jobs.get():
            try:
                self._check_room()
                self._made.put(Made(job.event_id, self._write(job)))
                self.trouble = ""
            except (OSError, av.error.FFmpegError, ValueError) as error:
                self.lost += 1
                said = getattr(error, "strerror", None) or str(error)
                self.trouble = f"no clips are written: {said}"
                log.error("clip_not_written", event_id=job.event_id, reason=said)
                self._made.put(Made(job.event_id, None))

    def _check_room(self) -> None:
        folder, reserve_mb = self._config.media_dir, self._config.cameras.disk_reserve_mb
        if shutil.disk_usage(folder).free < reserve_mb * 1e6:
            raise OSError(28, f"less than {reserve_mb:g} MB are left on the disk of {folder.name}")

    def _write(self, job: _Job) -> EventMedia:
        name = f"{self._camera_id}/{job.event_id}.mp4"
        path = self._config.media_dir / name
        aside = path.with_suffix(".mp4.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if job.stream.codec in PLAYABLE and not job.stream.rotation and self.blacken is None:
                _copy(job, aside)
            else:
                _encode(job, aside, self.blacken)
            with aside.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = aside.stat().st_size
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        return EventMedia(kind="clip", file=name, sha256=digest, size_bytes=size_bytes)


def _stamps(job: _Job) -> list[tuple[int, int]]:
    """(dts, pts) of each packet in its stream's time base, from 0 on; dts rise strictly, whatever the camera said."""
    base = job.stream.time_base
    first_s = job.packets[0].arrived_s
    stamps: list[tuple[int, int]] = []
    offset: int | None = None
    last = -1
    for one in job.packets:
        arrived = round((one.arrived_s - first_s) / base)
        given = one.dts if one.dts is not None else one.pts
        if given is None:
            dts = arrived
        else:
            offset = -given if offset is None else offset
            dts = given + offset
        dts = max(dts, last + 1)
        ahead = one.pts - one.dts if one.pts is not None and one.dts is not None else 0
        stamps.append((dts, dts + max(0, ahead)))
        last = dts
    return stamps


def _copy(job: _Job, path: Path) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream_from_template(job.stream.template)
        if job.stream.codec in TAGS:
            stream.codec_context.codec_tag = TAGS[job.stream.codec]
        for one, (dts, pts) in zip(job.packets, _stamps(job), strict=True):
            packet = Packet(one.data)
            packet.dts, packet.pts, packet.time_base = dts, pts, job.stream.time_base
            packet.is_keyframe = one.key
            packet.stream = stream
            container.mux(packet)


def _encode(job: _Job, path: Path, blacken: Callable[[np.ndarray], None] | None) -> None:
    decoder = VideoCodecContext.create(job.stream.codec, "r")
    assert isinstance(decoder, VideoCodecContext)
    if job.stream.extradata:
        decoder.extradata = job.stream.extradata
    base = job.stream.time_base
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: VideoStream | None = None
        last = -1
        for one, (dts, pts) in zip(job.packets, _stamps(job), strict=True):
            packet = Packet(one.data)
            packet.dts, packet.pts, packet.time_base = dts, pts, base
            try:
                pictures = decoder.decode(packet)
            except av.error.FFmpegError:
                continue
            for picture in pictures:
                if not isinstance(picture, VideoFrame):
                    continue
                width, height = shown_size(picture, job.stream.rotation)
                if stream is None:
                    stream = _encoder(container, width, height)
                if (stream.width, stream.height) != (width, height):
                    break
                pixels = np.empty((height * 3 // 2, width), np.uint8)
                copy_i420(picture, pixels, job.stream.rotation)
                if blacken:
                    blacken(pixels)
                frame = VideoFrame.from_ndarray(pixels, "yuv420p")
                last = max(last + 1, round((picture.pts if picture.pts is not None else dts) * base / STAMPS))
                frame.pts, frame.time_base = last, STAMPS
                container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("none of its pictures could be decoded")
        container.mux(stream.encode(None))


def _encoder(container: Any, width: int, height: int) -> VideoStream:
    stream: VideoStream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.options = {"preset": "veryfast", "crf": "26"}
    context = stream.codec_context
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.time_base = STAMPS
    return stream
