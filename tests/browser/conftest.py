"""The web UI in a real browser: Debian's Chromium, driven by Playwright, against a real api process.

    def test_something(open_page):
        page = open_page("operator")        # logged in, at the wall
        page.goto("/events")

Whatever a page did is judged when its test is over: no error on the console, nothing against the content security
policy, no request to another host. `page.expect_status(401)` allows answers that the test provokes.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from core.clock import later_utc
from core.config import load_config
from core.db.cameras import set_enabled
from core.db.sessions import create_session
from core.security.permissions import Role
from core.security.tokens import hash_token, new_token
from tests.api import OTHER, OWN, PASSWORD, Site, run_api

REPOSITORY = Path(__file__).resolve().parents[2]
AXE = REPOSITORY / "api" / "ui" / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = REPOSITORY / "docs" / "images" / "ui"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
TIMEOUT_MS = 60_000
SIZES = {"desktop": (1440, 900), "phone": (390, 844), "wall": (2560, 1440)}
WATCH_POLICY = """
window.haetaeViolations = [];
document.addEventListener("securitypolicyviolation", (event) =>
    window.haetaeViolations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


expect.set_options(timeout=TIMEOUT_MS)


def missing(reason: str) -> None:
    """Skips, or fails where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module: Playwright's loop must not run while the tests of another one use asyncio."""
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two cameras, OWN switched on, an event of each; admin and operator see both, viewer sees OWN."""
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        config = load_config(None, environ={}, paths={"data": str(tmp_path_factory.mktemp("ui")), "run": run})
        config.make_dirs()
        made = Site(config)
        made.ensure_cameras()
        set_enabled(made.engine, OWN, enabled=True)
        made.add_user("admin", Role.ADMIN, all_cameras=True)
        made.add_user("operator", Role.OPERATOR, OWN, OTHER)
        made.add_user("viewer", Role.VIEWER, OWN)
        yield made
        made.close()


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[str]:
    """The address of an api process over `site`."""
    with run_api(site.config) as client:
        yield str(client.base_url).rstrip("/")


class Watched:
    """A page, and all that it did which no page should do."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.wrong: list[str] = []
        self._expected: set[int] = set()
        self._offline = False
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on("response", self._response)
        page.add_init_script(WATCH_POLICY)

    def expect_status(self, *statuses: int) -> None:
        """Answers of these kinds are what the test is about."""
        self._expected.update(statuses)

    def expect_loss(self) -> None:
        """The server goes away: failing requests are what the test is about."""
        self._offline = True

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        status = re.search(r"status of (\d+)", message.text)
        if status and int(status[1]) in self._expected:
            return
        if self._offline and ("ERR_" in message.text or "WebSocket" in message.text or status):
            return
        self.wrong.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.base, "blob:", "data:", self.base.replace("http", "ws", 1))):
            self.wrong.append(f"another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected and not self._offline:
            self.wrong.append(f"{response.status}: {response.url}")

    def check(self) -> None:
        if not self.page.is_closed() and self.page.url.startswith(self.base):
            self.wrong += self.page.evaluate("window.haetaeViolations ?? []")
        assert not self.wrong, "\n".join(self.wrong)


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Opens pages: `open_page("operator", "/events", language="ko", dark=True, size="phone")`; "" is nobody."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def make(
        user: str = "",
        path: str = "/",
        *,
        language: str = "en",
        dark: bool = False,
        size: str = "desktop",
        base: str = "",
    ) -> Any:
        base = base or request.getfixturevalue("server")
        width, height = SIZES[size]
        context = browser.new_context(
            base_url=base,
            viewport={"width": width, "height": height},
            locale="ko-KR" if language == "ko" else "en-GB",
            timezone_id="Asia/Seoul",
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        watched = Watched(page, base)
        opened.append((context, watched))
        page.expect_status = watched.expect_status  # type: ignore[attr-defined]
        page.expect_loss = watched.expect_loss  # type: ignore[attr-defined]
        page.add_init_script(
            f"localStorage.getItem('haetae.language') ?? localStorage.setItem('haetae.language', '{language}')"
        )
        if user:
            _let_in(context, request.getfixturevalue("site"), user, base)
        page.goto(path)
        if user:
            page.locator(".shell").wait_for()
        return page

    yield make
    try:
        for _, watched in opened:
            watched.check()
    finally:
        for context, _ in opened:
            context.close()


def _let_in(context: BrowserContext, site: Site, user: str, base: str) -> None:
    """As after a login in this browser: the refresh token's cookie, and the note that there is one."""
    secret = new_token("haetae_refresh")
    with site.engine.begin() as connection:
        create_session(
            connection,
            site.users[user],
            token_hash=hash_token(secret),
            now=site.now(),
            expires_at=later_utc(site.now(), 3600),
            address="127.0.0.1",
            user_agent="tests",
        )
    cookie = {"name": "haetae_refresh", "value": secret, "path": "/api/v1/auth", "domain": "127.0.0.1"}
    context.add_cookies([{**cookie, "httpOnly": True, "sameSite": "Strict"}])
    context.add_init_script("localStorage.getItem('haetae.session') ?? localStorage.setItem('haetae.session', 'yes')")


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """By the form, whatever its language; waits until one is in."""
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(password)
    page.locator("button[type=submit]").click()
    page.locator(".shell").wait_for()


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """Asserts that axe finds nothing serious on a page (WCAG 2.2 A and AA)."""
    if not AXE.exists():
        missing("axe-core is not installed: run make ui")
    source = AXE.read_text()

    def check(page: Page) -> None:
        page.evaluate(source)
        found = page.evaluate(
            """async () => {
                const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
                const { violations } = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
                return violations
                    .filter((one) => one.impact === "serious" || one.impact === "critical")
                    .map((one) => [one.id, one.help, ...one.nodes.map((node) => node.html.slice(0, 200))].join(" | "));
            }"""
        )
        assert not found, "\n".join(found)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{wide} pixels wider than the screen"

    return check


def until(page: Page, condition: Callable[[], Any], timeout_s: float = 60.0) -> None:
    """Waits for something that the page told of, while it goes on telling."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        page.wait_for_timeout(20)


def picture(page: Page, name: str) -> None:
    """Keeps a screenshot for the docs, where KEEP_SCREENSHOTS is set; else nothing is written."""
    if os.environ.get("KEEP_SCREENSHOTS"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.jpg", type="jpeg", quality=82)
