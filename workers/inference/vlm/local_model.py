"""LocalModel: a vision-language model from a local folder; safetensors only, no network, no code of its own.

What it writes is held to a schema token by token (llguidance), so that every answer that ends is of the agreed form.
"""

import importlib
import importlib.util
import io
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from core.errors import ModelError
from core.events import AnalysisStatus
from workers.inference.memory import is_out_of_memory
from workers.inference.vlm.pictures import Picture, fewer

__all__ = ["Asked", "Failed", "LocalModel", "device_of"]

log = structlog.get_logger()

EXTRA = "pip install 'haetae[vlm]'"
TORCHVISION = "install the torchvision that was built for this torch, of the same index; some need num2words as well"
SURE = [number / 20 for number in range(21)]
"""The confidences that a model may choose from: a number without end would never be finished."""


class Failed(Exception):
    """There is no usable answer."""

    def __init__(self, status: AnalysisStatus, why: str, output: str = "") -> None:
        super().__init__(why)
        self.status, self.why, self.output = status, why, output


class Asked(msgspec.Struct, eq=False):
    """A question that waits for its turn; `answer` gets text and tokens, or a Failed."""

    system: str
    user: str
    schema: dict[str, Any]
    pictures: list[Picture]
    max_tokens: int
    until_s: float
    """Monotonic; it is given up then."""
    answer: "Future[tuple[str, int]]"
    words: bool = False
    """A description: verdicts go first."""
    gone: bool = False
    """Nobody waits for it any more."""


class LocalModel:
    """A model and its processor, from a folder. One thread uses it."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        """Raises ModelError, saying what is missing or wrong, and what to do."""
        self.transformers, self.llguidance = _libraries()
        self.torch = importlib.import_module("torch")
        self.device = _device(self.torch, device)
        if threads:
            self.torch.set_num_threads(threads)
        _check_folder(folder)
        self.processor, self.model = _loaded(self.transformers, folder, self._dtype())
        self.model.to(self.device).eval()
        self.tokenizer = self.processor.tokenizer
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        head = self.model.get_output_embeddings()
        self._vocabulary = int(head.weight.shape[0])
        ends: Any = self.model.generation_config.eos_token_id
        ends = ends if ends is not None else self.tokenizer.eos_token_id
        self._ends: list[int] = list(ends) if isinstance(ends, list | tuple) else [int(ends)]
        try:
            self._speller = importlib.import_module("llguidance.hf").from_tokenizer(
                self.tokenizer, n_vocab=self._vocabulary, eos_token=self._ends
            )
        except ValueError as error:
            raise ModelError(f"{folder} has no fast tokenizer", "save it with tokenizer.json") from error
        self._grammars: dict[str, str] = {}
        self._special = sorted(
            {str(one) for one in self.tokenizer.all_special_tokens}
            | {str(one) for one in self.tokenizer.added_tokens_decoder.values()},
            key=len,
            reverse=True,
        )
        text: Any = getattr(self.model.config, "text_config", self.model.config)
        self.context = int(getattr(text, "max_position_embeddings", 0) or 4096)
        self._folds = not self._takes_system(folder)

    def _dtype(self) -> Any:
        if self.device == "cpu":
            return self.torch.float32
        return self.torch.bfloat16 if self.torch.cuda.is_bf16_supported() else self.torch.float16

    def _takes_system(self, folder: Path) -> bool:
        """Whether its chat template has a place for the system's words; others get them before the question."""
        if not getattr(self.processor, "chat_template", None):
            raise ModelError(f"{folder} has no chat template", "models that follow instructions have one; choose such")
        try:
            return "SYSTEM WORDS" in self._rendered("SYSTEM WORDS", "USER WORDS", 1, folds=False)
        except Exception as error:
            log.info("no_system_role", reason=f"{type(error).__name__}: {error}")
            return False

    @property
    def parameter_bytes(self) -> int:
        return sum(one.numel() * one.element_size() for one in self.model.parameters())

    # ---- asking

    def _rendered(self, system: str, user: str, pictures: int, *, folds: bool) -> str:
        """The text of a question; what looks like the model's own marks is taken out of it."""
        content = [{"type": "text", "text": self.plain(f"{system}\n\n{user}" if folds else user)}]
        content += [{"type": "image"}] * pictures
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if not folds:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self.plain(system)}]})
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def plain(self, text: str) -> str:
        """Without tokens that mean something to the model: a sign, or a zone's name, cannot end its own quotation."""
        for one in self._special:
            if len(one) > 1:
                text = text.replace(one, " ")
        return text

    def generate(self, batch: Sequence[Asked]) -> list[tuple[str, int]]:
        """Text and tokens of each; a text that was not finished in time, or in its tokens, is cut.

        Raises Failed where a question does not fit into the model, and torch's own error where there is no memory.
        """
        inputs = self._inputs(batch)
        start = inputs["input_ids"].shape[1]
        guide = _Guide([self._matcher(one.schema) for one in batch], start, self._ends, self._vocabulary, self.torch)
        until = _Until(batch, self.torch)
        with self.torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=max(one.max_tokens for one in batch),
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=self._ends,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=self.transformers.LogitsProcessorList([guide]),
                stopping_criteria=self.transformers.StoppingCriteriaList([until]),
            )
        rows: list[list[int]] = out[:, start:].tolist()
        return [(self.tokenizer.decode(row, skip_special_tokens=True), self._length(row)) for row in rows]

    def _length(self, row: list[int]) -> int:
        return next((number for number, one in enumerate(row) if one in self._ends), len(row))

    def _inputs(self, batch: Sequence[Asked]) -> Any:
        """What the model takes in; of questions that are too long, pictures are left out."""
        shown = [one.pictures for one in batch]
        while True:
            texts = [
                self._rendered(one.system, one.user, len(pictures), folds=self._folds)
                for one, pictures in zip(batch, shown, strict=True)
            ]
            images = [[_opened(one) for one in pictures] for pictures in shown]
            inputs = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
            room = self.context - max(one.max_tokens for one in batch)
            if inputs["input_ids"].shape[1] <= room:
                return inputs.to(self.device, dtype=self.model.dtype)
            if all(len(one) <= 1 for one in shown):
                raise Failed(AnalysisStatus.INVALID, "question_too_long")
            shown = [fewer(one) for one in shown]

    def _matcher(self, schema: dict[str, Any]) -> Any:
        key = json.dumps(schema)
        matcher = self.llguidance.LLMatcher
        if key not in self._grammars:
            self._grammars[key] = matcher.grammar_from_json_schema(
                _finite(schema), overrides={"whitespace_flexible": False}
            )
        made = matcher(self._speller, self._grammars[key])
        if made.is_error():
            raise Failed(AnalysisStatus.INVALID, f"schema: {made.get_error()}")
        return made


class _Guide:
    """A logits processor: of each row only those tokens that its schema allows next."""

    def __init__(self, matchers: list[Any], start: int, ends: list[int], vocabulary: int, torch: Any) -> None:
        self._matchers, self._start, self._ends, self._torch = matchers, start, ends, torch
        self._mask = np.zeros((len(matchers), (vocabulary + 31) // 32), np.int32)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        if input_ids.shape[1] > self._start:
            for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self._mask[:] = 0
        for matcher, row in zip(self._matchers, self._mask, strict=True):
            if not (matcher.is_stopped() or matcher.is_error()):
                matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
            else:
                for end in self._ends:
                    row[end // 32] |= np.uint32(1 << end % 32).astype(np.int32)
        bits = np.unpackbits(self._mask.view(np.uint8), axis=1, bitorder="little")[:, : scores.shape[1]]
        forbidden = self._torch.from_numpy(bits == 0).to(scores.device)
        return scores.masked_fill(forbidden, float("-inf"))


class _Until:
    """A stopping criterion: each row's time, or nobody waits for it any more."""

    def __init__(self, batch: Sequence[Asked], torch: Any) -> None:
        self._batch, self._torch = batch, torch

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:  # noqa: ARG002
        now_s = time.monotonic()
        over = [now_s >= one.until_s or one.gone for one in self._batch]
        return self._torch.tensor(over, dtype=self._torch.bool, device=input_ids.device)


# ---- from a folder


def _libraries() -> tuple[Any, Any]:
    """Transformers and llguidance; raises ModelError where they, or what they need, cannot be used."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: nothing is ever fetched
    if importlib.util.find_spec("torchvision"):
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            raise ModelError(
                f"torchvision does not match torch: {error}",
                "remove it, or install the one that was built for this torch (of the same index)",
            ) from error
    try:
        importlib.import_module("PIL.Image")
        transformers = importlib.import_module("transformers")
        llguidance = importlib.import_module("llguidance")
    except ImportError as error:
        raise ModelError(f"the transformers backend cannot be used: {error}", EXTRA) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers, llguidance


def device_of(wanted: str) -> str:
    """Where a model with this setting will run: asks torch only where it must."""
    if wanted == "cpu":
        return "cpu"
    return "cuda" if wanted == "cuda" or importlib.import_module("torch").cuda.is_available() else "cpu"


def _device(torch: Any, wanted: str) -> str:
    found = device_of(wanted)
    if found == "cuda" and not torch.cuda.is_available():
        raise ModelError("there is no CUDA device for vlm.device = 'cuda'", "set vlm.device to 'cpu' or 'auto'")
    return found


def _check_folder(folder: Path) -> None:
    """Raises ModelError where it is no folder of a model that may be loaded."""
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}", "vlm.folder names one with config.json and *.safetensors")
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except OSError as error:
        raise ModelError(
            f"{folder} is not a model: it has no config.json", "a whole copy of a model is needed"
        ) from error
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'} is broken: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{folder / 'config.json'} names no model_type")
    if not any(folder.glob("*.safetensors")):
        others = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        raise ModelError(
            f"{folder} has no weights in safetensors",
            "pickled weights can run code, and are not loaded: save them as safetensors"
            if others
            else "copy all of it",
        )


def _loaded(transformers: Any, folder: Path, dtype: Any) -> tuple[Any, Any]:
    """Processor and model; raises ModelError."""
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = transformers.AutoProcessor.from_pretrained(str(folder), **safe)
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise ModelError(f"{folder} is no model that takes pictures and text")
        model = transformers.AutoModelForImageTextToText.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, **safe
        )
    except ModelError:
        raise
    except ImportError as error:
        missing = [name for name in ("torchvision", "num2words") if name in str(error).lower()]
        raise ModelError(
            f"the model in {folder} needs {' and '.join(missing) or 'a library that is missing'}: {_first(error)}",
            TORCHVISION if "torchvision" in missing else f"pip install {missing[0]}" if missing else EXTRA,
        ) from error
    except MemoryError as error:
        raise ModelError(f"there is no memory for the model in {folder}") from error
    except Exception as error:
        text = str(error)
        if is_out_of_memory(error):
            raise ModelError(f"there is no memory for the model in {folder}: {_first(error)}") from error
        if "video processor" in text and not importlib.util.find_spec("torchvision"):
            raise ModelError(f"the model in {folder} needs torchvision for its processor", TORCHVISION) from error
        if "trust_remote_code" in text or "custom code" in text:
            raise ModelError(
                f"the model in {folder} needs code of its own, which is not run", "choose one that transformers knows"
            ) from error
        raise ModelError(f"the model in {folder} cannot be loaded: {_first(error)}") from error
    return processor, model


def _first(error: Exception) -> str:
    """Its first line with words in it."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _finite(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema with numbers from a list."""
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if isinstance(value, dict):
            made[name] = {"enum": SURE} if value.get("type") == "number" else _finite(value)
        else:
            made[name] = value
    return made


def _opened(picture: Picture) -> Any:
    """PIL, RGB; raises Failed."""
    pil: Any = importlib.import_module("PIL.Image")
    try:
        return pil.open(io.BytesIO(picture.data)).convert("RGB")
    except OSError as error:
        raise Failed(AnalysisStatus.INVALID, "broken_picture") from error
