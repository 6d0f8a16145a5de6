"""POST to an address that was checked: never a redirect, never another address than the one that was looked at."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from core.errors import AddressRefused
from core.security.networks import AllowedNetworks, resolve
from core.security.pinned import pinned_request
from workers.notifier.channels.base import DeliveryFailed, tls_context

__all__ = ["CheckedClient"]

TRY_AGAIN = {
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}
"""Of 4xx: a credential that is wrong is put right some time, and the message need not be lost for it."""
MAX_AFTER_S = 3600.0
"""A server may ask for patience, but not for ever."""


class CheckedClient:
    """Resolves the host at every request, checks each of its addresses, and connects to one of those."""

    def __init__(self, allowed: AllowedNetworks, purpose: str, *, connect_s: float, ca_file: str = "") -> None:
        """Raises ConfigError where `ca_file` cannot be read."""
        self._allowed, self._purpose, self._connect_s = allowed, purpose, connect_s
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            verify=tls_context(ca_file),
            timeout=httpx.Timeout(None, connect=connect_s),
            # each request resolves and connects by itself: a connection that is kept would skip the check
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status, 2xx; the answer's body is not read. Raises DeliveryFailed; the caller sets the time-out."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            addresses = await resolve(host, port, self._allowed, purpose=self._purpose, timeout_s=self._connect_s)
        except AddressRefused as error:
            raise DeliveryFailed(str(error)) from error
        failed = DeliveryFailed(f"{host} has no address")
        for address in addresses:
            request = pinned_request(self._client, parts, address, body, headers)
            try:
                response = await self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = DeliveryFailed(f"cannot connect to {host}: {error or type(error).__name__}")
                continue
            except httpx.HTTPError as error:
                raise DeliveryFailed(f"{host}: {type(error).__name__}") from error
            await response.aclose()
            return _checked(host, response)
        raise failed

    async def close(self) -> None:
        await self._client.aclose()


def _checked(host: str, response: httpx.Response) -> int:
    status = response.status_code
    if response.is_success:
        return status
    if response.is_redirect:
        raise DeliveryFailed(f"{host} answered {status}: redirects are not followed", permanent=True)
    again = status in TRY_AGAIN or status >= 500
    wait = response.headers.get("retry-after", "")
    after_s = min(float(wait), MAX_AFTER_S) if wait.isdigit() else 0.0
    raise DeliveryFailed(f"{host} answered {status}", permanent=not again, after_s=after_s, status=status)
