"""What an analyzer is asked, and what it answers, when something has happened."""

from typing import Protocol

import msgspec

from core.events import Analysis, AnomalyEvent, VlmType
from core.events.evidence import Evidence

__all__ = ["EVERYTHING", "Call", "Finding", "Incident", "Question", "VlmAnalyzer"]


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and what was measured of it."""

    event: AnomalyEvent
    evidence: Evidence
    attempt: int = 0
    """1 where it is looked at once more, with newer evidence."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asked, and among which types the answer lies."""

    role: str = "general"
    types: tuple[VlmType, ...] = tuple(VlmType)
    crop: bool = False
    """Look at what moved alone, enlarged."""


EVERYTHING = Question()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question to an engine, for the audit trail."""

    engine: str
    model: str
    role: str
    prompt_sha256: str = ""
    """Of all the words that it was given, system prompt and schema included; "" where there is no prompt."""
    frames: tuple[str, ...] = ()
    """SHA-256 of the pictures that it was shown, in order."""
    output: str = ""
    """What it said, cut to 2,000 characters."""
    ms: float
    error: str = ""
    tokens: int = 0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """An analysis, and how it came about."""

    analysis: Analysis
    calls: tuple[Call, ...] = ()


class VlmAnalyzer(Protocol):
    """One backend; called from several threads."""

    name: str
    """Of the backend, "rules" or "openai"."""

    def analyze(self, incident: Incident, question: Question, deadline_s: float) -> Finding:
        """An answer by `deadline_s` (monotonic seconds), which it may block until.

        Never raises: what goes wrong stands in the analysis's `status`, and what was measured in its place.
        """
        ...

    def close(self) -> None:
        """Lets go of connections and models."""
        ...
