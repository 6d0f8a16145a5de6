"""A scripted server of the OpenAI protocol, on loopback: what a VLM server answers, and how it fails."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

__all__ = ["VERDICT", "WORDS", "FakeVlm", "Said"]

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

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
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
        finally:
            with self._lock:
                self.at_once -= 1  # before it is sent: whoever has the answer may ask the next at once
        self._send(handler, said, data)

    def _send(self, handler: BaseHTTPRequestHandler, said: Said, data: bytes) -> None:
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
