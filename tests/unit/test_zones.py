"""Zones and groups of cameras: when and where a zone holds, and how both are kept."""

from datetime import UTC, datetime

import msgspec
import pytest

from core.cameras import CameraConfig, CameraSettings, Transport, Weekly, Zone, ZoneKind
from core.cameras.zones import contains
from core.db.cameras import (
    add_camera,
    add_group,
    all_zones,
    get_camera,
    list_groups,
    list_zones,
    remove_camera,
    remove_group,
    replace_group,
    replace_zones,
    update_camera,
)
from core.errors import ConfigError, Conflict, NotFound
from core.ids import CameraId

GATE, YARD = CameraId("gate"), CameraId("yard")
SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
MONDAY_NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def zone(name: str = "door", kind: ZoneKind = ZoneKind.DETECT, **changes) -> Zone:
    return Zone(**{"name": name, "kind": kind, "points": SQUARE, **changes})


def test_a_zone_without_schedule_holds_always_and_one_with_it_at_its_times():
    assert zone().holds(MONDAY_NOON)
    office = zone(schedule=(Weekly(days=(1, 2, 3, 4, 5), begin="08:00", end="18:00"),))
    assert office.holds(MONDAY_NOON)
    assert not office.holds(MONDAY_NOON.replace(hour=18))
    assert not office.holds(MONDAY_NOON.replace(day=1)), "a Sunday"


def test_a_schedule_over_midnight_belongs_to_the_day_on_which_it_begins():
    friday_night = Weekly(days=(5,), begin="22:00", end="06:00")
    assert friday_night.holds(datetime(2026, 3, 6, 23, 0, tzinfo=UTC))
    assert friday_night.holds(datetime(2026, 3, 7, 5, 59, tzinfo=UTC))
    assert not friday_night.holds(datetime(2026, 3, 7, 6, 0, tzinfo=UTC))
    assert not friday_night.holds(datetime(2026, 3, 6, 5, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "a", "kind": "detect", "points": [[0, 0], [1, 1]]},
        {"name": "a", "kind": "detect", "points": [[0, 0], [1, 1], [1.5, 0]]},
        {"name": "a", "kind": "wall", "points": SQUARE},
        {"name": "a", "kind": "direction", "points": SQUARE},
        {"name": "a", "kind": "detect", "points": SQUARE, "direction": 90},
        {"name": "a", "kind": "privacy", "points": SQUARE, "schedule": [{}]},
        {"name": "a", "kind": "detect", "points": SQUARE, "schedule": [{"begin": "25:00"}]},
    ],
)
def test_a_zone_that_makes_no_sense_is_refused(raw):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, Zone)


def test_a_point_lies_inside_or_outside_a_polygon():
    assert contains(SQUARE, 0.5, 0.5)
    assert not contains(SQUARE, 0.8, 0.5)
    notched = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5), (0.0, 1.0))
    assert contains(notched, 0.5, 0.4)
    assert not contains(notched, 0.5, 0.9)


def test_cameras_keep_their_settings_zones_and_groups(database):
    settings = CameraSettings(transport=Transport.UDP, rotation=90, pre_s=2.0)
    camera = CameraConfig(camera_id=GATE, name="Gate", url="rtsp://10.0.0.5/a", sealed_url="sealed", settings=settings)
    add_camera(database, camera)
    add_camera(database, CameraConfig(camera_id=YARD, name="Yard", url="demo://plaza"))
    assert get_camera(database, GATE) == camera
    changed = msgspec.structs.replace(camera, settings=CameraSettings(record=False))
    update_camera(database, changed)
    assert get_camera(database, GATE) == changed

    weekly = (Weekly(days=(6, 7)),)
    zones = [zone("door", schedule=weekly), zone("lane", ZoneKind.DIRECTION, direction=90.0)]
    replace_zones(database, GATE, zones)
    assert list_zones(database, GATE) == zones
    assert all_zones(database) == {GATE: zones}
    replace_zones(database, GATE, zones[:1])
    assert list_zones(database, GATE) == zones[:1]
    with pytest.raises(ConfigError):
        replace_zones(database, GATE, [zone(), zone()])
    with pytest.raises(NotFound):
        replace_zones(database, CameraId("nowhere"), zones)
    assert list_zones(database, GATE) == zones[:1]

    group = add_group(database, "Outside", [YARD, GATE, GATE])
    assert list_groups(database) == [group]
    assert group.cameras == (GATE, YARD)
    with pytest.raises(Conflict):
        add_group(database, "Outside", [])
    with pytest.raises(Conflict):
        add_group(database, "Elsewhere", [CameraId("nowhere")])
    renamed = msgspec.structs.replace(group, name="Out", cameras=(GATE,))
    replace_group(database, renamed)
    assert list_groups(database) == [renamed]

    remove_camera(database, GATE)
    assert all_zones(database) == {}
    assert list_groups(database) == [msgspec.structs.replace(renamed, cameras=())]
    remove_group(database, group.id)
    assert list_groups(database) == []
    with pytest.raises(NotFound):
        remove_group(database, group.id)
