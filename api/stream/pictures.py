"""A frame as it goes to viewers: JPEG made from the ring in place, and the header that says what the camera made of it.

    0  u8   version, 1                      24  f32  score, -log10 P; NaN where none was judged
    1  u8   flags                           28  f32  open_score: from it on an event begins; NaN where unknown
    2  u16  channel                         32  f32  peak_x, 0..1 of the width
    4  u8   stage                           36  f32  peak_y, 0..1 of the height
    5  u8   phase                           40  u16  width of the JPEG
    6  u16  learned, thousandths            42  u16  height of the JPEG
    8  u32  seq of the ring, lowest bits    44  u8   rows of the location map, 0 where there is none
    12 u32  age when it was sent, ms        45  u8   columns of the location map
    16 f64  captured at, Unix seconds       46  u16  age of the score, ms, 65535 at most

All little-endian; rows x columns bytes of location map follow, then the JPEG to the end.
"""

import math
import struct
import time

import cv2
import msgspec
import numpy as np

from core.cameras.live import LiveView
from core.cameras.model import CameraPhase
from core.frames import FrameFormat

__all__ = ["HEADER_BYTES", "PHASES", "STAGES", "Picture", "encode", "header"]

_HEADER = struct.Struct("<BBHBBHIIdffffHHBBH")
HEADER_BYTES = _HEADER.size
VERSION = 1
EVENT, FAULT, STALE_SCORE = 1, 2, 4
"""Flags: an event goes on; something is wrong with the pictures; the score is older than two seconds."""
STAGES = ("", "learning", "provisional", "armed")
PHASES = ("", *CameraPhase)
"""Their numbers in the header are their places here: what is new goes to the end."""
OLD_S = 2.0


class Picture(msgspec.Struct, frozen=True):
    """One encoded frame."""

    jpeg: bytes
    width: int
    height: int
    seq: int
    captured_ns: int
    """Monotonic."""
    captured_at_ns: int
    """UTC."""


def encode(pixels: np.ndarray, frame_format: FrameFormat, width: int, quality: int) -> tuple[bytes, int, int]:
    """(JPEG, width, height) of a frame of the ring, no wider than `width`.

    I420 is reduced plane by plane, before colours are computed: of a large picture that is most of the work.
    """
    source_w, source_h = frame_format.width, frame_format.height
    if frame_format.pixel_format != "i420":
        picture = pixels
        if width < source_w:
            height = max(1, round(source_h * width / source_w))
            picture = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    else:
        if width < source_w:
            pixels = _reduced(pixels, source_w, source_h, width)
        picture = cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420)
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("the picture cannot be encoded")
    return encoded.tobytes(), picture.shape[1], picture.shape[0]


def _reduced(pixels: np.ndarray, source_w: int, source_h: int, width: int) -> np.ndarray:
    """(h*3/2, w) uint8 I420, smaller."""
    width = max(2, width // 2 * 2)
    height = max(2, round(source_h * width / source_w / 2) * 2)
    out = np.empty((height * 3 // 2, width), np.uint8)
    cv2.resize(pixels[:source_h], (width, height), dst=out[:height], interpolation=cv2.INTER_AREA)
    chroma = pixels[source_h:].reshape(2, source_h // 2, source_w // 2)
    small = out[height:].reshape(2, height // 2, width // 2)
    for plane, target in zip(chroma, small, strict=True):
        cv2.resize(plane, (width // 2, height // 2), dst=target, interpolation=cv2.INTER_AREA)
    return out


def header(channel: int, picture: Picture, live: LiveView | None, *, heat: bool) -> bytes:
    """What goes before the JPEG, the location map included where it is wanted."""
    now = time.monotonic_ns()
    score = live.score if live and live.score is not None else math.nan
    score_age_s = (picture.captured_ns - live.scored_ns) / 1e9 if live and live.scored_ns else math.inf
    flags = 0
    if live:
        flags |= EVENT if live.event_id else 0
        flags |= FAULT if live.fault else 0
        flags |= STALE_SCORE if score_age_s > OLD_S else 0
    shown = live if live and heat and live.map and max(live.map_rows, live.map_cols) < 256 else None
    packed = _HEADER.pack(
        VERSION,
        flags,
        channel,
        STAGES.index(live.stage or "") if live else 0,
        PHASES.index(live.phase) if live else 0,
        round(1000 * live.learned_share) if live else 0,
        picture.seq & 0xFFFFFFFF,
        min(0xFFFFFFFF, max(0, (now - picture.captured_ns) // 1_000_000)),
        picture.captured_at_ns / 1e9,
        score,
        live.open_score if live else math.nan,
        live.peak_x if live else 0.5,
        live.peak_y if live else 0.5,
        picture.width,
        picture.height,
        shown.map_rows if shown else 0,
        shown.map_cols if shown else 0,
        min(65535, max(0, round(score_age_s * 1000))) if score_age_s < 1e6 else 65535,
    )
    return packed + (shown.map if shown else b"")
