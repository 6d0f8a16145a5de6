"""Cameras, statistics, rules and channels, system, users, keys and audit, as people use them."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zmq
from playwright.sync_api import Page, expect

from core.cameras import Light, normality_id
from core.cameras.history import NormalityVersion
from core.clock import utc_iso
from core.db.accounts import Grants, grants_of
from core.db.cameras import list_zones
from core.db.events import upsert_events
from core.db.history import upsert_versions
from core.db.rollup import roll_up_changes
from core.ids import NodeId
from core.security.permissions import Role
from core.wire.messages import GetState, InferenceReply
from core.wire.rpc import RequestClient
from tests.api import OTHER, OWN, Site, run_api
from tests.browser.conftest import log_in, picture
from tests.events import make_event
from tests.unit.test_states import learn
from workers.inference.states import Normality
from workers.inference.vad.motion_stats import MotionStats
from workers.process import spawn

PAGES = {
    "cameras": "/cameras",
    "camera": f"/cameras/{OWN}",
    "camera-zones": f"/cameras/{OWN}/zones",
    "camera-sensitivity": f"/cameras/{OWN}/sensitivity",
    "camera-learned": f"/cameras/{OWN}/learned",
    "camera-settings": f"/cameras/{OWN}/settings",
    "camera-history": f"/cameras/{OWN}/history",
    "camera-add": "/cameras?add=1",
    "statistics": "/statistics",
    "rules": "/rules",
    "channels": "/rules/channels",
    "deliveries": "/rules/log",
    "system": "/system",
    "system-frames": "/system/frames",
    "system-models": "/system/models",
    "system-logs": "/system/logs",
    "configuration": "/system/configuration",
    "users": "/users",
    "invitations": "/users/invitations",
    "keys": "/users/keys",
    "audit": "/users/audit",
}


GO = "(to) => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')); }"
"""To another page without loading it anew."""


def ready(page: Page) -> None:
    """What the page reads has come."""
    page.locator("main h1").first.wait_for()
    expect(page.locator("main .state[role=status]")).to_have_count(0)


@pytest.mark.parametrize(("language", "dark", "size"), [("en", False, "desktop"), ("ko", True, "phone")])
def test_every_page_is_accessible_and_fits(open_page, accessible, language, dark, size):
    page = open_page("admin", "/account", language=language, dark=dark, size=size)
    for name, path in PAGES.items():
        page.evaluate(
            "(to) => { history.pushState(null, '', to); dispatchEvent(new PopStateEvent('popstate')); }", path
        )
        expect(page.locator("main h1")).not_to_have_text("Your account" if language == "en" else "내 계정")
        ready(page)
        accessible(page)
        picture(page, f"{name}-{language}")


def test_a_viewer_sees_what_was_granted_and_changes_nothing(open_page):
    page = open_page("viewer", "/cameras")
    expect(page.locator(".camera-rows > li")).to_have_count(1)
    expect(page.locator(".camera-rows .name")).to_have_text(str(OWN))
    expect(page.get_by_role("link", name="Add a camera")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop:")).to_have_count(0)
    assert page.get_by_role("navigation").get_by_role("link").count() == 4
    page.goto(f"/cameras/{OWN}/settings")
    expect(page.get_by_label("Name")).to_be_disabled()
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    page.expect_status(404)
    page.goto(f"/cameras/{OTHER}")
    expect(page.get_by_text("It is not there, or not yours to see.")).to_be_visible()
    page.goto("/statistics")
    ready(page)
    expect(page.get_by_role("cell", name=str(OTHER))).to_have_count(0)
    page.goto("/users")
    expect(page.get_by_text("Your role does not open this page")).to_be_visible()


def test_zones_are_drawn_with_the_mouse_and_with_the_keyboard(open_page, site):
    page = open_page("admin", f"/cameras/{OWN}/zones")
    page.get_by_role("button", name="Draw a zone").click()
    box = page.locator(".zone-canvas > svg").bounding_box()
    assert box
    corners = [(0.2, 0.2), (0.6, 0.2), (0.6, 0.7), (0.2, 0.2)]
    for x, y in corners:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.get_by_label("Name").fill("Gate area")
    point = page.get_by_role("button", name="Point 3 of 3")
    point.focus()
    for key in ("ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)

    page.locator("select.kind").select_option("privacy")
    page.get_by_role("button", name="Draw a zone").click()
    expect(page.locator(".zone-canvas > svg")).to_be_focused()
    for key in ("Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Close the zone").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()

    drawn, masked = list_zones(site.engine, OWN)
    assert (drawn.name, drawn.kind, masked.kind) == ("Gate area", "detect", "privacy")
    assert drawn.points[0] == pytest.approx((0.2, 0.2), abs=0.01)
    assert drawn.points[2] == pytest.approx((0.6, 0.76), abs=0.01)
    assert [round(y, 2) for _, y in masked.points][2] == round(masked.points[0][1] + 0.05, 2)
    page.reload()
    expect(page.locator(".zone-item")).to_have_count(2)


def test_another_sensitivity_is_tried_and_stored(open_page):
    page = open_page("admin", f"/cameras/{OWN}/sensitivity")
    slider = page.get_by_role("slider")
    expect(page.locator("output")).to_have_text("24 a day")
    slider.focus()
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("output")).to_have_text("2 a day")
    page.get_by_role("button", name="Use it").click()
    expect(page.get_by_text("carried out when the manager answers")).to_be_visible()
    page.reload()
    expect(page.locator("output")).to_have_text("2 a day")
    page.goto(f"/cameras/{OWN}/settings")
    expect(page.get_by_label("Name")).to_have_value(str(OWN))


def test_a_rule_tells_a_channel_and_its_dry_run_says_how_often(open_page, accessible):
    page = open_page("admin", "/rules/channels")
    page.get_by_role("button", name="New channel").click()
    page.get_by_label("Kind").select_option("webhook")
    page.get_by_label("Name", exact=True).fill("Control room")
    page.get_by_label("URL").fill("https://127.0.0.1:9/hook")
    page.get_by_label("Signing key").fill("very secret")
    accessible(page)
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".rule strong")).to_have_text("Control room")
    assert "very secret" not in page.content()

    page.get_by_role("tab", name="Rules").click()
    page.get_by_role("button", name="New rule").click()
    page.get_by_label("Name", exact=True).fill("All at night")
    page.get_by_label("Severity at least").select_option("info")
    page.get_by_role("button", name="Add a time: Quiet hours").click()
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("dl.facts strong")).not_to_be_empty()
    accessible(page)
    picture(page, "rule-editor-en")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".rule")).to_contain_text(
        re.compile(r"Events of all cameras · quiet Every day 08:00.18:00 · tell Control room")
    )
    page.get_by_role("switch", name="All at night is in force").click()
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    page.get_by_role("button", name="Remove All at night").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Nobody is told anything yet")).to_be_visible()


def test_an_account_with_its_grants_and_a_key_whose_secret_is_shown_once(open_page, site):
    page = open_page("admin", "/users")
    page.get_by_role("button", name="New user").click()
    page.get_by_label("Name", exact=True).fill("lee")
    page.get_by_role("button", name="Suggest one").click()
    page.locator(".chip", has_text=str(OWN)).click()
    page.get_by_role("button", name="Save").click()
    row = page.get_by_role("row", name="lee")
    expect(row).to_contain_text("1 camera")
    with site.engine.connect() as connection:
        lee = connection.exec_driver_sql("SELECT id FROM users WHERE name = 'lee'").scalar_one()
        assert grants_of(connection, lee) == Grants(cameras=(OWN,))

    page.get_by_role("tab", name="Your API keys").click()
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What for").fill("wall display")
    page.get_by_role("dialog").get_by_role("button", name="New key").click()
    secret = page.get_by_role("textbox", name="The secret").input_value()
    assert secret.startswith("haetae_key_")
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    expect(page.get_by_role("row", name="wall display")).to_be_visible()
    assert secret not in page.content()

    page.get_by_role("tab", name="Audit log").click()
    page.get_by_label("What", exact=True).select_option("key.created")
    expect(page.get_by_role("cell", name="wall display")).to_be_visible()
    expect(page.get_by_role("cell", name="Account added")).to_have_count(0)


def test_statistics_change_on_the_screen_when_an_event_is_counted(open_page, site):
    page = open_page("admin", "/statistics?range=d7")
    ready(page)
    figure = page.locator(".tile-figure .figure").first
    before = int(figure.inner_text())
    with site.engine.begin() as connection:
        upsert_events(connection, [make_event(began_at=utc_iso(datetime.now(UTC)), camera_id=OWN)])
    roll_up_changes(site.engine)
    expect(figure).to_have_text(str(before + 1))
    page.get_by_role("button", name="Type", exact=True).click()
    with page.expect_download() as download:
        page.get_by_text("Export", exact=True).click()
        page.get_by_role("button", name="Figures as CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert text.splitlines()[-1].startswith(f"total,{before + 1},")


@pytest.fixture
def house(config, clips) -> Iterator[str]:
    """All of Haetae over a folder of its own, with an administrator; the address of its api process."""
    roots = {"HAETAE_CAMERAS__ROOTS": str(clips), "HAETAE_MANAGER__HUNG_S": "30"}
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    processes = []
    with ExitStack() as stack:
        for role in ("logger", "inference", "manager"):
            log = stack.enter_context((config.logs_dir / f"{role}.log").open("ab"))
            processes.append((role, spawn(role, config=config, stderr=log, environment=roots)))
        try:
            yield str(stack.enter_context(run_api(config, **roots)).base_url).rstrip("/")
        finally:
            for _, process in reversed(processes):
                process.terminate()
                process.wait(60)
    site.close()


def test_a_real_file_becomes_a_camera_that_learns_and_then_watches(open_page, house, clips, accessible):
    page = open_page(base=house, path="/cameras")
    log_in(page, "kim")
    page.get_by_role("link", name="Add a camera").click()
    page.get_by_role("button", name="File or folder").click()
    page.get_by_label("Path").fill("/etc/passwd")
    page.expect_status(422)
    page.get_by_role("button", name="Look at it").click()
    expect(page.locator(".notice.bad")).to_be_visible()
    page.get_by_label("Path").fill(str(clips / "car-detection.mp4"))
    page.get_by_role("button", name="Look at it").click()
    expect(page.get_by_text("It works")).to_be_visible(timeout=90_000)
    expect(page.get_by_role("img", name="Picture from the camera")).to_be_visible()
    accessible(page)
    picture(page, "camera-probe-en")
    page.get_by_label("Name").fill("주차장 Car park")
    expect(page.get_by_label("Id")).to_have_value("car-park")
    page.get_by_label("Learns for").select_option("m2")
    page.get_by_role("button", name="Add and start").click()
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=90_000)
    picture(page, "camera-learning-en")
    far = page.get_by_role("progressbar").get_attribute("aria-valuenow")
    expect(page.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", str(far))
    page.get_by_role("tab", name="Settings").click()
    page.get_by_label("Learns for (minutes)").fill("0.2")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("tab", name="Overview").click()
    expect(page.locator(".badge", has_text="Watching")).to_be_visible(timeout=120_000)
    expect(page.locator(".picture.live")).to_have_attribute("data-live", "true")
    page.get_by_role("tab", name="What it learned").click()
    expect(page.locator(".badge", has_text="in use")).to_be_visible()
    page.get_by_role("tab", name="History").click()
    expect(page.get_by_role("cell", name="Learning").first).to_be_visible()
    page.get_by_role("button", name="Stop:").click()
    expect(page.locator(".badge", has_text="Stopped").first).to_be_visible(timeout=20_000)
    page.close()


@pytest.fixture
def learned_twice(site: Site) -> Iterator[None]:
    """An inference process, and two versions of what OWN learned by day and by infra-red."""
    config, model = site.config, MotionStats()
    for light in Light:
        normality = Normality(model, config.states_dir / model.name / normality_id(OWN, light), config.vad.armed_s)
        for version in (1, 2):
            file = learn(normality, model)
            sha256, made_at = normality.hashed(file)
            made = NormalityVersion(
                camera_id=OWN,
                vad_type=model.name,
                version=version,
                node_id=NodeId("local"),
                created_at=made_at,
                learned_s=8.0,
                frames=80,
                reason="learned" if version == 1 else "drift",
                file=str(file.relative_to(config.states_dir)),
                sha256=sha256,
                light=light,
            )
            with site.engine.begin() as connection:
                upsert_versions(connection, [made])
    with (config.logs_dir / "inference.log").open("ab") as log:
        process = spawn("inference", config=config, stderr=log)
    try:
        with zmq.Context() as context:
            client = RequestClient(context, config.endpoint("inference"), InferenceReply)
            for light in Light:  # it has both loaded before the page asks
                asked = GetState(vad_type=model.name, normality_id=normality_id(OWN, light))
                assert client.call(asked, 40.0).state_version == 2
            client.close()
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_the_nights_go_back_to_an_earlier_version_and_the_days_do_not(open_page, accessible, learned_twice):
    page = open_page("operator", f"/cameras/{OWN}/learned")
    day, night = (page.get_by_role("region", name=name) for name in ("By day", "By infra-red"))
    for table in (day, night):
        expect(table.get_by_role("row", name="2 in use")).to_be_visible(timeout=40_000)
    accessible(page)
    picture(page, "camera-versions-en")
    night.get_by_role("button", name="Use this one: version 1 (By infra-red)").click()
    page.get_by_role("dialog").get_by_role("button", name="Use this one").click()
    expect(night.get_by_role("row", name="1 in use")).to_be_visible()
    expect(night.get_by_role("button", name="Use this one: version 2 (By infra-red)")).to_be_visible()
    expect(day.get_by_role("row", name="2 in use")).to_be_visible()
    korean = open_page("viewer", f"/cameras/{OWN}/learned", language="ko", dark=True, size="phone")
    expect(korean.get_by_role("heading", name="적외선(야간)")).to_be_visible()
    expect(korean.get_by_role("button", name="이 버전 사용")).to_have_count(0)
    accessible(korean)
    picture(korean, "camera-versions-ko")
