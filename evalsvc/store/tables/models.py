"""Models, checkpoints and aliases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from evalsvc.store.tables.base import DatabaseTime, Table


class Model(Table):
    """A model under training, whose checkpoints are compared over time."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    family: Mapped[str] = mapped_column(String(100), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())


class Checkpoint(Table):
    """A checkpoint, identified by the digest of its content, in a configuration.

    ``configuration`` is the digest of the generator, its version and its options. Several rows may share the label
    ``model@step``; :mod:`evalsvc.store.names` distinguishes them.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("model_id", "step", "digest", "configuration"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    step: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64), index=True)
    path: Mapped[str]
    generator: Mapped[str] = mapped_column(String(200))
    generator_version: Mapped[str] = mapped_column(String(300), default="")
    options: Mapped[dict[str, Any]]
    configuration: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime] = mapped_column(default=DatabaseTime())

    model: Mapped[Model] = relationship(lazy="joined")


class Alias(Table):
    """A name such as ``production`` that refers to a checkpoint."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"))
    updated_at: Mapped[datetime] = mapped_column(default=DatabaseTime(), onupdate=DatabaseTime())

    checkpoint: Mapped[Checkpoint] = relationship(lazy="joined")
