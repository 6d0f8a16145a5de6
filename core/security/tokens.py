"""Tokens: signed short-lived ones (JWT), opaque ones that are stored as hashes, and tickets that are used once."""

import enum
import hashlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msgspec

from core.errors import SecretError, TokenRefused
from core.ids import uuid7

__all__ = ["Claims", "KeyRing", "Tickets", "TokenKind", "hash_token", "new_token"]

ISSUER = "haetae"
ALGORITHM = "HS256"
KEY_FILE = "signing.keys"
LOOK_S = 1.0
LEEWAY_S = 5
VERIFIED = 2000
"""Tokens whose signature is not checked again."""
KEPT_KEYS = 2
"""The current key and the one before: what it signed lives on until it expires."""


class TokenKind(enum.StrEnum):
    """`typ` of a token: one kind is never taken for another."""

    ACCESS = "access"
    MEDIA = "media"
    """In a cookie, for pictures and clips that a page shows: good for reading those only."""


class Claims(msgspec.Struct, frozen=True):
    user_id: str
    session_id: str
    token_version: int
    """The user's when it was issued; void where theirs is another by now."""


def new_token(prefix: str) -> str:
    """256 random bits; the prefix says what it is, to people and to scanners for leaked secrets."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def hash_token(token: str) -> str:
    """As it is stored. Random tokens need no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


class KeyRing:
    """Signs with the newest key, reads with all; the file is 0600, a line a key, "kid secret", the newest first."""

    def __init__(self, folder: Path) -> None:
        """Reads the keys, or makes the first; raises SecretError."""
        self._file = folder / KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._file.exists():
                self._write([])
            if self._file.stat().st_mode & 0o077:
                raise SecretError(f"{self._file} may be read by others", f"chmod 600 {self._file}")
            self._held: dict[str, str] = {}
            self._changed_ns = 0
            self._look_at = 0.0
            self._verified: dict[tuple[TokenKind, str], tuple[Claims, str, int]] = {}
            """What was read before and the key and the end of it: most requests come with a token seen before."""
            self._keys()
        except (OSError, ValueError) as error:
            raise SecretError(f"cannot read {self._file}: {error}", "remove it: everybody logs in again") from error

    def _keys(self) -> dict[str, str]:
        """By kid, the newest first; read again, within a second, when another process has rotated them."""
        if time.monotonic() < self._look_at:
            return self._held
        self._look_at = time.monotonic() + LOOK_S
        changed_ns = self._file.stat().st_mtime_ns
        if changed_ns != self._changed_ns:
            keys = dict(line.split() for line in self._file.read_text().splitlines() if line.strip())
            if not keys:
                raise ValueError("it is empty")
            self._held, self._changed_ns = keys, changed_ns
        return self._held

    def _write(self, older: list[str]) -> None:
        lines = [f"{secrets.token_hex(4)} {secrets.token_urlsafe(48)}", *older][:KEPT_KEYS]
        number, name = tempfile.mkstemp(dir=self._file.parent)
        with os.fdopen(number, "w") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(number)
        Path(name).replace(self._file)

    def rotate(self) -> None:
        """A new key signs from now on; what the one before it signed is still read."""
        self._write([f"{kid} {secret}" for kid, secret in self._keys().items()])
        self._look_at = 0.0

    def sign(self, kind: TokenKind, claims: Claims, *, now_s: float, lifetime_s: float) -> str:
        keys = self._keys()
        kid = next(iter(keys))
        body = {
            "iss": ISSUER,
            "aud": ISSUER,
            "typ": kind,
            "sub": claims.user_id,
            "sid": claims.session_id,
            "ver": claims.token_version,
            "jti": str(uuid7()),
            "iat": int(now_s),
            "exp": int(now_s + lifetime_s),
        }
        return jwt.encode(body, keys[kid], ALGORITHM, headers={"kid": kid})

    def read(self, kind: TokenKind, token: str) -> Claims:
        """Raises TokenRefused for one that is not ours, not of this kind, or over."""
        mark = kind, hash_token(token)
        claims, kid, expires = self._verified.get(mark, (None, "", 0))
        if claims is None or kid not in self._keys() or expires <= time.time() - LEEWAY_S:
            claims, kid, expires = self._verify(kind, token)
            if len(self._verified) >= VERIFIED:
                self._verified.clear()
            self._verified[mark] = claims, kid, expires
        return claims

    def _verify(self, kind: TokenKind, token: str) -> tuple[Claims, str, int]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            secret = self._keys().get(kid) if isinstance(kid, str) else None
            if secret is None:
                raise TokenRefused("the token was not signed here")
            body: dict[str, Any] = jwt.decode(
                token,
                secret,
                algorithms=[ALGORITHM],
                audience=ISSUER,
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "jti", "aud", "iss"]},
                leeway=LEEWAY_S,
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("the token has expired") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenRefused("the token is not valid") from error
        if body.get("typ") != kind or not isinstance(body.get("ver"), int):
            raise TokenRefused("the token is of another kind")
        claims = Claims(str(body["sub"]), str(body.get("sid", "")), body["ver"])
        return claims, str(kid), int(body["exp"])


class Tickets:
    """Short-lived tickets, each good once, in memory: whoever opens a socket shows one. Safe from several threads."""

    def __init__(self, monotonic: Callable[[], float], lifetime_s: float = 30.0, limit: int = 10_000) -> None:
        self._monotonic, self._lifetime_s, self._limit = monotonic, lifetime_s, limit
        self._held: dict[str, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    def issue(self, what: Any) -> str:
        token = new_token("ticket")
        with self._lock:
            now = self._monotonic()
            while self._held and (len(self._held) >= self._limit or next(iter(self._held.values()))[0] <= now):
                del self._held[next(iter(self._held))]
            self._held[hash_token(token)] = now + self._lifetime_s, what
        return token

    def use(self, token: str) -> Any:
        """What it was issued for; raises TokenRefused for one that was used, is too old, or never was."""
        with self._lock:
            until, what = self._held.pop(hash_token(token), (0.0, None))
        if until <= self._monotonic():
            raise TokenRefused("the ticket was used, or is too old")
        return what
