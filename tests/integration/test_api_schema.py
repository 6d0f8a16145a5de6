"""The OpenAPI document, held against the running API by schemathesis: all checks, stateful, as each role.

The same questions each time; another number in SCHEMA_SEED asks others.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.security.permissions import Role
from tests.api import OWN, Site, run_api

SETTINGS = Path(__file__).parents[1] / "schemathesis.toml"
ENDS_ITSELF = ("logOut", "endSession", "endSessions", "changePassword", "changeUser", "removeUser")
"""Operations that would end the session of whoever tests; they have tests of their own."""


@pytest.mark.parametrize(("role", "seed"), [("admin", 1), ("operator", 2), ("viewer", 3)])
def test_what_the_document_says_is_what_happens(config, role, seed):
    seed = int(os.environ.get("SCHEMA_SEED", seed))
    site = Site(config)
    site.ensure_cameras()
    site.add_user("first", Role.ADMIN)
    site.add_user("me", Role(role), OWN)
    with run_api(config) as client:
        left_out = [word for name in ENDS_ITSELF for word in ("--exclude-operation-id", name)]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS), "run"),
                f"{client.base_url}/api/v1/schema/openapi.json",
                *("--header", f"Authorization: Bearer {site.token('me')}"),
                *("--checks", "all", "--max-examples", "1", "--seed", str(seed), "--no-color", *left_out),
            ],
            cwd=config.data_dir,
            capture_output=True,
            text=True,
            timeout=550,
            check=False,
        )
    site.close()
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert "Stateful" in done.stdout
    log = (config.logs_dir / "api.log").read_text()
    assert '"internal"' not in log, log[-4000:]


def test_the_reference_page_needs_nothing_from_elsewhere(config):
    site = Site(config)
    with run_api(config) as client:
        page = client.get("/api/v1/schema")
        assert page.headers["content-type"].startswith("text/html")
        assert "://" not in page.text
        script = client.get("/api/v1/schema/rapidoc.js")
        assert script.status_code == 200
        assert len(script.content) > 100_000
        document = client.get("/api/v1/schema/openapi.json").json()
    site.close()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["operationId"], (method, path)
            statuses = set(operation["responses"])
            assert statuses >= {"400", "401", "403", "422", "429", "503"}, (method, path)
