"""Judgements: what people say that events really were, in the form in which a camera takes them to heart."""

import re
from typing import Literal

import msgspec

from core.events.model import Place
from core.ids import EventId

__all__ = ["Judgement", "Verdict", "alike", "attribute_of"]

Verdict = Literal["normal", "real"]

_MEASURE = re.compile(r"[-+]?\d+(?:[.,]\d+)*\s*(?:x|%)?")


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
    path: tuple[Place, ...] = ()
    """Where else it was unusual while it went on."""


def attribute_of(reason: str) -> str:
    """A reason without its measures, so that two of the same kind are alike: "the usual speed here"."""
    return " ".join(_MEASURE.sub(" ", reason.lower()).split())


def alike(attribute: str, other: str) -> bool:
    """Whether one of the things that were unusual is: a reason names up to two or three, the most unusual first."""
    return attribute == other or not {*attribute.split("; ")}.isdisjoint(other.split("; "))
