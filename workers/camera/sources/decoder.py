"""Decoding no more than what is wanted takes, and that in one go."""

import math
from collections.abc import Callable

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from workers.camera.sources.base import Wanted

__all__ = ["Decoder"]

LATE = 8
"""Packets in a row without a picture, after which pictures are taken to come late: damaged ones have none either."""

MOST_WAITING = 32
"""Packets that wait at most: of large pictures that are seldom wanted, more would take seconds to decode in one go."""


class Decoder:
    """Decodes one stream's packets.

    Those whose pictures nobody wants wait for the next that somebody does: decoded in one go they find their data in
    the processor's caches (a sixth less time for three of 720p), and a key frame makes those before it needless, in
    MJPEG all. Where pictures come later than their packets (B frames), none waits; those that no other follows from
    are left out where few are wanted.
    """

    def __init__(self, stream: VideoStream, wanted: Wanted | None, skip: Callable[[], None]) -> None:
        """`skip` is called for each packet or picture that is damaged, and left out."""
        self._stream, self._wanted, self._skip = stream, wanted, skip
        self._waiting: list[Packet] = []
        self._ahead_s: float | None = None
        """What the time of a picture is ahead of its stamp."""
        self._last_s = -math.inf
        self._skipping = "DEFAULT"
        self._in_order, self._dropped, self._late = True, False, 0

    @property
    def waits(self) -> bool:
        """Whether packets came that nobody wants yet."""
        return bool(self._waiting)

    def shown(self, picture: VideoFrame, media_s: float) -> None:
        """A picture that was given is of the time `media_s`."""
        if picture.pts is not None and self._stream.time_base:
            self._ahead_s = media_s - float(picture.pts * self._stream.time_base)

    def decode(self, packet: Packet) -> list[VideoFrame]:
        """The pictures that are wanted, none where the packet waits; raises EOFError after the stream's end."""
        wanted = self._wanted
        if wanted is None:
            return self._decoded(packet)
        if not self._in_order or self._stream.codec_context.has_b_frames:
            # a packet without a time stamp counts a step, so there none may be left out
            self._leave_out(few=wanted.few and packet.pts is not None)
            return self._decoded(packet)
        if self._waiting and (packet.is_keyframe or not packet.size):
            self._waiting, self._dropped = [], True
        if self._may_wait(packet, wanted) and len(self._waiting) < MOST_WAITING:
            wanted.left_out += 1
            self._waiting.append(packet)
            return []
        waiting, self._waiting = self._waiting, []
        for earlier in waiting:
            self._decoded(earlier)
        pictures = self._decoded(packet)
        at_once = any(picture.pts == packet.pts for picture in pictures)
        self._late = 0 if at_once else self._late + 1
        if self._late >= LATE or (pictures and not at_once):
            self._in_order = False
        return pictures

    def _may_wait(self, packet: Packet, wanted: Wanted) -> bool:
        """Whether nobody wants its picture; one whose time is not known, or does not follow, may be any."""
        if packet.pts is None or self._ahead_s is None or not self._stream.time_base or not packet.size:
            return False
        at_s = self._ahead_s + float(packet.pts * self._stream.time_base)
        follows, self._last_s = at_s > self._last_s, at_s
        return follows and at_s < wanted.due_s

    def _leave_out(self, *, few: bool) -> None:
        skipping = "NONREF" if few else "DEFAULT"
        if skipping != self._skipping:
            self._stream.codec_context.skip_frame = self._skipping = skipping

    def _decoded(self, packet: Packet) -> list[VideoFrame]:
        try:
            pictures = packet.decode()
        except av.error.EOFError:
            raise
        except av.error.FFmpegError:
            self._skip()
            pictures = []
        good = [one for one in pictures if isinstance(one, VideoFrame) and not one.is_corrupt]
        for _ in range(len(pictures) - len(good)):
            self._skip()
        if self._dropped and len(good) < len(pictures):
            self._in_order = False  # it needs what lies before its key frames
        return good
