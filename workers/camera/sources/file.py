"""How a video file becomes frames: decoded by PyAV, its planes copied straight to where they are wanted."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import structlog
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from core.errors import SourceError
from workers.camera.sources.base import PacketSink, Planes, SourceInfo, SourceOptions
from workers.camera.sources.decoder import Decoder
from workers.camera.sources.hardware import accelerator
from workers.camera.sources.pictures import copy_i420, planes_of, shown_size, stamp_s

__all__ = ["FileFrame", "FileSource", "MediaTimeline", "rate_of"]

log = structlog.get_logger()

_NOT_VIDEO_FORMATS = frozenset({"tty", "image2", "lrc", "srt", "ass", "webvtt"})
_ATTACHED_PICTURE = Disposition.attached_pic
_DEFAULT_FPS = 25.0
_MAX_FPS = 1000.0
_REBASE_S = 1.0
"""A jump back by more than this is a new time base (a joined recording), by less a stray stamp."""
_MAX_BROKEN_READS = 16
"""Errors of the demuxer in a row before the rest of the file is given up."""
_HINT_FORMATS = "give a file that ffmpeg can play, for example MP4, MKV, AVI or MOV"


class MediaTimeline:
    """Turns a file's time stamps, which may be missing or wrong, into strictly increasing seconds from 0."""

    __slots__ = ("_last_s", "_offset_s", "_step_s")

    def __init__(self, fps: float) -> None:
        self._step_s = 1.0 / fps
        self._last_s: float | None = None
        self._offset_s = 0.0

    def advance(self, stamp_s: float | None) -> float:
        """Time of the next frame, whose own stamp is `stamp_s` (None: it has none)."""
        if self._last_s is None:
            self._offset_s = -stamp_s if stamp_s is not None else 0.0
            self._last_s = 0.0
            return 0.0
        following = self._last_s + self._step_s
        media_s = following
        if stamp_s is not None:
            media_s = stamp_s + self._offset_s
            if media_s <= self._last_s - _REBASE_S:
                self._offset_s += following - media_s
            if media_s <= self._last_s:
                media_s = following
        self._last_s = media_s
        return media_s


class FileFrame:
    """One decoded picture."""

    __slots__ = ("_picture", "_rotation", "index", "media_s")

    def __init__(self, picture: VideoFrame, index: int, media_s: float, rotation: int) -> None:
        self._picture = picture
        self._rotation = rotation
        self.index = index
        self.media_s = media_s

    def write_i420(self, out: np.ndarray) -> None:
        """Copy the planes to `out`, contiguous (height * 3 // 2, width) uint8; other formats are converted first."""
        copy_i420(self._picture, out, self._rotation)

    def planes(self) -> Planes | None:
        return planes_of(self._picture, self._rotation)


class FileSource:
    """A video file, decoded in the calling thread.

    Raises SourceError, with a hint, for what cannot be played. `skipped` counts the damaged pieces left out
    since the last call of frames().
    """

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        _check_file(path)
        self._path = path
        self._options = options or SourceOptions()
        self._rotation = self._options.settings.rotation
        self._running: Generator[FileFrame, None, None] | None = None
        self.skipped = 0
        container = self._open()
        try:
            self.info = self._probe(container)
        finally:
            container.close()

    def frames(self) -> Iterator[FileFrame]:
        """Give the frames from the beginning; raises SourceError where the picture's size changes on the way."""
        self.close()
        self.skipped = 0
        self._running = self._decode()
        return self._running

    def close(self) -> None:
        """Close the file; an iteration that was going on ends."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _decode(self) -> Generator[FileFrame, None, None]:
        info = self.info
        timeline = MediaTimeline(info.fps)
        container = self._open()
        decoder = Decoder(_video_stream(container, self._path), self._options.wanted, self._skip)
        pictures = self._pictures(container, decoder, self._options.packets)
        try:
            for index, picture in enumerate(pictures):
                self._check_size(picture, index)
                media_s = timeline.advance(stamp_s(picture))
                decoder.shown(picture, media_s)
                yield FileFrame(picture, index, media_s, self._rotation)
        finally:
            pictures.close()  # before its container: PyAV crashes when a closed one is read
            container.close()
            if self.skipped:
                log.warning("file_frames_skipped", path=str(self._path), skipped=self.skipped)

    def _skip(self) -> None:
        self.skipped += 1

    def _check_size(self, picture: VideoFrame, index: int) -> None:
        info = self.info
        if shown_size(picture, self._rotation) != (info.width, info.height):
            raise SourceError(
                f"{self._path} changes its picture size from {info.width}x{info.height} to "
                f"{picture.width}x{picture.height} at frame {index}",
                hint="split the file where the size changes, or convert it to one size with ffmpeg",
            )

    def _open(self) -> InputContainer:
        """Open for reading; only local files are followed, so that a playlist cannot reach the network."""
        try:
            container = av.open(
                f"file:{self._path}",
                metadata_errors="replace",
                options={"protocol_whitelist": "file"},
                hwaccel=accelerator(self._options.hardware),
            )
        except PermissionError as error:
            raise SourceError(f"{self._path} may not be read", hint="check the file's permissions") from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self._path} is not a video ({_reason(error)})", hint=_HINT_FORMATS) from error
        try:
            _video_stream(container, self._path).codec_context.thread_count = 1
        except BaseException:
            container.close()
            raise
        return container

    def _probe(self, container: InputContainer) -> SourceInfo:
        stream = _video_stream(container, self._path)
        fps = rate_of(stream)
        pictures = self._pictures(container, Decoder(stream, None, self._skip), None)
        first = next(pictures, None)
        pictures.close()
        if first is None:
            raise SourceError(
                f"{self._path} holds no frame that can be decoded",
                hint="the recording may have been cut short before its first picture; record it again or convert it",
            )
        width, height = shown_size(first, self._rotation)
        if width < 2 or height < 2:
            raise SourceError(f"{self._path} has pictures of {first.width}x{first.height} pixels, too small to use")
        frames = stream.frames or None
        duration_s = _duration_s(container, stream)
        if duration_s is None and frames is not None:
            duration_s = frames / fps
        codec = stream.codec_context.name
        return SourceInfo(self._path.name, width, height, fps, frames, duration_s, simulated=False, codec=codec)

    def _pictures(
        self, container: InputContainer, decoder: Decoder, packets: PacketSink | None
    ) -> Generator[VideoFrame, None, None]:
        """Decode what can be decoded; what cannot is counted in `skipped`."""
        stream = _video_stream(container, self._path)
        if packets:
            packets.begin(stream, self._rotation)
        broken_reads = 0
        while broken_reads < _MAX_BROKEN_READS:
            try:
                for packet in container.demux(stream):
                    broken_reads = 0
                    if packets:
                        packets.add(packet)
                    try:
                        yield from decoder.decode(packet)
                    except av.error.EOFError:
                        return
                return
            except av.error.FFmpegError as error:
                broken_reads += 1
                self.skipped += 1
                log.debug("file_read_failed", path=str(self._path), error=_reason(error))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise SourceError(f"{path} is a folder", hint=f"name the files in it, for example {path}/*.mp4")
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise SourceError(f"{path} does not exist", hint="check the spelling and the folder") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be opened ({_reason(error)})", hint="check the path") from error
    if not path.is_file():
        raise SourceError(f"{path} is not a regular file", hint=_HINT_FORMATS)
    if size_bytes == 0:
        raise SourceError(f"{path} is empty", hint="the recording or download may have failed; get the file again")


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first moving picture; covers of audio files do not count. Raises SourceError where there is none."""
    names = set(container.format.name.split(","))
    if names & _NOT_VIDEO_FORMATS or any(name.endswith("_pipe") for name in names):
        raise SourceError(f"{path} is not a video (it looks like {container.format.name})", hint=_HINT_FORMATS)
    for stream in container.streams.video:
        if not stream.disposition & _ATTACHED_PICTURE:
            return stream
    what = "only sound" if container.streams.audio else "no video"
    raise SourceError(f"{path} holds {what}", hint="give a file with a video track")


def rate_of(stream: VideoStream) -> float:
    """Frames per second, as far as the container knows."""
    rates: tuple[Fraction | None, ...] = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    for rate in rates:
        if rate and 0 < rate <= _MAX_FPS:
            return float(rate)
    return _DEFAULT_FPS


def _duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()
