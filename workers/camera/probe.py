"""What a source sends: run as a process of its own by core.cameras.probe, the job on standard input."""

import itertools
import sys
import time
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from core.cameras.probe import Probe, ProbeJob
from core.cameras.urls import check_address
from core.config import Config, load_config
from core.errors import HaetaeError
from core.frames import fit_size
from workers.camera.pixels import to_bgr
from workers.camera.sources import Source, SourceInfo, SourceOptions, open_source

__all__ = ["look", "main"]

LONG_KEYS_S = 4.5
LARGE = 1280 * 720


class _KeyTimes:
    """A PacketSink that notes when key frames come."""

    def __init__(self) -> None:
        self.stamps_s: list[float] = []
        self.last_s: float | None = None

    def begin(self, stream: VideoStream, rotation: int) -> None:  # noqa: ARG002 - as the protocol has it
        self.stamps_s.clear()

    def add(self, packet: Packet) -> None:
        if packet.pts is not None and packet.time_base:
            self.last_s = float(packet.pts * packet.time_base)
            if packet.is_keyframe:
                self.stamps_s.append(self.last_s)

    def interval_s(self) -> float:
        """The longest stretch without one; what lies after the last counts too."""
        stamps = [*self.stamps_s, *([self.last_s] if self.last_s is not None else [])]
        return max((after - before for before, after in itertools.pairwise(stamps)), default=0.0)


def look(job: ProbeJob, config: Config) -> Probe:
    """Opens the source and watches it; blocks as long as `config.cameras` lets it."""
    keys = _KeyTimes()
    options = SourceOptions(
        settings=job.settings,
        open_s=config.cameras.open_s,
        read_s=config.cameras.read_s,
        addresses=lambda url: check_address(url, config),
        packets=keys,
    )
    begun = time.monotonic()
    try:
        source = open_source(job.url, options)
        opened_s = time.monotonic() - begun
        try:
            times, picture = _watch(source, job.watch_s)
        finally:
            source.close()
    except HaetaeError as error:
        return Probe(ok=False, says=str(error), advice=[error.hint] if error.hint else [])
    span_s = times[-1] - times[0]
    info, fps = source.info, (len(times) - 1) / span_s if span_s > 0 else source.info.fps
    interval_s = keys.interval_s()
    return Probe(
        ok=True,
        says=f"{info.codec or 'a made-up scene'}, {info.width}x{info.height}, {fps:.1f} frames a second, "
        f"first picture after {opened_s:.1f} s",
        advice=list(_advice(info, fps, interval_s)),
        codec=info.codec,
        width=info.width,
        height=info.height,
        fps=round(fps, 2),
        claimed_fps=round(info.fps, 2),
        key_interval_s=round(interval_s, 2),
        open_s=round(opened_s, 2),
        jpeg=_jpeg(picture),
    )


def _watch(source: Source, seconds: float) -> tuple[list[float], np.ndarray]:
    """Times of the frames of the next `seconds`, and the last picture."""
    until = time.monotonic() + seconds
    times: list[float] = []
    picture = np.empty((0, 0), np.uint8)
    for frame in source.frames():
        times.append(frame.media_s)
        if time.monotonic() >= until or frame.media_s >= seconds:
            break
        picture = np.empty((source.info.height * 3 // 2, source.info.width), np.uint8)
        frame.write_i420(picture)
    return times, picture


def _advice(info: SourceInfo, fps: float, interval_s: float) -> Iterator[str]:
    if info.live and info.codec == "mjpeg":
        yield "MJPEG takes much bandwidth and its clips are encoded anew: use the camera's H.264 stream if it has one"
    if info.codec == "hevc":
        yield "not every browser plays H.265: choose H.264 if clips are to be seen everywhere"
    if info.live and info.width * info.height > LARGE:
        yield "give a smaller stream of it with --sub-url: that takes much less work to analyse"
    if interval_s > LONG_KEYS_S:
        yield f"key frames are {interval_s:.0f} s apart: set 1 to 2 s, clips and reconnecting wait for them"
    if info.live and abs(fps - info.fps) > 0.25 * info.fps:
        yield f"it claims {info.fps:.0f} frames a second: harmless, they are counted"


def _jpeg(picture: np.ndarray) -> bytes:
    if not picture.size:
        return b""
    bgr = to_bgr(picture)
    size = fit_size(bgr.shape[1], bgr.shape[0], 640, 640)
    done, data = cv2.imencode(".jpg", cv2.resize(bgr, size, interpolation=cv2.INTER_AREA))
    return data.tobytes() if done else b""


def main() -> int:
    """Prints a Probe as JSON."""
    config = load_config()
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbeJob)
    sys.stdout.buffer.write(msgspec.json.encode(look(job, config)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
