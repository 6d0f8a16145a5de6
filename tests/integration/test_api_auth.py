"""Logging in as people and programs do it: a real api process, on both databases where the database decides."""

import base64
import threading
import time
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP
from sqlalchemy import select

from api.auth.routes import REFRESH_COOKIE
from core.db.push import push_targets
from core.db.sessions import revoke_sessions
from core.db.tables import PushSubscriptionRow
from core.security.permissions import Role
from core.security.secrets import SecretBox
from core.security.tokens import Claims, KeyRing, TokenKind
from tests.api import OWN, PASSWORD, Site, run_api

AUTH = "/api/v1/auth"


@pytest.fixture
def site(config, database_url):
    made = Site(config, database_url)
    yield made
    made.close()


@pytest.fixture
def client(site):
    with run_api(site.config, site.url, HAETAE_API__REGISTRATION="invitation") as made:
        yield made


@pytest.fixture
def plain(config):
    """On SQLite alone: what no database changes."""
    made = Site(config)
    made.ensure_cameras()
    made.add_user("kim", Role.ADMIN)
    with run_api(config) as client:
        yield client, made
    made.close()


def log_in(client, name="kim", password=PASSWORD, **more) -> httpx.Response:
    return client.post(f"{AUTH}/login", json={"name": name, "password": password, **more})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_from_the_set_up_token_to_a_second_account(client, site):
    assert client.get(f"{AUTH}/state").json()["needs_first_account"] is True
    wanted = {"name": "Kim", "password": "four green boats"}
    refused = client.post(f"{AUTH}/register", json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (403, "set_up_token_needed")
    wrong = client.post(f"{AUTH}/register", json={**wanted, "token": "setup_x"})
    assert wrong.status_code == 403
    token = (site.config.secrets_dir / "setup.token").read_text()
    made = client.post(f"{AUTH}/register", json={**wanted, "token": token})
    assert (made.status_code, made.json()["role"], made.json()["name"]) == (201, "admin", "kim")
    assert not (site.config.secrets_dir / "setup.token").exists()
    again = client.post(f"{AUTH}/register", json={**wanted, "name": "lee", "token": token})
    assert again.status_code == 401  # it is no invitation
    closed = client.post(f"{AUTH}/register", json={**wanted, "name": "lee"})
    assert (closed.status_code, closed.json()["code"]) == (403, "registration_closed")

    tokens = log_in(client, "KIM", "four green boats").json()
    headers = bearer(tokens["access_token"])
    site.ensure_cameras()
    invited = client.post(
        "/api/v1/invitations", json={"role": "operator", "grants": {"cameras": [OWN]}, "note": "night"}, headers=headers
    ).json()
    second = client.post(
        f"{AUTH}/register", json={"name": "이순신", "password": "거북선 세 척이 바다로 간다", "token": invited["token"]}
    )
    assert (second.status_code, second.json()["role"]) == (201, "operator")
    assert second.json()["grants"]["cameras"] == [OWN]
    used = client.post(f"{AUTH}/register", json={**wanted, "name": "park", "token": invited["token"]})
    assert used.status_code == 401
    actions = [one["action"] for one in client.get("/api/v1/audit", headers=headers).json()["entries"]]
    assert actions == ["user.registered", "invitation.created", "login.succeeded", "user.registered"]


def test_where_registration_is_closed_there_are_no_invitations(plain):
    client, _ = plain
    headers = bearer(log_in(client).json()["access_token"])
    invited = client.post("/api/v1/invitations", json={"role": "viewer"}, headers=headers)
    assert (invited.status_code, "api.registration" in invited.json()["hint"]) == (409, True)


def test_of_many_that_refresh_at_once_one_wins_and_reuse_ends_the_session(client, site, monkeypatch):
    site.add_user("kim", Role.VIEWER)
    for _ in range(4):
        token = log_in(client).json()["refresh_token"]
        answers: list[httpx.Response] = []
        begin = threading.Barrier(8)

        def refresh(token: str = token, answers: list = answers, begin: threading.Barrier = begin) -> None:
            begin.wait(60)
            answers.append(httpx.post(f"{client.base_url}{AUTH}/refresh", json={"refresh_token": token}, timeout=60))

        threads = [threading.Thread(target=refresh) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
        won = next(answer for answer in answers if answer.status_code == 200).json()

    with site.engine.begin() as connection:  # the use was a while ago
        connection.exec_driver_sql(
            "UPDATE refresh_tokens SET used_at = '2026-01-01T00:00:00.000000Z' WHERE used_at IS NOT NULL"
        )
    stolen = client.post(f"{AUTH}/refresh", json={"refresh_token": token})
    assert (stolen.status_code, stolen.json()["code"]) == (401, "token_refused")
    honest = client.post(f"{AUTH}/refresh", json={"refresh_token": won["refresh_token"]})
    assert honest.status_code == 401, "the revocation was taken back with the refusal"
    deadline = time.monotonic() + 60
    while client.get(f"{AUTH}/me", headers=bearer(won["access_token"])).status_code != 401:
        assert time.monotonic() < deadline, "a revoked session goes on"
        time.sleep(0.05)


def test_failed_logins_delay_the_next_and_are_remembered(client, site):
    site.add_user("kim", Role.VIEWER)
    for _ in range(4):
        wrong = log_in(client, password="wrong")
        assert (wrong.status_code, wrong.json()["code"]) == (401, "login_failed")
    failures = 4
    while (delayed := log_in(client, password="wrong")).status_code == 401:
        failures += 1  # a second was over already; the next delays are twice as long each
    assert (delayed.status_code, delayed.json()["code"]) == (429, "login_delayed")
    assert int(delayed.headers["retry-after"]) >= 1
    deadline = time.monotonic() + 60
    while (answer := log_in(client)).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer.status_code == 200
    with site.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT failed_logins FROM users").scalar() == 0
        refused = connection.exec_driver_sql("SELECT count(*) FROM audit_log WHERE action = 'login.failed'").scalar()
    assert refused == failures


def test_an_unknown_name_is_answered_like_a_wrong_password(plain):
    client, _ = plain
    answers = [log_in(client, name, "wrong words") for name in ("kim", "nobody", "no such name!", "이순신")]
    bodies = [{k: v for k, v in answer.json().items() if k != "request_id"} for answer in answers]
    assert bodies[1:] == bodies[:-1]
    assert [answer.status_code for answer in answers] == [401] * 4


def test_the_cookie_way_of_a_browser(plain):
    client, _ = plain
    answer = log_in(client, cookie=True)
    assert answer.json()["refresh_token"] == ""
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie  # plain HTTP on loopback: a browser would drop it
    foreign = client.post(f"{AUTH}/refresh", json={}, headers={"Origin": "https://evil.example"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_origin")
    own = client.post(f"{AUTH}/refresh", json={}, headers={"Origin": str(client.base_url).rstrip("/")})
    assert own.status_code == 200
    assert own.json()["refresh_token"] == ""
    out = client.post(f"{AUTH}/logout", headers=bearer(own.json()["access_token"]))
    assert out.status_code == 204
    assert not client.cookies.get(REFRESH_COOKIE)
    assert client.get(f"{AUTH}/me", headers=bearer(own.json()["access_token"])).status_code == 401


def test_a_new_password_ends_the_other_sessions(plain):
    client, _ = plain
    first, second = log_in(client).json(), log_in(client).json()
    weak = client.post(
        f"{AUTH}/password", json={"current": PASSWORD, "new": "password1234"}, headers=bearer(first["access_token"])
    )
    assert weak.status_code == 422
    done = client.post(
        f"{AUTH}/password", json={"current": PASSWORD, "new": "six quiet rivers"}, headers=bearer(first["access_token"])
    )
    assert done.status_code == 204
    assert client.get(f"{AUTH}/me", headers=bearer(first["access_token"])).status_code == 200
    assert client.get(f"{AUTH}/me", headers=bearer(second["access_token"])).status_code == 401
    assert log_in(client).status_code == 401
    assert log_in(client, password="six quiet rivers").status_code == 200


def test_a_changed_role_or_a_switched_off_user_is_in_force_at_once(plain):
    client, site = plain
    admin = bearer(log_in(client).json()["access_token"])
    user_id = site.add_user("lee", Role.ADMIN)
    lee = bearer(site.token("lee"))
    assert client.get("/api/v1/users", headers=lee).status_code == 200
    changed = client.patch(f"/api/v1/users/{user_id}", json={"role": "viewer"}, headers=admin)
    assert changed.json()["role"] == "viewer"
    assert client.get("/api/v1/users", headers=lee).status_code == 401
    lee = bearer(log_in(client, "lee").json()["access_token"])
    assert client.get("/api/v1/users", headers=lee).status_code == 403
    client.patch(f"/api/v1/users/{user_id}", json={"enabled": False}, headers=admin)
    assert client.get(f"{AUTH}/me", headers=lee).status_code == 401
    assert log_in(client, "lee").status_code == 401


def test_the_last_administrator_stays(plain):
    client, site = plain
    admin = bearer(log_in(client).json()["access_token"])
    for change in ({"role": "viewer"}, {"enabled": False}):
        answer = client.patch(f"/api/v1/users/{site.users['kim']}", json=change, headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert client.delete(f"/api/v1/users/{site.users['kim']}", headers=admin).status_code == 409
    assert client.get(f"{AUTH}/me", headers=admin).json()["role"] == "admin"


def code_of(secret: str, steps: int = 0) -> str:
    return TOTP(base64.b32decode(secret), 6, SHA1(), 30).generate(time.time() + 30 * steps).decode()


def test_a_second_factor(plain):
    client, _ = plain
    headers = bearer(log_in(client).json()["access_token"])
    secret = client.post(f"{AUTH}/second-factor", headers=headers).json()["secret"]
    wrong = client.post(f"{AUTH}/second-factor/confirm", json={"code": "000000", "password": PASSWORD}, headers=headers)
    assert wrong.status_code == 400
    assert log_in(client).status_code == 200, "in force before it was confirmed"
    confirmed = client.post(
        f"{AUTH}/second-factor/confirm", json={"code": code_of(secret), "password": PASSWORD}, headers=headers
    )
    codes = confirmed.json()["codes"]
    assert len(set(codes)) == 8
    needed = log_in(client)
    assert (needed.status_code, needed.json()["code"]) == (401, "second_factor_needed")
    code = code_of(secret, 1)
    assert log_in(client, code=code).status_code == 200
    again = log_in(client, code=code)
    assert (again.status_code, again.json()["code"]) == (401, "second_factor_wrong")
    assert log_in(client, code=codes[0]).status_code == 200
    assert log_in(client, code=codes[0]).status_code == 401
    headers = bearer(log_in(client, code=codes[1]).json()["access_token"])
    removed = client.post(
        f"{AUTH}/second-factor/remove", json={"code": codes[2], "password": PASSWORD}, headers=headers
    )
    assert removed.status_code == 204
    assert log_in(client).status_code == 200


@pytest.mark.parametrize("what", ["", "Bearer", "Bearer x", "Basic a2ltOng=", "Bearer a.b.c", "Bearer haetae_key_x"])
def test_what_is_no_token_is_refused(plain, what):
    client, _ = plain
    answer = client.get(f"{AUTH}/me", headers={"Authorization": what} if what else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_expired_foreign_and_wrongly_typed_tokens_are_refused(plain, tmp_path):
    client, site = plain
    good = site.token("kim")
    body = jwt.decode(good, options={"verify_signature": False})
    claims = Claims(site.users["kim"], body["sid"], 1)
    for token in (
        site.token("kim", lifetime_s=-60),
        site.token("kim", kind=TokenKind.MEDIA),
        KeyRing(tmp_path / "other").sign(TokenKind.ACCESS, claims, now_s=time.time(), lifetime_s=60),
        jwt.encode(body, "", algorithm="none"),
        good[:-4] + "AAAA",
    ):
        assert client.get(f"{AUTH}/me", headers=bearer(token)).status_code == 401
    site.keys.rotate()
    assert client.get(f"{AUTH}/me", headers=bearer(good)).status_code == 200, "the key before still reads"
    site.keys.rotate()
    deadline = time.monotonic() + 60
    while client.get(f"{AUTH}/me", headers=bearer(good)).status_code != 401:
        assert time.monotonic() < deadline, "a key that was rotated out goes on reading"
        time.sleep(0.05)
    assert client.get(f"{AUTH}/me", headers=bearer(site.token("kim"))).status_code == 200


def test_secrets_appear_nowhere(config):
    """A password, tokens and a camera's credentials: not in answers, logs, the database, its backups, or argv."""
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    word = "Zq7vTopSecretWord"
    with run_api(config, HAETAE_LOG__LEVEL="debug", HAETAE_NETWORKS__CAMERAS="loopback") as client:
        headers = bearer(log_in(client).json()["access_token"])
        said = [log_in(client, password=word).text, log_in(client, name=word, password=word).text]
        for url in (
            f"rtsp://admin:{word}@127.0.0.1/1",
            f"http://127.0.0.1/v?token={word}",
            f"rtsp://x:{word}@",
            f"xx://{word}@y",
        ):
            body = {"id": f"c{len(said)}", "name": "c", "url": url, "enabled": False}
            said.append(client.post("/api/v1/cameras", json=body, headers=headers).text)
        apart = {
            "id": "apart",
            "name": "c",
            "url": "rtsp://127.0.0.1/1",
            "username": "u",
            "password": word,
            "enabled": False,
        }
        said.append(client.post("/api/v1/cameras", json=apart, headers=headers).text)
        said += [
            client.get(path, headers=headers).text
            for path in ("/api/v1/cameras", "/api/v1/audit", "/api/v1/system", "/api/v1/system/logs/api")
        ]
        said.append(
            client.post("/api/v1/users", json={"name": "lee", "password": word, "role": "x"}, headers=headers).text
        )
        argv = Path(f"/proc/{client.process.pid}/cmdline").read_text()
    assert client.process.returncode == 0
    assert '"has_credentials":true' in said[2].replace(" ", ""), said[2]
    assert '"has_credentials":true' in said[6].replace(" ", ""), said[6]
    for text in (*said, argv, (config.logs_dir / "api.log").read_text()):
        assert word not in text, text
    for file in config.data_dir.glob("haetae.db*"):
        assert word.encode() not in file.read_bytes(), file
    site.close()


def test_too_many_requests_are_refused_for_a_while(config):
    site = Site(config)
    site.add_user("kim", Role.ADMIN)
    headers = bearer(site.token("kim"))
    with run_api(config, HAETAE_API__REQUESTS_PER_S="1") as client:
        passed = 0
        while (refused := client.get(f"{AUTH}/me", headers=headers)).status_code == 200:
            passed += 1
        assert refused.status_code == 429
        assert passed >= 10, "so many may come at once"
        assert int(refused.headers["retry-after"]) >= 1
    site.close()


def test_browsers_are_kept_per_user_the_newest_twenty(plain):
    client, site = plain
    site.add_user("lee", Role.VIEWER)
    mine, other = bearer(site.token("kim")), bearer(site.token("lee"))
    told = client.get(f"{AUTH}/browsers", headers=mine).json()
    assert (told["served"], told["browsers"], len(told["public_key"])) == (False, [], 87)
    made = []
    for number in range(22):
        wanted = {"endpoint": f"https://push.example/{number}", "p256dh": "BKey", "auth": "c2VjcmV0"}
        answer = client.post(f"{AUTH}/browsers", json=wanted, headers=mine)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    known = [one["id"] for one in client.get(f"{AUTH}/browsers", headers=mine).json()["browsers"]]
    assert known == made[2:]
    assert client.delete(f"{AUTH}/browsers/{made[-1]}", headers=other).status_code == 404
    # whoever uses that browser next takes it over
    again = client.post(f"{AUTH}/browsers", json=wanted, headers=other).json()["id"]
    assert again == made[-1]
    assert client.delete(f"{AUTH}/browsers/{again}", headers=mine).status_code == 404
    assert client.delete(f"{AUTH}/browsers/{again}", headers=other).status_code == 204
    assert client.get(f"{AUTH}/browsers", headers=other).json()["browsers"] == []
    for wrong in ({"endpoint": "http://push.example/1"}, {"endpoint": "https://a@b/1"}, {"auth": "not base64!"}):
        assert client.post(f"{AUTH}/browsers", json=wanted | wrong, headers=mine).status_code == 400


def test_a_browser_is_told_no_more_once_its_login_is_revoked(plain):
    client, site = plain
    logins = [bearer(log_in(client).json()["access_token"]) for _ in range(4)]
    browsers = [
        client.post(
            f"{AUTH}/browsers",
            json={"endpoint": f"https://push.example/{n}", "p256dh": "BKey", "auth": "c2VjcmV0"},
            headers=login,
        ).json()["id"]
        for n, login in enumerate(logins)
    ]

    def told() -> list[str]:
        return [one.id for one in push_targets(site.engine, SecretBox(site.config.secrets_dir), None)]

    assert told() == browsers
    assert client.post(f"{AUTH}/logout", headers=logins[0]).status_code == 204
    assert told() == browsers[1:]
    me = site.users["kim"]
    with site.engine.connect() as connection:
        query = select(PushSubscriptionRow.session_id).where(PushSubscriptionRow.id == browsers[1])
        session = connection.execute(query).scalar_one()
    assert client.delete(f"{AUTH}/sessions/{session}", headers=logins[3]).status_code == 204
    assert told() == browsers[2:]
    new = {"current": PASSWORD, "new": "six quiet rivers"}
    assert client.post(f"{AUTH}/password", json=new, headers=logins[3]).status_code == 204
    assert told() == browsers[3:]
    with site.engine.begin() as connection:
        revoke_sessions(connection, me, at=site.now(), reason="test")
    assert told() == []
