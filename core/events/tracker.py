"""EventTracker: when a score curve becomes an event, and when the event is over."""

import math
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from core.clock import utc_iso
from core.config import TrackerConfig
from core.events.model import AnomalyEvent, EventState, Place, Severity
from core.ids import CameraId, EventId, NodeId, uuid7

__all__ = [
    "HIGH",
    "LASTING_S",
    "MEDIUM",
    "MOST_PLACES",
    "PATH_STEP",
    "PLACES",
    "EventTracker",
    "Observation",
    "severity_of",
]

RANKS = list(Severity)
"""From the least to the most severe."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One scored frame. `score` is -log10 P; `peak_x`, `peak_y` are pixels of the source's frame."""

    media_s: float
    at: datetime
    score: float
    peak_x: float = 0.0
    peak_y: float = 0.0
    reason: str = ""
    state_version: int = 0
    provisional: bool = False


LASTING_S = 10.0
"""What lasts for so long is twice the evidence of a moment."""
MEDIUM, HIGH = 3.0, 5.0
"""-log10 P from which an event is so severe: once in 10^3, in 10^5 frames."""
PATH_STEP = 0.1
"""Frame heights between two places of an event's path."""
MOST_PLACES = 32
"""Of a path: across a wide picture and half way back."""
PLACES = 8
"""Places that cool down at the same time; of more, the oldest is forgotten."""


def severity_of(score: float, duration_s: float = 0.0) -> Severity:
    """A first severity from how improbable the peak was, and how long it went on: 90 s count as ten times rarer."""
    rarity = score + math.log10(1 + max(0.0, duration_s) / LASTING_S)
    return Severity.LOW if rarity < MEDIUM else Severity.MEDIUM if rarity < HIGH else Severity.HIGH


class _Cooling(NamedTuple):
    """A place at which an event was."""

    until_s: float
    x: float
    y: float
    severity: Severity


class EventTracker:
    """Causal smoothing, persistence, hysteresis, merging of near gaps, a cap on length, a pause for each place.

    A pure object: time comes with the observations, whose `media_s` must not go back. Events come out as
    AnomalyEvent with `revision` 0, to be numbered by whoever sends them.
    """

    def __init__(
        self,
        config: TrackerConfig,
        *,
        camera_id: CameraId,
        node_id: NodeId,
        vad_type: str,
        frame_width: int,
        frame_height: int,
        new_id: Callable[[], Any] = uuid7,
    ) -> None:
        self._config = config
        self._identity: dict[str, Any] = {
            "camera_id": camera_id,
            "node_id": node_id,
            "vad_type": vad_type,
            "frame_width": frame_width,
            "frame_height": frame_height,
        }
        self._new_id = new_id
        self._window: deque[tuple[float, float]] = deque()
        self._rising: list[Observation] = []
        self._event: AnomalyEvent | None = None
        self._last_high: Observation | None = None
        self._path: list[Place] = []
        self._reported_s = 0.0
        self._cooling: deque[_Cooling] = deque(maxlen=PLACES)
        self._held = False
        self.cooled = 0
        """Rises that would have been events, but for one that was at the same place just before."""
        self.smoothed = 0.0
        """The score after causal averaging, as the thresholds see it."""

    @property
    def open_event(self) -> AnomalyEvent | None:
        """The event that goes on now."""
        return self._event

    def retune(self, config: TrackerConfig) -> None:
        """Other thresholds from the next frame on; an event that goes on closes by them."""
        self._config = config

    def observe(self, seen: Observation) -> list[AnomalyEvent]:
        """Takes the next scored frame; returns what there is to report: an opening, an update, an end."""
        self.smoothed = self._smooth(seen)
        if self._event is None:
            return self._while_quiet(seen)
        return self._while_open(self._event, seen)

    def finish(self) -> list[AnomalyEvent]:
        """The source has ended: closes what is open at the last moment it was high; no place cools down any more."""
        self._cooling.clear()
        return [self._close()] if self._event else []

    def _smooth(self, seen: Observation) -> float:
        self._window.append((seen.media_s, seen.score))
        while self._window[0][0] < seen.media_s - self._config.smooth_s:
            self._window.popleft()
        return sum(score for _, score in self._window) / len(self._window)

    def _while_quiet(self, seen: Observation) -> list[AnomalyEvent]:
        if self.smoothed < self._config.open_score:
            self._rising.clear()
            self._held = False
            return []
        self._rising.append(seen)
        if seen.media_s - self._rising[0].media_s < self._config.persist_s:
            return []
        if self._cools(seen.media_s):
            self.cooled += not self._held
            self._held = True
            return []
        return [self._open(self._rising[0])]

    def _cools(self, now_s: float) -> bool:
        """Whether what rises is at a place where an event as severe was just before."""
        peak, severity = max(self._rising, key=lambda one: one.score), RANKS.index
        reach = self._config.cooldown_reach * self._identity["frame_height"]
        return any(
            now_s < place.until_s
            and math.hypot(peak.peak_x - place.x, peak.peak_y - place.y) <= reach
            and severity(severity_of(peak.score)) <= severity(place.severity)
            for place in self._cooling
        )

    def _open(self, first: Observation) -> AnomalyEvent:
        peak = max(self._rising, key=lambda one: one.score)
        last = self._rising[-1]
        self._path = []
        for one in self._rising:
            self._note_place(one)
        self._event = AnomalyEvent(
            id=EventId(str(self._new_id())),
            revision=0,
            state=EventState.OPEN,
            began_at=utc_iso(first.at),
            ended_at=None,
            begin_s=first.media_s,
            end_s=last.media_s,
            state_version=last.state_version,
            provisional=last.provisional,
            path=tuple(self._path),
            **_peak_fields(peak),
            **self._identity,
        )
        self._rising.clear()
        self._held = False
        self._last_high = last
        self._reported_s = last.media_s
        return self._event

    def _while_open(self, event: AnomalyEvent, seen: Observation) -> list[AnomalyEvent]:
        rose = seen.score > event.peak_score
        if rose:
            event = msgspec.structs.replace(event, **_peak_fields(seen))
        self._event = event
        if self._is_high(seen):
            self._last_high = seen
            self._note_place(seen)
            severity = severity_of(event.peak_score, seen.media_s - event.begin_s)
            self._event = event = msgspec.structs.replace(
                event, end_s=seen.media_s, severity=severity, path=tuple(self._path)
            )
        elif seen.media_s - self._high_s() >= self._config.close_s + self._config.merge_s:
            closed = self._close()
            self._cooling.append(
                _Cooling(seen.media_s + self._config.cooldown_s, closed.peak_x, closed.peak_y, closed.severity)
            )
            return [closed]
        if seen.media_s - event.begin_s >= self._config.max_s:
            return [self._close()]  # it goes on as the next, at once
        if seen.media_s - self._reported_s >= self._config.update_s:
            self._reported_s = seen.media_s
            return [event]
        return []

    def _note_place(self, seen: Observation) -> None:
        width, height = self._identity["frame_width"], self._identity["frame_height"]
        at = Place(round(seen.peak_x / max(width, 1), 3), round(seen.peak_y / max(height, 1), 3), round(seen.score, 2))

        def apart(one: Place) -> float:
            return math.hypot((one.x - at.x) * width, (one.y - at.y) * height)

        near = min(self._path, key=apart, default=None)
        if near is not None and apart(near) < PATH_STEP * height:
            if at.score > near.score:
                self._path[self._path.index(near)] = msgspec.structs.replace(near, score=at.score)
        elif len(self._path) < MOST_PLACES:
            self._path.append(at)

    def _is_high(self, seen: Observation) -> bool:
        """Hysteresis: above the closing score it goes on; once it fell for `close_s`, only the opening score counts."""
        fallen = seen.media_s - self._high_s() >= self._config.close_s
        return self.smoothed >= (self._config.open_score if fallen else self._config.close_score)

    def _high_s(self) -> float:
        return self._last_high.media_s if self._last_high else 0.0

    def _close(self) -> AnomalyEvent:
        assert self._event
        assert self._last_high
        closed = msgspec.structs.replace(
            self._event,
            state=EventState.CLOSED,
            ended_at=utc_iso(self._last_high.at),
            end_s=self._last_high.media_s,
            severity=severity_of(self._event.peak_score, self._last_high.media_s - self._event.begin_s),
        )
        self._event = None
        return closed


def _peak_fields(peak: Observation) -> dict[str, Any]:
    return {
        "peak_score": peak.score,
        "peak_at": utc_iso(peak.at.astimezone(UTC)),
        "peak_s": peak.media_s,
        "peak_x": peak.peak_x,
        "peak_y": peak.peak_y,
        "reason": peak.reason,
        "severity": severity_of(peak.score),
    }
