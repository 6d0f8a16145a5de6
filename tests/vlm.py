"""A scripted server of the OpenAI protocol, and incidents to be judged."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from core.events.evidence import Evidence, FrameRole, KeyFrame, Scene, Track
from tests.events import make_event
from workers.inference.vlm import Incident

__all__ = ["VERDICT", "WORDS", "FakeVlm", "Said", "make_incident", "make_track", "written_frame"]

VERDICT = {
    "verdict": "confirmed",
    "vlm_type": "fighting",
    "alt_types": ["assault_abuse"],
    "confidence": 0.85,
    "text_instruction_seen": False,
}
WORDS = {
    "title": "Two people fight",
    "description": "Two people push each other.",
    "description_ko": "두 사람이 서로 민다.",
    "observations": ["two people", "pushing"],
    "people_count": 2,
    "vehicle_count": 0,
    "visible_text": [],
    "text_instruction_seen": False,
}


class Said(msgspec.Struct):
    """How a server answers one request."""

    content: Any = None
    """Text, or what becomes JSON; None: VERDICT or WORDS, as asked."""
    status: int = 200
    wait_s: float = 0.0
    headers: dict[str, str] = {}
    raw: bytes | None = None
    message: dict[str, Any] | None = None
    drip_s: float = 0.0
    """Between bytes."""


class FakeVlm(contextlib.AbstractContextManager["FakeVlm"]):
    """Answers by `script`, request by request, then by its last line; or by what `script` returns for a body."""

    def __init__(self, *script: Said | Callable[[dict[str, Any]], Said]) -> None:
        self.script = list(script) or [Said()]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = msgspec.json.decode(handler.rfile.read(int(handler.headers.get("content-length", 0))))
        with self._lock:
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            said = self.script[min(len(self.bodies), len(self.script)) - 1]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            said = said(body) if callable(said) else said
            self.stopped.wait(said.wait_s)
            data = said.raw if said.raw is not None else self._completion(said, body)
            with contextlib.suppress(OSError):
                handler.send_response(said.status)
                for name, value in said.headers.items():
                    handler.send_header(name, value)
                handler.send_header("content-length", str(len(data)))
                handler.end_headers()
                for begin in range(0, len(data), 1 if said.drip_s else len(data) or 1):
                    handler.wfile.write(data[begin : begin + (1 if said.drip_s else len(data))])
                    if self.stopped.wait(said.drip_s):
                        return
        finally:
            with self._lock:
                self.at_once -= 1

    def _completion(self, said: Said, body: dict[str, Any]) -> bytes:
        if said.status != 200:
            return b'{"error": {"message": "no"}}'
        wants_words = "Describe what the frames show" in str(body["messages"][1]["content"][0]["text"])
        content = said.content if said.content is not None else WORDS if wants_words else VERDICT
        text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
        message = said.message or {"role": "assistant", "content": text}
        return msgspec.json.encode(
            {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 42}}
        )

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()


def written_frame(media: Path, text: str = "", role: FrameRole = FrameRole.PEAK, at_s: float = 0.5) -> KeyFrame:
    """A JPEG in the media folder, with `text` rendered on it as on a sign."""
    picture = np.full((180, 320, 3), 120, np.uint8)
    cv2.rectangle(picture, (40 + round(20 * at_s), 60), (80, 170), (30, 60, 90), -1)
    for number, line in enumerate(text.splitlines()):
        cv2.putText(picture, line, (8, 24 + 20 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    file = f"gate/{sha256[:16]}.jpg"
    (media / file).parent.mkdir(parents=True, exist_ok=True)
    (media / file).write_bytes(data)
    return KeyFrame(role=role, at_s=at_s, file=file, sha256=sha256, width=320, height=180)


def make_track(**changes: Any) -> Track:
    track = Track(
        age_s=5, x=0.5, y=0.8, width=0.05, height=0.2, speed=0.8, heading=90, travelled=0.3, dwell_s=2, still_s=0
    )
    return msgspec.structs.replace(track, **changes)


def make_incident(*frames: KeyFrame, evidence: Evidence | None = None, **changes: Any) -> Incident:
    event = make_event(**{"reason": "2.0 x the usual speed here", **changes})
    found = evidence or Evidence(
        duration_s=2.0,
        scene=Scene(usual_speed=0.8, usual_spread=0.05, count_peak=2),
        tracks=(make_track(),),
    )
    return Incident(event=event, evidence=msgspec.structs.replace(found, frames=frames))


def monotonic_in(seconds: float) -> float:
    return time.monotonic() + seconds
