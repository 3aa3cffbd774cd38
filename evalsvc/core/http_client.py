"""HTTP client for destinations that come from data: checks and pins the address, and limits the response.

The name is resolved here and the connection uses a checked address, so that DNS rebinding has no effect. Proxies,
certificates and passwords of the environment are ignored, and redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from evalsvc.core.errors import EvalsvcError, InputError

if TYPE_CHECKING:  # reading commands must not wait for this import
    import ssl

    import httpx

# It logs complete URLs, and those of webhooks often contain a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OutboundError(EvalsvcError):
    """A request failed. The message is safe to show; ``detail`` is the response of the network or the server."""


@dataclass(frozen=True)
class Answer:
    """The response of a server; ``retry_after`` is its header of this name."""

    status: int
    body: bytes = b""
    retry_after: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Target:
    """A plain web address, without user and fragment. ``host`` is in ASCII, an IPv6 address without brackets."""

    url: httpx.URL
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Target:
        """Parse a URL.

        Raises:
            InputError: it is not a plain http or https address.
        """
        import httpx

        try:
            parsed, split = httpx.URL(url), urlsplit(url)
            user = split.username is not None or bool(parsed.userinfo)
        except (httpx.InvalidURL, ValueError) as error:
            raise InputError(f"{url!r} is not a web address ({error})") from None
        plain = parsed.scheme in ("http", "https") and parsed.host and not user and "#" not in url and url.isprintable()
        if not plain or any(letter in url for letter in " \\"):
            raise InputError(f"{url!r} is not a plain web address: use https://host/path")
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        if port > 65535:
            raise InputError(f"{url!r} has an invalid port: use 1 to 65535")
        return cls(parsed, parsed.raw_host.decode("ascii"), port)

    def is_one_of(self, hosts: Collection[str]) -> bool:
        """Whether the host is in the list, ignoring case."""
        return self.host in {host.lower().strip("[]") for host in hosts}


async def post(
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    *,
    private_hosts: Collection[str] = (),
    seconds: float,
    most: int = 0,
) -> Answer:
    """Send a request once to a checked address.

    ``seconds`` limit the whole exchange, ``most`` the bytes of the response body.

    Raises:
        InputError: the URL is not plain, or its host is neither public nor in ``private_hosts``.
        OutboundError: the connection failed, timed out, or the response is too long.
    """
    target = Target.parse(url)
    try:
        async with asyncio.timeout(seconds):  # in total: a response that arrives byte by byte never ends
            addresses = await asyncio.to_thread(addresses_of, target, private_hosts)
            return await _first(target, addresses, content, headers, most)
    except TimeoutError:
        raise OutboundError(f"timed out after {seconds:g} s") from None


async def post_anywhere(
    url: str, content: bytes, headers: Mapping[str, str], *, seconds: float, most: int = 0
) -> Answer:
    """Send a request once to an operator's address, through the proxies of the environment; otherwise like ``post``."""
    import httpx

    target = Target.parse(url)
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(verify=_certificates(), timeout=None, follow_redirects=False) as client,
        ):
            return await _ask(client, client.build_request("POST", target.url, content=content, headers=headers), most)
    except TimeoutError:
        raise OutboundError(f"timed out after {seconds:g} s") from None


def run(request: Coroutine[Any, Any, T]) -> T:
    """The result of a request, for synchronous code."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(request)
    with ThreadPoolExecutor(1) as pool:  # a notebook runs its own event loop
        return pool.submit(asyncio.run, request).result()


def addresses_of(target: Target, private_hosts: Collection[str] = ()) -> list[str]:
    """All addresses of a host, which must be public unless the host is one of ``private_hosts``.

    Raises:
        InputError: the host has an address that is not public.
        OutboundError: the host does not resolve at present.
    """
    try:
        addresses = resolve(target.host, target.port)
    except (OSError, UnicodeError):
        raise OutboundError("cannot resolve the host", detail=repr(target.host)) from None
    if not target.is_one_of(private_hosts):
        for text in addresses:
            if not is_public(text):
                raise InputError(f"host {target.host!r} is not public (its address is {text})")
    return addresses


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a host, from the system resolver."""
    return list(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


# IANA's special-purpose registries, and public addresses at which clouds serve metadata to their own machines. The
# tables of ``ipaddress`` differ between Python versions and lack relays and local translation.
_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
]
_IPV6_GLOBAL = ipaddress.IPv6Network("2000::/3")
_IPV6 = [
    # Protocol assignments with Teredo, documentation, 6to4, the former 6bone.
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "3ffe::/16")
]
_IPV4_INSIDE = [ipaddress.IPv6Network(network) for network in ("::ffff:0:0/96", "64:ff9b::/96")]
"""Mapped addresses and the well-known prefix of NAT64, which embed an IPv4 address in the last 32 bits."""


def is_public(text: str) -> bool:
    """Whether an address is on the public internet; unknown kinds of addresses are not."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return False
        if not any(address in network for network in _IPV4_INSIDE):
            return address in _IPV6_GLOBAL and not any(address in network for network in _IPV6)
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return not any(address in network for network in _IPV4)


async def _first(target: Target, addresses: list[str], content: bytes, headers: Mapping[str, str], most: int) -> Answer:
    """The response from the first address that accepts the connection."""
    import httpx

    async with httpx.AsyncClient(
        trust_env=False, verify=_certificates(), timeout=None, follow_redirects=False
    ) as client:
        for left, address in enumerate(addresses, start=1 - len(addresses)):
            request = client.build_request(
                "POST",
                target.url.copy_with(host=address),
                content=content,
                headers={"host": target.url.netloc.decode("ascii"), **headers},
                extensions={"sni_hostname": target.host},
            )
            try:
                return await _ask(client, request, most)
            except OutboundError as error:
                if not left or not isinstance(error.__cause__, httpx.ConnectError):
                    raise
    raise AssertionError("the last address returns or raises")


async def _ask(client: httpx.AsyncClient, request: httpx.Request, most: int) -> Answer:
    import httpx

    # A compressed body could expand a thousandfold.
    request.headers.update({"accept-encoding": "identity", "user-agent": "evalsvc"})
    try:
        response = await client.send(request, stream=True)
        try:
            body = bytearray()
            if most:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > most:
                        raise OutboundError(f"the response is longer than {most} bytes")
            return Answer(response.status_code, bytes(body), response.headers.get("retry-after", ""))
        finally:
            await response.aclose()
    except httpx.ConnectError as error:
        raise OutboundError("the connection failed", detail=f"{type(error).__name__}: {error}") from error
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise OutboundError("the response is not valid HTTP", detail=f"{type(error).__name__}: {error}") from error


@cache
def _certificates() -> ssl.SSLContext:
    """Certificate authorities of the system, which may include the operator's, and of ``certifi`` for bare images."""
    import httpx

    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
