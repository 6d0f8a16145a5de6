"""The gate: which of the actions that a flow proposes are allowed. Deterministic, and deaf to all text."""

import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from core.config import FlowsConfig
from core.events import Analysis, Severity, Verdict
from workers.inference.flows.severity import FLOORS, RANKS
from workers.inference.flows.tools import Escalate, Ignore, Notify, Ptz, Recheck, Tool
from workers.inference.vlm import Incident
from workers.inference.vlm.rules import judge

__all__ = ["Policy", "Ruling"]

HOUR_S = 3600.0
WEAK = 3.0
"""-log10 P: what is no more unusual may be ignored, if a model says so too."""
SHORT_S = 3.0
CAMERAS = 4096
"""Whose messages are counted, at most."""


class Ruling(msgspec.Struct, frozen=True):
    """An action, and the rule that allowed or blocked it."""

    tool: Tool
    allowed: bool
    rule: str


class Policy:
    """One for all flows; safe in several threads. `rules` may be replaced while it runs."""

    def __init__(self, rules: FlowsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules, self._clock = rules, clock
        self._sent: dict[str, deque[float]] = {}
        self._turned: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def rule(self, tool: Tool, incident: Incident, analysis: Analysis, severity: Severity) -> Ruling:
        """Whether `tool` is to be used now; a message or turn that is allowed counts against the camera's hour."""
        blocked = self._blocked(tool, incident, analysis, severity)
        if not blocked and self.rules.dry_run and isinstance(tool, Notify | Escalate | Ignore | Ptz):
            blocked = "dry_run"
        if not blocked and not self._count(tool, incident.event.camera_id, severity):
            blocked = "per_hour"
        return Ruling(tool, allowed=not blocked, rule=blocked or "policy")

    def _blocked(self, tool: Tool, incident: Incident, analysis: Analysis, severity: Severity) -> str:
        match tool:
            case Notify():
                if not set(tool.channels) <= set(self.rules.channels):
                    return "unknown_channel"
                if RANKS.index(severity) < RANKS.index(self.rules.notify_from):
                    return "below_notify_from"
                if self.rules.ignore and self._may_ignore(incident, analysis):
                    return "ignored"
            case Escalate():
                if not set(tool.channels) <= set(self.rules.channels):
                    return "unknown_channel"
                if tool.level > self.rules.escalate:
                    return "escalation_not_allowed"
                if analysis.candidate:
                    return "candidate"
                if severity is not Severity.CRITICAL:
                    return "not_critical"
            case Ignore():
                if not self.rules.ignore:
                    return "ignore_not_allowed"
                if not self._may_ignore(incident, analysis):
                    return "measurements_disagree"
            case Recheck():
                if not self.rules.recheck:
                    return "recheck_not_allowed"
                if incident.attempt:
                    return "one_recheck"
            case Ptz():
                return _may_not_turn(tool, incident)
            case _:
                pass
        return ""

    def _may_ignore(self, incident: Incident, analysis: Analysis) -> bool:
        """A rejection needs the support of measurements that the picture's words cannot touch."""
        measured = judge(incident)
        return (
            analysis.verdict is Verdict.REJECTED
            and not analysis.text_instruction_seen
            and not analysis.visible_text
            and analysis.vlm_type not in FLOORS
            and measured.verdict is not Verdict.CONFIRMED
            and incident.event.peak_score < WEAK
            and incident.evidence.duration_s < SHORT_S
        )

    def _count(self, tool: Tool, camera_id: str, severity: Severity) -> bool:
        """Whether there is room in the hour; the last quarter of it is for messages of what is critical."""
        match tool:
            case Notify() | Escalate():
                times_of, limit = self._sent, self.rules.per_hour
                limit -= 0 if severity is Severity.CRITICAL else limit // 4
            case Ptz():
                times_of, limit = self._turned, self.rules.turns_per_hour
            case _:
                return True
        now_s = self._clock()
        with self._lock:
            times = times_of.pop(camera_id, deque())
            while times and times[0] <= now_s - HOUR_S:
                times.popleft()
            room = len(times) < limit
            if room:
                times.append(now_s)
            if times:
                times_of[camera_id] = times
            while len(times_of) > CAMERAS:
                del times_of[next(iter(times_of))]
        return room


def _may_not_turn(tool: Ptz, incident: Incident) -> str:
    """Why a camera must not look away, "" where it may: measurements alone decide, whatever an answer says."""
    evidence, event = incident.evidence, incident.event
    if tool.camera_id != event.camera_id:
        return "other_camera"
    if not evidence.ptz_preset or tool.preset_id != evidence.ptz_preset:
        return "no_preset"
    if evidence.fault:
        return "view_fault"
    if event.provisional:
        return "provisional"
    measured = judge(incident)
    return "" if measured.verdict is Verdict.CONFIRMED and not measured.candidate else "not_measured"
