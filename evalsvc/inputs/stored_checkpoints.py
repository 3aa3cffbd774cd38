"""Lookup of scored checkpoints by path or name, as given on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.inputs.checkpoint_folders import digest_checkpoint, earlier_digests, endpoint_name
from evalsvc.store import names
from evalsvc.store.tables import Alias, Checkpoint

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.inputs import checkpoints
    from evalsvc.plugins.registry import Plugins


def is_path(given: str) -> bool:
    """Whether the path exists or names an endpoint; text of any length is accepted."""
    return endpoint_name(given) is not None or os.path.exists(given)  # noqa: PTH110  (a Path raises for names that are too long)


def find(session: Session, given: str, plugins: Plugins | None = None) -> Checkpoint:
    """Find a scored checkpoint by the content of a path, or by name.

    Raises:
        AmbiguousError: this content was scored under several labels or in several configurations.
        InputError: the content has no scores, the text is both a path and a name, or no checkpoint has this name.
    """
    if not is_path(given) or session.get(Alias, given) is not None:
        return names.find(session, given)
    if os.path.basename(given) == given and (named := names.matching(session, given)):  # noqa: PTH119  ("./m" is "m")
        listed = names.dated(session, named)
        raise InputError(
            f"{given!r} is both a path and a name: write ./{given} for the path, or choose one of {listed}"
        )
    matches = scored(session, Path(given), plugins)
    if not matches:
        before = session.scalars(select(Checkpoint).where(Checkpoint.path == str(Path(given).resolve()))).all()
        changed = f", its content has changed since it was scored as {names.dated(session, before)}" if before else ""
        raise InputError(
            f"{given} has no scores{changed}: score it with 'evalsvc score {given} --generator GENERATOR --suite SUITE'"
        )
    return names.only(session, given, matches)


def reopen(row: Checkpoint, plugins: Plugins) -> checkpoints.Checkpoint:
    """Open the checkpoint of a row.

    Raises:
        CheckpointError: its content has changed.
    """
    from evalsvc.inputs.checkpoints import Checkpoint as Opened

    files = plugins.checkpoint_files(row.generator)
    opened = Opened.open(Path(row.path), row.model.name, row.step, files)
    if row.digest != opened.digest and not replace(opened, digest=row.digest).is_still(files):
        raise CheckpointError(
            f"{row.path} no longer has the content that was scored as {row.model.name}@{row.step}: restore it, "
            "or score it again"
        )
    return opened


def scored(session: Session, path: Path, plugins: Plugins | None = None) -> Sequence[Checkpoint]:
    """All checkpoints with the content of a path, under every label and in every configuration."""
    for digest in _digests(session, path, plugins):
        query = select(Checkpoint).where(Checkpoint.digest == digest).order_by(Checkpoint.id)
        if rows := session.scalars(query).all():
            return rows
    return ()


def _digests(session: Session, path: Path, plugins: Plugins | None) -> Iterator[str]:
    """The possible digests of a path: generators may differ in the files of a folder that they read."""
    yield digest_checkpoint(path)
    if path.is_file():
        return
    yield from earlier_digests(path)
    from evalsvc.plugins.registry import Plugins

    known = plugins or Plugins()
    for generator in session.scalars(select(Checkpoint.generator).distinct()):
        with suppress(InputError):  # a plug-in that is not installed, or a folder that is not one of its checkpoints
            if files := known.checkpoint_files(generator):
                yield digest_checkpoint(path, files)
