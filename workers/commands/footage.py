"""Footage in files, played through a type of detection in this process: learned from, or scored."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from core.config import Config
from core.errors import ConfigError
from core.frames.budget import fit_size
from workers.camera.pixels import planes, scale_i420
from workers.camera.sources import open_source
from workers.inference.vad import Learner, NormalityState, Row, VadModel, VadScore

__all__ = ["Clip", "learn_from", "probe_clips", "score_clip"]

BATCH = 8
"""Frames that are given to a model at once."""
FASTEST_FPS = 10.0
"""As cameras are analysed by default; of faster footage frames are left out."""

Progress = Callable[[int], None]


class Clip(NamedTuple):
    """A file, opened once to see that it can be played."""

    path: str
    fps: float
    frames: int | None
    """As its container says."""
    width: int
    height: int
    """As analysed."""


def probe_clips(paths: Sequence[str], config: Config) -> list[Clip]:
    """Opens each; raises SourceError, and ConfigError where one is endless or has another shape than the first."""
    found: list[Clip] = []
    for path in paths:
        source = open_source(path)
        try:
            info = source.info
        finally:
            source.close()
        if info.live or (info.simulated and info.duration_s is None):
            raise ConfigError(f"{info.name} never ends", "give a file, or a demo scene a duration")
        size = fit_size(info.width, info.height, config.bus.analysis_width, config.bus.analysis_height)
        if found and size != (found[0].width, found[0].height):
            raise ConfigError(
                f"{path} is analysed at {size[0]}x{size[1]}, {found[0].path} at {found[0].width}x{found[0].height}",
                "files that are learned from together come from one camera",
            )
        found.append(Clip(path, info.fps, info.frames, *size))
    return found


def _frames(clip: Clip, progress: Progress) -> Iterator[tuple[np.ndarray, float]]:
    """Pixels at the analysed size, used until the next is asked for, and the time on the clip's own time line."""
    source = open_source(clip.path)
    out = np.empty((clip.height * 3 // 2, clip.width), np.uint8)
    full = np.empty((source.info.height * 3 // 2, source.info.width), np.uint8)
    due_s = 0.0
    try:
        for frame in source.frames():
            progress(1)
            if frame.media_s < due_s - 0.25 / FASTEST_FPS:
                continue
            due_s = max(due_s + 1 / FASTEST_FPS, frame.media_s)
            frame.write_i420(full)
            scale_i420(planes(full), out)
            yield out, frame.media_s
    finally:
        source.close()


def learn_from(
    model: VadModel, learner: Learner, clip: Clip, *, until_s: float | None = None, progress: Progress
) -> None:
    """Takes a clip in, up to a time of it; raises StateError where the type cannot take it."""
    context = model.new_context()
    for rows in _batches(model, clip, progress, lambda prepared, at_s: Row(prepared, at_s, context, None, learner)):
        kept = [row for row in rows if until_s is None or row.media_s < until_s]
        for result in model.process(kept):
            if isinstance(result, Exception):
                raise result
        if len(kept) < len(rows):
            return


def score_clip(
    model: VadModel, state: NormalityState, clip: Clip, *, from_s: float = 0.0, progress: Progress
) -> Iterator[tuple[float, VadScore]]:
    """(time, score) of each frame from a time on that has one; what is before it is only looked at."""
    context = model.new_context()
    for rows in _batches(model, clip, progress, lambda prepared, at_s: Row(prepared, at_s, context, state)):
        for row, result in zip(rows, model.process(rows), strict=True):
            if isinstance(result, Exception):
                raise result
            if result is not None and row.media_s >= from_s:
                yield row.media_s, result


def _batches(
    model: VadModel, clip: Clip, progress: Progress, make: Callable[[object, float], Row]
) -> Iterator[list[Row]]:
    rows: list[Row] = []
    for pixels, at_s in _frames(clip, progress):
        rows.append(make(model.prepare(pixels, clip.width, clip.height), at_s))
        if len(rows) == BATCH:
            yield rows
            rows = []
    if rows:
        yield rows
