"""The hierarchical flow: a supervisor asks for a first view, sends it to its specialist, and weighs both."""

import enum

import msgspec

from core.events import Analysis, AnalysisStatus, Verdict, VlmType
from workers.inference.flows.base import Decision, Run
from workers.inference.vlm import EVERYTHING, Question

__all__ = ["HierarchicalFlow", "specialist_for"]

COMMON = (VlmType.NORMAL, VlmType.UNUSUAL_MOTION, VlmType.OTHER)
PEOPLE = Question(
    role="people",
    types=(
        *COMMON,
        VlmType.INTRUSION,
        VlmType.LOITERING,
        VlmType.RUNNING,
        VlmType.FALL,
        VlmType.FIGHTING,
        VlmType.ASSAULT_ABUSE,
        VlmType.WEAPON,
        VlmType.ROBBERY_THEFT,
        VlmType.VANDALISM,
        VlmType.ABANDONED_OBJECT,
        VlmType.OBJECT_REMOVED,
        VlmType.WRONG_WAY,
        VlmType.CROWDING,
        VlmType.CROWD_DISPERSAL,
        VlmType.RIOT,
        VlmType.MEDICAL,
        VlmType.ANIMAL,
    ),
    crop=True,
)
VEHICLES = Question(
    role="vehicles",
    types=(*COMMON, VlmType.VEHICLE_INCIDENT, VlmType.WRONG_WAY, VlmType.RUNNING, VlmType.INTRUSION, VlmType.LOITERING),
    crop=True,
)
SURROUNDINGS = Question(
    role="surroundings", types=(*COMMON, VlmType.FIRE_SMOKE, VlmType.EXPLOSION, VlmType.ANIMAL, VlmType.VANDALISM)
)
CAMERA = Question(role="camera", types=(*COMMON, VlmType.TAMPER))


class _Turn(enum.Enum):
    FIRST = enum.auto()
    SPECIALIST = enum.auto()
    SECOND_LOOK = enum.auto()
    WEIGH = enum.auto()


def specialist_for(analysis: Analysis) -> Question:
    """Who knows most of such a thing; a pure function."""
    if analysis.vlm_type is VlmType.TAMPER:
        return CAMERA
    if analysis.vlm_type in {VlmType.FIRE_SMOKE, VlmType.EXPLOSION}:
        return SURROUNDINGS
    if analysis.vlm_type is VlmType.VEHICLE_INCIDENT or (analysis.vehicle_count and not analysis.people_count):
        return VEHICLES
    return PEOPLE


class HierarchicalFlow:
    """Two levels, three calls at most; where the two disagree, the event counts as the worse of them."""

    name = "hierarchical"
    calls = 3

    def run(self, run: Run) -> Decision:
        turn, views = _Turn.FIRST, list[Analysis]()
        question = EVERYTHING
        while turn is not _Turn.WEIGH:
            said = run.ask(question)
            if said is None or said.status is not AnalysisStatus.OK:
                views += [said] if said else []
                break
            views.append(said)
            turn, question = self._next(turn, question, views)
        return self._weigh(run, views or [run.measured])

    def _next(self, turn: _Turn, question: Question, views: list[Analysis]) -> tuple[_Turn, Question]:
        """What comes after the last view."""
        if turn is _Turn.FIRST:
            return _Turn.SPECIALIST, specialist_for(views[0])
        if turn is _Turn.SPECIALIST and not _agree(views[0], views[1]):
            return _Turn.SECOND_LOOK, msgspec.structs.replace(question, role=f"{question.role}_again", crop=True)
        return _Turn.WEIGH, question

    def _weigh(self, run: Run, views: list[Analysis]) -> Decision:
        first, last = views[0], views[-1]
        failed = next((one for one in views if one.status is not AnalysisStatus.OK), None)
        if failed is not None and len(views) > 1:
            run.note("weigh", "a specialist failed: the first view stands")
            return run.conclude(first, unsure=True)
        if len(views) == 1 or _agree(views[-2], last):
            kept = last if last.vlm_type is not VlmType.UNUSUAL_MOTION or last.confidence > first.confidence else first
            run.note("weigh", f"{len(views)} views agree on {kept.vlm_type}")
            return run.conclude(kept)
        run.note("weigh", f"views differ: {', '.join(one.vlm_type for one in views)}")
        kept = first if first.verdict is Verdict.CONFIRMED else last
        others = [one.vlm_type for one in views if one.vlm_type is not kept.vlm_type]
        unsure = msgspec.structs.replace(
            kept, verdict=Verdict.UNCERTAIN, alt_types=tuple(dict.fromkeys((*others, *kept.alt_types)))[:2]
        )
        return run.conclude(unsure, unsure=True)


def _agree(one: Analysis, other: Analysis) -> bool:
    """Of the same type, and neither says yes where the other says no."""
    opposed = {one.verdict, other.verdict} == {Verdict.CONFIRMED, Verdict.REJECTED}
    return one.vlm_type is other.vlm_type and not opposed
