"""The site's key for Web Push (VAPID, RFC 8292): browsers take its public half when they ask to be told."""

import base64
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import SecretError

__all__ = ["VapidKey"]

KEY_FILE = "vapid.pem"
LIFETIME_S = 12 * 3600
"""Of a signature; RFC 8292 allows 24 hours at most."""


class VapidKey:
    """A P-256 key in a file that is ours alone; it is made where there is none, and must then stay the same."""

    def __init__(self, folder: Path) -> None:
        """Reads the key in `folder`, or makes it; raises SecretError."""
        file = folder / KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not file.exists():
                _make(file)
            if file.stat().st_mode & 0o077:
                raise SecretError(f"{file} may be read by others", f"chmod 600 {file}")
            key = serialization.load_pem_private_key(file.read_bytes(), None)
        except OSError as error:
            raise SecretError(f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise SecretError(
                f"{file} holds no key", "remove it: a new one is made, and browsers have to ask anew"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SecretError(f"{file} holds a key of another kind", "remove it: browsers have to ask anew")
        self._key = key

    @property
    def public(self) -> str:
        """What a browser calls applicationServerKey: the point, uncompressed, in base64url."""
        form = serialization.PublicFormat.UncompressedPoint
        point = self._key.public_key().public_bytes(serialization.Encoding.X962, form)
        return base64.urlsafe_b64encode(point).rstrip(b"=").decode()

    def authorization(self, endpoint: str, contact: str) -> str:
        """The header `Authorization` for a push service."""
        parts = urlsplit(endpoint)
        claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": int(time.time()) + LIFETIME_S, "sub": contact}
        return f"vapid t={jwt.encode(claims, self._key, 'ES256')}, k={self.public}"


def _make(file: Path) -> None:
    """The first of several that start at once wins."""
    key = ec.generate_private_key(ec.SECP256R1())
    number, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(number, "wb") as written:
        written.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        written.flush()
        os.fsync(number)
    try:
        os.link(name, file)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
