"""Live streams: whatever FFmpeg demuxes while it comes, with an end to every wait."""

import time
from collections.abc import Generator, Iterator

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from core.errors import SourceError
from workers.camera.sources.base import Planes, SourceInfo, SourceOptions
from workers.camera.sources.decoder import Decoder
from workers.camera.sources.file import rate_of
from workers.camera.sources.pictures import copy_i420, planes_of, shown_size, stamp_s

__all__ = ["LiveFrame", "LiveTimeline", "StreamSource", "explain"]

DRIFT_S = 3.0
"""Stamps that run so far away from the clock are not believed any more."""


class LiveTimeline:
    """Turns a stream's time stamps into strictly increasing seconds from 0 that keep up with the clock.

    Cameras restart their stamps, jump by hours when their clock is set, or give none.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._offset_s: float | None = None
        self._last_s = -1.0

    def advance(self, stamp_s: float | None) -> float:
        """Time of the picture that comes now, whose own stamp is `stamp_s` (None: it has none)."""
        elapsed_s = time.monotonic() - self._begun
        media_s = elapsed_s
        if stamp_s is not None:
            if self._offset_s is None or abs(stamp_s + self._offset_s - elapsed_s) > DRIFT_S:
                self._offset_s = elapsed_s - stamp_s
            media_s = stamp_s + self._offset_s
        self._last_s = media_s = max(media_s, self._last_s + 0.001)
        return media_s


class LiveFrame:
    """One picture of a stream."""

    __slots__ = ("_picture", "_rotation", "index", "media_s")

    def __init__(self, picture: VideoFrame, index: int, media_s: float, rotation: int) -> None:
        self._picture, self._rotation = picture, rotation
        self.index, self.media_s = index, media_s

    def write_i420(self, out: np.ndarray) -> None:
        copy_i420(self._picture, out, self._rotation)

    def planes(self) -> Planes | None:
        return planes_of(self._picture, self._rotation)


class StreamSource:
    """An open container that is read as it comes; one thread's alone.

    Pictures that arrived damaged are left out and counted in `skipped`. When the picture's size changes, `info` does.
    """

    def __init__(self, name: str, container: InputContainer, options: SourceOptions, *, stamped: bool = True) -> None:
        """Takes over `container`, and waits for its first picture; raises SourceError.

        What is not `stamped` has no times of its own (FFmpeg makes some up): a picture is of when it came.
        """
        self._name, self._container, self._options, self._stamped = name, container, options, stamped
        self._pictures: Generator[VideoFrame, None, None] | None = None
        self.skipped = 0
        try:
            self._stream = _live_stream(container, name)
            self._stream.codec_context.thread_count = 1
            if options.packets:
                options.packets.begin(self._stream, options.settings.rotation)
            self._decoder = Decoder(self._stream, options.wanted if stamped else None, self._skip)
            self._pictures = self._decode()
            self._first = self._wait_first(self._pictures)
        except BaseException:
            self.close()
            raise
        self.info = self._describe(self._first)

    def _wait_first(self, pictures: Iterator[VideoFrame]) -> VideoFrame:
        for picture in pictures:
            if min(shown_size(picture, 0)) >= 2:
                return picture
        raise SourceError(f"{self._name} ended before its first picture", "look whether the camera itself shows one")

    def _describe(self, picture: VideoFrame) -> SourceInfo:
        width, height = shown_size(picture, self._options.settings.rotation)
        return SourceInfo(
            self._name,
            width,
            height,
            rate_of(self._stream),
            None,
            None,
            simulated=False,
            live=True,
            codec=self._stream.codec_context.name,
        )

    def frames(self) -> Iterator[LiveFrame]:
        """Give the pictures as they come, once; raises SourceError where no more come."""
        assert self._pictures
        timeline, rotation = LiveTimeline(), self._options.settings.rotation
        index = 0
        picture: VideoFrame | None = self._first
        while picture is not None:
            if shown_size(picture, rotation) != (self.info.width, self.info.height):
                self.info = self._describe(picture)
            media_s = timeline.advance(stamp_s(picture))
            self._decoder.shown(picture, media_s)
            yield LiveFrame(picture, index, media_s, rotation)
            index += 1
            picture = next(self._pictures, None)
        raise SourceError(f"{self._name} ended the stream")

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """The pictures that can be decoded; ends with the stream. Without one for too long, raises SourceError."""
        options = self._options
        silent = f"sent no picture for {options.read_s:g} s"
        seen = time.monotonic()
        demuxed = self._container.demux(self._stream)
        while True:
            options.activity.begin("read")
            try:
                packet = next(demuxed)
            except (StopIteration, av.error.EOFError):
                return
            except (av.error.FFmpegError, OSError) as error:
                raise explain(error, self._name, silent) from error
            if packet.size == 0:
                return
            options.activity.begin("decode")
            self._unstamp(packet)
            if options.packets:
                options.packets.add(packet)
            pictures = self._decoder.decode(packet)
            options.activity.begin("")
            yield from pictures
            if pictures or self._decoder.waits:
                seen = time.monotonic()
            if time.monotonic() - seen > max(options.open_s, options.read_s):
                raise SourceError(f"{self._name} {silent}", "its stream is damaged: check its network, or try TCP")

    def _skip(self) -> None:
        self.skipped += 1

    def _unstamp(self, packet: av.Packet) -> None:
        if not self._stamped:
            packet.pts = packet.dts = None

    def read_packets(self) -> None:
        """Reads without decoding, for `options.packets`, until `options.stopped`; raises SourceError where it ends."""
        packets = self._options.packets
        assert packets
        try:
            for packet in self._container.demux(self._stream):
                if self._options.stopped.is_set():
                    return
                if packet.size:
                    self._unstamp(packet)
                    packets.add(packet)
        except (av.error.FFmpegError, OSError) as error:
            raise explain(error, self._name, f"sent nothing for {self._options.read_s:g} s") from error
        raise SourceError(f"{self._name} ended the stream")

    def close(self) -> None:
        if self._pictures:
            self._pictures.close()  # before its container: PyAV crashes when a closed one is read
        self._container.close()


def _live_stream(container: InputContainer, name: str) -> VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if getattr(stream, "codec_context", None) is None:
                raise SourceError(
                    f"{name} sends video in a format that cannot be decoded", "set the camera to H.264, H.265 or MJPEG"
                )
            return stream
    raise SourceError(f"{name} sends no video", "check the path: cameras have one for each stream")


def explain(error: Exception, name: str, silent: str) -> SourceError:
    """What went wrong between us and `name`, for a person; never the URL. `silent` is said of a time that ran out."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return SourceError(f"{name} refuses the user name or the password", "enter them anew")
    if isinstance(error, av.error.HTTPNotFoundError):
        return SourceError(f"{name} has no stream at that path", "look it up in the camera's manual")
    if isinstance(error, ConnectionRefusedError):
        return SourceError(f"{name} refuses the connection", "is the camera on, and is the port right?")
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return SourceError(f"{name} {silent}", "check its power and its network")
    if isinstance(error, av.error.InvalidDataError):
        return SourceError(f"{name} sends something that is not video", "check the path and the port")
    if isinstance(error, (av.error.EOFError, BrokenPipeError, ConnectionError)):
        return SourceError(f"{name} closed the connection")
    said = (getattr(error, "strerror", None) or type(error).__name__).strip()
    return SourceError(f"{name} cannot be read ({said})", "check its power, its network and its settings")
