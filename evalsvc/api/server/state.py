"""What every route works with, and what the operator of a server decides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import ByteSize, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from evalsvc.api.server.response_cache import Recent
from evalsvc.api.server.task_process import SECONDS, TaskProcesses
from evalsvc.core.secret_keys import NO_KEYS, SecretKeys
from evalsvc.core.settings import ClientSettings, Names, Settings, separated
from evalsvc.store.artifacts import Artifacts, open_artifacts
from evalsvc.store.session import Database

UPLOAD_LIMIT = ByteSize(4 * 2**30)
BOARD_BYTES = 32 * 2**20


class ServerSettings(ClientSettings):
    """From the environment, each ``EVALSVC_`` and the name in capitals. Lists are separated by commas.

    ``checkpoint_roots`` are the folders whose checkpoints may be submitted (separated as in PATH);
    ``allowed_hosts`` the names by which clients may call the server; ``webhook_private_hosts`` those of your own
    network that webhooks may go to. ``trusted_proxies`` are the addresses and networks whose ``X-Forwarded-For`` says
    who asks; ``connections`` and ``connections_per_address`` are how many may be open, ``streams`` and
    ``streams_per_token`` how many of them may be streams of events. ``opening_processes`` open checkpoints and
    ``gate_processes`` decide gates, for ``task_seconds`` each at most.
    """

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True)

    checkpoint_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    allowed_hosts: Names = ()
    webhook_private_hosts: Names = ()
    upload_limit: ByteSize = UPLOAD_LIMIT
    trusted_proxies: Names = ()
    connections: int = Field(4000, ge=16)
    connections_per_address: int = Field(500, ge=8)
    streams: int = Field(1000, ge=1)
    streams_per_token: int = Field(400, ge=1)
    opening_processes: int = Field(2, ge=1, le=64)
    gate_processes: int = Field(2, ge=1, le=64)
    task_seconds: float = Field(SECONDS, gt=0)

    @field_validator("checkpoint_roots", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("allowed_hosts", "webhook_private_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return separated(value)


@dataclass(frozen=True)
class Server:
    """An open server."""

    database: Database
    uploads: Path
    settings: ServerSettings
    backroom: TaskProcesses
    artifacts: Artifacts
    boards: Recent = field(default_factory=lambda: Recent(BOARD_BYTES))
    keys: SecretKeys = NO_KEYS

    @classmethod
    def open(cls, settings: Settings, server: ServerSettings, plugins: tuple[Path, ...] = ()) -> Server:
        """Open the database; the back room starts with its first task."""
        backroom = TaskProcesses(plugins, server.opening_processes, server.gate_processes, server.task_seconds)
        artifacts = open_artifacts(settings)
        return cls(
            Database(settings.database), settings.uploads, server, backroom, artifacts, keys=settings.secret_keys
        )


async def _server(request: Request) -> Server:
    found: Server = request.app.state.server
    return found


ServerDep = Annotated[Server, Depends(_server)]
"""The server, as a parameter of a route."""
