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
]

BACKENDS = {"openai": "workers.inference.vlm.openai"}
"""Beside "rules": the module of each, with a function `create(config)`, imported where it is chosen."""


def create_analyzer(config: Config) -> VlmAnalyzer:
    """The configured backend; raises ModelError or ConfigError where it cannot be made."""
    backend = config.vlm.backend
    if backend == "rules":
        return RulesAnalyzer()
    if backend not in BACKENDS:
        raise ModelError(f"unknown VLM backend {backend!r}", f"known: rules, {', '.join(BACKENDS)}")
    return importlib.import_module(BACKENDS[backend]).create(config)
