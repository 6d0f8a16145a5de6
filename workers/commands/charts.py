"""A chart of scores as a picture, drawn with what is there anyway."""

from pathlib import Path

import cv2
import numpy as np

from core.errors import ConfigError

__all__ = ["score_chart"]

WIDTH, HEIGHT = 960, 540
LEFT, TOP, RIGHT, BOTTOM = 80, 70, 30, 70
INK, GRID, FAINT = (60, 60, 60), (225, 225, 225), (150, 150, 150)
COLOURS = {"ordinary": (168, 120, 48), "abnormal": (52, 84, 200)}
HIGHEST = 8.0
"""-log10 P at the right edge; what is beyond is in the last bar."""
BARS = 40


def score_chart(path: Path, title: str, parts: dict[str, np.ndarray], threshold: float, lines: list[str]) -> None:
    """Shares of frames by score, a logarithmic axis, with the threshold; `parts` are "ordinary" and "abnormal" scores.

    Raises ConfigError where it cannot be written.
    """
    canvas = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x_of(level: float) -> int:
        return LEFT + round(min(level, HIGHEST) / HIGHEST * wide)

    def y_of(share: float) -> int:
        """Four powers of ten."""
        return TOP + round(min(1.0, max(0.0, -np.log10(max(share, 1e-4)) / 4)) * high)

    for power in range(5):
        y = y_of(10.0**-power)
        cv2.line(canvas, (LEFT, y), (WIDTH - RIGHT, y), GRID, 1)
        _write(canvas, f"{100 * 10.0**-power:g} %", (LEFT - 68, y + 5), FAINT)
    for level in range(int(HIGHEST) + 1):
        cv2.line(canvas, (x_of(level), TOP), (x_of(level), HEIGHT - BOTTOM), GRID, 1)
        _write(canvas, f"{level}", (x_of(level) - 4, HEIGHT - BOTTOM + 22), FAINT)
    bar = HIGHEST / BARS
    for number, (name, scores) in enumerate(parts.items()):
        if not len(scores):
            continue
        counted = np.bincount(np.clip((scores / bar).astype(int), 0, BARS - 1), minlength=BARS) / len(scores)
        for index, share in enumerate(counted):
            if share > 0:
                left, right = x_of(index * bar), x_of((index + 1) * bar)
                middle = (left + right) // 2 if len(parts) > 1 else right - 1
                span = (left + 1, middle) if number == 0 else (middle, right - 1)
                cv2.rectangle(canvas, (span[0], y_of(share)), (span[1], HEIGHT - BOTTOM), COLOURS[name], -1)
        cv2.rectangle(
            canvas, (WIDTH - 250, TOP + 12 + 24 * number), (WIDTH - 234, TOP + 24 + 24 * number), COLOURS[name], -1
        )
        _write(canvas, f"{name}, {len(scores)} frames", (WIDTH - 226, TOP + 23 + 24 * number), INK)
    cv2.line(canvas, (x_of(threshold), TOP), (x_of(threshold), HEIGHT - BOTTOM), (40, 40, 200), 2, cv2.LINE_AA)
    _write(canvas, f"threshold {threshold:.2f}", (x_of(threshold) + 6, TOP + 16), (40, 40, 200))
    _write(canvas, title, (LEFT, 28), INK, 0.62)
    for number, line in enumerate(lines):
        _write(canvas, line, (LEFT, 48 + 18 * number), FAINT)
    _write(canvas, "score of a frame, -log10 of how improbable it is", (LEFT, HEIGHT - 22), INK)
    cv2.line(canvas, (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), INK, 1)
    encoded, data = cv2.imencode(".png", canvas)
    try:
        assert encoded
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", "name another file") from error


def _write(
    canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float = 0.45
) -> None:
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
