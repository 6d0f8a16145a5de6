"""Real servers for tests, on loopback: HTTP, mail, MQTT. Each ends with its `with` block."""

import asyncio
import contextlib
import datetime as dt
import os
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Broker", "Certificate", "HookServer", "MailServer", "Request", "find_mosquitto", "lasting_port", "until"]


def until(condition: Callable[[], Any], what: str = "it", timeout_s: float = 60.0) -> Any:
    """What `condition` returns as soon as that is true; raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
    return found


def lasting_port() -> int:
    """A free port for a server that comes back to it: of those that the kernel gives nobody of itself."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Certificate:
    """A certificate of its own authority, for `name` and 127.0.0.1."""

    def __init__(self, folder: Path, name: str = "localhost") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.cert, self.key = folder / f"{name}.crt", folder / f"{name}.key"
        self.cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class Request(msgspec.Struct, frozen=True):
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at: float
    """Monotonic seconds."""

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class HookServer(contextlib.AbstractContextManager["HookServer"]):
    """Takes POSTs and answers with `answer`, a status or what gives one; `hold` makes it wait before."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.answer: int | Callable[[Request], int] = 204
        self.headers: dict[str, str] = {}
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body, time.monotonic())
                outer.requests.append(request)
                outer.hold.wait()
                status = outer.answer(request) if callable(outer.answer) else outer.answer
                self.send_response(status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_args: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def url(self, path: str = "/hook", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def __exit__(self, *_exc: object) -> None:
        self.hold.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class MailServer(contextlib.AbstractContextManager["MailServer"]):
    """Takes mail; `rcpt` and `data` may give another answer than that it is taken, by recipient."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, implicit: bool = False, password: str = "", slow_s: float = 0.0
    ) -> None:
        self.mails: list[Envelope] = []
        self.encrypted: list[bool] = []
        self.rcpt: Callable[[str], str] = lambda _address: "250 OK"
        self.data: Callable[[Envelope], str] = lambda _envelope: "250 taken"
        self._slow_s, self._implicit = slow_s, implicit

        def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
            good = isinstance(given, LoginPassword) and given.password == password.encode()
            return AuthResult(success=good, handled=good)

        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "ready_timeout": 60.0}
        if implicit:
            options["ssl_context"] = tls
        elif tls:
            options |= {"tls_context": tls, "require_starttls": True}
        if password:
            options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": not implicit}
        self._controller = _AnyPort(self, **options)
        self._controller.start()
        self.port: int = self._controller.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.rcpt(address)
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        answer = self.data(envelope)
        if answer.startswith("250"):
            self.mails.append(envelope)
            self.encrypted.append(self._implicit or session.ssl is not None)
        return answer

    def __exit__(self, *_exc: object) -> None:
        self._controller.stop(no_assert=True)


class _AnyPort(Controller):
    """aiosmtpd looks whether it listens by connecting to the port it was given; ours is chosen by the kernel."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        super()._trigger_server()


def find_mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker(contextlib.AbstractContextManager["Broker"]):
    """Mosquitto, which forgets everything when it is restarted."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        program = find_mosquitto()
        assert program
        self._program = program
        self.port = lasting_port()
        self._folder = tempfile.TemporaryDirectory(prefix="haetae-mq-")
        self._config = Path(self._folder.name) / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "persistence false"]
        lines += ["user root"] if os.getuid() == 0 else []  # it would not be let into the test's folder otherwise
        if certificate:
            lines += [f"certfile {certificate.cert}", f"keyfile {certificate.key}"]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [self._program, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens, "Mosquitto listens")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __exit__(self, *_exc: object) -> None:
        self.stop()
        self._folder.cleanup()


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
