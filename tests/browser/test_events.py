"""Events: they arrive live, are reviewed by keyboard, and tell all that is known of them."""

from datetime import UTC, datetime, timedelta

import cv2
import msgspec
import numpy as np
import pytest
from playwright.sync_api import expect

from core.clock import utc_iso
from core.db.events import get_detail, upsert_events
from core.db.tables.base import Base
from core.events import EventState, Severity
from core.events.analysis import Analysis, ConfidenceKind, Verdict, VlmType
from core.events.evidence import Evidence, Scene, Track
from core.events.model import EventMedia, EventStep
from core.ids import EventId
from tests.api import OTHER, OWN, Site
from tests.browser.conftest import picture, until
from tests.events import make_event


def stored(site: Site, minutes_ago: float = 0.0, **changes):
    """An event as the logger commits it."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    times = {"began_at": utc_iso(at), "peak_at": utc_iso(at), "ended_at": utc_iso(at + timedelta(seconds=4))}
    event = make_event(**{"camera_id": OWN, **times, **changes})
    with site.engine.begin() as connection:
        upsert_events(connection, [event])
    return event


def rich(site: Site):
    """An event with pictures, evidence and an analysis."""
    names = {}
    folder = site.config.media_dir / OWN
    folder.mkdir(parents=True, exist_ok=True)
    scene = np.full((360, 640, 3), (90, 110, 80), np.uint8)
    cv2.circle(scene, (300, 190), 40, (40, 60, 220), -1)
    heat = np.zeros((12, 20), np.uint8)
    heat[5:8, 8:11] = 220
    track = Track(
        age_s=4, x=0.5, y=0.5, width=0.1, height=0.2, speed=2.4, heading=84, travelled=0.4, dwell_s=1.2, still_s=0.4
    )
    evidence = Evidence(duration_s=4, scene=Scene(usual_speed=0.6, usual_count=5, count_peak=7), tracks=(track,))
    files = {
        "clean.jpg": cv2.imencode(".jpg", scene)[1].tobytes(),
        "heatmap.png": cv2.imencode(".png", heat)[1].tobytes(),
        "evidence.json": msgspec.json.encode(evidence),
    }
    event = make_event(camera_id=OWN)
    for name, data in files.items():
        (folder / f"{event.id}.{name}").write_bytes(data)
        kind = name.partition(".")[0]
        names[kind] = EventMedia(kind=kind, file=f"{OWN}/{event.id}.{name}", sha256="ab" * 32, size_bytes=len(data))
    analysis = Analysis(
        verdict=Verdict.CONFIRMED,
        vlm_type=VlmType.RUNNING,
        title="Fast motion",
        description="Somebody runs to the right.",
        description_ko="누군가 오른쪽으로 뛰어갑니다.",
        confidence=0.6,
        confidence_kind=ConfidenceKind.HEURISTIC,
        source="rules/2",
    )
    step = EventStep(
        kind="decision",
        at=utc_iso(datetime.now(UTC)),
        text="sequential: confirmed running",
        data={"flow": "sequential"},
    )
    return stored(
        site,
        1,
        id=event.id,
        severity=Severity.HIGH,
        vlm_type="running",
        media=tuple(names.values()),
        analysis=analysis,
        steps=(step,),
        description=analysis.description,
    )


@pytest.fixture
def empty(site):
    """No events but those of the test."""
    with site.engine.begin() as connection:
        for name in ("acknowledgements", "feedback", "event_steps", "event_media", "event_analyses", "events"):
            connection.execute(Base.metadata.tables[name].delete())
    return site


def row(page, event):
    return page.locator(f"[data-event='{event.id}']")


def test_an_event_appears_while_the_list_is_open(open_page, empty):
    page = open_page("operator", "/events")
    expect(page.get_by_text("Nothing happened yet")).to_be_visible()
    expect(page.locator(".link-state")).to_have_text("Live")
    event = stored(empty, state=EventState.OPEN, ended_at=None, severity=Severity.HIGH)
    expect(row(page, event)).to_contain_text("Going on")
    expect(row(page, event)).to_contain_text("High")
    closed = msgspec.structs.replace(event, revision=2, state=EventState.CLOSED, ended_at=event.began_at)
    with empty.engine.begin() as connection:
        upsert_events(connection, [closed])
    expect(row(page, event)).not_to_contain_text("Going on")


def test_what_arrives_does_not_move_what_is_read(open_page, empty):
    for minutes in range(30):
        stored(empty, minutes + 1)
    page = open_page("operator", "/events")
    expect(page.locator(".link-state")).to_have_text("Live")
    read = page.locator(".event-row").nth(12)
    read.scroll_into_view_if_needed()
    before = read.bounding_box()
    new = stored(empty)
    button = page.get_by_role("button", name="1 new event")
    expect(button).to_be_visible()
    expect(row(page, new)).to_have_count(0)
    assert read.bounding_box() == before
    button.click()
    expect(row(page, new)).to_be_in_viewport()


def test_events_are_reviewed_by_keyboard(open_page, empty):
    events = [stored(empty, minutes) for minutes in (3, 2, 1)][::-1]
    page = open_page("operator", "/events")
    expect(page.locator(".event-row")).to_have_count(3)
    page.keyboard.press("j")
    expect(row(page, events[0]).locator("a")).to_have_attribute("aria-current", "true")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(row(page, events[0]).locator("a")).to_have_attribute("aria-current", "true")
    page.keyboard.press("a")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row(page, events[0]).get_by_label("Acknowledged")).to_be_visible()
    expect(row(page, events[1]).locator("a")).to_have_attribute("aria-current", "true")  # on to the next
    given = get_detail(empty.engine, EventId(events[0].id)).acknowledgements
    assert [(one.actor, one.reason) for one in given] == [("operator", "Delivery")]
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("a")
    expect(page.get_by_role("dialog").get_by_label("Delivery")).to_be_focused()  # the reason of before
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".event-row.done")).to_have_count(3)
    page.get_by_role("button", name="Undo").last.click()
    expect(page.locator(".event-row.done")).to_have_count(1)


def test_an_event_tells_all_that_is_known_of_it(open_page, accessible, empty):
    event = rich(empty)
    page = open_page("operator", f"/events/{event.id}")
    detail = page.locator(".detail")
    expect(detail).to_contain_text("3.1 × the usual speed here")
    expect(detail).to_contain_text("2.4 (× 4.0)")
    expect(detail).to_contain_text("Somebody runs to the right.")
    expect(detail).to_contain_text("sequential: confirmed running")
    heat = detail.locator("canvas.event-heat")
    page.wait_for_function("() => document.querySelector('canvas.event-heat').width > 100")
    page.get_by_label("Opacity of the heat map").fill("0.25")
    expect(heat).to_have_css("opacity", "0.25")
    accessible(page)
    page.keyboard.press("v")
    expect(detail).to_contain_text("Locked as evidence")
    page.get_by_role("button", name="This was normal").click()
    expect(detail).to_contain_text("operator: this was normal")
    picture(page, "event-test-en")


def test_korean_is_korean_throughout(open_page, accessible, empty):
    event = rich(empty)
    page = open_page("operator", f"/events/{event.id}", language="ko", dark=True)
    detail = page.locator(".detail")
    expect(detail).to_contain_text("누군가 오른쪽으로 뛰어갑니다.")
    expect(detail).to_contain_text("평소 이곳 속도의 3.1배")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    accessible(page)
    words = detail.inner_text()
    for english in ("Acknowledge", "What was unusual", "Verdict", "ordinary frames"):
        assert english not in words


def test_filters_are_in_the_address_and_hold_for_what_arrives(open_page, empty):
    low = stored(empty, 2, severity=Severity.LOW)
    high = stored(empty, 1, severity=Severity.HIGH)
    page = open_page("operator", "/events")
    expect(page.locator(".event-row")).to_have_count(2)
    page.get_by_role("button", name="High").click()
    expect(row(page, low)).to_have_count(0)
    expect(row(page, high)).to_be_visible()
    assert "severity=high" in page.url
    expect(page.locator(".link-state")).to_have_text("Live")
    page.mouse.move(0, 0)
    stored(empty, severity=Severity.LOW)
    another = stored(empty, severity=Severity.HIGH)
    expect(row(page, another)).to_be_visible()
    expect(page.locator(".event-row")).to_have_count(2)
    page.reload()
    expect(page.locator(".event-row")).to_have_count(2)
    page.get_by_label("Search reasons").fill("no such reason")
    expect(page.get_by_text("Nothing was found")).to_be_visible()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".event-row")).to_have_count(4)


def test_the_list_goes_on_while_one_scrolls(open_page, empty):
    for minutes in range(120):
        stored(empty, minutes + 1)
    page = open_page("operator", "/events")
    expect(page.locator(".event-row")).not_to_have_count(0)

    def all_there() -> bool:
        page.locator(".event-row").last.scroll_into_view_if_needed()
        return page.locator(".event-row").count() == 120

    until(page, all_there)
    expect(page.locator(".event-row")).to_have_count(120)
    expect(page.get_by_text("That is all.")).to_be_visible()


def test_a_viewer_reads_what_was_granted_and_changes_nothing(open_page, empty):
    mine, other = stored(empty, 1), stored(empty, 2, camera_id=OTHER)
    page = open_page("viewer", f"/events/{mine.id}")
    expect(page.locator(".detail")).to_be_visible()
    expect(page.locator(".event-row")).to_have_count(1)
    expect(page.get_by_role("button", name="Acknowledge", exact=True)).to_have_count(0)
    page.keyboard.press("a")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.expect_status(404)
    page.goto(f"/events/{other.id}")
    expect(page.get_by_text("not yours to see")).to_be_visible()


def test_what_the_filter_finds_is_exported(open_page, empty):
    stored(empty, 1)
    page = open_page("operator", "/events")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "haetae-events.csv"
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("id,sequence,camera_id")


@pytest.mark.parametrize("size", ["phone", "wall"])
def test_events_are_accessible_in_each_size(open_page, accessible, empty, size):
    rich(empty)
    page = open_page("operator", "/events", size=size)
    expect(page.locator(".event-row")).to_have_count(1)
    accessible(page)
    page.locator(".event-row a").click()
    expect(page.locator(".detail")).to_contain_text("Somebody runs")
    accessible(page)
    if size == "phone":
        page.get_by_role("button", name="Back to the list").click()
        expect(page.locator(".event-row")).to_be_visible()


def test_the_alarm_sounds_once_it_was_switched_on(open_page, empty):
    page = open_page("operator", "/events")
    page.evaluate(
        "() => { window.tones = 0; const start = OscillatorNode.prototype.start;"
        "OscillatorNode.prototype.start = function (...at) { window.tones += 1; return start.apply(this, at); }; }"
    )
    expect(page.locator(".link-state")).to_have_text("Live")
    stored(empty, severity=Severity.CRITICAL)
    expect(page.locator(".event-row")).to_have_count(1)
    assert page.evaluate("window.tones") == 0
    page.get_by_role("button", name="Alarm sound off").click()
    until(page, lambda: page.evaluate("window.tones") == 1)
    page.mouse.move(0, 0)
    stored(empty, severity=Severity.CRITICAL)
    until(page, lambda: page.evaluate("window.tones") == 5)
