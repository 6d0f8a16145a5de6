"""Second factors: time-based one-time passwords (RFC 6238) and recovery codes."""

import base64
import os
import secrets

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from core.security.tokens import hash_token

__all__ = ["accept_code", "new_recovery_codes", "new_secret", "provisioning_uri", "recovery_hash"]

STEP_S = 30
WINDOW = 1
"""Steps that a clock may be off, either way."""
RECOVERY_CODES = 8


def new_secret() -> str:
    """160 random bits, base32: what authenticator apps take."""
    return base64.b32encode(os.urandom(20)).decode()


def _totp(secret: str) -> TOTP:
    # SHA-1 with 6 digits is what every app does; HMAC does not need a hash without collisions.
    return TOTP(base64.b32decode(secret), 6, SHA1(), STEP_S)  # noqa: S303 - see above


def provisioning_uri(secret: str, name: str) -> str:
    return _totp(secret).get_provisioning_uri(name, "Haetae")


def accept_code(secret: str, code: str, *, now_s: float, last_step: int) -> int | None:
    """The time step whose code this is; None where it is wrong or its step was used: `last_step` or before."""
    plain = code.replace(" ", "")
    if len(plain) != 6 or not plain.isascii() or not plain.isdigit():
        return None
    totp = _totp(secret)
    for step in range(int(now_s) // STEP_S - WINDOW, int(now_s) // STEP_S + WINDOW + 1):
        try:
            totp.verify(plain.encode(), step * STEP_S)
        except InvalidToken:
            continue
        return step if step > last_step else None
    return None


def new_recovery_codes() -> list[str]:
    """Shown once; stored by `recovery_hash`."""
    return ["-".join(secrets.token_hex(3) for _ in range(3)) for _ in range(RECOVERY_CODES)]


def recovery_hash(code: str) -> str:
    return hash_token(code.strip().lower())
