"""Boxes of things by a detector in an ONNX file, run by OpenCV; the file is given, never downloaded."""

from pathlib import Path

import cv2
import numpy as np

from core.errors import ModelError
from workers.inference.vad.object_features import Box

__all__ = ["Detector"]

SIDE = 640
"""Pixels of the square that the net sees; most exported detectors are fixed to it."""
BELIEVED = 0.25
OVERLAP = 0.5
PADDING = 114
"""Grey around a picture that is no square, as such nets are trained."""
HINT = "give a detector exported to ONNX with one input (1, 3, 640, 640) and one output (1, 4 + kinds, boxes), \
(1, boxes, 5 + kinds) or (1, boxes, 6)"


class Detector:
    """Detectors of the YOLO family as they are exported; which of three outputs it has is told from its shape:

    (1, 4 + kinds, boxes): middle, size, a score per kind; (1, boxes, 5 + kinds): with how surely there is something
    before the kinds; (1, boxes, 6): corners, score, kind, already without doubles.
    """

    def __init__(self, path: Path) -> None:
        """Loads the file and tries it once; raises ModelError where it is missing, no ONNX, or no such detector."""
        if not path.is_file():
            raise ModelError(f"there is no weights file {path}")
        try:
            self._net = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise ModelError(f"{path} is no ONNX file that can be read: {_first_line(error)}", HINT) from error
        try:
            _to_boxes(self._forward(np.zeros((SIDE, SIDE, 3), np.uint8)))
        except (cv2.error, ValueError) as error:
            raise ModelError(f"{path} is not a detector that is understood: {_first_line(error)}", HINT) from error

    def find(self, image: np.ndarray) -> list[Box]:
        """The things in an (h, w, 3) BGR image, the surest first. One thread at a time; raises ModelError."""
        height, width = image.shape[:2]
        scale = SIDE / max(width, height)
        small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)
        square = np.full((SIDE, SIDE, 3), PADDING, np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        try:
            corners, scores, kinds = _to_boxes(self._forward(square))
        except (cv2.error, ValueError) as error:
            raise ModelError(f"the detector failed: {_first_line(error)}") from error
        whole = np.clip(corners / np.array([small.shape[1], small.shape[0]] * 2), 0.0, 1.0)
        kept = _without_doubles(corners, scores, kinds)
        return [(*_four(whole[i]), int(kinds[i])) for i in kept]

    def _forward(self, square: np.ndarray) -> np.ndarray:
        self._net.setInput(cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True))
        return np.asarray(self._net.forward())


def _four(corners: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(side) for side in corners)
    return left, top, right, bottom


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__


def _to_boxes(output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 4) corners in pixels of the square, (N,) scores, (N,) kinds; raises ValueError for another output."""
    if output.ndim != 3 or output.shape[0] != 1:
        raise ValueError(f"its output has shape {output.shape}")
    rows = output[0]
    if rows.shape[1] == 6:
        keep = rows[:, 4] >= BELIEVED
        return rows[keep, :4], rows[keep, 4], rows[keep, 5].astype(int)
    if rows.shape[0] < rows.shape[1] and rows.shape[0] >= 5:
        rows = rows.T
        each = rows[:, 4:]
    elif rows.shape[0] > rows.shape[1] >= 6:
        each = rows[:, 5:] * rows[:, 4:5]
    else:
        raise ValueError(f"its output has shape {output.shape}")
    scores, kinds = each.max(axis=1), each.argmax(axis=1)
    keep = scores >= BELIEVED
    middle, half = rows[keep, :2], rows[keep, 2:4] / 2
    return np.concatenate([middle - half, middle + half], axis=1), scores[keep], kinds[keep]


def _without_doubles(corners: np.ndarray, scores: np.ndarray, kinds: np.ndarray) -> list[int]:
    """The surest of boxes of one kind that overlap, the surest first."""
    if not len(scores):
        return []
    sized = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        sized.astype(float).tolist(), scores.astype(float).tolist(), kinds.astype(int).tolist(), BELIEVED, OVERLAP
    )
    return sorted((int(i) for i in np.asarray(kept).ravel()), key=lambda i: -float(scores[i]))
