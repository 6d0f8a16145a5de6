"""The collaborative flow: assessors that see different evidence and not each other, then a vote."""

import statistics

import msgspec

from core.events import Analysis, AnalysisStatus, Verdict, VlmType
from workers.inference.flows.base import Decision, Run
from workers.inference.flows.severity import grade
from workers.inference.vlm import EVERYTHING, Incident, Question
from workers.inference.vlm.rules import SOURCE

__all__ = ["CollaborativeFlow", "Voice", "history_says", "motion_says", "vote"]

QUORUM = 2
STRONG = 5.0
"""-log10 P that is taken for real by itself."""
LASTING_S = 3.0
NEAR = 0.2
"""Of the picture's size: earlier events that close were at the same place."""
RECENT_S = 600.0


class Voice(msgspec.Struct, frozen=True):
    """One assessor's opinion; `weight` breaks ties only among those that say the same."""

    who: str
    verdict: Verdict
    vlm_type: VlmType
    rank: int
    """Of the severity that it makes."""


def motion_says(incident: Incident, measured: Analysis) -> Voice:
    """What was measured, and the curve of the score; a pure function."""
    strong = incident.event.peak_score >= STRONG or incident.evidence.duration_s >= LASTING_S
    verdict = Verdict.CONFIRMED if strong or measured.verdict is Verdict.CONFIRMED else Verdict.UNCERTAIN
    return Voice("motion", verdict, measured.vlm_type, grade(incident, measured).rank)


def history_says(incident: Incident, measured: Analysis) -> Voice:
    """What happened here before: what comes again within minutes at the same place goes on. A pure function."""
    event = incident.event
    x, y = event.peak_x / max(event.frame_width, 1), event.peak_y / max(event.frame_height, 1)
    again = [
        one
        for one in incident.evidence.earlier
        if one.ago_s <= RECENT_S and abs(one.x - x) <= NEAR and abs(one.y - y) <= NEAR
    ]
    verdict = Verdict.CONFIRMED if len(again) >= 2 else Verdict.UNCERTAIN
    kind = statistics.mode(one.vlm_type for one in again) if again else measured.vlm_type
    return Voice("history", verdict, kind, grade(incident, measured).rank)


def scene_says(incident: Incident, said: Analysis) -> Voice | None:
    """What an engine saw in the pictures; None where it saw none: measurements do not vote twice."""
    if said.status is not AnalysisStatus.OK or said.source == SOURCE:
        return None
    # who is told by the picture what to say has no vote for less
    verdict = said.verdict
    if said.text_instruction_seen and verdict is Verdict.REJECTED:
        verdict = Verdict.UNCERTAIN
    return Voice("scene", verdict, said.vlm_type, grade(incident, said).rank)


def vote(voices: list[Voice]) -> Verdict | None:
    """The verdict of a quorum; None where there is none. "Uncertain" is no vote."""
    for verdict in (Verdict.CONFIRMED, Verdict.REJECTED):
        if sum(one.verdict is verdict for one in voices) >= QUORUM:
            return verdict
    return None


class CollaborativeFlow:
    """Three assessors, one of which may be a model; a second look where they are split; still split, a person."""

    name = "collaborative"
    calls = 2

    def run(self, run: Run) -> Decision:
        voices = [motion_says(run.incident, run.measured), history_says(run.incident, run.measured)]
        said = self._look(run, EVERYTHING, voices)
        result = vote(voices)
        if result is None and any(one.who == "scene" for one in voices):
            voices = [one for one in voices if one.who != "scene"]
            again = self._look(run, Question(role="general_again", crop=True), voices)
            said = again if any(one.who == "scene" for one in voices) else said
            result = vote(voices)
        run.note(
            "vote",
            "; ".join(f"{one.who} {one.verdict} {one.vlm_type}" for one in voices) + f": {result or 'split'}",
            voices=[msgspec.to_builtins(one) for one in voices],
        )
        if not any(one.who == "scene" for one in voices):
            return run.conclude(said)
        if result is None:
            return run.conclude(msgspec.structs.replace(said, verdict=Verdict.UNCERTAIN), unsure=True)
        return run.conclude(msgspec.structs.replace(said, verdict=result) if said.verdict is not result else said)

    def _look(self, run: Run, question: Question, voices: list[Voice]) -> Analysis:
        """Asks the engine; its voice joins the others, unless it has none."""
        said = run.ask(question) or run.measured
        voice = scene_says(run.incident, said)
        if voice:
            voices.append(voice)
        return said
