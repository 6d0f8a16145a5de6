"""What an analyzer answers when it is asked what happened."""

import enum
from typing import Protocol

import msgspec

from core.events import AnomalyEvent

__all__ = ["Analysis", "AnalysisStatus", "Verdict", "VlmAnalyzer", "VlmType"]


class Verdict(enum.StrEnum):
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"


class AnalysisStatus(enum.StrEnum):
    """How the analysis itself went; an error is never a rejection."""

    OK = "ok"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


class VlmType(enum.StrEnum):
    """The closed list of what an event can be."""

    NORMAL = "normal"
    INTRUSION = "intrusion"
    LOITERING = "loitering"
    RUNNING = "running"
    FALL = "fall"
    FIGHTING = "fighting"
    ASSAULT_ABUSE = "assault_abuse"
    WEAPON = "weapon"
    ROBBERY_THEFT = "robbery_theft"
    VANDALISM = "vandalism"
    ABANDONED_OBJECT = "abandoned_object"
    OBJECT_REMOVED = "object_removed"
    WRONG_WAY = "wrong_way"
    CROWDING = "crowding"
    CROWD_DISPERSAL = "crowd_dispersal"
    RIOT = "riot"
    VEHICLE_INCIDENT = "vehicle_incident"
    FIRE_SMOKE = "fire_smoke"
    EXPLOSION = "explosion"
    TAMPER = "tamper"
    ANIMAL = "animal"
    MEDICAL = "medical"
    UNUSUAL_MOTION = "unusual_motion"
    OTHER = "other"


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What an analyzer says of one event; the same for every backend."""

    verdict: Verdict
    vlm_type: VlmType
    title: str
    description: str
    confidence: float
    """0..1, of the kind that `confidence_kind` names."""
    confidence_kind: str
    source: str
    """Backend and version, such as "rules/1"."""
    status: AnalysisStatus = AnalysisStatus.OK


class VlmAnalyzer(Protocol):
    """One backend; called from several threads."""

    def analyze(self, event: AnomalyEvent, evidence: dict[str, float]) -> Analysis:
        """May block for seconds; never raises for what it sees, says so in `status` instead."""
        ...
