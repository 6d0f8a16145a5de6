"""The pictures that an event leaves behind: snapshots with the heat map on them, and annotated video."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from core.errors import HaetaeError
from core.wire.messages import ScoreReply

__all__ = ["AnnotatedVideo", "draw_heat_map", "draw_score", "heat_map", "save_bytes", "save_picture"]

_QUIET = 85
"""Map values (0..255 for -log10 P of 0..6) up to this, P = 0.01, stay uncoloured."""
_COLOURS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_JET).reshape(256, 3)


def draw_heat_map(picture: np.ndarray, reply: ScoreReply, strength: float = 0.55) -> None:
    """Blends the reply's location map into `picture` (h, w, 3) BGR, in place; a ring marks the peak."""
    height, width = picture.shape[:2]
    if reply.map_rows and reply.map_cols:
        grid = np.frombuffer(reply.map, np.uint8).reshape(reply.map_rows, reply.map_cols)
        if int(grid.max()) > _QUIET:
            heat = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
            hot = np.flatnonzero((heat > _QUIET).any(axis=1))
            rows = slice(hot[0], hot[-1] + 1) if hot.size else slice(0, 0)
            weight = np.clip((heat[rows].astype(np.float32) - _QUIET) / (255 - _QUIET), 0, 1)[..., None] * strength
            picture[rows] = (picture[rows] * (1 - weight) + _COLOURS[heat[rows]] * weight).astype(np.uint8)
    centre = (round(reply.peak_x * width), round(reply.peak_y * height))
    cv2.circle(picture, centre, max(8, height // 12), (255, 255, 255), max(1, height // 240), cv2.LINE_AA)


def draw_score(picture: np.ndarray, score: float, text: str, *, alarm: bool) -> None:
    """A bar (0..6 of -log10 P) and a line of text at the top of `picture`, in place."""
    height, width = picture.shape[:2]
    size = height / 720 + 0.25
    band = max(16, round(32 * size))
    picture[:band] //= 3
    picture[band - max(2, band // 8) : band, : round(width * min(max(score / 6, 0), 1))] = (
        (40, 40, 235) if alarm else (90, 200, 90)
    )
    cv2.putText(picture, text, (6, round(band * 0.66)), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def heat_map(reply: ScoreReply) -> np.ndarray:
    """The reply's location map by itself, (rows, cols) uint8 as it came; (1, 1) where there is none."""
    grid = np.frombuffer(reply.map, np.uint8)
    return grid.reshape(reply.map_rows, reply.map_cols) if grid.size else np.zeros((1, 1), np.uint8)


def save_picture(path: Path, picture: np.ndarray, quality: int = 88) -> tuple[str, int]:
    """Writes a JPEG, or what else the suffix says, aside and renames it; returns its SHA-256 (hex) and size in bytes.

    Raises HaetaeError where it cannot (a full disk, say).
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    done, encoded = cv2.imencode(path.suffix, picture, options)
    return save_bytes(path, encoded.tobytes() if done else b"")


def save_bytes(path: Path, data: bytes) -> tuple[str, int]:
    """As `save_picture`, of what is there already."""
    aside = path.with_suffix(path.suffix + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        raise HaetaeError(f"cannot write {path}: {error.strerror}") from error
    return hashlib.sha256(data).hexdigest(), len(data)


class AnnotatedVideo:
    """An H.264 MP4 of pictures (h, w, 3) BGR, all of one even size, at their own times."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(path), "w", format="mp4")
        except OSError as error:
            raise HaetaeError(f"cannot write {path}: {error}") from error
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"preset": "ultrafast", "crf": "26"}
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.time_base = Fraction(1, 90_000)
        self._last_pts = -1

    def add(self, picture: np.ndarray, media_s: float) -> None:
        pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False)
        frame = av.VideoFrame.from_ndarray(pixels, "yuv420p")
        self._last_pts = max(round(media_s * 90_000), self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, Fraction(1, 90_000)
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except OSError as error:
            raise HaetaeError(f"cannot write {self._path}: {error}") from error

    def close(self) -> None:
        self._mux(None)
        self._container.close()
