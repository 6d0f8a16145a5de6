"""Judgements: what people say that events really were, in the form in which a camera takes them to heart."""

import re
from typing import Literal

import msgspec

from core.ids import EventId

__all__ = ["Judgement", "Verdict", "attribute_of"]

Verdict = Literal["normal", "real"]

_MEASURE = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s*(?:x|%)?")


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict in force on one event of a camera."""

    event_id: EventId
    verdict: Verdict
    vad_type: str
    score: float
    """The event's peak, -log10 P."""
    x: float
    """Where that was, as fractions of the frame."""
    y: float
    attribute: str
    """What was unusual, as `attribute_of` tells it."""


def attribute_of(reason: str) -> str:
    """A reason without its measures, so that two of the same kind are alike: "the usual speed here"."""
    return " ".join(_MEASURE.sub(" ", reason.lower()).split())
