"""The address that a server may listen on: other machines require tokens and a list of host names."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from evalsvc.core.errors import InputError

LOCAL = ("localhost", "127.0.0.1", "::1")


def hosts_for(address: str, allowed: Sequence[str], tokens: int) -> tuple[str, ...]:
    """The host names that a server at this address accepts.

    Raises:
        InputError: the address is reachable from other machines, and there is no token or no allowed host name.
    """
    if any("*" in name for name in allowed):
        raise InputError(
            "EVALSVC_ALLOWED_HOSTS contains '*', which would allow every name: list the names that clients use"
        )
    names = tuple(name.lower() for name in allowed)
    if is_loopback(address):
        return tuple(dict.fromkeys((*LOCAL, address, *names)))
    if not names:
        raise InputError(
            f"{address} is reachable from other machines: set EVALSVC_ALLOWED_HOSTS to the names that clients use, or "
            "listen on 127.0.0.1"
        )
    if not tokens:
        raise InputError(
            f"{address} is reachable from other machines and there is no token: create one with "
            "'evalsvc token create NAME'"
        )
    return (*LOCAL, *names)


def is_loopback(address: str) -> bool:
    """Whether the address is reachable from this machine only."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
