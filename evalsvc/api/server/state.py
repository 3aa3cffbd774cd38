"""The state shared by all routes, and the settings of a server."""

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
    """Settings of the server, in addition to those of every process."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True, use_attribute_docstrings=True)

    checkpoint_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders whose checkpoints may be submitted by path, separated as in `PATH`."""
    allowed_hosts: Names = ()
    """Host names of the server, separated by commas."""
    webhook_private_hosts: Names = ()
    """Hosts of your own network that webhooks may call, separated by commas."""
    upload_limit: ByteSize = UPLOAD_LIMIT
    """Largest upload, such as `20GB`."""
    trusted_proxies: Names = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-For` names the client, separated by commas."""
    connections: int = Field(4000, ge=16)
    """Limit on open connections."""
    connections_per_address: int = Field(500, ge=8)
    """Limit on the connections of one address."""
    streams: int = Field(1000, ge=1)
    """Limit on open event streams."""
    streams_per_token: int = Field(400, ge=1)
    """Limit on the event streams of one token."""
    opening_processes: int = Field(2, ge=1, le=64)
    """Processes that load checkpoints."""
    gate_processes: int = Field(2, ge=1, le=64)
    """Processes that decide gates."""
    task_seconds: float = Field(SECONDS, gt=0)
    """Time limit for loading a checkpoint or deciding a gate."""

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
    task_processes: TaskProcesses
    artifacts: Artifacts
    boards: Recent = field(default_factory=lambda: Recent(BOARD_BYTES))
    keys: SecretKeys = NO_KEYS

    @classmethod
    def open(cls, settings: Settings, server: ServerSettings, plugins: tuple[Path, ...] = ()) -> Server:
        """Open the database; task processes start with their first task."""
        task_processes = TaskProcesses(plugins, server.opening_processes, server.gate_processes, server.task_seconds)
        artifacts = open_artifacts(settings)
        return cls(
            Database(settings.database), settings.uploads, server, task_processes, artifacts, keys=settings.secret_keys
        )


async def _server(request: Request) -> Server:
    found: Server = request.app.state.server
    return found


ServerDep = Annotated[Server, Depends(_server)]
"""The server, as a parameter of a route."""
