"""Somebody outside is called while all is well, and only at an address that is allowed."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.heartbeat import Heartbeat
from core.process import EXPECTED
from workers.process import process_environment


class Outside(ThreadingHTTPServer):
    """Remembers the paths it was asked for, and gives one answer to all."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.called: list[str] = []
        self.answer = 200


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Outside)
        self.server.called.append(self.path)
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def outside():
    server = Outside()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(60)


def beating_until(hearts: list[Heartbeat], condition, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not condition():
        for heart in hearts:
            heart.beat("running", 0)
        time.sleep(0.05)
    return bool(condition())


@pytest.mark.parametrize(("networks", "answer"), [("loopback", 200), ("loopback", 503), ("public", 200)])
def test_the_watchdog_calls_a_real_server_while_all_is_well(config, outside, networks, answer):
    outside.answer = answer
    url = f"http://127.0.0.1:{outside.server_port}/ping/s3cret"
    environment = {
        **process_environment(config),
        "HAETAE_WATCHDOG__DEAD_MAN_URL": url,
        "HAETAE_WATCHDOG__DEAD_MAN_S": "1",
        "HAETAE_NETWORKS__WEBHOOKS": networks,
        # The hearts are this test's own: a machine that is slow must not get it killed.
        **{f"HAETAE_WATCHDOG__HUNG_S__{name.upper()}": "600" for name in EXPECTED},
    }
    missing, *others = EXPECTED  # all that a house runs: nobody is to be told that one of them is away
    hearts = [Heartbeat(config.run_dir, name) for name in others]
    log_path = config.logs_dir / "watchdog.log"
    with log_path.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.watchdog", "--parent", str(os.getpid())], env=environment, stderr=log
        )
    try:
        assert beating_until(hearts, lambda: "watchdog_ready" in log_path.read_text(), 60)
        beating_until(hearts, lambda: False, 1.5)
        assert not outside.called, "without a logger all is not well"
        hearts.append(Heartbeat(config.run_dir, missing))
        if networks == "public":
            assert beating_until(hearts, lambda: "dead_man_call_failed" in log_path.read_text(), 60)
            assert not outside.called, "an address that is not allowed was called"
        else:
            assert beating_until(hearts, lambda: len(outside.called) >= 2, 60)
            assert set(outside.called) == {"/ping/s3cret"}
            failed = "dead_man_call_failed" in log_path.read_text()
            assert failed == (answer != 200)
    finally:
        child.terminate()
        child.wait(60)
        for heart in hearts:
            heart.close()
    assert "s3cret" not in log_path.read_text()
