"""What messages say, in English and Korean."""

import string
from datetime import datetime, tzinfo

from core.events import AnomalyEvent
from core.notifications.model import Language, Notice, Occasion

__all__ = ["Words", "event_type", "phase_name", "severity_name"]

_EN = {
    "event": "$severity at $camera: $type",
    "update": "Amended: $severity at $camera: $type",
    "escalation": "Nobody has taken note: $severity at $camera: $type",
    "digest": "$count events at a glance",
    "down": "$camera does not watch",
    "up": "$camera watches again",
    "process": "The process $channel is in trouble",
    "process_up": "The process $channel runs again",
    "process_text": "One of Haetae's own processes, since $time; it is started again and again.",
    "process_up_text": "It had been in trouble since $time.",
    "channel": "Notifications through $channel keep failing",
    "test": "Test of notifications",
    "test_text": "If you can read this, this channel works.",
    "channel_text": "Messages wait until it works again. The last error: $error",
    "down_text": "It has been $phase since $time.",
    "up_text": "It had not watched since $time.",
    "similar": "+$similar similar",
    "camera": "Camera",
    "when": "When",
    "severity_": "Severity",
    "type_": "Type",
    "score_": "Score",
    "duration_": "Duration",
    "reason_": "Unusual",
    "description_": "Description",
    "rule_": "Rule",
    "why_": "Reason",
    "seconds": "$seconds s",
    "ongoing": "$seconds s so far",
    "provisional": "The camera had learned little when it raised this.",
    "acknowledged": "Somebody has taken note already.",
    "open": "Open it in Haetae",
    "more": "and $count more",
}
_KO = {
    "event": "[$severity] $camera: $type",
    "update": "[정정 · $severity] $camera: $type",
    "escalation": "[미확인 · $severity] $camera: $type",
    "digest": "이벤트 $count건 요약",
    "down": "$camera 카메라가 감시하지 못하고 있습니다",
    "up": "$camera 카메라가 다시 감시합니다",
    "process": "$channel 프로세스에 문제가 있습니다",
    "process_up": "$channel 프로세스가 다시 실행됩니다",
    "process_text": "$time부터 해태 자체 프로세스에 문제가 있으며, 계속 다시 시작하고 있습니다.",
    "process_up_text": "$time부터 문제가 있었습니다.",
    "channel": "$channel 채널로 알림을 보내지 못하고 있습니다",
    "test": "알림 시험",
    "test_text": "이 글이 보이면 이 채널은 정상입니다.",
    "channel_text": "복구될 때까지 알림이 대기합니다. 마지막 오류: $error",
    "down_text": "$time부터 $phase 상태입니다.",
    "up_text": "$time부터 감시하지 못했습니다.",
    "similar": "비슷한 이벤트 $similar건 더",
    "camera": "카메라",
    "when": "시각",
    "severity_": "심각도",
    "type_": "유형",
    "score_": "점수",
    "duration_": "지속 시간",
    "reason_": "이상 내용",
    "description_": "설명",
    "rule_": "규칙",
    "why_": "원인",
    "seconds": "$seconds초",
    "ongoing": "$seconds초째",
    "provisional": "카메라가 아직 충분히 학습하지 못한 때의 이벤트입니다.",
    "acknowledged": "이미 확인된 이벤트입니다.",
    "open": "Haetae에서 열기",
    "more": "외 $count건",
}
_SEVERITY = {
    "en": {"info": "Information", "low": "Low", "medium": "Medium", "high": "High", "critical": "Critical"},
    "ko": {"info": "정보", "low": "낮음", "medium": "보통", "high": "높음", "critical": "심각"},
}
_TYPE_KO = {
    "normal": "정상",
    "intrusion": "침입",
    "loitering": "배회",
    "running": "뛰어감",
    "fall": "쓰러짐",
    "fighting": "싸움",
    "assault_abuse": "폭행",
    "weapon": "무기",
    "robbery_theft": "절도·강도",
    "vandalism": "기물 파손",
    "abandoned_object": "버려진 물건",
    "object_removed": "사라진 물건",
    "wrong_way": "역방향 이동",
    "crowding": "군중 밀집",
    "crowd_dispersal": "군중 흩어짐",
    "riot": "소요",
    "vehicle_incident": "차량 사고",
    "fire_smoke": "화재·연기",
    "explosion": "폭발",
    "tamper": "카메라 훼손",
    "animal": "동물",
    "medical": "응급 상황",
    "unusual_motion": "평소와 다른 움직임",
    "other": "기타",
}
_PHASE_KO = {
    "stopped": "정지",
    "starting": "시작 중",
    "disconnected": "연결 끊김",
    "connecting": "연결 중",
    "degraded": "영상 이상",
    "backoff": "재시작 대기",
    "failed": "고장",
    "stopping": "정지 중",
}


def severity_name(severity: str, language: Language) -> str:
    return _SEVERITY[language].get(severity, severity)


def event_type(kind: str, language: Language) -> str:
    """A type of event in words; one that is not known stays as it is."""
    return _TYPE_KO.get(kind, kind) if language == "ko" else kind.replace("_", " ")


def phase_name(phase: str, language: Language) -> str:
    return _PHASE_KO.get(phase, phase) if language == "ko" else phase


PLAIN = frozenset({Occasion.TEST, Occasion.CHANNEL, Occasion.DOWN, Occasion.UP, Occasion.PROCESS, Occasion.PROCESS_UP})
"""What is told in one sentence, with a reason where there is one."""


class Words:
    """Subject and lines of one message; templates are filled in, never evaluated."""

    def __init__(self, language: Language, time_zone: tzinfo) -> None:
        self._texts = _KO if language == "ko" else _EN
        self._language: Language = language
        self._time_zone = time_zone

    def say(self, name: str, **values: object) -> str:
        return string.Template(self._texts[name]).safe_substitute({key: str(value) for key, value in values.items()})

    def time(self, at: str) -> str:
        """In the site's time zone."""
        return datetime.fromisoformat(at).astimezone(self._time_zone).strftime("%Y-%m-%d %H:%M:%S %Z")

    def values(self, notice: Notice, camera: str, event: AnomalyEvent | None, link: str) -> dict[str, str]:
        """What a template may name."""
        found = {
            "camera": camera,
            "rule": notice.rule_name,
            "link": link,
            "similar": str(notice.similar),
            "count": str(notice.count),
            "channel": notice.channel_name,
            "error": notice.error,
        }
        if event:
            found |= {
                "type": event_type(event.vlm_type, self._language),
                "severity": severity_name(event.severity, self._language),
                "score": f"{event.peak_score:.1f}",
                "time": self.time(event.began_at),
                "reason": event.reason,
                "description": self._description(event),
                "duration": self._duration(event),
            }
        if notice.health:
            found |= {
                "phase": phase_name(notice.health.phase, self._language),
                "time": self.time(notice.health.since),
                "reason": notice.health.reason,
            }
        return found

    def _description(self, event: AnomalyEvent) -> str:
        korean = event.analysis.description_ko if event.analysis and self._language == "ko" else ""
        return korean or event.description

    def _duration(self, event: AnomalyEvent) -> str:
        name = "seconds" if event.ended_at else "ongoing"
        return self.say(name, seconds=f"{event.end_s - event.begin_s:.1f}")

    def subject(self, notice: Notice, values: dict[str, str]) -> str:
        """One line of 200 letters at most, with how many were held back."""
        own = notice.template.subject
        text = string.Template(own).safe_substitute(values) if own else self.say(notice.occasion, **values)
        if notice.similar and not own:
            text += f" ({self.say('similar', similar=notice.similar)})"
        return " ".join(text.split())[:200]

    def text(
        self, notice: Notice, values: dict[str, str], event: AnomalyEvent | None, *, acknowledged: bool = False
    ) -> str:
        """The lines beneath the subject."""
        if notice.template.text:
            return string.Template(notice.template.text).safe_substitute(values)
        if notice.occasion in PLAIN:
            lines = [self.say(f"{notice.occasion}_text", **values)]
            if notice.health and notice.health.reason:
                lines.append(f"{self.say('why_')}: {notice.health.reason}")
        else:
            lines = self._event_lines(notice, values, event, acknowledged=acknowledged)
        if notice.rule_name and notice.occasion is not Occasion.TEST:
            lines.append(f"{self.say('rule_')}: {notice.rule_name}")
        return "\n".join(lines)

    def _event_lines(
        self, notice: Notice, values: dict[str, str], event: AnomalyEvent | None, *, acknowledged: bool
    ) -> list[str]:
        if event is None:
            return []
        named = [
            ("camera", values["camera"]),
            ("when", values["time"]),
            ("severity_", values["severity"]),
            ("type_", values["type"]),
            ("score_", values["score"]),
            ("duration_", values["duration"]),
            ("reason_", event.reason),
            ("description_", values["description"]),
        ]
        lines = [f"{self.say(name)}: {value}" for name, value in named if value]
        if notice.similar:
            lines.append(self.say("similar", similar=notice.similar))
        if event.provisional:
            lines.append(self.say("provisional"))
        if acknowledged:
            lines.append(self.say("acknowledged"))
        return lines

    def digest_lines(self, notice: Notice, events: list[tuple[str, AnomalyEvent]]) -> str:
        """A line for each listed event, with its camera's name."""
        lines = [
            f"{self.time(event.began_at)}  {camera}  {severity_name(event.severity, self._language)}  "
            f"{event_type(event.vlm_type, self._language)}  {event.reason}".rstrip()
            for camera, event in events
        ]
        if notice.count > len(events):
            lines.append(self.say("more", count=notice.count - len(events)))
        return "\n".join([*lines, f"{self.say('rule_')}: {notice.rule_name}"])
