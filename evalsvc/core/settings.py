"""Settings from the environment: where things are kept, and how workers watch each other."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
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
    """``torch_modules`` are the packages from which the generator ``torch-module`` may build networks for clients;
    ``server_file`` says what else is open to them (:mod:`evalsvc.inputs.server_file`)."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True)

    torch_modules: Names = ()
    server_file: Path | None = None

    @field_validator("torch_modules", mode="before")
    @classmethod
    def _modules(cls, value: Any) -> Any:
        return separated(value)


class Settings(FromEnvironment):
    """``home`` holds everything, unless ``database_url`` puts rows elsewhere, or ``artifacts`` (path or URL) files.

    Workers say every ``heartbeat`` seconds that they live; the work of one that was silent for ``dead_after`` seconds
    is given to others, and one that finishes no batch for ``stall_after`` seconds ends itself. ``log``,
    ``log_level`` and ``traces`` are of the processes that stay: :mod:`evalsvc.core.observability.telemetry`. New files
    are for their user alone, or for a group (``file_mode``). ``secret_key`` holds the keys under which secrets are
    computed, newest first.
    """

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True)

    home: Path = Path(".evalsvc")
    database_url: str = ""
    artifacts: str = ""
    heartbeat: float = Field(5.0, gt=0)
    dead_after: float = Field(30.0, gt=0)
    stall_after: float = Field(1800.0, gt=0)
    log: logs.Form = "text"
    log_level: logs.Level = "info"
    traces: bool = False
    file_mode: Literal["private", "group"] = "private"
    secret_key: SecretStr = SecretStr("")

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
