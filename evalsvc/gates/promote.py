"""Pointing an alias at a checkpoint, and remembering by which decision."""

from __future__ import annotations

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.errors import InputError
from evalsvc.store import names
from evalsvc.store.session import Database, ensured
from evalsvc.store.tables import Alias, Checkpoint, Promotion

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What an alias may be called: never like ``model@step``, which it would stand in for."""


def promote(database: Database, alias: str, checkpoint: str | int, gate: int | None = None) -> str:
    """Set the alias and record it in one transaction; the ``model@step`` it points at now.

    A gate hands over the id of what it judged: its name may mean a newer checkpoint by now.

    Raises:
        InputError: there is no such checkpoint, or the alias is no name of one.
    """
    with database.write() as session:
        if isinstance(checkpoint, int):
            found = session.get_one(Checkpoint, checkpoint)
        else:
            found = names.find(session, checkpoint)
        point(session, alias, found, gate)
        return names.title_of(session, found)


def point(session: Session, alias: str, checkpoint: Checkpoint, gate: int | None) -> Alias:
    """The alias, set and recorded.

    Raises:
        InputError: a name that could also be that of a checkpoint, or that no address can hold.
    """
    if not re.fullmatch(NAME, alias):
        raise InputError(f"{alias!r} is no name of an alias: letters, digits, '.', '_' and '-', a hundred at most")
    row = ensured(session, select(Alias).where(Alias.name == alias), Alias(name=alias, checkpoint_id=checkpoint.id))
    row.checkpoint_id = checkpoint.id
    session.add(Promotion(alias=alias, checkpoint_id=checkpoint.id, gate_id=gate))
    session.flush()
    session.refresh(row)
    return row
