"""From what a model wrote to what it said: whatever a server promised, everything is checked here. Pure."""

import math
from typing import Any

import msgspec

from core.events import Analysis, ConfidenceKind, Verdict, VlmType
from core.events.analysis import clean_text, type_of
from workers.inference.vlm.base import Incident
from workers.inference.vlm.rules import judge

__all__ = ["Described", "Judged", "NotUnderstood", "as_analysis", "described", "find_object", "judged"]


ATTEMPTS = 16
"""Braces that an object may begin with: an answer full of them must not keep anybody busy."""


class NotUnderstood(Exception):
    """What came is not of the form that was asked for."""


class Judged(msgspec.Struct, frozen=True):
    verdict: Verdict
    vlm_type: VlmType
    alt_types: tuple[VlmType, ...]
    confidence: float
    text_instruction_seen: bool


class Described(msgspec.Struct, frozen=True):
    title: str
    description: str
    description_ko: str
    observations: tuple[str, ...]
    people_count: int | None
    vehicle_count: int | None
    visible_text: tuple[str, ...]
    text_instruction_seen: bool


def find_object(text: str) -> dict[str, Any]:
    """The first whole JSON object in `text`, be it fenced or between other words; raises NotUnderstood."""
    begin = text.find("{")
    for _ in range(ATTEMPTS):
        if begin < 0:
            break
        end = _end_of(text, begin)
        if end:
            try:
                found = msgspec.json.decode(text[begin:end])
            except msgspec.DecodeError:
                found = None
            if isinstance(found, dict):
                return found
        begin = text.find("{", begin + 1)
    raise NotUnderstood("there is no JSON object in it" if "{" not in text else "its JSON is broken or cut off")


def _end_of(text: str, begin: int) -> int:
    """Behind the brace that closes the one at `begin`; 0 where none does."""
    depth, quoted, escaped = 0, False, False
    for index in range(begin, len(text)):
        one = text[index]
        if quoted:
            if escaped:
                escaped = False
            elif one == "\\":
                escaped = True
            elif one == '"':
                quoted = False
        elif one == '"':
            quoted = True
        elif one == "{":
            depth += 1
        elif one == "}":
            depth -= 1
            if depth == 0:
                return index + 1
    return 0


def judged(text: str, types: tuple[VlmType, ...]) -> Judged:
    """Raises NotUnderstood, saying what is wrong in words that can be shown to the model."""
    found = find_object(text)
    name = str(found.get("verdict", "")).strip().casefold()
    if name not in set(Verdict):
        raise NotUnderstood(f"verdict must be one of {', '.join(Verdict)}")
    vlm_type = type_of(str(found.get("vlm_type", "")))
    if vlm_type is None or vlm_type not in types:
        raise NotUnderstood(f"vlm_type must be one of {', '.join(types)}")
    listed: Any = found.get("alt_types")
    others = [type_of(str(one)) for one in listed] if isinstance(listed, list) else []
    kept = [one for one in others if one is not None and one in types and one is not vlm_type]
    return Judged(
        Verdict(name),
        vlm_type,
        tuple(dict.fromkeys(kept))[:2],
        _confidence(found.get("confidence")),
        found.get("text_instruction_seen") is True or str(found.get("text_instruction_seen")).casefold() == "true",
    )


def _confidence(value: Any) -> float:
    """0..1; what is over 1 was meant as per cent."""
    try:
        number = float(str(value).strip().removesuffix("%"))
    except ValueError:
        raise NotUnderstood("confidence must be a number from 0 to 1") from None
    number = number / 100 if 1 < number <= 100 else number
    if not math.isfinite(number) or not 0 <= number <= 1:
        raise NotUnderstood("confidence must be a number from 0 to 1")
    return round(number, 4)


def described(text: str) -> Described:
    """Raises NotUnderstood where there is no description in it; all else may be missing."""
    found = find_object(text)
    description = _line(found, "description", 600)
    if not description:
        raise NotUnderstood("description must be a text")
    return Described(
        _line(found, "title", 80),
        description,
        _line(found, "description_ko", 600),
        _lines(found, "observations", 6, 160),
        _count(found.get("people_count")),
        _count(found.get("vehicle_count")),
        _lines(found, "visible_text", 5, 80),
        found.get("text_instruction_seen") is True,
    )


def _line(found: dict[str, Any], name: str, limit: int) -> str:
    value = found.get(name)
    return clean_text(value, limit) if isinstance(value, str) else ""


def _lines(found: dict[str, Any], name: str, most: int, limit: int) -> tuple[str, ...]:
    value: Any = found.get(name)
    texts = [clean_text(one, limit) for one in value if isinstance(one, str)] if isinstance(value, list) else []
    return tuple(one for one in texts if one)[:most]


def _count(value: Any) -> int | None:
    return min(value, 99) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def as_analysis(incident: Incident, answer: Judged, words: Described | None, source: str) -> Analysis:
    """What a model said, in the form of any analysis; where it gave no words, the measured ones stand."""
    measured = judge(incident)
    title = words.title if words and words.title else str(answer.vlm_type).replace("_", " ").capitalize()
    said = f"A model took it for {str(answer.vlm_type).replace('_', ' ')} ({answer.verdict}). "
    said_ko = ""
    if not words:
        said_ko = "모델의 판단이며 설명은 없습니다. "
    return Analysis(
        verdict=answer.verdict,
        vlm_type=answer.vlm_type,
        alt_types=answer.alt_types,
        candidate=answer.vlm_type is VlmType.OTHER and answer.verdict is Verdict.UNCERTAIN,
        title=title[:80],
        description=words.description if words else clean_text(said + measured.description, 600),
        description_ko=words.description_ko if words else clean_text(said_ko + measured.description_ko, 600),
        observations=words.observations if words else measured.observations,
        people_count=words.people_count if words else None,
        vehicle_count=words.vehicle_count if words else None,
        visible_text=words.visible_text if words else (),
        text_instruction_seen=answer.text_instruction_seen or bool(words and words.text_instruction_seen),
        confidence=answer.confidence,
        confidence_kind=ConfidenceKind.MODEL,
        source=source,
        reason_code="model",
    )
