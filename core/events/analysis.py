"""Analysis: what an event was taken to be, in one form for every engine that looks at events."""

import enum
import re
import unicodedata
from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "ALIASES",
    "MEASURED_TYPES",
    "Analysis",
    "AnalysisStatus",
    "ConfidenceKind",
    "Verdict",
    "VlmType",
    "clean_text",
    "type_of",
]


class Verdict(enum.StrEnum):
    """Whether something is going on that a person should know of."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"


class AnalysisStatus(enum.StrEnum):
    """How the engine that was wanted fared; an error is never a rejection.

    `ok`: it answered. `timeout`, `unreachable`, `invalid` (no answer of the agreed form), `refused` (it would not
    look): another one answered in its place. `skipped`: it was not asked, as too much waited or its circuit is open.
    """

    OK = "ok"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    SKIPPED = "skipped"


class ConfidenceKind(enum.StrEnum):
    """What a confidence means: a rule's cap, or what a model says of itself (not calibrated)."""

    HEURISTIC = "heuristic"
    MODEL = "model"


class VlmType(enum.StrEnum):
    """The closed list of what an event can be."""

    NORMAL = "normal"
    INTRUSION = "intrusion"
    LOITERING = "loitering"
    RUNNING = "running"
    """Fast motion, whoever or whatever moves."""
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


MEASURED_TYPES = frozenset(
    {
        VlmType.TAMPER,
        VlmType.INTRUSION,
        VlmType.WRONG_WAY,
        VlmType.LOITERING,
        VlmType.RUNNING,
        VlmType.CROWDING,
        VlmType.CROWD_DISPERSAL,
    }
)
"""What can be measured without knowing what is seen; anything else is a candidate where no model looked."""

_ALIASES = {
    VlmType.ASSAULT_ABUSE: "abuse assault assault_or_abuse violence beating",
    VlmType.FIRE_SMOKE: "arson fire smoke burning",
    VlmType.INTRUSION: "burglary trespassing break_in intruder",
    VlmType.FIGHTING: "fight brawl",
    VlmType.VEHICLE_INCIDENT: "road_accident road_accidents car_accident accident collision crash vehicle_accident",
    VlmType.ROBBERY_THEFT: "robbery shoplifting stealing theft snatching",
    VlmType.WEAPON: "shooting gun knife armed",
    VlmType.VANDALISM: "graffiti damage",
    VlmType.FALL: "falling fallen person_down",
    VlmType.RUNNING: "fast_motion speeding sprinting runner",
    VlmType.ABANDONED_OBJECT: "abandoned left_object unattended_object unattended_bag",
    VlmType.OBJECT_REMOVED: "removed missing_object",
    VlmType.WRONG_WAY: "wrong_direction counterflow",
    VlmType.CROWDING: "crowd gathering",
    VlmType.CROWD_DISPERSAL: "dispersal panic stampede",
    VlmType.TAMPER: "tampering camera_tampering covered",
    VlmType.MEDICAL: "medical_emergency collapse",
    VlmType.OTHER: "arrest unknown none",
    VlmType.UNUSUAL_MOTION: "anomaly unusual abnormal",
    VlmType.LOITERING: "lingering",
}
ALIASES: dict[str, VlmType] = {name: kind for kind, names in _ALIASES.items() for name in names.split()}
"""What models and data sets (UCF-Crime, XD-Violence) call these."""


def type_of(label: str) -> VlmType | None:
    """The type that a label means; None where it is not known."""
    name = re.sub(r"[^a-z]+", "_", label.casefold()).strip("_").removeprefix("possible_")
    try:
        return VlmType(name)
    except ValueError:
        return ALIASES.get(name)


_LINK = re.compile(r"(?:https?|ftp|javascript|data|file):\S*|www\.\S+", re.IGNORECASE)


def clean_text(text: str, limit: int) -> str:
    """One line of at most `limit` characters without control, invisible and bidirectional characters, and links.

    What a model writes may repeat what somebody holds before the camera.
    """
    spaced = " ".join(text.split())
    kept = "".join(one for one in spaced if unicodedata.category(one) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    kept = _LINK.sub("[link]", kept)
    return kept if len(kept) <= limit else kept[: limit - 1].rstrip() + "…"


Title = Annotated[str, Meta(max_length=80)]
Prose = Annotated[str, Meta(max_length=600)]
Remark = Annotated[str, Meta(max_length=160)]
Seen = Annotated[str, Meta(max_length=80)]
Some = Annotated[int, Meta(ge=0, le=99)]


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of one event; the same for every engine."""

    verdict: Verdict
    vlm_type: VlmType
    alt_types: Annotated[tuple[VlmType, ...], Meta(max_length=2)] = ()
    """What else it may be, the likelier first."""
    candidate: bool = False
    """The type cannot be known from what was measured: it is a possibility, and never acted on by itself."""
    title: Title
    description: Prose
    """In English."""
    description_ko: Prose = ""
    """In Korean; "" where the engine gave none."""
    observations: Annotated[tuple[Remark, ...], Meta(max_length=6)] = ()
    people_count: Some | None = None
    vehicle_count: Some | None = None
    visible_text: Annotated[tuple[Seen, ...], Meta(max_length=5)] = ()
    """What is written in the picture: a quotation, never to be followed."""
    text_instruction_seen: bool = False
    """The text in the picture tells whoever reads it what to do."""
    confidence: Annotated[float, Meta(ge=0, le=1)]
    confidence_kind: ConfidenceKind
    source: Annotated[str, Meta(max_length=64)]
    """Who says so: engine and model, such as "rules/2" or "openai/qwen3-vl"."""
    status: AnalysisStatus = AnalysisStatus.OK
    """Of the engine that was wanted; where it is not "ok", `source` is the one that stood in."""
    reason_code: Annotated[str, Meta(max_length=64)] = ""
    """A stable word on why: a rule's name, or the error of the engine that was wanted."""
    needs_review: bool = False
    """A person is to look: decided by the flow."""

    def __post_init__(self) -> None:
        if self.status is not AnalysisStatus.OK and self.verdict is Verdict.REJECTED:
            raise ValueError("an engine that failed has rejected nothing")
