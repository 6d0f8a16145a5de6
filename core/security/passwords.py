"""Passwords: argon2id, a bounded number at a time, and the rules for new ones."""

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import ConfigError

__all__ = ["Passwords", "check_new_password"]

AT_ONCE = 2
"""Each takes 46 MiB for some 40 ms: more at once would let strangers use up the memory."""
_HASHER = PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
"""OWASP Password Storage Cheat Sheet: argon2id, m = 46 MiB, t = 1, p = 1."""
_COMMON = frozenset(
    [
        "password1234",
        "password12345",
        "passwordpassword",
        "123456789012",
        "1234567890123",
        "qwertyuiop12",
        "qwertyuiopas",
        "adminadmin12",
        "administrator",
        "administrator1",
        "letmeinletmein",
        "iloveyou1234",
        "welcome12345",
        "changeme1234",
        "changemechangeme",
        "111111111111",
        "000000000000",
        "abcdefghijkl",
        "abcd12345678",
        "hikvision1234",
        "hikvision12345",
        "surveillance",
        "security1234",
        "camera123456",
    ]
)


def check_new_password(password: str, name: str) -> str:
    """The password in the one form that is hashed (NFC); raises ConfigError for one that is easily guessed.

    12 to 128 characters, of any kind (NIST SP 800-63B: length counts, not its composition).
    """
    password = unicodedata.normalize("NFC", password)
    if not 12 <= len(password) <= 128:
        raise ConfigError("a password has 12 to 128 characters", "three or four words that do not belong together do")
    plain = password.casefold()
    if plain in _COMMON or len(set(plain)) < 5 or (len(name) > 3 and name.casefold() in plain):
        raise ConfigError("this password is among the first that are tried", "take one that nobody else has")
    return password


class Passwords:
    """Hashes and verifies; safe from several threads, of which `AT_ONCE` proceed."""

    def __init__(self) -> None:
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._nobodys = _HASHER.hash("nobody has this password")

    def hash(self, password: str) -> str:
        with self._turns:
            return _HASHER.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the right one; takes as long where there is no user (None)."""
        with self._turns:
            try:
                _HASHER.verify(stored or self._nobodys, unicodedata.normalize("NFC", password))
            except (VerificationError, InvalidHashError):
                return False
            return stored is not None

    @staticmethod
    def is_outdated(stored: str) -> bool:
        """Whether it was made with other parameters than today's."""
        return _HASHER.check_needs_rehash(stored)
