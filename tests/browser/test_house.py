"""All of Haetae as a newcomer runs it, in a browser: from the set-up token to live pictures of what is being learned.

With KEEP_SCREENSHOTS=1 it stays until there are events, and takes the pictures of docs/images/ui.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from core.config import load_config
from tests.browser.conftest import picture, until
from tests.servers import until as until_true

START_S = 180
SHOWN_EVENTS = 3
PASSWORD = "four green boats"


class House:
    """`haetae up --demo` with folders of its own."""

    def __init__(self, data: Path, run: str) -> None:
        self.config = load_config(None, environ={}, paths={"data": str(data), "run": run})
        self.config.make_dirs()
        self.log = data / "up.log"
        environment = {
            **os.environ,
            "HAETAE_PATHS__DATA": str(data),
            "HAETAE_PATHS__RUN": run,
            "HAETAE_API__PORT": "0",
        }
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "up", "--demo"], env=environment, stdout=file, stderr=file
            )
        address = self.config.run_dir / "api.url"
        until_true(lambda: self.process.poll() is not None or "running; data in" in self.log.read_text(), "up", START_S)
        assert self.process.poll() is None, self.log.read_text()
        self.url = address.read_text().strip()

    def token(self) -> str:
        found = re.search(r"setup_[\w-]+", self.log.read_text())
        assert found, self.log.read_text()
        return found[0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0, self.log.read_text()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        made = House(tmp_path_factory.mktemp("house"), run)
        yield made
        made.stop()


def enter(page: Page, house: House) -> None:
    """Makes the first account, or logs in to it."""
    page.locator("input[name=name]").wait_for()
    if page.locator("input[name=token]").count():
        page.locator("input[name=token]").fill(house.token())
        page.locator("input[name=again]").fill(PASSWORD)
    page.locator("input[name=name]").fill("kim")
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("button[type=submit]").click()
    page.locator(".shell").wait_for()


@pytest.mark.timeout(900)
def test_a_newcomer_sees_live_pictures_and_learning_without_reading_anything(house, open_page):
    page = open_page(base=house.url)
    enter(page, house)
    tiles = page.locator(".tile[data-live=true]")
    expect(tiles).to_have_count(2)
    expect(page.locator(".link-state")).to_have_text("Live")
    expect(tiles.first).to_contain_text(re.compile(r"Learning \d+%|Watching"))
    if os.environ.get("KEEP_SCREENSHOTS"):
        take_pictures(page, house, open_page)


def take_pictures(page: Page, house: House, open_page) -> None:
    page.wait_for_timeout(2500)
    picture(page, "wall-learning-en")
    until(page, lambda: page.locator(".feed li").count() >= SHOWN_EVENTS, 500)
    with contextlib.suppress(AssertionError):  # an event lasts some seconds; without one it is a picture too
        expect(page.locator(".tile.alarm")).not_to_have_count(0, timeout=60_000)
    page.wait_for_timeout(700)
    picture(page, "wall-en")
    picture_of(page, "/events", "events-en")
    page.locator(".event-row a").nth(1).click()
    page.wait_for_timeout(2500)
    picture(page, "event-en")
    picture_of(page, "/account", "account-en")
    page.close()
    for size, name in (("desktop", "ko"), ("phone", "phone-ko")):
        korean = open_page(base=house.url, language="ko", dark=True, size=size)
        enter(korean, house)
        korean.wait_for_timeout(8000 if size == "desktop" else 3000)
        picture(korean, f"wall-{name}")
        picture_of(korean, "/events", f"events-{name}")
        korean.locator(".event-row a").nth(1).click()
        korean.wait_for_timeout(2500)
        picture(korean, f"event-{name}")
        if size == "desktop":
            picture_of(korean, "/account", "account-ko")
        korean.close()


def picture_of(page: Page, path: str, name: str) -> None:
    page.goto(path)
    page.locator(".page").wait_for()
    page.wait_for_timeout(2500)
    picture(page, name)
