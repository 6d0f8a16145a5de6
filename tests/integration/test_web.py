"""The web page as the api process gives it out: for everybody, cached as it may be, under a strict policy."""

import pytest

from tests.api import Site, run_api


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    import tempfile

    from core.config import load_config

    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        config = load_config(None, environ={}, paths={"data": str(tmp_path_factory.mktemp("web")), "run": run})
        config.make_dirs()
        site = Site(config)
        with run_api(config, HAETAE_API__REQUESTS_PER_S="1") as made:
            yield made
        site.close()


def test_the_page_is_at_the_root_and_at_its_own_paths(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-cache"
    for path in ("/events", "/cameras/gate", "/setup", "/a/b/c"):
        assert client.get(path).text == page.text, path
    for path in ("/assets/none.js", "/none.png", "/api/v1/nothing", "/api", "/../../etc/passwd.txt", "/%2e%2e/x.py"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json", path


def test_files_with_a_hash_in_their_name_are_kept_for_ever_and_others_asked_for_again(client):
    files = client.get("/files.json").json()
    script = files["index.html"]["file"]
    answer = client.get(f"/{script}")
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert client.get(f"/{script}", headers={"accept-encoding": "identity"}).content == answer.content
    for path, kind in (("/manifest.webmanifest", "application/manifest+json"), ("/sw.js", "text/javascript")):
        answer = client.get(path)
        assert answer.headers["cache-control"] == "no-cache", path
        assert answer.headers["content-type"].startswith(kind), path
        assert client.get(path, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_the_page_may_use_nothing_from_elsewhere(client):
    policy = client.get("/").headers["content-security-policy"]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == parts["base-uri"] == parts["frame-ancestors"] == "'none'"
    assert parts["script-src"] == parts["style-src"] == parts["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert "://" not in policy


def test_whoever_loads_the_page_again_and_again_is_not_taken_for_a_flood(client):
    assert {client.get("/").status_code for _ in range(200)} == {200}
