"""Channels, rules and the outbox in the database, on both."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from core.cameras import CameraConfig
from core.db.cameras import add_camera
from core.db.notifications import (
    create_channel,
    create_rule,
    delete_channel,
    delete_rule,
    get_channel,
    list_channels,
    list_rules,
    move_rule,
    notifications_version,
    open_secrets,
    update_channel,
    update_rule,
)
from core.db.outbox import (
    Delivery,
    Outcome,
    claim,
    due_channels,
    list_deliveries,
    list_messages,
    outbox_statistics,
    queue,
    queue_test,
    record,
    release,
    replay,
    take_position,
)
from core.db.tables import ChannelRow
from core.errors import ConfigError, Conflict, NotFound
from core.ids import CameraId, NodeId, uuid7
from core.notifications.channels import EmailSettings, WebhookSecrets, WebhookSettings
from core.notifications.model import Actions, EventConditions, Notice, Occasion, RuleDraft, State
from core.security.secrets import SecretBox

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOOK = WebhookSettings(url="https://example.com/hook")
NODE = NodeId("local")


@pytest.fixture
def box(tmp_path: Path) -> SecretBox:
    return SecretBox(tmp_path / "secrets")


def make_channel(database: Engine, box: SecretBox, name: str = "hook"):
    with database.begin() as connection:
        return create_channel(connection, box, name=name, settings=HOOK)


def put(database: Engine, channel_id: str, key: str, *, priority: int = 2, now: datetime = NOW, **more) -> str | None:
    with database.begin() as connection:
        notice = Notice(occasion=Occasion.EVENT)
        return queue(
            connection, dedup_key=key, channel_id=channel_id, notice=notice, priority=priority, now=now, **more
        )


def take(database: Engine, channel_id: str, limit: int, now: datetime = NOW, **more) -> list[str]:
    with database.begin() as connection:
        taken = claim(connection, channel_id, limit, node_id=NODE, now=now, lease_s=60, **more)
    return [one.dedup_key for one in taken]


def test_secrets_are_sealed_kept_changed_and_taken_away(database, box):
    secrets = WebhookSecrets(signing_key="first-key", authorization="Bearer abc")
    with database.begin() as connection:
        made = create_channel(connection, box, name="hook", settings=HOOK, secrets=secrets)
    assert made.secrets_set == ("authorization", "signing_key")
    with database.connect() as connection:
        assert "first-key" not in connection.execute(select(ChannelRow.sealed)).scalar_one()
        assert open_secrets(connection, box, made.id) == secrets
    with database.begin() as connection:
        changed = update_channel(connection, box, made.id, name="renamed")
        assert changed.name == "renamed"
        assert open_secrets(connection, box, made.id) == secrets
        update_channel(connection, box, made.id, secrets=WebhookSecrets(authorization=""))
        assert open_secrets(connection, box, made.id) == WebhookSecrets(signing_key="first-key")
    assert list_channels(database)[0].secrets_set == ("signing_key",)


def test_channels_that_cannot_be_are_refused(database, box):
    made = make_channel(database, box)
    mail = EmailSettings(host="mail", sender="a@b.example", recipients=("c@d.example",))
    with database.begin() as connection:
        with pytest.raises(Conflict):
            create_channel(connection, box, name="hook", settings=HOOK)
        with pytest.raises(ConfigError):
            create_channel(connection, box, name="mail", settings=mail, secrets=WebhookSecrets(signing_key="x"))
        with pytest.raises(ConfigError):
            update_channel(connection, box, made.id, settings=mail)
        for unknown in (str(uuid7()), "no id at all"):
            with pytest.raises(NotFound):
                get_channel(connection, unknown)


def test_rules_are_ordered_changed_and_hold_their_channels(database, box):
    channel = make_channel(database, box)
    add_camera(database, CameraConfig(camera_id=CameraId("gate"), name="Gate", url="demo://plaza"))
    actions = Actions(channels=(channel.id,))
    with database.begin() as connection:
        before = notifications_version(connection)
        made = [create_rule(connection, RuleDraft(name=name, actions=actions)) for name in ("a", "b", "c")]
        assert [rule.position for rule in made] == [0, 1, 2]
        assert [rule.name for rule in move_rule(connection, made[2].id, 0)] == ["c", "a", "b"]
        wanted = RuleDraft(name="a2", conditions=EventConditions(cameras=(CameraId("gate"),)), actions=actions)
        assert update_rule(connection, made[0].id, wanted).conditions == wanted.conditions
        with pytest.raises(Conflict):
            update_rule(connection, made[0].id, RuleDraft(name="b", actions=actions))
        with pytest.raises(NotFound):
            unknown = EventConditions(cameras=(CameraId("nowhere"),))
            create_rule(connection, RuleDraft(name="d", conditions=unknown, actions=actions))
        with pytest.raises(Conflict, match="used by the rules"):
            delete_channel(connection, channel.id)
        assert notifications_version(connection) > before
    assert [rule.name for rule in list_rules(database)] == ["c", "a2", "b"]
    with database.begin() as connection:
        for rule in made:
            delete_rule(connection, rule.id)
        delete_channel(connection, channel.id)
    assert list_channels(database) == []


def test_the_same_is_queued_once(database, box):
    channel = make_channel(database, box)
    assert put(database, channel.id, "k")
    assert put(database, channel.id, "k") is None
    assert len(list_messages(database)) == 1


def test_the_most_urgent_goes_first_but_nothing_starves(database, box):
    channel = make_channel(database, box)
    for number in range(6):
        put(database, channel.id, f"low{number}", priority=3, now=NOW + timedelta(seconds=number))
    put(database, channel.id, "critical", priority=0, now=NOW + timedelta(seconds=9))
    later = NOW + timedelta(seconds=10)
    assert take(database, channel.id, 2, later) == ["critical", "low0"]
    put(database, channel.id, "critical2", priority=0, now=later)
    old = NOW + timedelta(seconds=1, milliseconds=1)
    assert take(database, channel.id, 2, later, starved_before=old) == ["low1", "critical2"]
    assert take(database, channel.id, 2, later, starved_before=old) == ["low2", "low3"]


def test_a_claimed_message_is_nobody_elses_until_it_is_released_or_over(database, box):
    channel = make_channel(database, box)
    put(database, channel.id, "k")
    assert take(database, channel.id, 5) == ["k"]
    assert take(database, channel.id, 5) == []
    with database.connect() as connection:
        assert due_channels(connection, NOW) == []
    assert take(database, channel.id, 5, NOW + timedelta(seconds=61)) == ["k"]
    with database.begin() as connection:
        assert release(connection, NodeId("other")) == 0
        assert release(connection, NODE) == 1
    assert take(database, channel.id, 5) == ["k"]


def test_what_waits_for_a_time_that_a_clock_set_back_made_far_is_due(database, box):
    channel = make_channel(database, box)
    put(database, channel.id, "k", due_at=NOW + timedelta(minutes=30))
    assert take(database, channel.id, 5, NOW + timedelta(minutes=29)) == []
    assert take(database, channel.id, 5, NOW - timedelta(hours=1)) == ["k"]


def test_dead_messages_are_logged_and_replayed_under_their_id(database, box):
    channel = make_channel(database, box)
    message_id = put(database, channel.id, "k")
    assert message_id
    take(database, channel.id, 1)
    attempt = Delivery(
        id=str(uuid7()),
        outbox_id=message_id,
        channel_id=channel.id,
        event_id=None,
        node_id=NODE,
        at="2026-03-01T00:00:01.000000Z",
        ok=False,
        detail="404",
        took_ms=3,
    )
    with database.begin() as connection:
        record(connection, [Outcome(outbox_id=message_id, state=State.DEAD, delivery=attempt)], NOW)
    [dead] = list_messages(database, states=(State.DEAD,))
    assert (dead.id, dead.attempts) == (message_id, 1)
    assert list_deliveries(database, channel_id=channel.id) == [attempt]
    [statistics] = outbox_statistics(database)
    assert (statistics.waiting, statistics.dead) == (0, 1)
    with database.begin() as connection:
        assert replay(connection, [str(uuid7())], now=NOW) == 0
        assert replay(connection, None, now=NOW) == 1
    assert take(database, channel.id, 1) == ["k"]


def test_a_test_message_goes_before_all_others(database, box):
    channel = make_channel(database, box)
    put(database, channel.id, "k")
    with database.begin() as connection:
        queue_test(connection, channel.id, now=NOW - timedelta(seconds=1))
    assert take(database, channel.id, 1)[0].startswith("test|")


def test_the_position_moves_on_and_never_back(database):
    with database.begin() as connection:
        assert take_position(connection) == -1
        assert take_position(connection, 7) == -1
        assert take_position(connection, 5) == 7
    with database.begin() as connection:
        assert take_position(connection) == 7
