"""Dry run: what a rule would have sent, had it been there; nothing is stored and nobody is told."""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice

import msgspec
from sqlalchemy import Engine, select

from core.cameras.history import CameraStateChange
from core.clock import normal_utc, time_zone
from core.config import Config
from core.db.cameras import all_zones, list_groups
from core.db.event_pages import EventFilter, iterate_events
from core.db.tables import CameraStateRow
from core.events.model import AnomalyEvent
from core.ids import CameraId, EventId
from core.notifications.model import HealthConditions, RuleDraft
from core.notifications.rules import CRITICAL, Match, RuleBook, Site, as_rule, outages

__all__ = ["DryRun", "DryRunDay", "dry_run", "load_site"]

MAX_EVENTS = 100_000
"""Of more, the newest are looked at."""
MAX_EXAMPLES = 20


class DryRunDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day in the site's time zone."""

    day: str
    sent: int
    suppressed: int


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule would have done; one message counts once, to however many channels it goes."""

    looked_at: int
    """Events, or changes of cameras' phases."""
    complete: bool
    """Whether that was all there is."""
    matched: int
    sent: int
    """Messages; a digest is one."""
    suppressed: int
    """Held back: like one that was sent just before."""
    limited: int
    """Held back: beyond the rule's limit per hour."""
    days: tuple[DryRunDay, ...]
    examples: tuple[EventId, ...]
    """Of events that it would have told, the first ones."""


def load_site(engine: Engine, config: Config) -> Site:
    """What rules refer to, as it is now; raises ConfigError where the site's time zone is none."""
    return Site(
        time_zone=time_zone(config.site.time_zone),
        groups={group.id: frozenset(map(CameraId, group.cameras)) for group in list_groups(engine)},
        zones=all_zones(engine),
    )


def dry_run(engine: Engine, config: Config, draft: RuleDraft, *, since: str, until: str) -> DryRun:
    """Tries a rule on what happened between two times (RFC 3339).

    Events are taken as they were in the end; an hour's limit is that of the rule alone. Raises ConfigError.
    """
    since, until = normal_utc(since), normal_utc(until)
    site = load_site(engine, config)
    if isinstance(draft.conditions, HealthConditions):
        return _health(engine, draft, draft.conditions, site, since, until)
    wanted = EventFilter(cameras=None, since=since, until=until)
    newest = [stored.event for stored in islice(iterate_events(engine, wanted, page=500), MAX_EVENTS + 1)]
    events = newest[:MAX_EVENTS][::-1]
    return _events(events, draft, site, window_s=config.notifier.window_s, complete=len(newest) <= MAX_EVENTS)


class _Tally:
    """Suppression and limit as the notifier has them, over times of the past."""

    def __init__(self, draft: RuleDraft, site: Site, window_s: float) -> None:
        self._site, self._window_s = site, window_s
        self._limit = draft.actions.limit_per_hour
        self._digest_s = draft.actions.digest_minutes * 60
        self._last: dict[tuple[str, str], tuple[float, int]] = {}
        self._hour: deque[float] = deque()
        self._digest_until = float("-inf")
        self.sent = self.suppressed = self.limited = 0
        self._days: dict[str, list[int]] = {}

    def take(self, camera_id: str, kind: str, at: datetime, priority: int) -> bool:
        """Whether it would have been told."""
        now = at.timestamp()
        day = self._days.setdefault(at.astimezone(self._site.time_zone).date().isoformat(), [0, 0])
        last = self._last.get((camera_id, kind))
        if last and abs(now - last[0]) < self._window_s and priority >= last[1]:
            self.suppressed += 1
            day[1] += 1
            return False
        self._last[camera_id, kind] = (now, priority)
        if self._digest_s and priority != CRITICAL:
            if now < self._digest_until:
                return True
            self._digest_until = now + self._digest_s
        while self._hour and self._hour[0] <= now - 3600:
            self._hour.popleft()
        if self._limit and len(self._hour) >= self._limit - (0 if priority == CRITICAL else reserve(self._limit)):
            self.limited += 1
            return False
        self._hour.append(now)
        self.sent += 1
        day[0] += 1
        return True

    def result(self, looked_at: int, matched: int, examples: Sequence[EventId], *, complete: bool) -> DryRun:
        days = (DryRunDay(day=day, sent=sent, suppressed=held) for day, (sent, held) in sorted(self._days.items()))
        return DryRun(
            looked_at=looked_at,
            complete=complete,
            matched=matched,
            sent=self.sent,
            suppressed=self.suppressed,
            limited=self.limited,
            days=tuple(days),
            examples=tuple(examples[:MAX_EXAMPLES]),
        )


def reserve(limit: int) -> int:
    """How much of a limit per hour is kept for what is critical: a fifth, where that leaves something."""
    return limit // 5


def _events(events: Sequence[AnomalyEvent], draft: RuleDraft, site: Site, *, window_s: float, complete: bool) -> DryRun:
    book = RuleBook([as_rule(draft)], site)
    tally = _Tally(draft, site, window_s)
    recent: dict[CameraId, deque[AnomalyEvent]] = {}

    def earlier(event: AnomalyEvent, within_s: float) -> Iterable[AnomalyEvent]:
        begin = datetime.fromisoformat(event.began_at) - timedelta(seconds=within_s)
        return (one for one in recent.get(event.camera_id, ()) if datetime.fromisoformat(one.began_at) > begin)

    matched = 0
    examples: list[EventId] = []
    for event in events:
        found: list[Match] = book.match(event, earlier)
        recent.setdefault(event.camera_id, deque(maxlen=200)).append(event)
        for match in found:
            matched += 1
            at = datetime.fromisoformat(event.began_at)
            if tally.take(event.camera_id, event.vlm_type, at, match.priority):
                examples.append(event.id)
    return tally.result(len(events), matched, examples, complete=complete)


def _health(engine: Engine, draft: RuleDraft, wanted: HealthConditions, site: Site, since: str, until: str) -> DryRun:
    row = CameraStateRow
    names = CameraStateChange.__struct_fields__
    query = select(*(getattr(row, name) for name in names)).where(row.at >= since, row.at < until)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(row.at, row.id).limit(MAX_EVENTS)).mappings()
        changes = [msgspec.convert(dict(one), CameraStateChange) for one in rows]
    by_camera: dict[CameraId, list[CameraStateChange]] = {}
    for change in changes:
        by_camera.setdefault(change.camera_id, []).append(change)
    book = RuleBook([as_rule(draft)], site)
    tally = _Tally(draft, site, 0.0)
    matched = 0
    for camera_id, of_camera in by_camera.items():
        for outage in outages(of_camera, wanted):
            told_at = datetime.fromisoformat(outage.since) + timedelta(seconds=wanted.for_s)
            if told_at >= datetime.fromisoformat(outage.until or until):
                continue
            for match in book.health_rules(camera_id, told_at.astimezone(site.time_zone)):
                matched += 1
                tally.take(camera_id, "down", told_at, match.priority)
                if outage.until and wanted.recovery:
                    tally.take(camera_id, "up", datetime.fromisoformat(outage.until), match.priority)
    return tally.result(len(changes), matched, (), complete=len(changes) < MAX_EVENTS)
