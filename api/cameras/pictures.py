"""Live pictures, straight from the frame rings."""

import time

import cv2
import numpy as np

from api.problems import Refused
from api.services import Services
from core.errors import BusError, FrameGone
from core.frames import RingReader
from core.ids import CameraId

__all__ = ["latest_jpeg"]

TRIES = 3
QUALITY = 85


def latest_jpeg(services: Services, camera_id: CameraId, width: int | None) -> tuple[bytes, float]:
    """The newest frame as JPEG, no wider than `width`, and its age in seconds; raises Refused (503)."""
    try:
        reader = RingReader.open(services.config.run_dir, camera_id, "main")
    except BusError as error:
        raise _no_picture("the camera is not running") from error
    try:
        for _ in range(TRIES):
            ref = reader.latest()
            if ref is None:
                break
            try:
                with reader.read(ref) as frame:
                    pixels, age_s = frame.pixels.copy(), (time.monotonic_ns() - frame.captured_ns) / 1e9
            except FrameGone:
                continue
            return _encode(pixels, reader.format.pixel_format, width), age_s
    finally:
        reader.close()
    raise _no_picture("there is no picture yet")


def _encode(pixels: np.ndarray, pixel_format: str, width: int | None) -> bytes:
    picture = cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_I420) if pixel_format == "i420" else pixels
    if width and width < picture.shape[1]:
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise _no_picture("the picture cannot be encoded")
    return encoded.tobytes()


def _no_picture(why: str) -> Refused:
    return Refused(503, "no_picture", why, headers={"Retry-After": "5"})
