"""The rule engine: which rules an event meets, and which cameras are in trouble. Pure: values in, values out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo

import msgspec

from core.cameras.history import CameraStateChange
from core.cameras.model import CameraPhase
from core.cameras.zones import Weekly, Zone, contains
from core.events.model import AnomalyEvent, Severity
from core.ids import CameraId
from core.notifications.model import Conditions, EventConditions, HealthConditions, Rule, RuleDraft, priority_of

__all__ = ["CRITICAL", "WELL", "Earlier", "Match", "Outage", "RuleBook", "Site", "as_rule", "outages", "verdict_of"]

CRITICAL = priority_of(Severity.CRITICAL)
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
WELL = {CameraPhase.LEARNING, CameraPhase.PROVISIONAL, CameraPhase.WATCHING, CameraPhase.STOPPED}
"""Phases that end an outage; those that are neither these nor asked for change nothing."""

Earlier = Callable[[AnomalyEvent, float], Iterable[AnomalyEvent]]
"""The events of the same camera that began within so many seconds before this one did, itself not included."""


class Match(msgspec.Struct, frozen=True):
    """A rule that an event meets, and how urgent that is."""

    rule: Rule
    priority: int


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What rules refer to beside the event."""

    time_zone: tzinfo
    groups: Mapping[str, frozenset[CameraId]] = {}
    """The cameras of each group, by its id."""
    zones: Mapping[CameraId, Sequence[Zone]] = {}


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch in which a camera should have watched and did not; `id` is that of the change that began it."""

    id: str
    camera_id: CameraId
    since: str
    phase: CameraPhase
    """The last one in it."""
    reason: str
    until: str | None = None


def verdict_of(event: AnomalyEvent) -> str:
    """What an event is taken to be; a message is amended when this changes, not with each new word."""
    return f"{event.severity} {event.vlm_type}"


class RuleBook:
    """Enabled rules, made ready to be asked; it is made anew when rules, groups or zones change."""

    def __init__(self, rules: Iterable[Rule], site: Site) -> None:
        self._site = site
        self._rules = [_Ready(rule, site) for rule in rules if rule.enabled]
        self._of_camera: dict[CameraId, list[_Ready]] = {}

    def match(self, event: AnomalyEvent, earlier: Earlier) -> list[Match]:
        """The rules about events that this one meets, in their order, up to one that says stop.

        `earlier` is asked only for rules that count repetitions.
        """
        ready = self._of_camera.get(event.camera_id)
        if ready is None:
            ready = [one for one in self._rules if one.is_about_events and one.concerns(event.camera_id)]
            self._of_camera[event.camera_id] = ready
        facts = _Facts(event, self._site)
        found: list[Match] = []
        for one in ready:
            if one.meets(facts) and one.repeats(facts, earlier):
                found.append(Match(one.rule, one.priority(event.severity)))
                if one.rule.actions.stop:
                    break
        return found

    def health_rules(self, camera_id: CameraId, local_now: datetime) -> list[Match]:
        """The rules about the health of this camera that hold at this hour, in their order."""
        return [
            Match(one.rule, one.priority(Severity.HIGH))
            for one in self._rules
            if not one.is_about_events
            and one.concerns(camera_id)
            and one.hours.hold(local_now, _minute_of(local_now), one.priority(Severity.HIGH))
        ]

    def process_rules(self, local_now: datetime) -> list[Match]:
        """The rules about the health of every camera, and so of what all of them need, that hold at this hour."""
        return [
            Match(one.rule, one.priority(Severity.HIGH))
            for one in self._rules
            if not one.is_about_events
            and one.concerns_all
            and one.hours.hold(local_now, _minute_of(local_now), one.priority(Severity.HIGH))
        ]

    @property
    def asks_for_health(self) -> bool:
        return any(not one.is_about_events for one in self._rules)


class _Facts:
    """What is asked of an event again and again, worked out once at most."""

    __slots__ = ("_zones", "duration_s", "event", "local", "minute", "rank", "site")

    def __init__(self, event: AnomalyEvent, site: Site) -> None:
        self.event = event
        self.rank = _RANK[event.severity]
        self.duration_s = event.end_s - event.begin_s
        self.local = datetime.fromisoformat(event.began_at).astimezone(site.time_zone)
        self.minute = _minute_of(self.local)
        self.site = site
        self._zones: frozenset[str] | None = None

    @property
    def zones(self) -> frozenset[str]:
        """Names of the zones in which the highest score lay."""
        if self._zones is None:
            event = self.event
            x, y = event.peak_x / max(1, event.frame_width), event.peak_y / max(1, event.frame_height)
            of_camera = self.site.zones.get(event.camera_id, ())
            self._zones = frozenset(
                zone.name for zone in of_camera if zone.holds(self.local) and contains(zone.points, x, y)
            )
        return self._zones


def _minute_of(local: datetime) -> int:
    return (local.weekday() * 24 + local.hour) * 60 + local.minute


class _Hours:
    """Schedule and quiet hours; they change by the minute, so each minute is worked out once."""

    __slots__ = ("_minute", "_open", "_quiet", "_quiet_now", "_schedule")

    def __init__(self, schedule: tuple[Weekly, ...], quiet: tuple[Weekly, ...]) -> None:
        self._schedule, self._quiet = schedule, quiet
        self._minute = -1
        self._open = self._quiet_now = False

    def hold(self, local: datetime, minute: int, priority: int) -> bool:
        """`minute` is that of `local` in its week."""
        if not self._schedule and not self._quiet:
            return True
        if minute != self._minute:
            self._minute = minute
            self._open = not self._schedule or any(weekly.holds(local) for weekly in self._schedule)
            self._quiet_now = any(weekly.holds(local) for weekly in self._quiet)
        return self._open and (not self._quiet_now or priority == CRITICAL)


class _Ready:
    """One rule, its names looked up and its lists made sets."""

    __slots__ = (
        "_cameras",
        "_min_duration_s",
        "_min_rank",
        "_min_score",
        "_provisional",
        "_repeat",
        "_types",
        "_zones",
        "hours",
        "is_about_events",
        "rule",
    )

    def __init__(self, rule: Rule, site: Site) -> None:
        wanted: Conditions = rule.conditions
        self.rule = rule
        self.hours = _Hours(wanted.schedule, wanted.quiet)
        named = {*wanted.cameras, *(camera for group in wanted.groups for camera in site.groups.get(group, ()))}
        self._cameras = frozenset(named) if wanted.cameras or wanted.groups else None
        self.is_about_events = isinstance(wanted, EventConditions)
        asked = wanted if isinstance(wanted, EventConditions) else EventConditions()
        self._min_rank = _RANK[asked.min_severity]
        self._min_score, self._min_duration_s = asked.min_score, asked.min_duration_s
        self._types = frozenset(asked.types)
        self._zones = frozenset(asked.zones)
        self._provisional, self._repeat = asked.provisional, asked.repeat

    def concerns(self, camera_id: CameraId) -> bool:
        return self._cameras is None or camera_id in self._cameras

    @property
    def concerns_all(self) -> bool:
        return self._cameras is None

    def priority(self, severity: Severity) -> int:
        return priority_of(self.rule.actions.priority or severity)

    def meets(self, facts: _Facts) -> bool:
        """All but the count of repetitions."""
        event = facts.event
        if facts.rank < self._min_rank or event.peak_score < self._min_score:
            return False
        if self._types and event.vlm_type not in self._types:
            return False
        if facts.duration_s < self._min_duration_s or (event.provisional and not self._provisional):
            return False
        if self._zones and not self._zones & facts.zones:
            return False
        return self.hours.hold(facts.local, facts.minute, self.priority(event.severity))

    def repeats(self, facts: _Facts, earlier: Earlier) -> bool:
        if self._repeat is None:
            return True
        count = 1
        for other in earlier(facts.event, self._repeat.within_s):
            count += self.meets(_Facts(other, facts.site))
            if count >= self._repeat.count:
                return True
        return False


def outages(changes: Iterable[CameraStateChange], wanted: HealthConditions) -> list[Outage]:
    """The outages of one camera among its changes of phase, in order of time; the last may go on."""
    found: list[Outage] = []
    now: Outage | None = None
    for change in changes:
        if change.phase in wanted.phases:
            if now is None:
                now = Outage(
                    id=change.id,
                    camera_id=change.camera_id,
                    since=change.at,
                    phase=change.phase,
                    reason=change.reason,
                )
            else:
                now = msgspec.structs.replace(now, phase=change.phase, reason=change.reason or now.reason)
        elif change.phase in WELL and now is not None:
            found.append(msgspec.structs.replace(now, until=change.at))
            now = None
    return [*found, now] if now else found


def as_rule(draft: RuleDraft) -> Rule:
    """A draft as a rule that is stored nowhere: to be tried on history."""
    return Rule(
        id="",
        position=0,
        name=draft.name,
        enabled=True,
        conditions=draft.conditions,
        actions=draft.actions,
        created_at="",
        updated_at="",
    )
