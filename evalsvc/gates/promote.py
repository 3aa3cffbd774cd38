"""Pointing an alias at a checkpoint, and remembering by which decision."""

from __future__ import annotations

from sqlalchemy.orm import Session

from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Alias, Checkpoint, Promotion


def promote(database: Database, alias: str, checkpoint: str, gate: int | None = None) -> str:
    """Set the alias and record it in one transaction; the ``model@step`` it points at now.

    Raises:
        InputError: there is no such checkpoint.
    """
    with database.write() as session:
        found = queries.find_checkpoint(session, checkpoint)
        point(session, alias, found, gate)
        return f"{found.model.name}@{found.step}"


def point(session: Session, alias: str, checkpoint: Checkpoint, gate: int | None) -> Alias:
    """The alias, set and recorded."""
    row = session.get(Alias, alias)
    if row is None:
        row = Alias(name=alias, checkpoint_id=checkpoint.id)
        session.add(row)
    else:
        row.checkpoint_id = checkpoint.id
    session.add(Promotion(alias=alias, checkpoint_id=checkpoint.id, gate_id=gate))
    session.flush()
    session.refresh(row)
    return row
