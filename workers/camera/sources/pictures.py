"""Decoded pictures: their planes copied straight to where they are wanted, turned if the camera hangs askew."""

import cv2
import numpy as np
from av.video.frame import VideoFrame

from workers.camera.sources.base import Planes, check_i420

__all__ = ["copy_i420", "planes_of", "shown_size", "stamp_s"]

_PLANAR = ("yuv420p", "yuvj420p")
_GREY = ("gray", "gray8")
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def shown_size(picture: VideoFrame, rotation: int) -> tuple[int, int]:
    """Even (width, height) of a picture once it is turned by `rotation` degrees clockwise."""
    width, height = picture.width & ~1, picture.height & ~1
    return (height, width) if rotation in {90, 270} else (width, height)


def copy_i420(picture: VideoFrame, out: np.ndarray, rotation: int = 0) -> None:
    """Copy a picture to `out`, contiguous (height * 3 // 2, width) uint8; formats other than I420 are converted first.

    `rotation` is in degrees clockwise; `out` has the size after it.
    """
    check_i420(out, *shown_size(picture, rotation))
    width, height = picture.width & ~1, picture.height & ~1
    if picture.format.name not in (*_PLANAR, *_GREY):
        picture = picture.reformat(format="yuv420p")
    rows, columns = out.shape[0] * 2 // 3, out.shape[1]
    _copy(_plane(picture, 0, width, height), out[:rows], rotation)
    if picture.format.name in _GREY:
        out[rows:] = 128
        return
    chroma = out[rows:].reshape(2, rows // 2, columns // 2)
    _copy(_plane(picture, 1, width // 2, height // 2), chroma[0], rotation)
    _copy(_plane(picture, 2, width // 2, height // 2), chroma[1], rotation)


def planes_of(picture: VideoFrame, rotation: int = 0) -> Planes | None:
    """The planes of a picture as copy_i420() would copy them, without a copy; None where that converts or turns."""
    if rotation or picture.format.name not in _PLANAR:
        return None
    width, height = picture.width & ~1, picture.height & ~1
    half = width // 2, height // 2
    return _plane(picture, 0, width, height), _plane(picture, 1, *half), _plane(picture, 2, *half)


def _copy(plane: np.ndarray, out: np.ndarray, rotation: int) -> None:
    if rotation:
        cv2.rotate(plane, _TURNS[rotation], dst=out)
    else:
        out[:] = plane


def _plane(picture: VideoFrame, number: int, width: int, height: int) -> np.ndarray:
    """View of a plane, (height, width), without the padding at the ends of its lines."""
    plane = picture.planes[number]
    stride = abs(plane.line_size)
    return np.frombuffer(memoryview(plane), np.uint8, count=stride * plane.height).reshape(-1, stride)[:height, :width]


def stamp_s(picture: VideoFrame) -> float | None:
    """Its time stamp in seconds; None where it has none."""
    if picture.pts is None or not picture.time_base:
        return None
    return float(picture.pts * picture.time_base)
