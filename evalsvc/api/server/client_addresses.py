"""From which address a request comes: proxies are seen through, and the networks of IPv6 clients count as one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from evalsvc.core.errors import InputError


def address_key(host: str) -> str:
    """The key of an address: an IPv4 address, or the /64 network of an IPv6 client."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


class TrustedProxies:
    """The addresses and networks whose ``X-Forwarded-For`` is trusted.

    Raises:
        InputError: an entry is neither an address nor a network, or covers all addresses.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self.listed = tuple(listed)
        try:
            self._networks = [ipaddress.ip_network(each) for each in self.listed]
        except ValueError as error:
            raise InputError(
                f"EVALSVC_TRUSTED_PROXIES: {error}: list addresses or networks, such as 10.0.0.5"
            ) from None
        if any(network.prefixlen == 0 for network in self._networks):
            raise InputError("EVALSVC_TRUSTED_PROXIES covers every address: list the addresses of your proxies")

    def __contains__(self, host: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
