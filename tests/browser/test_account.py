"""Coming in: set-up, login, a second factor, sessions that end."""

import json
import tempfile
import time

import pytest
from playwright.sync_api import expect

from core.config import load_config
from core.db.push import push_targets
from core.db.sessions import revoke_sessions
from core.notifications.vapid import VapidKey
from core.security import totp
from core.security.secrets import SecretBox
from tests.api import OTHER, OWN, PASSWORD, Site, run_api
from tests.browser.conftest import log_in, picture, until


@pytest.mark.parametrize(("language", "dark"), [("en", False), ("ko", True)])
def test_the_first_account_is_made_with_the_set_up_token(tmp_path, open_page, accessible, language, dark):
    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        config = load_config(None, environ={}, paths={"data": str(tmp_path), "run": run})
        config.make_dirs()
        Site(config).close()
        with run_api(config) as client:
            page = open_page(base=str(client.base_url).rstrip("/"), language=language, dark=dark)
            page.locator("input[name=token]").wait_for()
            page.goto(f"{str(client.base_url).rstrip('/')}/setup#token=setup_wrong")  # such as `haetae up` prints
            expect(page.locator("input[name=token]")).to_have_value("setup_wrong")
            accessible(page)
            picture(page, f"set-up-{language}")
            page.locator("input[name=name]").fill("kim")
            page.locator("input[name=password]").fill("four green")
            page.locator("input[name=again]").fill("four green")
            page.locator("button[type=submit]").click()
            expect(page.locator(".field .error")).to_have_count(1)  # too short: nothing was sent
            for name in ("password", "again"):
                page.locator(f"input[name={name}]").fill("four green boats")
            page.expect_status(403)
            page.locator("button[type=submit]").click()
            expect(page.locator(".notice.bad")).to_be_visible()
            page.locator("input[name=token]").fill((config.secrets_dir / "setup.token").read_text().strip())
            page.locator("button[type=submit]").click()
            page.locator(".shell").wait_for()
            page.wait_for_url(lambda url: not url.partition("://")[2].partition("/")[2])  # the token is in it no more
            expect(page.locator(".state strong")).to_have_text(
                "There is no camera yet" if language == "en" else "아직 카메라가 없습니다"
            )
            assert page.locator("html").get_attribute("lang") == language
            page.reload()  # the session outlives the page
            expect(page.locator(".shell")).to_be_visible()
            page.close()


def test_a_wrong_password_is_told_and_the_right_one_lets_in(open_page, accessible):
    page = open_page()
    page.locator("input[name=name]").wait_for()
    accessible(page)
    picture(page, "login-en")
    page.expect_status(401)
    page.locator("input[name=name]").fill("viewer")
    page.locator("input[name=password]").fill("not this one")
    page.locator("button[type=submit]").click()
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    log_in(page, "viewer")
    expect(page.get_by_role("navigation").get_by_role("link")).not_to_have_count(0)
    picture(open_page(language="ko", dark=True), "login-ko")


def test_a_second_factor_is_added_and_asked_for(open_page, accessible):
    page = open_page("operator", "/account/security")
    page.get_by_role("button", name="Add an authenticator app").click()
    dialog = page.get_by_role("dialog")
    with page.expect_response("**/api/v1/auth/second-factor/confirm") as confirmed:
        accessible(page)
        secret = dialog.get_by_label("Key").input_value()
        dialog.get_by_label("Code of the app").fill(totp._totp(secret).generate(int(time.time())).decode())
        dialog.get_by_label("Password").fill(PASSWORD)
        dialog.get_by_role("button", name="Confirm").click()
    recovery = confirmed.value.json()["codes"][0]
    expect(page.locator(".codes li").first).to_have_text(recovery)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    page.expect_status(401)
    page.locator("input[name=name]").fill("operator")
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("button[type=submit]").click()
    code = page.locator("input[name=code]")
    expect(code).to_be_focused()
    code.fill("123456")
    page.locator("button[type=submit]").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    code.fill(recovery)
    page.locator("button[type=submit]").click()
    page.locator(".shell").wait_for()


def test_a_token_that_is_over_is_renewed_without_a_word(open_page):
    page = open_page("viewer", "/events")
    page.locator(".event-row").first.wait_for()
    page.expect_status(401)
    refused = {"type": "", "title": "", "status": 401, "code": "token_refused", "detail": "", "hint": "", "errors": []}
    page.route(
        "**/api/v1/events?*",
        lambda route: route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(refused)),
        times=1,
    )
    with page.expect_response("**/api/v1/auth/refresh") as refreshed:
        page.get_by_role("button", name="To review").click()
    assert refreshed.value.status == 200
    expect(page.locator(".event-row")).to_have_count(1)
    expect(page.locator(".shell")).to_be_visible()


def test_a_session_that_was_ended_asks_for_a_login_and_goes_on_where_it_was(open_page, site):
    page = open_page("viewer", "/events?severity=low")
    page.locator(".event-row").first.wait_for()
    with site.engine.begin() as connection:
        revoke_sessions(connection, site.users["viewer"], at=site.now(), reason="test")
    page.expect_status(401)
    expect(page.get_by_text("Your session is over.")).to_be_visible()
    log_in(page, "viewer")
    expect(page.locator(".event-row").first).to_be_visible()
    assert page.url.endswith("/events?severity=low")


NO_PUSH_SERVICE = """
// the browser's own push service is on the internet: what it would hand out, and all else is the browser's
PushManager.prototype.subscribe = function (options) {
  const json = {
    endpoint: "https://push.example/send/1", p256dh: "BDummyKeyOfThisBrowser", auth: "c2VjcmV0",
  };
  window.haetaeKey = options.applicationServerKey;
  window.haetaePush = {
    toJSON: () => ({ endpoint: json.endpoint, keys: { p256dh: json.p256dh, auth: json.auth } }),
    unsubscribe: async () => { window.haetaePush = null; return true; },
  };
  return Promise.resolve(window.haetaePush);
};
PushManager.prototype.getSubscription = () => Promise.resolve(window.haetaePush ?? null);
"""


def test_a_browser_is_told_of_alarms_until_its_user_logs_out(open_page, accessible, site):
    page = open_page("viewer")
    page.context.grant_permissions(["notifications"])
    page.add_init_script(NO_PUSH_SERVICE)
    page.goto("/account")
    page.get_by_role("button", name="Tell me in this browser").click()
    expect(page.get_by_text("You are told in this browser.")).to_be_visible()
    accessible(page)
    assert page.evaluate("window.haetaeKey") == VapidKey(site.config.secrets_dir).public
    (target,) = push_targets(site.engine, SecretBox(site.config.secrets_dir), OWN)
    assert (target.user_id, target.endpoint) == (site.users["viewer"], "https://push.example/send/1")
    assert push_targets(site.engine, SecretBox(site.config.secrets_dir), OTHER) == []

    worker = _listening_worker(page)
    _deliver(
        page, {"title": "Somebody runs", "body": "gate", "tag": "e1", "link": "https://elsewhere.example/events?x=1"}
    )
    assert worker.evaluate(NEXT_SHOWN) == ["Somebody runs", "gate", "/events?x=1"]
    _deliver(page, "not what we send")
    assert worker.evaluate(NEXT_SHOWN) == ["Haetae", "", "/"]

    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    assert page.evaluate("window.haetaePush") is None
    assert push_targets(site.engine, SecretBox(site.config.secrets_dir), OWN) == []


LISTEN = """() => {
  // what was shown, kept: a browser without a desktop forgets it at once
  const show = registration.showNotification.bind(registration);
  self.shown = [];
  registration.showNotification = async (title, options) => {
    await show(title, options);
    shown.push([title, options.body, options.data.path]);
  };
}"""
NEXT_SHOWN = """async () => {
  while (!shown.length) await new Promise((again) => setTimeout(again, 20));
  return shown.shift();
}"""


def _listening_worker(page):
    """The service worker of the page, which from now on keeps what it showed."""
    page.wait_for_function("navigator.serviceWorker.ready.then(() => true)")
    until(page, lambda: page.context.service_workers)
    (worker,) = page.context.service_workers
    worker.evaluate(LISTEN)
    return worker


def _deliver(page, message) -> None:
    """As the browser does when its push service has something for this page."""
    session = page.context.new_cdp_session(page)
    found: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: found.extend(one["registrationId"] for one in event["registrations"]),
    )
    session.send("ServiceWorker.enable")
    origin = page.evaluate("location.origin")
    while not found:
        page.wait_for_timeout(20)
    text = message if isinstance(message, str) else json.dumps(message)
    session.send("ServiceWorker.deliverPushMessage", {"origin": origin, "registrationId": found[0], "data": text})
    session.detach()
