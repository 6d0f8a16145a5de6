"""The RTSP camera of tests/rtsp_server.py, started and told from a test."""

import json
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
IMPORTS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def needed() -> None:
    """Skips the test where GStreamer's RTSP server is not installed; fails it there in CI."""
    found = (
        Path(PYTHON).exists()
        and not subprocess.run([PYTHON, "-c", IMPORTS], capture_output=True, check=False).returncode
    )
    if not found:
        reason = "no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi, and GStreamer's plugins"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class RtspCamera:
    """A camera that serves a moving ball at 10 frames a second."""

    def __init__(self, port: int = 0, **asked: object) -> None:
        self._process = subprocess.Popen(
            [PYTHON, str(SERVER), str(port), json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        said = self._process.stdout.readline().split()
        assert said[:1] == ["ready"], "the RTSP server did not start"
        self.port = int(said[1])

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    def tell(self, line: str) -> None:
        """`size W H`, `stall` or `go`."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
