"""Faults injected into footage: what goes wrong with cameras, lenses, lights and lines, frame by frame.

Pictures are I420, (h * 3 // 2, w) uint8; a fault leaves what it was given alone and returns another.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.error import FFmpegError

__all__ = ["FAULTS", "Frames", "inject"]

Frames = Sequence[np.ndarray]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def inject(frames: Frames, name: str, onset: int, seed: int = 0) -> list[np.ndarray]:
    """`frames` with the fault `name` from frame `onset` on; raises KeyError for an unknown one."""
    _, make = FAULTS[name]
    return [*frames[:onset], *make(frames, onset, np.random.default_rng(seed))]


def _each(change: Change) -> Callable[[Frames, int, np.random.Generator], list[np.ndarray]]:
    return lambda frames, onset, luck: [change(frame, luck) for frame in frames[onset:]]


def _luma(pixels: np.ndarray) -> np.ndarray:
    return pixels[: pixels.shape[0] * 2 // 3]


def _with_luma(pixels: np.ndarray, luma: np.ndarray, *, grey: bool = False) -> np.ndarray:
    out = pixels.copy()
    _luma(out)[:] = np.clip(luma, 0, 255).astype(np.uint8)
    if grey:
        out[luma.shape[0] :] = 128
    return out


def _freeze(frames: Frames, onset: int, _: np.random.Generator) -> list[np.ndarray]:
    return [frames[onset - 1]] * (len(frames) - onset)


def _freeze_reencoded(frames: Frames, onset: int, luck: np.random.Generator) -> list[np.ndarray]:
    """What a recorder makes of a frozen picture: the same one, a little noise of encoding now and then."""
    out: list[np.ndarray] = []
    for number in range(len(frames) - onset):
        noisy = frames[onset - 1]
        if number % 10 == 0:
            luma = _luma(noisy).astype(np.int16)
            noisy = _with_luma(noisy, luma + (luck.random(luma.shape) < 0.01))
        out.append(noisy)
    return out


def _flat(level: float, noise: float) -> Change:
    def change(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
        luma = _luma(pixels)
        return _with_luma(pixels, luck.normal(level, noise, luma.shape), grey=True)

    return change


def _covered(share: float, level: float) -> Change:
    """A hand or a bag over `share` of the picture: dark, soft, with the lens's own shading."""

    def change(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
        luma = _luma(pixels).astype(np.float32)
        height, width = luma.shape
        edge = round(width * share)
        shade = level + 12 * np.sin(np.linspace(0, 3, edge))[None, :] + 6 * np.linspace(0, 1, height)[:, None]
        luma[:, :edge] = shade + luck.normal(0, 2, (height, edge))
        out = _with_luma(pixels, luma)
        u, v = out[height : height + height // 4], out[height + height // 4 :]
        for plane in (u, v):
            plane.reshape(height // 2, width // 2)[:, : edge // 2] = 126
        return out

    return change


def _blurred(sigma: float) -> Change:
    """Out of focus by `sigma` of the picture's height; the sensor's noise stays."""

    def change(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
        luma = _luma(pixels)
        soft = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), sigma * luma.shape[0])
        return _with_luma(pixels, soft + luck.normal(0, 1, luma.shape))

    return change


def _moved(dx: float, dy: float, angle: float = 0.0) -> Change:
    """The camera was turned, by shares of the picture's width and degrees; what comes into view is its mirror image."""

    def change(pixels: np.ndarray, _: np.random.Generator) -> np.ndarray:
        luma = _luma(pixels)
        height, width = luma.shape
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        turn[:, 2] += dx * width, dy * width
        return _with_luma(pixels, cv2.warpAffine(luma, turn, (width, height), borderMode=cv2.BORDER_REFLECT))

    return change


def _night_sight(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    """Infra-red: no colour, another brightness, more noise."""
    luma = _luma(pixels).astype(np.float32)
    return _with_luma(pixels, 40 + 0.55 * luma + luck.normal(0, 3, luma.shape), grey=True)


def _lights(gain: float) -> Change:
    def change(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
        luma = _luma(pixels).astype(np.float32)
        return _with_luma(pixels, 16 + (luma - 16) * gain + luck.normal(0, 1, luma.shape))

    return change


def _static(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    luma = _luma(pixels).astype(np.float32)
    return _with_luma(pixels, luma + luck.normal(0, 25, luma.shape))


def _torn_blocks(pixels: np.ndarray, luck: np.random.Generator) -> np.ndarray:
    """A third of the macroblocks come from elsewhere, or are grey: what a decoder shows of lost packets."""
    out = pixels.copy()
    luma = _luma(out)
    rows, columns = luma.shape[0] // 16, luma.shape[1] // 16
    for row in range(rows):
        if luck.random() < 0.5:
            continue
        first, count = luck.integers(0, columns), luck.integers(4, columns)
        for column in range(first, min(columns, first + count)):
            y, x = 16 * row, 16 * column
            if luck.random() < 0.3:
                luma[y : y + 16, x : x + 16] = 128
            else:
                ty, tx = 16 * luck.integers(0, rows), 16 * luck.integers(0, columns)
                luma[y : y + 16, x : x + 16] = _luma(pixels)[ty : ty + 16, tx : tx + 16]
    return out


def _broken_stream(frames: Frames, onset: int, luck: np.random.Generator) -> list[np.ndarray]:
    """Encoded as H.264, one byte in 500 of every packet overwritten, and decoded again by FFmpeg, as it is."""
    height, width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    decoder = av.CodecContext.create("h264", "r")
    shown, last = [], frames[onset - 1]
    for number, data in enumerate(_packets(frames[max(0, onset - 10) :], width, height)):
        damaged = bytearray(data)
        if number >= min(10, onset):
            for place in luck.integers(40, max(41, len(damaged)), max(1, len(damaged) // 500)):
                damaged[place % len(damaged)] = luck.integers(0, 256)
        try:
            for frame in decoder.decode(av.Packet(bytes(damaged))):
                last = frame.to_ndarray(format="yuv420p")
        except FFmpegError:
            pass  # nothing new to be shown
        if number >= min(10, onset):
            shown.append(last)
    return shown


def _packets(frames: Frames, width: int, height: int) -> Iterator[bytes]:
    with av.open(io.BytesIO(), "w", format="h264") as container:
        options = {"bf": "0", "g": "25", "preset": "ultrafast", "tune": "zerolatency"}
        stream = container.add_stream("libx264", rate=Fraction(10), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")):
                yield bytes(packet)


FAULTS: dict[str, tuple[str, Callable[[Frames, int, np.random.Generator], list[np.ndarray]]]] = {
    "freeze": ("frozen", _freeze),
    "freeze_reencoded": ("frozen", _freeze_reencoded),
    "black": ("black", _each(_flat(17, 1))),
    "white": ("white", _each(_flat(234, 1))),
    "covered_whole": ("covered", _each(_covered(1.0, 70))),
    "covered_most": ("covered", _each(_covered(0.85, 50))),
    "blurred": ("blurred", _each(_blurred(0.012))),
    "blurred_much": ("blurred", _each(_blurred(0.03))),
    "moved": ("moved", _each(_moved(0.12, 0.05))),
    "moved_far": ("moved", _each(_moved(0.45, 0.1))),
    "turned": ("moved", _each(_moved(0.02, 0.0, 12.0))),
    "night_sight": ("light", _each(_night_sight)),
    "lights_out": ("light", _each(_lights(0.4))),
    "lights_on": ("light", _each(_lights(1.5))),
    "static": ("corrupt", _each(_static)),
    "torn_blocks": ("corrupt", _each(_torn_blocks)),
    "broken_stream": ("corrupt", _broken_stream),
}
"""Name -> (the fault it must be called, frames and onset -> the frames from onset on)."""
