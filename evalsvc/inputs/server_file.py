"""The server file: YAML with the features that the operator allows to clients, named by EVALSVC_SERVER_FILE.

The API and the workers read it. Without it, there are no endpoints, and clients may use the plug-ins that declare
``client_options``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, PrivateAttr, ValidationError

from evalsvc.core import http_client
from evalsvc.core.errors import InputError
from evalsvc.core.files.yaml12 import PolicyLoader
from evalsvc.core.settings import ClientSettings
from evalsvc.inputs.checkpoint_folders import endpoint_name
from evalsvc.inputs.endpoints import LARGEST, Endpoint
from evalsvc.inputs.token_prices import Price

VARIABLE = "EVALSVC_SERVER_FILE"
EndpointName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Options = frozenset[str] | None


class NamedEndpoint(Endpoint):
    """An endpoint that clients may name. Only a ``private`` endpoint may have an address in a private network."""

    private: bool = False
    _name: str = PrivateAttr("")

    @property
    def called(self) -> str:
        """Name of the endpoint, under which clients know it."""
        return f"endpoint {self._name!r}"

    async def _send(self, url: str, content: bytes, headers: Mapping[str, str]) -> http_client.Answer:
        hosts = [http_client.Target.parse(url).host] if self.private else []
        try:
            return await http_client.post(
                url, content, headers, private_hosts=hosts, seconds=self.timeout, most=LARGEST
            )
        except InputError as error:
            raise InputError(
                f"{self.called} has no public address: set 'private: true' in the server file if the server is yours",
                detail=str(error),
            ) from None


class Quota(BaseModel):
    """Limits of one token; ``None`` means unlimited. Sizes are numbers of bytes, or text such as ``200GB``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uploads_a_day: ByteSize | None = None
    uploads_kept: ByteSize | None = None
    queued: int | None = Field(None, ge=0)
    device_seconds_a_day: float | None = Field(None, ge=0, allow_inf_nan=False)


class Limits(BaseModel):
    """The default quota of tokens, and the quotas of named tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: Quota = Quota()
    tokens: dict[str, Quota] = {}

    def of(self, token: str) -> Quota:
        """The quota of the token with this name."""
        own = self.tokens.get(token, Quota())
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


class Clients(BaseModel):
    """Generators, extractors and scorers that clients may use, with the options of each; ``null`` means those that
    it declares itself.

    A given list replaces the default. Metrics are listed in addition to those of evalsvc.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generators: dict[str, Options] | None = None
    extractors: dict[str, Options] | None = None
    scorers: dict[str, Options] | None = None
    metrics: frozenset[str] = frozenset()


class ServerFile(BaseModel):
    """The whole file. ``prices`` by model are those of the endpoints that have no price of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: dict[EndpointName, NamedEndpoint] = {}
    prices: dict[str, Price] = {}
    clients: Clients = Clients()
    limits: Limits = Limits()

    def model_post_init(self, _context: Any) -> None:
        """Set the name of each endpoint."""
        for name, endpoint in self.endpoints.items():
            endpoint._name = name

    def endpoint(self, name: str) -> NamedEndpoint:
        """The endpoint with this name.

        Raises:
            InputError: it does not exist.
        """
        if name not in self.endpoints:
            known = ", ".join(self.endpoints) or "none"
            raise InputError(
                f"there is no endpoint {name!r} (available: {known}): list it under 'endpoints' in the file that "
                f"{VARIABLE} names, for the API and for every worker"
            )
        return self.endpoints[name]


def server_file() -> ServerFile:
    """The current server file; an empty one if the variable is not set.

    Raises:
        InputError: the file cannot be read, or a key is unknown or has an invalid value.
    """
    path = ClientSettings().server_file
    if path is None:
        return ServerFile()
    try:
        stat = path.stat()
        return _read(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError as error:
        raise InputError(f"cannot read {VARIABLE}={path} ({error.strerror or error})") from None


def open_endpoint(where: str | os.PathLike[str]) -> Endpoint:
    """The endpoint of a checkpoint or option: ``endpoint:NAME`` in the server file, or the path of a JSON file."""
    name, file = endpoint_name(where), server_file()
    endpoint = Endpoint.read(Path(where)) if name is None else file.endpoint(name)
    price = file.prices.get(endpoint.model) if endpoint.price is None else None
    return endpoint if price is None else endpoint.model_copy(update={"price": price})


@lru_cache(maxsize=4)
def _read(path: Path, _stamp: tuple[int, int, int]) -> ServerFile:
    try:
        data = yaml.load(path.read_text(), PolicyLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return ServerFile.model_validate({} if data is None else data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        unknown = first["type"] == "extra_forbidden"
        reason = "unknown key" if unknown else first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where}: {reason}") from None
