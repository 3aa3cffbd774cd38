"""Where a server may listen: beyond this machine only with tokens, and only by names that are said."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from evalsvc.core.errors import InputError

LOCAL = ("localhost", "127.0.0.1", "::1")


def hosts_for(address: str, allowed: Sequence[str], tokens: int) -> tuple[str, ...]:
    """The host names that a server at this address answers to.

    Raises:
        InputError: the address is open to others, and there is no token, or no allowed name.
    """
    if any("*" in name for name in allowed):
        raise InputError("EVALSVC_ALLOWED_HOSTS holds '*', which allows every name: list the names clients call")
    names = tuple(name.lower() for name in allowed)
    if is_loopback(address):
        return tuple(dict.fromkeys((*LOCAL, address, *names)))
    if not names:
        raise InputError(
            f"{address} is open to others: set EVALSVC_ALLOWED_HOSTS to the names by which clients call this server, "
            "or listen on 127.0.0.1"
        )
    if not tokens:
        raise InputError(
            f"{address} is open to others and there is no token yet: 'evalsvc token create NAME' makes one"
        )
    return (*LOCAL, *names)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
