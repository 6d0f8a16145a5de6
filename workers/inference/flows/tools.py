"""What a flow can ask to be done: a closed set, each with closed arguments, and the plan that proposes them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.config import FlowsConfig
from core.events import Analysis, AnalysisStatus, Severity, Verdict
from workers.inference.flows.severity import RANKS
from workers.inference.vlm import Incident

__all__ = ["Escalate", "Ignore", "Log", "Notify", "Ptz", "Recheck", "SaveClip", "Tag", "Tool", "plan"]

Word = Annotated[str, Meta(pattern=r"^[a-z0-9_:.-]{1,64}$")]


class _Tool(msgspec.Struct, frozen=True, kw_only=True, tag_field="action", tag=str.lower, forbid_unknown_fields=True):
    pass


class Notify(_Tool, frozen=True, kw_only=True):
    """Tell people through channels of the configuration."""

    channels: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    priority: Severity


class Escalate(_Tool, frozen=True, kw_only=True):
    """Tell them as critical, whatever the severity."""

    channels: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    level: Annotated[int, Meta(ge=1, le=3)]
    reason_code: Word


class Recheck(_Tool, frozen=True, kw_only=True):
    """Look once more, with newer pictures."""

    delay_s: Annotated[float, Meta(ge=1, le=30)] = 4.0
    frames: Annotated[int, Meta(ge=2, le=8)] = 6
    crop: Literal["none", "motion", "zone"] = "motion"


class SaveClip(_Tool, frozen=True, kw_only=True, tag="save_clip"):
    """Keep the clip of the event, with so much before and after."""

    pre_s: Annotated[float, Meta(ge=0, le=60)] = 5.0
    post_s: Annotated[float, Meta(ge=0, le=60)] = 5.0


class Tag(_Tool, frozen=True, kw_only=True):
    """Write labels beside the event."""

    labels: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=8)]


class Log(_Tool, frozen=True, kw_only=True):
    """Nothing but the record."""


class Ignore(_Tool, frozen=True, kw_only=True):
    """Hold this flow's own message back; the event stays as it is."""

    reason_code: Word
    ttl_s: Annotated[float, Meta(gt=0, le=600)] = 60.0


class Ptz(_Tool, frozen=True, kw_only=True):
    """Turn the event's camera to its preset for alarms, and back after a while."""

    camera_id: str
    preset_id: Annotated[str, Meta(min_length=1, max_length=256)]
    """Its name or token."""
    hold_s: Annotated[float, Meta(ge=2, le=300)] = 20.0


Tool = Notify | Escalate | Recheck | SaveClip | Tag | Log | Ignore | Ptz


def plan(incident: Incident, analysis: Analysis, severity: Severity, rules: FlowsConfig, *, unsure: bool) -> list[Tool]:
    """What is to be done, by the type, the verdict and the severity alone; the gate decides on each. Pure."""
    tools: list[Tool] = [Log()]
    if analysis.alt_types:
        tools.append(Tag(labels=tuple(f"maybe:{one}" for one in analysis.alt_types)))
    if unsure and analysis.status is AnalysisStatus.OK and rules.recheck:
        tools.append(Recheck())
    if RANKS.index(severity) >= RANKS.index(Severity.HIGH):
        tools.append(SaveClip())
    evidence = incident.evidence
    if evidence.ptz_preset and RANKS.index(severity) >= RANKS.index(Severity.MEDIUM):
        tools.append(Ptz(camera_id=incident.event.camera_id, preset_id=evidence.ptz_preset, hold_s=evidence.ptz_hold_s))
    if analysis.verdict is Verdict.REJECTED and rules.ignore:
        tools.append(Ignore(reason_code="rejected"))
    if rules.channels and RANKS.index(severity) >= RANKS.index(rules.notify_from):
        tools.append(Notify(channels=rules.channels, priority=severity))
        if severity is Severity.CRITICAL:
            level = min(3, 1 + sum(one.vlm_type is analysis.vlm_type for one in incident.evidence.earlier))
            tools.append(Escalate(channels=rules.channels, level=level, reason_code=f"critical:{analysis.vlm_type}"))
    return tools
