"""A real api process with accounts, two cameras and an event each, for tests."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import cv2
import httpx
import msgspec
import numpy as np

from core.cameras import CameraConfig
from core.clock import later_utc, utc_iso
from core.config import Config
from core.db import make_engine, upgrade
from core.db.accounts import Grants, add_user, get_user, set_grants
from core.db.cameras import add_camera
from core.db.events import upsert_events
from core.db.keys import create_key
from core.db.sessions import create_session
from core.errors import Conflict
from core.events.model import EventMedia
from core.ids import CameraId
from core.security.passwords import Passwords
from core.security.permissions import Role, Scope
from core.security.tokens import Claims, KeyRing, TokenKind, hash_token, new_token
from tests.events import make_event
from workers.process import spawn

__all__ = ["OTHER", "OWN", "PASSWORD", "Site", "run_api"]

OWN, OTHER = CameraId("gate"), CameraId("vault")
"""The camera that viewers and the operator may see, and the one that they may not."""
PASSWORD = "three tall lamps"
_HASH = Passwords().hash(PASSWORD)


class Site:
    """Database and keys of a test's own, as the api process sees them."""

    def __init__(self, config: Config, url: str = "") -> None:
        self.config = config
        self.url = url or config.database_url
        upgrade(self.url)
        self.engine = make_engine(self.url, writer=True)
        self.keys = KeyRing(config.secrets_dir)
        self.users: dict[str, str] = {}
        self.grants: dict[str, Grants] = {}
        self.events: dict[CameraId, str] = {}

    def now(self) -> str:
        return utc_iso(datetime.now(UTC))

    def add_user(self, name: str, role: Role, *cameras: CameraId, all_cameras: bool = False) -> str:
        with self.engine.begin() as connection:
            user = add_user(connection, name=name, password_hash=_HASH, role=role, at=self.now())
            set_grants(connection, user.id, Grants(cameras=cameras, all_cameras=all_cameras), at=self.now())
        self.users[name] = user.id
        self.grants[name] = Grants(cameras=cameras, all_cameras=all_cameras)
        return user.id

    def ensure_cameras(self) -> None:
        """The two cameras, again where a test removed one, and an event of each with a picture."""
        again = False
        for camera_id in (OWN, OTHER):
            try:
                add_camera(
                    self.engine,
                    CameraConfig(camera_id=camera_id, name=str(camera_id), url="demo://plaza?seed=1", enabled=False),
                )
            except Conflict:
                continue
            again = True
        if again:
            with self.engine.begin() as connection:
                for name, grants in self.grants.items():
                    set_grants(connection, self.users[name], grants, at=self.now())
        for camera_id in (OWN, OTHER):
            if camera_id not in self.events:
                self.events[camera_id] = self.add_event(camera_id)

    def add_event(self, camera_id: CameraId, **changes: Any) -> str:
        event = make_event(camera_id=camera_id, **changes)
        name = f"{camera_id}/{event.id}.jpg"
        path = self.config.media_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _, picture = cv2.imencode(".jpg", np.full((36, 64, 3), 90, np.uint8))
        path.write_bytes(picture.tobytes())
        media = (EventMedia(kind="snapshot", file=name, sha256="ab" * 32, size_bytes=path.stat().st_size),)
        with self.engine.begin() as connection:
            upsert_events(connection, [msgspec.structs.replace(event, media=media, snapshot=name)])
        return event.id

    def token(self, name: str, lifetime_s: float = 600.0, kind: TokenKind = TokenKind.ACCESS) -> str:
        """An access token of a session of its own."""
        with self.engine.begin() as connection:
            user = get_user(connection, self.users[name])
            session_id = create_session(
                connection,
                user.id,
                token_hash=hash_token(new_token("t")),
                now=self.now(),
                expires_at=later_utc(self.now(), 3600),
                address="127.0.0.1",
                user_agent="tests",
            )
        claims = Claims(user.id, session_id, user.token_version)
        return self.keys.sign(kind, claims, now_s=time.time(), lifetime_s=lifetime_s)

    def key(self, name: str, *scopes: Scope, cameras: tuple[CameraId, ...] | None = None) -> str:
        secret = new_token("haetae_key")
        with self.engine.begin() as connection:
            create_key(
                connection,
                self.users[name],
                name="test",
                secret_hash=hash_token(secret),
                scopes=scopes,
                camera_ids=cameras,
                now=self.now(),
                expires_at=None,
            )
        return secret

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def run_api(config: Config, url: str = "", **environment: str) -> Iterator[httpx.Client]:
    """The api process and a client of it; it must end cleanly."""
    more = {
        "HAETAE_API__PORT": "0",
        "HAETAE_API__REQUESTS_PER_S": "10000",
        **({"HAETAE_DATABASE__URL": url} if url else {}),
        **environment,
    }
    log = config.logs_dir / "api.log"
    address = config.run_dir / "api.url"
    address.unlink(missing_ok=True)
    with log.open("ab") as file:
        process = spawn("api", config=config, stderr=file, environment=more)
    deadline = time.monotonic() + 90
    while not address.exists() or not address.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    client = httpx.Client(base_url=address.read_text(), timeout=60, verify=False)
    client.process = process  # type: ignore[attr-defined]
    deadline = time.monotonic() + 60
    while True:
        try:
            client.get("/healthz").raise_for_status()
            break
        except httpx.TransportError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    try:
        yield client
    finally:
        client.close()
        if process.poll() is None:
            process.terminate()
            assert process.wait(60) == 0, log.read_text()
