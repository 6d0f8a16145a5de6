"""The golden batch: a few made pictures that each type of detection is run on when it is loaded."""

import hashlib
from typing import Any

import numpy as np

from core.errors import ModelError
from workers.inference.memory import is_out_of_memory
from workers.inference.vad.base import Row

__all__ = ["check_vad_model"]

WIDTH, HEIGHT = 320, 180
PICTURES = 5
FPS = 10.0


def check_vad_model(model: Any) -> str:
    """Runs it on one camera alone and on three together, which also warms it up; a mark of the answers.

    Raises ModelError where it does not give an answer to each, or learns otherwise alone than together.
    """
    taken: list[int] = []
    said = hashlib.sha256(model.name.encode())
    for rows in (1, 3):
        contexts = [model.new_context() for _ in range(rows)]
        learners = [model.new_learner() for _ in range(rows)]
        for number in range(PICTURES):
            pixels = _picture(number)
            batch = [
                Row(model.prepare(pixels, WIDTH, HEIGHT), number / FPS, context, None, learner)
                for context, learner in zip(contexts, learners, strict=True)
            ]
            try:
                answers = model.process(batch)
            except Exception as error:
                if rows > 1 and is_out_of_memory(error):
                    return said.hexdigest()  # batches will be smaller
                raise
            failed = next((one for one in answers if isinstance(one, Exception)), None)
            if failed is not None or len(answers) != rows:
                raise ModelError(f"{model.name} does not take the golden batch: {failed or len(answers)}")
        taken += [learner.frames for learner in learners]
    if len(set(taken)) != 1:
        raise ModelError(f"{model.name} takes in {taken} frames of the same footage, alone and together")
    return said.hexdigest()


def _picture(number: int) -> np.ndarray:
    """(h * 3 // 2, w) uint8 I420: a block that moves over a slope."""
    pixels = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    pixels[:HEIGHT] = np.linspace(60, 160, WIDTH, dtype=np.uint8)
    left = 20 + 12 * number
    pixels[60:120, left : left + 40] = 30
    return pixels
