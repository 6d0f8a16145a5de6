"""Which addresses Haetae may call on behalf of its users, by purpose; checked on what a name resolves to.

Whoever may enter a URL could otherwise make this machine speak to services that only it can reach. The address that
was checked is the one to connect to: asking the name again may bring another (DNS rebinding).
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache

from core.errors import AddressRefused, ConfigError

__all__ = ["AllowedNetworks", "resolve", "resolve_now"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAMED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
}
"""RFC 1918, RFC 6598 and RFC 4193; "public" is whatever is reachable globally."""

NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "169.254.0.0/16",  # link-local, and the metadata services of most clouds
            "100.100.100.200/32",  # metadata, Alibaba Cloud
            "168.63.129.16/32",  # metadata, Azure
            "192.0.0.192/32",  # metadata, Oracle Cloud
            "fd00:ec2::254/128",  # metadata, AWS
            "fd20:ce::254/128",  # metadata, Google Cloud
            "224.0.0.0/4",
            "255.255.255.255/32",
            "::/128",
            "fe80::/10",
            "ff00::/8",
        ),
    )
)
"""Whatever is configured."""


@lru_cache(maxsize=32)
def _networks(names: tuple[str, ...]) -> tuple[tuple[Network, ...], bool]:
    found: list[Network] = []
    for name in names:
        try:
            found += map(ipaddress.ip_network, NAMED.get(name, () if name == "public" else (name,)))
        except ValueError as error:
            raise ConfigError(
                f"not a network: {name!r}", 'write "loopback", "private", "public" or 192.168.1.0/24'
            ) from error
    return tuple(found), "public" in names


class AllowedNetworks:
    """The networks of one purpose, such as ("private", "203.0.113.0/24")."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises ConfigError for a name that is no network."""
        self.names = tuple(names)
        self._networks, self._public = _networks(self.names)

    def allows(self, address: str | Address) -> bool:
        """Whether this address may be called; an IPv4 address inside an IPv6 one counts as that."""
        one = _plain(ipaddress.ip_address(address))
        if any(one in network for network in NEVER):
            return False
        return (self._public and one.is_global) or any(one in network for network in self._networks)


def _plain(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.scope_id:
            return ipaddress.IPv6Address(int(address))
    return address


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def resolve_now(host: str, port: int, allowed: AllowedNetworks, *, purpose: str) -> list[str]:
    """The addresses of a host, all of them allowed; blocks as long as the resolver does.

    Raises AddressRefused where even one is not (which of them a program would take is chance), or there is none.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{host} is not known to the name server", "check the spelling") from error
    return _checked(host, [str(one[4][0]) for one in found], allowed, purpose)


async def resolve(host: str, port: int, allowed: AllowedNetworks, *, purpose: str, timeout_s: float = 5.0) -> list[str]:
    """As `resolve_now`, beside other work, and within `timeout_s`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise AddressRefused(f"the name server did not answer for {host} within {timeout_s:g} s") from error
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{host} is not known to the name server", "check the spelling") from error
    return _checked(host, [str(one[4][0]) for one in found], allowed, purpose)


def _checked(host: str, addresses: list[str], allowed: AllowedNetworks, purpose: str) -> list[str]:
    for address in addresses:
        if not allowed.allows(address):
            raise AddressRefused(
                f"{host} is at {address}, which {purpose} may not be",
                f"an administrator allows it with networks.{purpose}, where it can be allowed at all",
            )
    return list(dict.fromkeys(addresses))
