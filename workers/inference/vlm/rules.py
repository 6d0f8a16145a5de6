"""The describer without a vision-language model: says what was measured, and that it knows no more.

Each rule looks at one thing and says how sure the measurement is. Rules of core.events.analysis.MEASURED_TYPES are
measured directly; the others give candidates, "possible fall", that nothing is done about by itself.
"""

import time
from collections.abc import Callable, Iterable

import msgspec

from core.cameras.zones import ZoneKind
from core.events import Analysis, AnalysisStatus, ConfidenceKind, Verdict, VlmType
from core.events.analysis import MEASURED_TYPES, clean_text
from core.events.evidence import Evidence, Track
from workers.inference.vlm.base import EVERYTHING, Call, Finding, Incident, Question

__all__ = ["SOURCE", "RulesAnalyzer", "hypotheses", "judge", "stand_in"]

VERSION = "2"
SOURCE = f"rules/{VERSION}"

CAP, DIRECT_CAP, CANDIDATE_CAP, NOTHING = 0.60, 0.80, 0.35, 0.30
"""A measurement says what happened, not whether it matters: nobody may be surer than that."""

SPEED_MADS = 6.0
SPEED_TIMES = 2.4
"""And at least so many times the usual: where all go alike, the spread is small."""
SPEED_LEAST = 1.6
"""Own heights a second where nothing is known of what is usual: a brisk walk is 1.0."""
AGAINST = 0.15
"""Widths of the picture against the right way."""
AGAINST_S = 1.0
INSIDE_S = 0.5
OUTWARD = 4
BLINDED_S = 2.0
LEFT_S = 20.0
FLAT = 2.0
FLAT_STILL_S = 2.0
UNMOVED = 0.12
"""Widths of the picture: what was left somewhere came from nowhere."""


class Hypothesis(msgspec.Struct, frozen=True):
    """One rule that holds. `strength` is 0..1 of its cap; `en`, `ko` say what was measured."""

    vlm_type: VlmType
    rank: float
    """The lower, the more it says."""
    cap: float
    strength: float
    en: str
    ko: str


def _rank(times: float) -> float:
    """Of those that measure different things in the same picture: what exceeds its limit most says most.

    A way says less: who runs goes some way.
    """
    return 4 - min(times, 3.0) / 2


Rule = Callable[[Incident], Hypothesis | None]


def _tamper(incident: Incident) -> Hypothesis | None:
    scene, fault = incident.evidence.scene, incident.evidence.fault
    if fault in _FAULTS:
        found, found_ko = _FAULTS[fault]
        fault_s = incident.evidence.fault_s
        return Hypothesis(
            VlmType.TAMPER,
            0,
            DIRECT_CAP,
            min(1.0, 0.6 + fault_s / 20),
            f"the camera's check of its view found it {found} for {fault_s:.1f} s",
            f"카메라의 시야 점검 결과 {fault_s:.1f}초 동안 {found_ko}",
        )
    if scene.blinded_s < BLINDED_S:
        return None
    share = round(100 * scene.changed)
    return Hypothesis(
        VlmType.TAMPER,
        0,
        DIRECT_CAP,
        min(1.0, 0.6 + scene.blinded_s / 20),
        f"for {scene.blinded_s:.1f} s the picture was not the usual one: {share} % of it changed, detail "
        f"{scene.sharpness:.2f} of the usual",
        f"{scene.blinded_s:.1f}초 동안 화면이 평소와 달랐음: {share}% 변화, 선명도 평소의 {scene.sharpness:.2f}배",
    )


def _dispersal(incident: Incident) -> Hypothesis | None:
    scene = incident.evidence.scene
    if scene.outward < OUTWARD:
        return None
    return Hypothesis(
        VlmType.CROWD_DISPERSAL,
        1,
        CAP,
        min(1.0, scene.outward / 8),
        f"{scene.outward} moving things went fast away from one place in different directions",
        f"움직이는 대상 {scene.outward}개가 한곳에서 여러 방향으로 빠르게 흩어짐",
    )


def _fast(incident: Incident) -> Hypothesis | None:
    scene, one = incident.evidence.scene, _fastest(incident.evidence)
    if one is None:
        return None
    usual = scene.usual_speed
    limit = max(usual + SPEED_MADS * scene.usual_spread, SPEED_TIMES * usual) if usual else SPEED_LEAST
    if one.speed < limit:
        return None
    times = f" ({one.speed / usual:.1f} x the usual)" if usual else ""
    times_ko = f" (평소의 {one.speed / usual:.1f}배)" if usual else ""
    return Hypothesis(
        VlmType.RUNNING,
        _rank(one.speed / limit),
        CAP,
        min(1.0, 0.5 + 0.25 * one.speed / limit),
        f"something moved {_way(one)} at {one.speed:.1f} of its own heights a second{times}",
        f"대상이 {_way_ko(one)} 초당 자기 키의 {one.speed:.1f}배 속도로 이동{times_ko}",
    )


def _wrong_way(incident: Incident) -> Hypothesis | None:
    zones = [one for one in incident.evidence.zones if one.direction is not None]
    worst = max(zones, key=lambda one: one.against, default=None)
    if worst is None or worst.against < AGAINST or worst.against_s < AGAINST_S:
        return None
    return Hypothesis(
        VlmType.WRONG_WAY,
        4.1,
        DIRECT_CAP,
        min(1.0, 0.6 + worst.against),
        f"something went against the right way of {_name(worst.name)} for {worst.against_s:.1f} s, "
        f"over {100 * worst.against:.0f} % of the picture's width",
        f"{_name(worst.name)} 구역의 정방향과 반대로 {worst.against_s:.1f}초 동안 화면 너비의 "
        f"{100 * worst.against:.0f}%를 이동",
    )


def _intrusion(incident: Incident) -> Hypothesis | None:
    inside = [one for one in incident.evidence.zones if one.kind is ZoneKind.DETECT and one.inside_s >= INSIDE_S]
    longest = max(inside, key=lambda one: one.inside_s, default=None)
    if longest is None or not incident.evidence.armed:
        return None
    return Hypothesis(
        VlmType.INTRUSION,
        5,
        DIRECT_CAP,
        min(1.0, 0.6 + longest.inside_s / 20),
        f"something was in {_name(longest.name)}, which is armed now, for {longest.inside_s:.1f} s",
        f"감시 시간의 {_name(longest.name)} 구역 안에 {longest.inside_s:.1f}초 동안 대상이 있었음",
    )


def _loitering(incident: Incident) -> Hypothesis | None:
    limit, stayed_s = incident.evidence.dwell_limit_s, incident.evidence.scene.stayed_s
    if stayed_s < limit or any(_is_left(one) for one in incident.evidence.tracks):
        return None
    return Hypothesis(
        VlmType.LOITERING,
        _rank(stayed_s / limit),
        CAP,
        min(1.0, 0.5 + stayed_s / limit / 4),
        f"something stayed at one place for {stayed_s:.0f} s",
        f"대상이 한곳에 {stayed_s:.0f}초 동안 머무름",
    )


def _crowding(incident: Incident) -> Hypothesis | None:
    scene, limit = incident.evidence.scene, incident.evidence.crowd_limit
    if scene.count_peak < max(limit, 2 * scene.usual_count):
        return None
    return Hypothesis(
        VlmType.CROWDING,
        6,
        CAP,
        min(1.0, 0.4 + scene.count_peak / limit / 4),
        f"{scene.count_peak} things moved at once, usually {scene.usual_count:.0f}",
        f"동시에 움직인 대상 {scene.count_peak}개 (평소 {scene.usual_count:.0f}개)",
    )


def _fall(incident: Incident) -> Hypothesis | None:
    flat = [one for one in incident.evidence.tracks if one.flattened >= FLAT and one.still_s >= FLAT_STILL_S]
    if not flat:
        return None
    one = max(flat, key=lambda track: track.flattened)
    return Hypothesis(
        VlmType.FALL,
        7,
        CANDIDATE_CAP,
        0.8,
        f"the outline of something became {one.flattened:.1f} x as wide for its height within a second, "
        f"then did not move for {one.still_s:.1f} s",
        f"대상의 윤곽이 1초 안에 {one.flattened:.1f}배 납작해진 뒤 {one.still_s:.1f}초 동안 움직이지 않음",
    )


def _abandoned(incident: Incident) -> Hypothesis | None:
    left = [one for one in incident.evidence.tracks if _is_left(one)]
    if not left:
        return None
    one = max(left, key=lambda track: track.still_s)
    return Hypothesis(
        VlmType.ABANDONED_OBJECT,
        8,
        CANDIDATE_CAP,
        0.8,
        f"something that was not there before has not moved for {one.still_s:.0f} s",
        f"전에 없던 것이 {one.still_s:.0f}초 동안 움직이지 않음",
    )


RULES: tuple[Rule, ...] = (
    _tamper,
    _dispersal,
    _fast,
    _wrong_way,
    _loitering,
    _intrusion,
    _crowding,
    _fall,
    _abandoned,
)


def hypotheses(incident: Incident, types: Iterable[VlmType] = tuple(VlmType)) -> list[Hypothesis]:
    """The rules of these types that hold, the one that says most first."""
    wanted = set(types)
    found = [one for rule in RULES if (one := rule(incident)) and one.vlm_type in wanted]
    return sorted(found, key=lambda one: one.rank)


def judge(incident: Incident, question: Question = EVERYTHING) -> Analysis:
    """Measured evidence in words, in the form of any analysis; a pure function."""
    found = hypotheses(incident, question.types)
    best = found[0] if found else None
    candidate = best is not None and best.vlm_type not in MEASURED_TYPES
    vlm_type = best.vlm_type if best else VlmType.UNUSUAL_MOTION
    return Analysis(
        verdict=Verdict.UNCERTAIN if best is None or candidate else Verdict.CONFIRMED,
        vlm_type=vlm_type,
        alt_types=tuple(dict.fromkeys(one.vlm_type for one in found[1:] if one.vlm_type is not vlm_type))[:2],
        candidate=candidate,
        title=_TITLES[vlm_type][0],
        description=_cut(_english(incident, found)),
        description_ko=_cut(_korean(incident, found)),
        observations=tuple(one.en[:160] for one in found[:6]),
        confidence=round(best.cap * best.strength, 3) if best else NOTHING,
        confidence_kind=ConfidenceKind.HEURISTIC,
        source=SOURCE,
        reason_code=f"measured:{vlm_type}"
        if best and not candidate
        else f"candidate:{vlm_type}"
        if best
        else "no_rule",
    )


def stand_in(incident: Incident, question: Question, status: AnalysisStatus, why: str) -> Analysis:
    """What was measured, in the place of an engine that failed or was not asked, and says so."""
    return msgspec.structs.replace(judge(incident, question), status=status, reason_code=clean_text(why, 64))


class RulesAnalyzer:
    """`judge` as a backend. Never names people, intent, or an activity that was not measured."""

    name = "rules"

    def analyze(self, incident: Incident, question: Question = EVERYTHING, deadline_s: float = 0.0) -> Finding:  # noqa: ARG002
        began = time.perf_counter()
        analysis = judge(incident, question)
        ms = round(1000 * (time.perf_counter() - began), 3)
        return Finding(
            analysis=analysis, calls=(Call(engine=self.name, model=VERSION, role=question.role, ms=ms, output=""),)
        )

    def close(self) -> None:
        """Nothing to let go of."""


# ---- words

_FAULTS = {
    "covered": ("covered", "가려짐"),
    "blurred": ("out of focus, or dirty", "초점이 맞지 않거나 렌즈가 더러움"),
    "moved": ("turned to another view", "다른 방향으로 돌아감"),
    "black": ("black", "검게 나옴"),
    "white": ("white", "하얗게 나옴"),
    "frozen": ("frozen", "멈춤"),
    "corrupt": ("torn", "깨짐"),
}
_TITLES: dict[VlmType, tuple[str, str]] = {
    VlmType.TAMPER: ("Camera covered, moved or blinded", "카메라 가림·훼손"),
    VlmType.CROWD_DISPERSAL: ("Several things part fast", "군중 흩어짐"),
    VlmType.RUNNING: ("Fast motion", "빠른 움직임"),
    VlmType.WRONG_WAY: ("Against the right way", "역방향 이동"),
    VlmType.LOITERING: ("Staying at one place", "한곳에 머무름"),
    VlmType.INTRUSION: ("Entry into a zone", "구역 진입"),
    VlmType.CROWDING: ("Many at once", "군중 밀집"),
    VlmType.FALL: ("Possible fall", "쓰러짐 가능성"),
    VlmType.ABANDONED_OBJECT: ("Possible abandoned object", "버려진 물건 가능성"),
    VlmType.UNUSUAL_MOTION: ("Unusual motion", "평소와 다른 움직임"),
}


def _english(incident: Incident, found: list[Hypothesis]) -> str:
    event, evidence = incident.event, incident.evidence
    if evidence.fault in _FAULTS:
        said = "; ".join(one.en for one in found[:1]) or event.reason
        return f"Rule-based (no vision-language model): {said}. Nothing was scored meanwhile; its cause is not known."
    where = _place(event.peak_x / max(event.frame_width, 1), event.peak_y / max(event.frame_height, 1))
    facts = [f"{event.reason or 'movement that is unusual here'} in the {where} of the picture"]
    if evidence.duration_s > 0:
        facts.append(f"{evidence.duration_s:.1f} s" + (" so far" if event.ended_at is None else ""))
    facts += [one.en for one in found[:2]]
    facts.append(f"seen in about 1 of 10^{event.peak_score:.1f} ordinary frames")
    unsure = "Nature of the activity not determined."
    if found and found[0].vlm_type not in MEASURED_TYPES:
        unsure = f"Taken to be a possible_{found[0].vlm_type}; not confirmed."
    doubt = " The camera has learned little so far." if event.provisional else ""
    return f"Rule-based (no vision-language model): {'; '.join(facts)}. {unsure}{doubt}"


def _korean(incident: Incident, found: list[Hypothesis]) -> str:
    event, evidence = incident.event, incident.evidence
    if evidence.fault in _FAULTS:
        said = "; ".join(one.ko for one in found[:1]) or event.reason
        return f"규칙 기반 설명(시각 언어 모델 없음): {said}. 그동안 분석하지 못했으며 원인은 알 수 없습니다."
    where = _place_ko(event.peak_x / max(event.frame_width, 1), event.peak_y / max(event.frame_height, 1))
    facts = [f"화면 {where}에서 평소와 다른 움직임"]
    if evidence.duration_s > 0:
        facts.append(f"{evidence.duration_s:.1f}초" + ("째" if event.ended_at is None else ""))
    facts += [one.ko for one in found[:2]]
    facts.append(f"평소 화면 10^{event.peak_score:.1f}장 중 1장꼴")
    unsure = "활동의 성격은 판단하지 않았습니다."
    if found and found[0].vlm_type not in MEASURED_TYPES:
        unsure = f"'{_TITLES[found[0].vlm_type][1]}'으로 추정되며 확인되지 않았습니다."
    doubt = " 카메라가 아직 충분히 학습하지 않았습니다." if event.provisional else ""
    return f"규칙 기반 설명(시각 언어 모델 없음): {'; '.join(facts)}. {unsure}{doubt}"


def _cut(text: str) -> str:
    return text if len(text) <= 600 else text[:599] + "…"


def _name(name: str) -> str:
    return f'"{name[:40]}"'


def _fastest(evidence: Evidence) -> Track | None:
    return max(evidence.tracks, key=lambda one: one.speed, default=None)


def _is_left(track: Track) -> bool:
    return track.still_s >= LEFT_S and track.still_s >= 0.7 * track.dwell_s and track.travelled < UNMOVED


_WAYS = ("up", "to the upper right", "to the right", "to the lower right")
_WAYS = (*_WAYS, "down", "to the lower left", "to the left", "to the upper left")
_WAYS_KO = ("위로", "오른쪽 위로", "오른쪽으로", "오른쪽 아래로", "아래로", "왼쪽 아래로", "왼쪽으로", "왼쪽 위로")


def _way(track: Track) -> str:
    return _WAYS[round(track.heading / 45) % 8]


def _way_ko(track: Track) -> str:
    return _WAYS_KO[round(track.heading / 45) % 8]


def _place(x: float, y: float) -> str:
    across = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    down = "upper" if y < 1 / 3 else "lower" if y > 2 / 3 else ""
    return " ".join(part for part in (down, across) if part) + " part" if across or down else "middle"


def _place_ko(x: float, y: float) -> str:
    across = "왼쪽" if x < 1 / 3 else "오른쪽" if x > 2 / 3 else ""
    down = "위" if y < 1 / 3 else "아래" if y > 2 / 3 else ""
    return " ".join(part for part in (across, down) if part) or "가운데"
