"""Where evalsvc keeps its things, from the environment: ``EVALSVC_HOME``, ``_DATABASE_URL`` and ``_ARTIFACTS``."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """``home`` holds everything, unless ``database_url`` puts rows elsewhere, or ``artifacts`` (path or URL) files."""

    model_config = SettingsConfigDict(env_prefix="EVALSVC_", frozen=True)

    home: Path = Path(".evalsvc")
    database_url: str = ""
    artifacts: str = ""

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force: SQLite under ``home`` unless another is given."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'evalsvc.db'}"
