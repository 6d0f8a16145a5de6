"""What the REST API costs: a page of events over a bare handler that returns the same bytes, and over FastAPI.

    python -m bench.api [--json] [--quick] [--events N]

All servers are uvicorn with one worker, asked in turns by the same clients in another process: the api process as it
is shipped (token, permissions, query, encoding), a Litestar handler that returns the very bytes of that page, and,
where it is installed (the `bench` extra), FastAPI with pydantic models that checks the token and the user likewise and
does the same query through the same driver.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.events import DAYS, QUICK_DAYS, fill
from core.clock import later_utc, utc_iso
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.accounts import add_user
from core.db.sessions import create_session
from core.security.permissions import Role
from core.security.tokens import Claims, KeyRing, TokenKind, hash_token, new_token

__all__ = ["free_port", "main", "server"]

PATH = "/api/v1/events?limit=50"
CLIENTS = 8
START_S = 60.0

BARE = """
import sys
from pathlib import Path
import uvicorn
from litestar import Litestar, Response, get
body = Path(sys.argv[1]).read_bytes()
@get("/api/v1/events", sync_to_thread=False)
def page(limit: int = 50) -> Response[bytes]:
    return Response(body, media_type="application/json")
uvicorn.run(Litestar([page], openapi_config=None, logging_config=None), loop="uvloop", http="h11", access_log=False,
            log_level="error", server_header=False, port=int(sys.argv[2]))
"""

FASTAPI = """
import sys, time
from pathlib import Path
import msgspec, uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, create_model
from core.clock import utc_iso
from core.db import make_engine
from core.db.accounts import get_user, visible_cameras
from core.db.event_pages import EventFilter, page_events
from core.db.sessions import session_is_good
from core.rest.events import EventOut
from core.security.tokens import KeyRing, TokenKind
from datetime import UTC, datetime
engine, keys, known = make_engine(sys.argv[1]), KeyRing(Path(sys.argv[2])), {}
Event = create_model("Event", **{field.name: (field.type, ...) for field in msgspec.structs.fields(EventOut)})
class Page(BaseModel):
    events: list[Event]
    cursor: str | None
app = FastAPI()
def user(authorization: str = Header()):
    claims = keys.read(TokenKind.ACCESS, authorization.removeprefix("Bearer "))
    until, cameras = known.get(claims.session_id, (0, ()))
    if until < time.monotonic():
        with engine.connect() as connection:
            found = get_user(connection, claims.user_id)
            if not session_is_good(connection, claims.session_id, utc_iso(datetime.now(UTC))):
                raise HTTPException(401)
            cameras = visible_cameras(connection, found)
        known[claims.session_id] = time.monotonic() + 2, cameras
    return cameras
@app.get("/api/v1/events", response_model=Page)
def events(limit: int = Query(50, ge=1, le=500), cursor: str | None = None, cameras=Depends(user)):
    page = page_events(engine, EventFilter(cameras=tuple(cameras) if cameras is not None else None), limit=limit,
                       cursor=cursor)
    made = [EventOut.of(one) for one in page.events]
    return Page(events=[Event(**{name: getattr(one, name) for name in one.__struct_fields__}) for one in made],
                cursor=page.cursor)
uvicorn.run(app, loop="uvloop", http="h11", access_log=False, log_level="error", server_header=False,
            port=int(sys.argv[3]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(*command: str, environment: dict[str, str], port: int) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1:3]} did not start")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def _ask(port: int, token: str, seconds: float, waits: list[float]) -> bytes:
    """One client on one connection, asking again as soon as it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    until = time.perf_counter() + seconds
    body = b""
    while (begun := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise RuntimeError(head.decode())
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        waits.append(time.perf_counter() - begun)
    writer.close()
    return body


def _load(port: int, token: str, seconds: float) -> tuple[float, list[float], bytes]:
    """Requests a second, the waits, and the last body."""

    async def run() -> tuple[float, list[float], bytes]:
        waits: list[float] = []
        begun = time.perf_counter()
        bodies = await asyncio.gather(*(_ask(port, token, seconds, waits) for _ in range(CLIENTS)))
        return len(waits) / (time.perf_counter() - begun), waits, bodies[0]

    return asyncio.run(run())


def _account(config: Config) -> str:
    engine = make_engine(config.database_url, writer=True)
    now = utc_iso(datetime.now(UTC))
    with engine.begin() as connection:
        user = add_user(connection, name="bench", password_hash="-", role=Role.ADMIN, at=now)
        session_id = create_session(
            connection,
            user.id,
            token_hash=hash_token(new_token("bench")),
            now=now,
            expires_at=later_utc(now, 86_400),
            address="",
            user_agent="",
        )
    engine.dispose()
    claims = Claims(user.id, session_id, user.token_version)
    ring = KeyRing(config.secrets_dir)
    return ring.sign(TokenKind.ACCESS, claims, now_s=time.time(), lifetime_s=86_400)


def measure(folder: Path, *, events: int, days: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Fills a database, starts the servers, and asks them in turns."""
    config = load_config(None, environ={}, paths={"data": str(folder / "data"), "run": str(folder / "run")})
    config.make_dirs()
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    fill(engine, events, days)
    engine.dispose()
    token = _account(config)
    ports = {name: free_port() for name in ("haetae", "bare", "fastapi")}
    places = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    with ExitStack() as stack:
        mine = {
            **environment,
            "HAETAE_PATHS__DATA": str(config.data_dir),
            "HAETAE_PATHS__RUN": str(config.run_dir),
            "HAETAE_API__PORT": str(ports["haetae"]),
            "HAETAE_API__REQUESTS_PER_S": "10000",
        }
        begun = time.monotonic()
        api = stack.enter_context(server(sys.executable, "-m", "api", environment=mine, port=ports["haetae"]))
        start_s = time.monotonic() - begun
        pool = stack.enter_context(get_context("spawn").Pool(1))
        _, _, body = pool.apply(_load, (ports["haetae"], token, 0.5))
        (folder / "page.json").write_bytes(body)
        bare = ("-c", BARE, str(folder / "page.json"), str(ports["bare"]))
        stack.enter_context(server(sys.executable, *bare, environment=environment, port=ports["bare"]))
        names = ["haetae", "bare"]
        if importlib.util.find_spec("fastapi"):
            peer = ("-c", FASTAPI, config.database_url, str(config.secrets_dir), str(ports["fastapi"]))
            stack.enter_context(server(sys.executable, *peer, environment=environment, port=ports["fastapi"]))
            names.append("fastapi")
        else:
            print("fastapi is not installed: left out (pip install -r requirements-bench.lock)", file=sys.stderr)
        rates: dict[str, list[float]] = {name: [] for name in names}
        waits: list[float] = []
        for name in names * rounds:
            rate, waited, _ = pool.apply(_load, (ports[name], token, seconds))
            rates[name].append(rate)
            if name == "haetae":
                waits += waited
        lines = Path(f"/proc/{api.pid}/smaps_rollup").read_text().splitlines()
        private_mb = sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000
    found: dict[str, Any] = {
        "events": events,
        "clients": CLIENTS,
        "page_bytes": len(body),
        "start_s": round(start_s, 2),
        "private_mb": round(private_mb, 1),
        "requests_s": {name: round(statistics.median(one)) for name, one in rates.items()},
        "p50_ms": round(sorted(waits)[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(sorted(waits)[int(len(waits) * 0.99)] * 1e3, 2),
    }
    for name in names[1:]:
        ratios = [mine / other for mine, other in zip(rates["haetae"], rates[name], strict=True)]
        found[f"over_{name}"] = round(statistics.median(ratios), 3)
        found[f"over_{name}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="5,000 events, one short round")
    parser.add_argument("--events", type=int, help="so many events to choose from (1,000,000)")
    args = parser.parse_args()
    events = args.events or (5_000 if args.quick else 1_000_000)
    with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder:
        days, seconds, rounds = (QUICK_DAYS, 0.5, 1) if args.quick else (DAYS, 4.0, 5)
        found = measure(Path(folder), events=events, days=days, seconds=seconds, rounds=rounds)
    if args.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<24}{value!s:>40}")


if __name__ == "__main__":
    main()
