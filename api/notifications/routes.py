"""Routes under /notifications: for administrators, since messages tell of all cameras."""

from datetime import timedelta
from typing import Annotated

from litestar import Router, delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from api.guard import needs
from api.problems import documented
from api.services import Call, Services, caller
from core.clock import utc_iso
from core.db.notifications import (
    create_channel,
    create_rule,
    delete_channel,
    delete_rule,
    get_channel,
    get_rule,
    list_channels,
    list_rules,
    move_rule,
    update_channel,
    update_rule,
)
from core.db.outbox import list_deliveries, list_messages, outbox_statistics, queue_test, replay
from core.notifications.dry_run import dry_run
from core.notifications.model import State
from core.rest.base import UUID, Uuid
from core.rest.notifications import (
    Channel,
    ChannelChange,
    ChannelIn,
    ChannelStatistics,
    Delivery,
    DryRun,
    DryRunIn,
    MoveIn,
    Queued,
    QueuedTest,
    Replayed,
    ReplayIn,
    Rule,
    RuleDraft,
)
from core.security.permissions import Role, Scope

__all__ = ["router"]

READ = needs(Role.ADMIN, Scope.NOTIFICATIONS_READ)
WRITE = needs(Role.ADMIN, Scope.NOTIFICATIONS_WRITE)
BACK = timedelta(days=7)
"""What a dry run looks at where nobody says since when."""

Id = Annotated[str, QueryParameter(pattern=f"^$|{UUID}")]
Before = Annotated[str, QueryParameter(pattern=f"^$|{UUID}", description="Id of the last one of the page before")]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]


# ---- channels


@get("/channels", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listChannels")
def channels(services: NamedDependency[Services]) -> list[Channel]:
    """All channels; of their secrets only which are set."""
    return list_channels(services.reader)


@post("/channels", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="createChannel")
def add_channel(services: NamedDependency[Services], request: Call, data: JSONBody[ChannelIn]) -> Channel:
    """Adds a channel: e-mail, webhook, MQTT, Web Push or Apprise."""
    with services.writer.begin() as connection:
        channel = create_channel(
            connection,
            services.box,
            name=data.name,
            settings=data.settings,
            secrets=data.secrets,
            enabled=data.enabled,
        )
        services.audit(connection, request, "channel.created", channel.name, {"kind": channel.kind})
    return channel


@get(
    "/channels/{channel_id:str}",
    opt=READ,
    sync_to_thread=True,
    responses=documented(404),
    operation_id="getChannel",
)
def channel(services: NamedDependency[Services], channel_id: FromPath[Uuid]) -> Channel:
    """One channel."""
    with services.reader.connect() as connection:
        return get_channel(connection, channel_id)


@patch(
    "/channels/{channel_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404, 409),
    operation_id="changeChannel",
)
def change_channel(
    services: NamedDependency[Services],
    request: Call,
    channel_id: FromPath[Uuid],
    data: JSONBody[ChannelChange],
) -> Channel:
    """What is left out stays, each secret by itself."""
    with services.writer.begin() as connection:
        channel = update_channel(
            connection,
            services.box,
            channel_id,
            name=data.name,
            settings=data.settings,
            secrets=data.secrets,
            enabled=data.enabled,
        )
        told = {"enabled": channel.enabled, "secrets": "given" if data.secrets is not None else "kept"}
        services.audit(connection, request, "channel.changed", channel.name, told)
    return channel


@delete(
    "/channels/{channel_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404, 409),
    operation_id="removeChannel",
)
def remove_channel(services: NamedDependency[Services], request: Call, channel_id: FromPath[Uuid]) -> None:
    """Removes a channel that no rule uses, and what waits for it; its log stays."""
    with services.writer.begin() as connection:
        name = get_channel(connection, channel_id).name
        delete_channel(connection, channel_id)
        services.audit(connection, request, "channel.removed", name)


@post(
    "/channels/{channel_id:str}/test",
    opt=WRITE,
    sync_to_thread=True,
    status_code=202,
    responses=documented(404),
    operation_id="testChannel",
)
def test_channel(services: NamedDependency[Services], request: Call, channel_id: FromPath[Uuid]) -> QueuedTest:
    """Has a test message sent, before all others; the delivery log tells what became of it."""
    with services.writer.begin() as connection:
        message_id = queue_test(connection, channel_id, now=services.clock.now(), actor=caller(request).name)
        services.audit(connection, request, "channel.tested", channel_id)
    return QueuedTest(message_id=message_id)


# ---- rules


@get("/rules", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listRules")
def rules(services: NamedDependency[Services]) -> list[Rule]:
    """All rules, in the order in which they are asked."""
    return list_rules(services.reader)


@post("/rules", opt=WRITE, sync_to_thread=True, responses=documented(404, 409), operation_id="createRule")
def add_rule(services: NamedDependency[Services], request: Call, data: JSONBody[RuleDraft]) -> Rule:
    """Adds a rule after all others."""
    with services.writer.begin() as connection:
        rule = create_rule(connection, data)
        services.audit(connection, request, "rule.created", rule.name)
    return rule


@get("/rules/{rule_id:str}", opt=READ, sync_to_thread=True, responses=documented(404), operation_id="getRule")
def rule(services: NamedDependency[Services], rule_id: FromPath[Uuid]) -> Rule:
    """One rule."""
    with services.reader.connect() as connection:
        return get_rule(connection, rule_id)


@put(
    "/rules/{rule_id:str}",
    opt=WRITE,
    sync_to_thread=True,
    responses=documented(404, 409),
    operation_id="replaceRule",
)
def change_rule(
    services: NamedDependency[Services], request: Call, rule_id: FromPath[Uuid], data: JSONBody[RuleDraft]
) -> Rule:
    """All of a rule anew; its place stays."""
    with services.writer.begin() as connection:
        rule = update_rule(connection, rule_id, data)
        services.audit(connection, request, "rule.changed", rule.name, {"enabled": rule.enabled})
    return rule


@delete("/rules/{rule_id:str}", opt=WRITE, sync_to_thread=True, responses=documented(404), operation_id="removeRule")
def remove_rule(services: NamedDependency[Services], request: Call, rule_id: FromPath[Uuid]) -> None:
    """Removes a rule; what it has queued is sent all the same."""
    with services.writer.begin() as connection:
        name = get_rule(connection, rule_id).name
        delete_rule(connection, rule_id)
        services.audit(connection, request, "rule.removed", name)


@post(
    "/rules/{rule_id:str}/move",
    opt=WRITE,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404),
    operation_id="moveRule",
)
def move(
    services: NamedDependency[Services], request: Call, rule_id: FromPath[Uuid], data: JSONBody[MoveIn]
) -> list[Rule]:
    """Lets it be asked earlier or later; returns all in their new order."""
    with services.writer.begin() as connection:
        found = move_rule(connection, rule_id, data.position)
        services.audit(connection, request, "rule.moved", rule_id, {"position": data.position})
    return found


@post(
    "/dry-run",
    opt=READ,
    sync_to_thread=True,
    status_code=200,
    responses=documented(404),
    operation_id="dryRunRule",
)
def try_rule(services: NamedDependency[Services], data: JSONBody[DryRunIn]) -> DryRun:
    """What a rule would have sent, and held back, had it been there; nobody is told."""
    now = services.clock.now()
    since, until = data.since or utc_iso(now - BACK), data.until or utc_iso(now)
    return dry_run(services.reader, services.config, data.rule, since=since, until=until)


# ---- what was delivered


@get("/messages", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listMessages")
def messages(
    services: NamedDependency[Services],
    message_state: Annotated[list[State] | None, QueryParameter(name="state", max_items=10)] = None,
    channel_id: Id = "",
    event_id: Id = "",
    before: Before = "",
    limit: Limit = 50,
) -> list[Queued]:
    """Messages and what became of them, the newest first; state=dead are those that were given up."""
    return list_messages(
        services.reader,
        states=tuple(message_state or ()),
        channel_id=channel_id or None,
        event_id=event_id or None,
        before=before or None,
        limit=limit,
    )


@get("/deliveries", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listDeliveries")
def deliveries(
    services: NamedDependency[Services],
    message_id: Id = "",
    channel_id: Id = "",
    event_id: Id = "",
    before: Before = "",
    limit: Limit = 50,
) -> list[Delivery]:
    """Each attempt to deliver, the newest first: the proof."""
    return list_deliveries(
        services.reader,
        outbox_id=message_id or None,
        channel_id=channel_id or None,
        event_id=event_id or None,
        before=before or None,
        limit=limit,
    )


@get("/queues", opt=READ, sync_to_thread=True, responses=documented(), operation_id="listQueues")
def queues(services: NamedDependency[Services]) -> list[ChannelStatistics]:
    """What waits and what was given up, by channel."""
    return outbox_statistics(services.reader)


@post("/replay", opt=WRITE, sync_to_thread=True, status_code=200, responses=documented(), operation_id="replayMessages")
def replay_messages(services: NamedDependency[Services], request: Call, data: JSONBody[ReplayIn]) -> Replayed:
    """Has messages that were given up tried again."""
    with services.writer.begin() as connection:
        count = replay(connection, data.ids, now=services.clock.now())
        services.audit(connection, request, "messages.replayed", "", {"count": count})
    return Replayed(replayed=count)


router = Router(
    "/notifications",
    tags=["notifications"],
    route_handlers=[
        channels,
        add_channel,
        channel,
        change_channel,
        remove_channel,
        test_channel,
        rules,
        add_rule,
        rule,
        change_rule,
        remove_rule,
        move,
        try_rule,
        messages,
        deliveries,
        queues,
        replay_messages,
    ],
)
