"""Secrets at rest: sealed before they go into the database, with a key that does not lie there."""

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from core.errors import SecretError

__all__ = ["SecretBox"]

KEY_FILE = "sealing.keys"


class SecretBox:
    """Seals short texts with AES-128-CBC and HMAC-SHA256 (Fernet), under a key file that is ours alone.

    The file holds a key a line, the newest first: all of them open, the first one seals. It is made where there is
    none. A backup of the database is of no use to whoever lacks it, its owner included: keep a copy elsewhere.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the keys in `folder`, or makes the first; raises SecretError."""
        self._file = folder / KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._file.exists():
                self._make()
            if self._file.stat().st_mode & 0o077:
                raise SecretError(f"{self._file} may be read by others", f"chmod 600 {self._file}")
            self._fernet = MultiFernet([Fernet(line) for line in self._file.read_bytes().split()])
        except OSError as error:
            raise SecretError(f"cannot read {self._file}: {error.strerror}") from error
        except ValueError as error:
            raise SecretError(
                f"{self._file} holds no keys: {error}", "put back the copy of it that you keep"
            ) from error

    def _make(self) -> None:
        """The first of several that start at once wins."""
        number, name = tempfile.mkstemp(dir=self._file.parent)
        with os.fdopen(number, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(number)
        try:
            os.link(name, self._file)
        except FileExistsError:
            pass
        finally:
            Path(name).unlink()

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text; raises SecretError where no key opens it."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SecretError(
                f"a stored secret cannot be opened with the keys in {self._file}",
                "put back the copy of that file that you keep, or enter the secret anew",
            ) from error

    def seal_json(self, value: Any) -> str:
        return self.seal(msgspec.json.encode(value).decode())

    def open_json(self, sealed: str) -> Any:
        """What was sealed; {} of "". Raises SecretError."""
        return msgspec.json.decode(self.open(sealed)) if sealed else {}
