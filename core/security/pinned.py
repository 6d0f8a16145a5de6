"""Requests to an address that was checked: the name stands in the header and in the TLS handshake, nothing more."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult

import httpx

__all__ = ["pinned_request"]


def pinned_request(
    client: httpx.AsyncClient, parts: SplitResult, address: str, body: bytes, headers: Mapping[str, str]
) -> httpx.Request:
    """A POST for the host of `parts` that goes to `address`, one of those that core.security.networks.resolve gave."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    literal = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    target = f"{parts.scheme}://{literal}:{port}{parts.path or '/'}" + (f"?{parts.query}" if parts.query else "")
    named = {**headers, "Host": parts.netloc}
    return client.build_request(
        "POST", target, content=body, headers=named, extensions={"sni_hostname": parts.hostname or ""}
    )
