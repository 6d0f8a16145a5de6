"""The wall: live pictures, what is true of them, and what happens when the server goes away."""

import pytest
from playwright.sync_api import expect

from core.db.cameras import set_enabled
from tests.api import OTHER, OWN, run_api
from tests.browser.conftest import until
from tests.servers import lasting_port
from tests.stream import FakeCamera


@pytest.fixture(scope="module")
def gate(site):
    with FakeCamera(site.config, OWN, fps=8, size=(640, 360)) as camera:
        yield camera


def tile(page, camera_id):
    return page.locator(f"[data-camera={camera_id}]")


def test_a_tile_shows_the_live_picture_with_its_score(open_page, gate):
    page = open_page("operator")
    shown = tile(page, OWN)
    expect(shown).to_have_attribute("data-live", "true")
    expect(shown.locator(".tile-score")).to_have_text("1.5")
    first = shown.locator("canvas.picture").evaluate("canvas => canvas.toDataURL()")
    page.wait_for_function(
        "before => document.querySelector('[data-camera=gate] canvas.picture').toDataURL() !== before", arg=first
    )
    assert shown.locator("canvas.picture").evaluate("canvas => [canvas.width, canvas.height]") == [640, 360]
    expect(shown.locator(".tile-chip.event")).to_contain_text("Event")
    expect(tile(page, OTHER).locator(".tile-message")).to_contain_text("switched off")


def test_learning_and_faults_are_told(open_page, gate):
    page = open_page("operator")
    gate.view = {"stage": "learning", "learned_s": 43.0, "wanted_s": 100.0, "score": None, "event_id": ""}
    try:
        expect(tile(page, OWN)).to_contain_text("Learning 43%")
        expect(tile(page, OWN).locator("progress")).to_have_attribute("value", "0.43")
        expect(tile(page, OWN).locator(".tile-score")).to_have_text("–")
    finally:
        gate.view = {"stage": "armed", "score": 1.5, "open_score": 4.0, "event_id": "e"}


def test_a_heat_map_is_asked_for_only_while_it_is_wanted(open_page, gate):
    page = open_page("operator")
    asked = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda message: asked.append(str(message))))
    page.reload()
    expect(tile(page, OWN)).to_have_attribute("data-live", "true")
    for wanted in ("true", "false"):
        page.keyboard.press("h")
        expect(page.get_by_role("button", name="Heat map")).to_have_attribute("aria-pressed", wanted)
        until(page, lambda wanted=wanted: [one for one in asked if "watch" in one][-1].count(f'"heat":{wanted}'))


def test_the_wall_is_used_by_keyboard(open_page, gate):
    page = open_page("operator")
    expect(tile(page, OWN)).to_have_attribute("data-live", "true")
    page.keyboard.press("ArrowRight")
    expect(tile(page, OWN).locator(".open")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tile(page, OTHER).locator(".open")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(OWN)
    expect(tile(page, OWN)).to_have_attribute("data-live", "true")
    assert page.url.endswith(f"?camera={OWN}")
    page.keyboard.press("Escape")
    expect(page.locator(".tile")).to_have_count(2)
    page.keyboard.press("1")
    expect(page.locator(".tile")).to_have_count(1)
    page.keyboard.press("PageDown")
    expect(tile(page, OTHER)).to_be_visible()
    page.keyboard.press("0")
    expect(page.locator(".tile")).to_have_count(2)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Full screen")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_viewer_sees_the_cameras_that_were_granted_and_no_other(open_page, gate):
    page = open_page("viewer")
    expect(tile(page, OWN)).to_have_attribute("data-live", "true")
    expect(page.locator(".tile")).to_have_count(1)
    page.goto(f"/?camera={OTHER}")
    expect(tile(page, OWN)).to_be_visible()
    expect(page.get_by_text(str(OTHER))).to_have_count(0)


@pytest.mark.parametrize(
    ("language", "dark", "size"), [("en", False, "desktop"), ("ko", True, "phone"), ("en", True, "wall")]
)
def test_the_wall_is_accessible_in_each_language_theme_and_size(open_page, accessible, gate, language, dark, size):
    page = open_page("operator", language=language, dark=dark, size=size)
    expect(tile(page, OWN)).to_have_attribute("data-live", "true")
    accessible(page)


def test_a_picture_that_stays_away_is_called_old(open_page, site):
    page = open_page("operator")
    with FakeCamera(site.config, OTHER, fps=8):
        set_enabled(site.engine, OTHER, enabled=True)
        page.reload()
        expect(tile(page, OTHER)).to_have_attribute("data-live", "true")
    expect(tile(page, OTHER).locator(".tile-message")).to_contain_text("old")
    expect(tile(page, OTHER)).to_have_attribute("data-live", "false")
    with FakeCamera(site.config, OTHER, fps=8):
        expect(tile(page, OTHER)).to_have_attribute("data-live", "true")


def test_a_restart_of_the_server_is_told_and_outlived(browser, site, gate, open_page):
    port = str(lasting_port())
    with run_api(site.config, HAETAE_API__PORT=port) as client:
        base = str(client.base_url).rstrip("/")
        page = open_page("operator", base=base)
        expect(tile(page, OWN)).to_have_attribute("data-live", "true")
        page.expect_loss()
    expect(page.get_by_role("alert")).to_contain_text("The live connection is lost")
    expect(tile(page, OWN)).to_have_attribute("data-live", "false")
    with run_api(site.config, HAETAE_API__PORT=port):
        expect(tile(page, OWN)).to_have_attribute("data-live", "true")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator(".link-state")).to_have_text("Live")
