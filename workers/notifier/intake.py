"""From what happened to the outbox: which rules are met, what is held back, what waits to be sent.

All of one page of events is decided and written in the transaction that moves the notifiers' position on: whichever
process dies, an event is decided once, and what came of it is there.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection, Engine, select

from core.alarms import Alarm, list_alarms
from core.cameras.model import CameraPhase
from core.clock import Clock
from core.config import Config
from core.db.cameras import list_cameras
from core.db.events import StoredEvent, stored_columns, stored_event
from core.db.notifications import list_channels, list_rules, notifications_version
from core.db.outbox import (
    Queued,
    add_to_digest,
    count_in_hour,
    is_queued,
    messages_of_events,
    queue,
    suppress,
    take_position,
)
from core.db.tables import CameraStateRow, EventRow, EventStepRow, OutboxRow
from core.events import AnomalyEvent, Severity
from core.ids import CameraId
from core.notifications.channels import Channel
from core.notifications.dry_run import load_site, reserve
from core.notifications.model import (
    Actions,
    HealthConditions,
    HealthNote,
    Notice,
    Occasion,
    Rule,
    State,
    priority_of,
)
from core.notifications.rules import CRITICAL, WELL, Match, Outage, RuleBook, verdict_of

__all__ = ["FlowAction", "Intake"]

log = structlog.get_logger()

SITE_S = 10.0
"""How often groups and zones are read again, whose changes nobody tells."""
EARLIER = 200
"""Events that are looked at for a rule that counts repetitions, at most."""
LISTED = 50
"""Events that a digest names; the others it counts."""
TOLD = 1000
"""Outages that are remembered for telling their end."""
FLOW = "flow"
"""In the place of a rule's id, in keys."""


class FlowAction(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent flow asks for: an event's step of the kind "action", in its `data`."""

    action: str
    """"notify" or "escalate"; the latter counts as critical."""
    channels: tuple[str, ...] = ()
    """Names or ids; () is every channel."""
    priority: Severity | None = None


class _Down(msgspec.Struct, frozen=True):
    """An outage that was told, and whose end is to be told."""

    outage_id: str
    rule_id: str
    channel_id: str
    camera_id: CameraId
    since: str
    priority: int


class Intake:
    """Used by one thread."""

    def __init__(self, config: Config, writer: Engine, reader: Engine, clock: Clock) -> None:
        self._config, self._writer, self._reader, self._clock = config, writer, reader, clock
        self._version = -1
        self._site_at = float("-inf")
        self._channels: dict[str, Channel] = {}
        self._rules: dict[str, Rule] = {}
        self._book = RuleBook([], load_site(reader, config))
        self._told: dict[str, _Down] | None = None
        self._alarms: dict[str, Alarm] = {}
        """Those about our own processes that stood when they were looked at last."""
        self.queued = 0
        self.held = 0

    def reload(self) -> None:
        """Reads channels, rules, groups and zones where they may have changed."""
        with self._reader.connect() as connection:
            version = notifications_version(connection)
        now = self._clock.monotonic()
        if version == self._version and now < self._site_at + SITE_S:
            return
        self._version, self._site_at = version, now
        self._channels = {one.id: one for one in list_channels(self._reader) if one.enabled}
        rules = list_rules(self._reader)
        self._rules = {rule.id: rule for rule in rules}
        self._book = RuleBook(rules, load_site(self._reader, self._config))

    # ---- events

    def take(self, events: Sequence[StoredEvent]) -> int:
        """Decides on a page of changes, in the order of their sequence, and moves on; returns how many it queued."""
        before = self.queued
        with self._writer.begin() as connection:
            position = take_position(connection, events[-1].sequence)
            fresh = [stored for stored in events if stored.sequence > position]
            ids = [stored.event.id for stored in fresh]
            known = messages_of_events(connection, ids)
            asked = _flow_actions(connection, ids)
            for stored in fresh:
                of_event = known.get(stored.event.id, [])
                self._event(connection, stored, of_event)
                for action in asked.get(stored.event.id, ()):
                    self._flow(connection, stored.event, action, of_event)
        return self.queued - before

    def _event(self, connection: Connection, stored: StoredEvent, known: Sequence[Queued]) -> None:
        event, now = stored.event, self._clock.now()
        self._amend(connection, event, known)
        too_old = now - datetime.fromisoformat(event.began_at) > timedelta(hours=self._config.notifier.max_age_h)
        if too_old or stored.acknowledged_at:
            return

        def earlier(one: AnomalyEvent, within_s: float) -> Iterable[AnomalyEvent]:
            return _earlier(connection, one, within_s)

        for match in self._book.match(event, earlier):
            of_rule = [one for one in known if one.rule_id == match.rule.id]
            if _undecided(of_rule, match.priority):
                self._tell(connection, match, event)

    def _tell(self, connection: Connection, match: Match, event: AnomalyEvent) -> None:
        """A rule is met by an event for the first time, or by one that was held back and is more urgent now."""
        rule, actions = match.rule, match.rule.actions
        wanted = [one for one in actions.channels if one in self._channels]
        free = [one for one in wanted if not self._is_full(connection, one, match.priority, rule)]
        if wanted and not free:
            self._hold(connection, match, event, wanted[0], "limit")
            return
        if not wanted:
            return
        held = self._suppress(connection, rule.id, event, match.priority)
        if held is None:
            self._hold(connection, match, event, wanted[0], "similar")
            return
        notice = Notice(
            occasion=Occasion.EVENT,
            rule_name=rule.name,
            camera_id=event.camera_id,
            language=actions.language,
            template=actions.template,
            similar=held,
        )
        digest = actions.digest_minutes > 0 and match.priority != CRITICAL
        if digest:
            self._hold(connection, match, event, free[0], "digest")
        for channel_id in free:
            if digest:
                self._digest(connection, match, event, channel_id, notice)
            else:
                self._queue(connection, match, event, channel_id, notice)
        self._escalate(connection, match, event, notice)

    def _escalate(self, connection: Connection, match: Match, event: AnomalyEvent, notice: Notice) -> None:
        escalation = match.rule.actions.escalation
        if escalation is None:
            return
        notice = msgspec.structs.replace(notice, occasion=Occasion.ESCALATION, similar=0)
        more_urgent = Match(match.rule, max(CRITICAL, match.priority - 1))
        for channel_id in escalation.channels:
            if channel_id in self._channels and not self._is_full(
                connection, channel_id, more_urgent.priority, match.rule
            ):
                due_at = self._clock.now() + timedelta(minutes=escalation.after_minutes)
                self._queue(connection, more_urgent, event, channel_id, notice, due_at=due_at)

    def _queue(
        self,
        connection: Connection,
        match: Match,
        event: AnomalyEvent,
        channel_id: str,
        notice: Notice,
        *,
        due_at: datetime | None = None,
        suffix: str = "",
    ) -> None:
        rule_id = match.rule.id
        key = f"{rule_id or FLOW}|{channel_id}|{event.id}|{notice.occasion}{suffix}"
        queued = queue(
            connection,
            dedup_key=key,
            channel_id=channel_id,
            notice=notice,
            priority=match.priority,
            now=self._clock.now(),
            rule_id=rule_id or None,
            event_id=event.id,
            due_at=due_at,
        )
        self.queued += queued is not None

    def _digest(
        self, connection: Connection, match: Match, event: AnomalyEvent, channel_id: str, notice: Notice
    ) -> None:
        """Adds the event to the digest that waits, or begins one."""
        rule, now = match.rule, self._clock.now()
        if add_to_digest(connection, channel_id=channel_id, rule_id=rule.id, event_id=event.id, listed=LISTED):
            return
        queue(
            connection,
            dedup_key=f"{rule.id}|{channel_id}|{event.id}|{Occasion.DIGEST}",
            channel_id=channel_id,
            notice=msgspec.structs.replace(
                notice, occasion=Occasion.DIGEST, camera_id=None, similar=0, events=(event.id,), count=1
            ),
            priority=match.priority,
            now=now,
            rule_id=rule.id,
            due_at=now + timedelta(minutes=rule.actions.digest_minutes),
        )
        self.queued += 1

    def _hold(self, connection: Connection, match: Match, event: AnomalyEvent, channel_id: str, why: str) -> None:
        """Writes that it was held back, and why: it is not decided on again unless it becomes more urgent."""
        queue(
            connection,
            dedup_key=f"{match.rule.id or FLOW}|{event.id}|held|{match.priority}",
            channel_id=channel_id,
            notice=Notice(occasion=Occasion.EVENT, rule_name=match.rule.name, camera_id=event.camera_id, held=why),
            priority=match.priority,
            now=self._clock.now(),
            rule_id=match.rule.id or None,
            event_id=event.id,
            state=State.HELD,
        )
        self.held += why != "digest"

    def _suppress(self, connection: Connection, rule_id: str, event: AnomalyEvent, priority: int) -> int | None:
        """How many like it were held back before it; None where it is held back itself."""
        now_ms = int(self._clock.now().timestamp() * 1000)
        window_ms = round(self._config.notifier.window_s * 1000)
        key = f"{rule_id}|{event.camera_id}|{event.vlm_type}"
        found = suppress(connection, key, priority=priority, now_ms=now_ms, window_ms=window_ms)
        return found.similar if found.passes else None

    def _is_full(self, connection: Connection, channel_id: str, priority: int, rule: Rule) -> bool:
        """Whether a limit per hour, the channel's or the rule's, is reached; the last of it is for critical ones."""
        for limit, rule_id in (
            (self._channels[channel_id].settings.limit_per_hour, None),
            (rule.actions.limit_per_hour, rule.id),
        ):
            if limit:
                open_to = limit if priority == CRITICAL else limit - reserve(limit)
                if count_in_hour(connection, channel_id, now=self._clock.now(), rule_id=rule_id) >= open_to:
                    return True
        return False

    def _amend(self, connection: Connection, event: AnomalyEvent, known: Sequence[Queued]) -> None:
        """Queues an amendment wherever another verdict was told, or is being told just now."""
        verdict = verdict_of(event)
        for one in known:
            told_other = one.state is State.SENT and one.told != verdict
            under_way = one.state is State.WAITING and one.claimed_by != ""
            rule = self._rules.get(one.rule_id or "")
            if one.occasion is not Occasion.EVENT or not (told_other or under_way):
                continue
            if (rule and not rule.actions.updates) or one.channel_id not in self._channels:
                continue
            notice = msgspec.structs.replace(one.notice, occasion=Occasion.UPDATE, similar=0)
            match = Match(rule or _flow_rule(), min(one.priority, priority_of(event.severity)))
            self._queue(connection, match, event, one.channel_id, notice, suffix=f"|{verdict}")

    # ---- what agent flows ask for

    def _flow(self, connection: Connection, event: AnomalyEvent, action: FlowAction, known: Sequence[Queued]) -> None:
        """The same policy as for rules: limits, suppression, outbox."""
        named = [
            one.id for one in self._channels.values() if not action.channels or {one.id, one.name} & {*action.channels}
        ]
        if not named:
            log.warning("flow_names_no_channel", event_id=event.id, channels=action.channels)
            return
        severity = Severity.CRITICAL if action.action == "escalate" else action.priority
        rule = _flow_rule(Actions(channels=tuple(named), priority=severity))
        match = Match(rule, priority_of(severity or event.severity))
        if _undecided([one for one in known if one.rule_id is None], match.priority):
            self._tell(connection, match, event)

    # ---- the health of cameras

    def look_after(self) -> int:
        """Tells of cameras that have not watched for as long as a rule says, and of those that do again."""
        before = self.queued
        self._look_after_processes()
        if not self._book.asks_for_health and self._told is None:
            return self.queued - before
        with self._reader.connect() as connection:
            cameras = [camera.camera_id for camera in list_cameras(self._reader) if camera.enabled]
            if self._told is None:
                self._told = _told_outages(connection)
            due: list[tuple[Match, Outage]] = []
            now_down: dict[tuple[CameraId, str], str] = {}
            for camera_id in cameras:
                for match in self._book.health_rules(camera_id, self._clock.now()):
                    wanted = match.rule.conditions
                    if not isinstance(wanted, HealthConditions):
                        continue
                    outage = _outage(connection, camera_id, wanted)
                    if outage:
                        now_down[camera_id, match.rule.id] = outage.id
                        since = datetime.fromisoformat(outage.since)
                        if self._clock.now() - since >= timedelta(seconds=wanted.for_s):
                            due.append((match, outage))
        over = [
            key
            for key, one in self._told.items()
            if now_down.get((one.camera_id, one.rule_id)) != one.outage_id and self._is_well(one)
        ]
        new = [(match, outage) for match, outage in due if not self._knows(match, outage)]
        if new or over:
            with self._writer.begin() as connection:
                take_position(connection)
                for match, outage in new:
                    self._down(connection, match, outage)
                for key in over:
                    self._up(connection, self._told.pop(key))
        return self.queued - before

    def _look_after_processes(self) -> None:
        """Tells of alarms about our own processes, and of their end, by the rules about the health of every camera."""
        standing = {f"{one.process}:{one.since}": one for one in list_alarms(self._config.run_dir)}
        over = self._alarms.keys() - standing.keys()
        rules = self._book.process_rules(self._clock.now()) if standing or over else []
        if rules:
            with self._writer.begin() as connection:
                take_position(connection)
                for match in rules:
                    for key, alarm in standing.items():
                        note = HealthNote(phase=CameraPhase.FAILED, since=alarm.since, reason=alarm.reason)
                        self._tell_process(connection, match, Occasion.PROCESS, key, alarm, note)
                    for key in over:
                        alarm = self._alarms[key]
                        note = HealthNote(phase=CameraPhase.WATCHING, since=alarm.since)
                        self._tell_process(connection, match, Occasion.PROCESS_UP, key, alarm, note)
        self._alarms = standing

    def _tell_process(
        self, connection: Connection, match: Match, occasion: Occasion, key: str, alarm: Alarm, note: HealthNote
    ) -> None:
        rule, now = match.rule, self._clock.now()
        wanted = rule.conditions
        assert isinstance(wanted, HealthConditions)
        due_at = datetime.fromisoformat(alarm.since) + timedelta(seconds=wanted.for_s)
        if occasion is Occasion.PROCESS and now < due_at:
            return
        for channel_id in rule.actions.channels:
            dedup_key = f"{rule.id}|{channel_id}|{occasion}|{key}"
            if channel_id not in self._channels or is_queued(connection, dedup_key):
                continue
            told = f"{rule.id}|{channel_id}|{Occasion.PROCESS}|{key}"
            if occasion is Occasion.PROCESS_UP and not (wanted.recovery and is_queued(connection, told)):
                continue
            notice = Notice(
                occasion=occasion,
                rule_name=rule.name,
                language=rule.actions.language,
                channel_name=alarm.process,
                health=note,
            )
            queued = queue(
                connection,
                dedup_key=dedup_key,
                channel_id=channel_id,
                notice=notice,
                priority=match.priority,
                now=now,
                rule_id=rule.id,
            )
            self.queued += queued is not None

    def _knows(self, match: Match, outage: Outage) -> bool:
        told = self._told or {}
        return all(
            _down_key(match.rule.id, one, outage.id) in told
            for one in match.rule.actions.channels
            if one in self._channels
        )

    def _is_well(self, one: _Down) -> bool:
        rule = self._rules.get(one.rule_id)
        if rule is None or not isinstance(rule.conditions, HealthConditions):
            return True
        with self._reader.connect() as connection:
            outage = _outage(connection, one.camera_id, rule.conditions)
        return outage is None or outage.id != one.outage_id

    def _down(self, connection: Connection, match: Match, outage: Outage) -> None:
        rule, now = match.rule, self._clock.now()
        told = self._told if self._told is not None else {}
        for channel_id in rule.actions.channels:
            key = _down_key(rule.id, channel_id, outage.id)
            if channel_id not in self._channels or key in told:
                continue
            told[key] = _Down(outage.id, rule.id, channel_id, outage.camera_id, outage.since, match.priority)
            if is_queued(connection, key) or self._is_full(connection, channel_id, match.priority, rule):
                continue
            notice = Notice(
                occasion=Occasion.DOWN,
                rule_name=rule.name,
                camera_id=outage.camera_id,
                language=rule.actions.language,
                template=rule.actions.template,
                health=HealthNote(phase=outage.phase, since=outage.since, reason=outage.reason),
            )
            queued = queue(
                connection,
                dedup_key=key,
                channel_id=channel_id,
                notice=notice,
                priority=match.priority,
                now=now,
                rule_id=rule.id,
            )
            self.queued += queued is not None

    def _up(self, connection: Connection, one: _Down) -> None:
        rule = self._rules.get(one.rule_id)
        if rule is None or one.channel_id not in self._channels:
            return
        key = _down_key(one.rule_id, one.channel_id, one.outage_id)
        wanted = rule.conditions
        if not isinstance(wanted, HealthConditions) or not wanted.recovery or not is_queued(connection, key):
            return
        newest = select(CameraStateRow.phase).where(CameraStateRow.camera_id == one.camera_id)
        newest = newest.order_by(CameraStateRow.at.desc(), CameraStateRow.id.desc()).limit(1)
        if connection.execute(newest).scalar() == CameraPhase.STOPPED:
            return  # it does not watch again: it was told to rest
        notice = Notice(
            occasion=Occasion.UP,
            rule_name=rule.name,
            camera_id=one.camera_id,
            language=rule.actions.language,
            health=HealthNote(phase=CameraPhase.WATCHING, since=one.since),
        )
        queued = queue(
            connection,
            dedup_key=key.replace("|down|", "|up|"),
            channel_id=one.channel_id,
            notice=notice,
            priority=one.priority,
            now=self._clock.now(),
            rule_id=one.rule_id,
        )
        self.queued += queued is not None


def _undecided(of_rule: Sequence[Queued], priority: int) -> bool:
    """Whether a rule has not decided on the event: only what was held back is decided anew, once it is more urgent."""
    first = [one for one in of_rule if one.occasion in {Occasion.EVENT, Occasion.DIGEST}]
    return all(one.state is State.HELD and one.priority > priority for one in first)


def _flow_rule(actions: Actions | None = None) -> Rule:
    """Stands for the rule where a flow asks; it is stored nowhere."""
    return Rule(
        id="",
        position=0,
        name="",
        enabled=True,
        conditions=HealthConditions(),
        actions=actions or Actions(channels=()),
        created_at="",
        updated_at="",
    )


def _flow_actions(connection: Connection, event_ids: Sequence[str]) -> dict[str, list[FlowAction]]:
    row = EventStepRow
    query = select(row.event_id, row.data).where(row.event_id.in_(event_ids), row.kind == "action")
    found: dict[str, list[FlowAction]] = {}
    for event_id, data in connection.execute(query.order_by(row.event_id, row.position)):
        try:
            action = msgspec.convert(data, FlowAction)
        except msgspec.ValidationError as error:
            log.warning("flow_action_not_understood", event_id=event_id, reason=str(error))
            continue
        if action.action in {"notify", "escalate"}:
            found.setdefault(event_id, []).append(action)
    return found


def _earlier(connection: Connection, event: AnomalyEvent, within_s: float) -> Iterable[AnomalyEvent]:
    began = datetime.fromisoformat(event.began_at)
    since = (began - timedelta(seconds=within_s)).astimezone(UTC)
    row: Any = EventRow
    query = select(*stored_columns()).where(
        row.camera_id == event.camera_id,
        row.began_at > since.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        row.began_at <= event.began_at,
        row.id != event.id,
    )
    rows = connection.execute(query.order_by(row.began_at.desc(), row.id.desc()).limit(EARLIER))
    return [stored_event(one).event for one in rows]


def _outage(connection: Connection, camera_id: CameraId, wanted: HealthConditions) -> Outage | None:
    """The outage that goes on now, by the camera's changes of phase since it last was well."""
    row = CameraStateRow
    of_camera = select(row.id, row.at, row.phase, row.reason).where(row.camera_id == camera_id)
    newest = of_camera.order_by(row.at.desc(), row.id.desc())
    well = connection.execute(newest.where(row.phase.in_([str(one) for one in WELL])).limit(1)).first()
    bad = of_camera.where(row.phase.in_([str(one) for one in wanted.phases]))
    if well:
        bad = bad.where((row.at > well.at) | ((row.at == well.at) & (row.id > well.id)))
    first = connection.execute(bad.order_by(row.at, row.id).limit(1)).first()
    last = connection.execute(bad.order_by(row.at.desc(), row.id.desc()).limit(1)).first()
    if first is None or last is None:
        return None
    phase = CameraPhase(last.phase)
    return Outage(id=first.id, camera_id=camera_id, since=first.at, phase=phase, reason=last.reason)


def _told_outages(connection: Connection) -> dict[str, _Down]:
    """Those whose end was not told yet."""
    row = OutboxRow
    columns = (row.dedup_key, row.rule_id, row.channel_id, row.message, row.priority)
    downs = connection.execute(
        select(*columns).where(row.occasion == str(Occasion.DOWN)).order_by(row.id.desc()).limit(TOLD)
    ).all()
    ups = set(
        connection.execute(
            select(row.dedup_key).where(row.occasion == str(Occasion.UP)).order_by(row.id.desc()).limit(2 * TOLD)
        ).scalars()
    )
    found: dict[str, _Down] = {}
    for one in downs:
        notice = msgspec.convert(one.message, Notice)
        if one.rule_id and notice.camera_id and notice.health and one.dedup_key.replace("|down|", "|up|") not in ups:
            outage_id = one.dedup_key.rpartition("|")[2]
            found[one.dedup_key] = _Down(
                outage_id, one.rule_id, one.channel_id, notice.camera_id, notice.health.since, one.priority
            )
    return found


def _down_key(rule_id: str, channel_id: str, outage_id: str) -> str:
    return f"{rule_id}|{channel_id}|down|{outage_id}"
