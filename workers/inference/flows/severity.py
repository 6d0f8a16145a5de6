"""How bad an event is: a table over what was measured and what it was taken to be. Text decides nothing here."""

import msgspec

from core.events import Analysis, ConfidenceKind, Severity, Verdict, VlmType
from core.events.tracker import severity_of
from workers.inference.vlm import Incident

__all__ = ["FLOORS", "RANKS", "Grade", "grade"]

RANKS = list(Severity)
INFO, LOW, MEDIUM, HIGH, CRITICAL = range(5)

BASE = {
    VlmType.INTRUSION: MEDIUM,
    VlmType.LOITERING: LOW,
    VlmType.RUNNING: LOW,
    VlmType.FALL: HIGH,
    VlmType.FIGHTING: HIGH,
    VlmType.ASSAULT_ABUSE: HIGH,
    VlmType.WEAPON: CRITICAL,
    VlmType.ROBBERY_THEFT: HIGH,
    VlmType.VANDALISM: MEDIUM,
    VlmType.ABANDONED_OBJECT: MEDIUM,
    VlmType.OBJECT_REMOVED: MEDIUM,
    VlmType.WRONG_WAY: MEDIUM,
    VlmType.CROWDING: LOW,
    VlmType.CROWD_DISPERSAL: HIGH,
    VlmType.RIOT: CRITICAL,
    VlmType.VEHICLE_INCIDENT: HIGH,
    VlmType.FIRE_SMOKE: HIGH,
    VlmType.EXPLOSION: CRITICAL,
    VlmType.TAMPER: MEDIUM,
    VlmType.MEDICAL: HIGH,
}
"""What a type is worth at least, once it is more than a possibility; others are worth what the score says."""

FLOORS = {
    VlmType.FIRE_SMOKE: HIGH,
    VlmType.EXPLOSION: CRITICAL,
    VlmType.WEAPON: CRITICAL,
    VlmType.TAMPER: MEDIUM,
}
"""What a type is worth even as a possibility, unless nothing but a rule guesses it."""

LONG_S = 10.0
"""What goes on for longer counts one step more."""
SURE = 0.5
"""A model that says of itself to be less sure raises by a step at most."""


class Grade(msgspec.Struct, frozen=True):
    """A severity and what made it."""

    rank: int
    why: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        return RANKS[self.rank]


def grade(incident: Incident, analysis: Analysis) -> Grade:
    """A pure function; never less than the score's own severity, but that a camera which has learned little is held
    at medium.
    """
    event = incident.event
    rank = RANKS.index(severity_of(event.peak_score))
    why = [f"score {event.peak_score:.1f}"]
    if incident.evidence.duration_s >= LONG_S:
        rank += 1
        why.append(f"lasted {LONG_S:.0f} s or more")
    rank = max(rank, RANKS.index(severity_of(event.peak_score, event.end_s - event.begin_s)))
    if event.provisional and rank > MEDIUM:
        rank = MEDIUM
        why.append("held at medium, the camera has learned little")
    base = BASE.get(analysis.vlm_type, INFO)
    if analysis.vlm_type is VlmType.INTRUSION and incident.evidence.armed:
        base = HIGH
    if analysis.verdict is Verdict.REJECTED:
        base = INFO
    elif analysis.candidate or analysis.verdict is Verdict.UNCERTAIN or _is_unsure(analysis):
        base = min(base, rank + 1)
    if base > rank:
        rank = base
        why.append(f"{analysis.vlm_type}" + (" possibly" if analysis.candidate else ""))
    floor = FLOORS.get(analysis.vlm_type, INFO)
    if floor > rank and not analysis.candidate:
        rank = floor
        why.append(f"never less for {analysis.vlm_type}")
    return Grade(min(max(rank, INFO), CRITICAL), tuple(why))


def _is_unsure(analysis: Analysis) -> bool:
    return analysis.confidence_kind is ConfidenceKind.MODEL and analysis.confidence < SURE
