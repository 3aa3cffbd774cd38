"""Where evalsvc keeps its things, from the environment: ``EVALSVC_HOME`` and ``EVALSVC_DATABASE_URL``."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """``home`` holds files (and the SQLite database); ``database_url`` puts the rows elsewhere."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True)

    home: Path = Path(".evalsvc")
    database_url: str = ""

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force: SQLite under ``home`` unless another is given."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'evalsvc.db'}"
