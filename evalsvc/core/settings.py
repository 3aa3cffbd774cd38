"""Settings from the environment: where things are kept, and how workers watch each other."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL

from evalsvc.core.environment import variable
from evalsvc.core.errors import InputError
from evalsvc.core.observability import logs
from evalsvc.core.secret_keys import SecretKeys


class FromEnvironment(BaseSettings):
    """Settings of which a wrong, a misspelt or an empty one is an error that names its variable."""

    def __init__(self, **values: Any) -> None:
        fields = {name.upper() for name in type(self).model_fields}
        given = {name.upper() for name in values}
        for name in os.environ:
            prefix, _, field = name.upper().partition("_")
            if prefix != "EVALSVC" or field in given:
                continue
            if field in fields:
                variable(name)
            elif near := difflib.get_close_matches(field, fields, n=1, cutoff=0.75):
                raise InputError(f"environment variable {name} is unknown: did you mean EVALSVC_{near[0]}?")
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = str(first["loc"][0])
            secret = type(self).model_fields[wrong].annotation is SecretStr
            shown = "" if secret else f", not {first['input']!r}"
            raise InputError(f"EVALSVC_{wrong.upper()}: {first['msg'].removeprefix('Value error, ')}{shown}") from None


Names = Annotated[tuple[str, ...], NoDecode]
"""Separated by commas."""


def separated(value: Any) -> Any:
    """The names in a text."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class ClientSettings(FromEnvironment):
    """Settings for clients of the API (:mod:`evalsvc.inputs.server_file`)."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True, use_attribute_docstrings=True)

    torch_modules: Names = ()
    """Packages from which `torch-module` may build networks for clients, separated by commas."""
    server_file: Path | None = None
    """YAML file with the endpoints, plug-ins and quotas of clients."""

    @field_validator("torch_modules", mode="before")
    @classmethod
    def _modules(cls, value: Any) -> Any:
        return separated(value)


class Settings(FromEnvironment):
    """Settings of every process."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True, use_attribute_docstrings=True)

    home: Path = Path(".evalsvc")
    """Folder of everything that has no other place."""
    database_url: str = ""
    """`postgresql://...`; by default SQLite under the home."""
    artifacts: str = ""
    """Path or URL of the artifact store; by default a folder of the home."""
    kept_samples: ByteSize = ByteSize(2 * 2**30)
    """Bytes of samples that each evaluation with scorers or items keeps, such as `2GiB`."""
    heartbeat: float = Field(5.0, gt=0)
    """Seconds between heartbeats of a worker."""
    dead_after: float = Field(30.0, gt=0)
    """Seconds without a heartbeat until a worker's work is reassigned."""
    stall_after: float = Field(1800.0, gt=0)
    """Seconds without a finished batch until a worker ends itself."""
    log: logs.Form = "text"
    """Form of the log of long-running processes."""
    log_level: logs.Level = "info"
    """Least level that is logged."""
    traces: bool = False
    """Whether OpenTelemetry spans are created."""
    file_mode: Literal["private", "group"] = "private"
    """Whether new files are for their user alone, or for a group."""
    secret_key: SecretStr = SecretStr("")
    """Keys from which secrets of webhooks are derived, separated by commas, newest first."""

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        SecretKeys.parse(value.get_secret_value())
        return value

    @property
    def secret_keys(self) -> SecretKeys:
        """The keys of ``secret_key``."""
        return SecretKeys.parse(self.secret_key.get_secret_value())

    @property
    def uploads(self) -> Path:
        """Where checkpoints that were uploaded to the API are kept, by digest."""
        return self.home.resolve() / "uploads"

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force: SQLite under ``home`` unless another is given."""
        file = URL.create("sqlite", database=str(self.home.resolve() / "evalsvc.db"))
        return self.database_url or file.render_as_string()
