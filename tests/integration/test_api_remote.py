"""`haetae --url`: the command line against an API."""

import os
import subprocess
import sys

from core.security.permissions import Role, Scope
from tests.api import OWN, Site, run_api


def test_the_command_line_asks_another_machine(config):
    site = Site(config)
    site.ensure_cameras()
    site.add_user("kim", Role.OPERATOR, OWN)
    key = site.key("kim", Scope.CAMERAS_READ, Scope.CAMERAS_WRITE, Scope.EVENTS_READ)

    with run_api(config) as client:

        def haetae(*words: str, secret: str = key) -> tuple[int, str]:
            done = subprocess.run(
                [sys.executable, "-m", "workers.cli", "--url", str(client.base_url), *words],
                env={"PATH": os.environ["PATH"], "HAETAE_API_KEY": secret},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return done.returncode, done.stdout + done.stderr

        code, said = haetae("camera", "list")
        assert (code, OWN in said, "vault" in said) == (0, True, False)
        code, said = haetae("camera", "start", OWN)
        assert (code, said.strip()) == (0, "starting gate")
        code, said = haetae("events", "--since", "2026-01-01T00:00:00Z")
        assert (code, "3.1 x the usual speed here" in said) == (0, True)
        code, said = haetae("stats")
        assert (code, "lacks the scope stats:read" in said) == (2, True)
        code, said = haetae("camera", "start", "vault")
        assert (code, "there is no camera" in said) == (2, True)
        code, said = haetae("events", secret="haetae_key_wrong")
        assert (code, "not good any more" in said) == (2, True)
        code, said = haetae("events", secret="")
        assert (code, "HAETAE_API_KEY" in said) == (2, True)
        code, said = haetae("db", "check")
        assert (code, "works on the machine itself" in said) == (2, True)
    code, said = haetae("events")
    assert (code, "does not answer" in said, "Traceback" in said) == (2, True, False)
    site.close()
