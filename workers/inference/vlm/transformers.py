"""A vision-language model from a local folder, asked for verdict and type first, in few tokens, then for words.

Questions of several cameras go through it together. Where it fails, rules stand in.
"""

import hashlib
import json
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import structlog

from core.config import Config
from core.errors import ConfigError, ModelError
from core.events import AnalysisStatus
from core.events.analysis import clean_text
from core.events.evidence import FrameRole, KeyFrame
from workers.inference.costs import BatchCosts
from workers.inference.memory import is_out_of_memory, release_memory
from workers.inference.vlm.answers import Described, NotUnderstood, as_analysis, described, judged
from workers.inference.vlm.base import Call, Finding, Incident, Question
from workers.inference.vlm.local_model import Asked, Failed, LocalModel, device_of
from workers.inference.vlm.pictures import Picture, chosen_pictures
from workers.inference.vlm.prompts import Prompt, describing, judging
from workers.inference.vlm.rules import stand_in

__all__ = ["TransformersAnalyzer", "create", "weights_of"]

log = structlog.get_logger()

GATHER_S = 0.02
"""Questions that come so soon after each other go together."""
LEAST_S = 0.2
"""With less time left, nothing is begun."""
DESCRIBE_LEAST_S = 1.0
BATCH_LIMIT_S = 4.0
"""What a batch of verdicts should take at most, where smaller ones cost no throughput."""
OUTPUT_KEPT = 2000
CHECK = "What is this?"


class TransformersAnalyzer:
    """The model in a thread of its own; verdicts before descriptions, what waits goes together."""

    name = "transformers"

    def __init__(self, config: Config, model: LocalModel) -> None:
        limits = config.vlm
        self._limits, self._media_dir = limits, config.media_dir.resolve()
        self._model: LocalModel | None = model
        self.model = Path(limits.folder).name
        self.source = f"transformers/{clean_text(self.model, 50)}"
        self._costs = BatchCosts(limits.batch, BATCH_LIMIT_S)
        self._waiting: deque[Asked] = deque()
        self._running: list[Asked] = []
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vlm-model", daemon=True)
        self._thread.start()

    # ---- what is asked

    def analyze(self, incident: Incident, question: Question, deadline_s: float) -> Finding:
        calls: list[Call] = []
        room = round(self._limits.request_mb * 1e6)
        pictures = chosen_pictures(self._media_dir, incident, question, self._limits.frames, room)
        frames = tuple(one.frame for one in pictures)
        try:
            if not pictures:
                raise Failed(AnalysisStatus.SKIPPED, "no_pictures")
            prompt = judging(incident, question, frames, self._limits.hints)
            text = self._call(prompt, pictures, deadline_s, calls, question.role)
            try:
                answer = judged(text, question.types)
            except NotUnderstood as error:
                late = time.monotonic() >= deadline_s - LEAST_S
                status = AnalysisStatus.TIMEOUT if late else AnalysisStatus.INVALID
                calls[-1] = msgspec.structs.replace(calls[-1], error=f"{status}: {error}")
                raise Failed(status, "no_answer_in_time" if late else str(error)) from error
        except Failed as failed:
            log.warning("vlm_failed", model=self.model, status=str(failed.status), reason=failed.why)
            return Finding(analysis=stand_in(incident, question, failed.status, failed.why), calls=tuple(calls))
        words: Described | None = None
        if self._limits.describe and deadline_s - time.monotonic() >= DESCRIBE_LEAST_S:
            prompt = describing(incident, frames, answer.vlm_type, answer.verdict)
            try:
                words = described(self._call(prompt, pictures, deadline_s, calls, "describe", words=True))
            except (Failed, NotUnderstood) as error:
                log.info("vlm_gave_no_description", model=self.model, reason=str(error))
        return Finding(analysis=as_analysis(incident, answer, words, self.source), calls=tuple(calls))

    def _call(
        self,
        prompt: Prompt,
        pictures: list[Picture],
        until_s: float,
        calls: list[Call],
        role: str,
        *,
        words: bool = False,
    ) -> str:
        """What the model writes, noted in `calls`; raises Failed at `until_s` at the latest."""
        began = time.monotonic()
        output, error, tokens = "", "", 0
        try:
            output, tokens = self._ask(prompt, pictures, until_s, words=words)
            return output
        except Failed as failed:
            output, error = failed.output, f"{failed.status}: {failed.why}"
            raise
        finally:
            calls.append(
                Call(
                    engine=self.name,
                    model=self.model,
                    role=role,
                    prompt_sha256=prompt.sha256,
                    frames=tuple(one.sha256 for one in pictures),
                    output=output[:OUTPUT_KEPT],
                    ms=round(1000 * (time.monotonic() - began), 1),
                    error=error,
                    tokens=tokens,
                )
            )

    def _ask(self, prompt: Prompt, pictures: list[Picture], until_s: float, *, words: bool) -> tuple[str, int]:
        if until_s - time.monotonic() < LEAST_S:
            raise Failed(AnalysisStatus.TIMEOUT, "no_time_left")
        asked = Asked(
            prompt.system,
            prompt.user,
            prompt.schema,
            pictures,
            prompt.max_tokens,
            until_s - LEAST_S / 2,
            Future(),
            words,
        )
        with self._news:
            if self._closed:
                raise Failed(AnalysisStatus.UNREACHABLE, "stopping")
            self._waiting.append(asked)
            self._news.notify()
        try:
            return asked.answer.result(max(0.0, until_s - time.monotonic()))
        except FutureTimeout as error:
            asked.gone = True
            raise Failed(AnalysisStatus.TIMEOUT, "no_answer_in_time") from error

    # ---- the model's thread

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._answer(batch)
            except Exception as error:
                log.exception("model_failed", model=self.model)
                for one in batch:
                    _settle(one, Failed(AnalysisStatus.INVALID, f"{type(error).__name__}: {error}"))

    def _take(self) -> list[Asked]:
        """What goes together next; waits for it. Empty at the end."""
        with self._news:
            while not self._closed:
                self._news.wait_for(lambda: self._waiting or self._closed)
                self._news.wait_for(lambda: len(self._waiting) >= self._costs.largest or self._closed, GATHER_S)
                now_s = time.monotonic()
                late = [one for one in self._waiting if one.until_s <= now_s or one.gone]
                for one in late:
                    _settle(one, Failed(AnalysisStatus.TIMEOUT, "no_answer_in_time"))
                waiting = [one for one in self._waiting if one not in late]
                first = [one for one in waiting if not one.words] or waiting
                batch = first[: self._costs.choose(len(first), time.monotonic_ns())] if first else []
                self._waiting = deque(one for one in waiting if one not in batch)
                if batch:
                    self._running = batch
                    return batch
            return []

    def _answer(self, batch: list[Asked]) -> None:
        """Runs it; what fails together is run in halves, so that one question fails alone. Where there is no memory,
        batches are smaller for a while.
        """
        began, model = time.perf_counter(), self._model
        assert model
        try:
            answers = model.generate(batch)
        except Failed as failed:
            failure = failed
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = Failed(AnalysisStatus.UNREACHABLE, "out_of_memory")
        else:
            if not batch[0].words:
                self._costs.observe(len(batch), time.perf_counter() - began, time.monotonic_ns())
            for one, answer in zip(batch, answers, strict=True):
                _settle(one, answer)
            return
        if failure.why == "out_of_memory":
            # outside of the handler, as the error holds on to what the batch held
            log.warning("out_of_memory", model=self.model, rows=len(batch))
            self._costs.out_of_memory(len(batch), time.monotonic_ns())
            release_memory()
        if len(batch) == 1:
            _settle(batch[0], failure)
            return
        half = len(batch) // 2
        self._answer(batch[:half])
        self._answer(batch[half:])

    # ---- for the pool

    @property
    def weights(self) -> LocalModel | None:
        """What holds the memory; None once it is closed."""
        return self._model

    @property
    def parameter_bytes(self) -> int:
        return self._model.parameter_bytes if self._model else 0

    def check(self) -> str:
        """What it says to a fixed question and picture: the same after each load of the same model.

        Also warms it up, alone and with the largest batch. Raises ModelError where its answer is of no use.
        """
        model, picture = self._model, _check_picture()
        assert model
        prompt = Prompt("You look at pictures.", CHECK, _CHECK_SCHEMA, "check", 64)
        futures = [
            Asked(prompt.system, prompt.user, prompt.schema, [picture], 64, time.monotonic() + 600, Future())
            for _ in range(self._limits.batch)
        ]
        try:
            text, _ = model.generate(futures[:1])[0]
            if len(futures) > 1:
                model.generate(futures)
        except Failed as failed:
            raise ModelError(f"{self.model}: {failed.why}") from failed
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ModelError(f"{self.model} does not answer in the form that it is held to: {text[:80]!r}") from error
        return json.dumps(found, sort_keys=True)

    def close(self) -> None:
        """Ends what is under way; later questions fail at once."""
        with self._news:
            self._closed = True
            left = [*self._waiting, *self._running]
            self._waiting.clear()
            self._news.notify_all()
        for one in left:
            one.gone = True
            _settle(one, Failed(AnalysisStatus.UNREACHABLE, "stopping"))
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._model = None


def create(config: Config) -> TransformersAnalyzer:
    limits = config.vlm
    if not limits.folder:
        raise ConfigError("the transformers backend needs vlm.folder", "a folder with config.json and *.safetensors")
    folder = Path(limits.folder).expanduser()
    return TransformersAnalyzer(config, LocalModel(folder, limits.device, limits.threads))


def weights_of(config: Config) -> tuple[int, str, str]:
    """Bytes of the weights as they lie in the folder, the device, and a mark of the files."""
    folder = Path(config.vlm.folder).expanduser()
    files = sorted(folder.glob("*.safetensors")) if config.vlm.folder else []
    try:
        found = [(one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    except OSError:
        found = []
    # on the CPU each weight becomes four bytes, and is mostly stored in two
    device = device_of(config.vlm.device)
    return sum(size for _, size, _ in found) * (2 if device == "cpu" else 1), device, str(found)


def _settle(asked: Asked, answer: "tuple[str, int] | Failed") -> None:
    """Gives it its answer, unless it has one."""
    if asked.answer.done():
        return
    if isinstance(answer, Failed):
        asked.answer.set_exception(answer)
    else:
        asked.answer.set_result(answer)


_CHECK_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"seen": {"enum": ["nothing", "people", "vehicles", "other"]}, "sure": {"type": "number"}},
    "required": ["seen", "sure"],
    "additionalProperties": False,
}


def _check_picture() -> Picture:
    """A soft edge, 320x180."""
    grey = np.clip(np.linspace(40, 200, 320)[None, :, None] + np.zeros((180, 320, 3)), 0, 255).astype(np.uint8)
    data = cv2.imencode(".jpg", grey)[1].tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    return Picture(KeyFrame(role=FrameRole.PEAK, at_s=0, file="", sha256=sha256, width=320, height=180), data)
