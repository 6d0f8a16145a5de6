"""The API on the network: TLS, plain HTTP refused, proxies, foreign pages, hostile requests."""

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from core.security.permissions import Role
from tests.api import PASSWORD, Site, run_api

API = "/api/v1"


@pytest.fixture
def site(config):
    made = Site(config)
    made.add_user("kim", Role.ADMIN)
    yield made
    made.close()


def make_certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    (folder / "c.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"HAETAE_API__TLS_CERTIFICATE": str(folder / "c.pem"), "HAETAE_API__TLS_KEY": str(folder / "k.pem")}


def test_with_a_certificate_it_speaks_tls_and_cookies_are_secure(site, tmp_path):
    with run_api(site.config, **make_certificate(tmp_path)) as client:
        assert str(client.base_url).startswith("https://")
        answer = client.post(f"{API}/auth/login", json={"name": "kim", "password": PASSWORD, "cookie": True})
        assert answer.status_code == 200
        assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
        assert "max-age" in answer.headers["strict-transport-security"]
        with pytest.raises(httpx.HTTPError):
            httpx.get(str(client.base_url).replace("https", "http") + "/healthz", timeout=5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"HAETAE_API__HOST": "0.0.0.0"}, "in the clear"),
        ({"HAETAE_API__HOST": "no.such.host.invalid"}, "no address of this machine"),
        ({"HAETAE_API__TLS_CERTIFICATE": "/nowhere.pem", "HAETAE_API__TLS_KEY": "/nowhere.pem"}, "cannot be used"),
        ({"HAETAE_API__TLS_CERTIFICATE": "/nowhere.pem"}, "belong together"),
        ({"HAETAE_API__PORT": "taken"}, "cannot listen"),
        ({"HAETAE_API__PORT": "99999"}, "port"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_word(config, settings, said):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = {k: str(taken.getsockname()[1]) if v == "taken" else v for k, v in settings.items()}
        environment = {
            "PATH": "/usr/bin:/bin",
            "HAETAE_API__PORT": "0",
            **settings,
            "HAETAE_PATHS__DATA": str(config.data_dir),
            "HAETAE_PATHS__RUN": str(config.run_dir),
        }
        done = subprocess.run(
            [sys.executable, "-m", "api"], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 78, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_only_a_trusted_proxy_says_whom_it_asks_for(site):
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    login = {"name": "kim", "password": PASSWORD, "cookie": True}

    def address(**settings: str) -> tuple[str, bool]:
        with run_api(site.config, **settings) as client:
            answer = client.post(f"{API}/auth/login", json=login, headers=headers)
            token = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            newest = client.get(f"{API}/audit?action=login.succeeded&limit=1", headers=token).json()["entries"][0]
            return newest["address"], "Secure" in answer.headers["set-cookie"]

    assert address() == ("127.0.0.1", False)
    assert address(HAETAE_API__TRUSTED_PROXIES="127.0.0.1") == ("203.0.113.9", True)


def test_foreign_pages_are_not_let_in_unless_they_are_named(site):
    asked = {"Origin": "https://wall.example", "Access-Control-Request-Method": "GET"}
    with run_api(site.config) as client:
        assert "access-control-allow-origin" not in client.options(f"{API}/events", headers=asked).headers
    with run_api(site.config, HAETAE_API__ORIGINS="https://wall.example") as client:
        allowed = client.options(f"{API}/events", headers=asked).headers
        assert allowed["access-control-allow-origin"] == "https://wall.example"
        other = client.options(f"{API}/events", headers={**asked, "Origin": "https://evil.example"})
        assert other.headers.get("access-control-allow-origin") != "https://evil.example"


def test_hostile_requests_are_refused_and_leave_it_standing(site):
    with run_api(site.config) as client:
        headers = {"Authorization": f"Bearer {site.token('kim')}"}
        large = client.post(f"{API}/groups", content=b"x" * 2_000_000, headers=headers)
        assert large.status_code == 413
        deep = client.post(f"{API}/groups", content=b"[" * 400_000, headers=headers)
        assert (deep.status_code, deep.json()["code"]) == (400, "invalid")
        for path in (
            f"{API}/events?text={'x' * 50_000}",
            f"{API}/events?cursor=%00",
            f"{API}/cameras/%2e%2e%2fetc",
            f"{API}/system/logs/..%2f..%2fhaetae",
            f"{API}/events?from=99999-01-01T00:00:00Z",
            f"{API}/events?date=0001-01-01&time_zone=Asia/Seoul",
            f"{API}/stats?from=9999-12-31&to=9999-12-31",
            f"{API}/events?time_zone=../../etc/passwd&date=2026-01-01",
        ):
            answer = client.get(path, headers=headers)
            assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text[:200])
        nul = client.post(f"{API}/groups", json={"name": "a\x00b", "cameras": []}, headers=headers)
        assert nul.status_code == 400
        address = client.base_url
        with socket.create_connection((address.host, address.port)) as slow:
            slow.sendall(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            assert client.get("/healthz").status_code == 200
        with socket.create_connection((address.host, address.port)) as garbage:
            garbage.sendall(b"\x16\x03\x01" + b"\x00" * 100)
            assert b"400" in garbage.recv(100)
        assert client.get("/healthz").status_code == 200
    log = (site.config.logs_dir / "api.log").read_text()
    assert '"internal"' not in log


def test_every_answer_carries_its_guards(site):
    with run_api(site.config) as client:
        for path in ("/healthz", f"{API}/events", "/nothing", f"{API}/schema"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-request-id"]
            assert "server" not in headers
        assert client.get(f"{API}/events").headers["cache-control"] == "no-store"
