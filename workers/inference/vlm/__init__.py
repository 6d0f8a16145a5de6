"""Vision-language analysis: one analyzer, one file per backend."""

import importlib

from core.config import Config
from core.errors import ModelError
from workers.inference.vlm.base import EVERYTHING, Call, Finding, Incident, Question, VlmAnalyzer
from workers.inference.vlm.rules import RulesAnalyzer

__all__ = [
    "BACKENDS",
    "EVERYTHING",
    "Call",
    "Finding",
    "Incident",
    "Question",
    "RulesAnalyzer",
    "VlmAnalyzer",
    "create_analyzer",
    "weights_of",
]

BACKENDS = {"openai": "workers.inference.vlm.openai", "transformers": "workers.inference.vlm.transformers"}
"""Beside "rules": the module of each, with a function `create(config)`, imported where it is chosen."""


def create_analyzer(config: Config) -> VlmAnalyzer:
    """The configured backend; raises ModelError or ConfigError where it cannot be made."""
    backend = config.vlm.backend
    if backend == "rules":
        return RulesAnalyzer()
    if backend not in BACKENDS:
        raise ModelError(f"unknown VLM backend {backend!r}", f"known: rules, {', '.join(BACKENDS)}")
    return importlib.import_module(BACKENDS[backend]).create(config)


def weights_of(config: Config) -> tuple[int, str, str]:
    """What the configured backend will take at least, in bytes, on which device, and a mark of its files.

    Other files under the same name have another mark: they are another model.
    """
    backend = BACKENDS.get(config.vlm.backend)
    weigh = getattr(importlib.import_module(backend), "weights_of", None) if backend else None
    return weigh(config) if weigh else (0, "cpu", "")
