"""Pointing an alias at a checkpoint, and remembering by which decision."""

from __future__ import annotations

from evalsvc.store import queries
from evalsvc.store.session import Database
from evalsvc.store.tables import Alias, Promotion


def promote(database: Database, alias: str, checkpoint: str, gate: int | None = None) -> str:
    """Set the alias and record it in one transaction; the ``model@step`` it points at now.

    Raises:
        InputError: there is no such checkpoint.
    """
    with database.write() as session:
        found = queries.find_checkpoint(session, checkpoint)
        row = session.get(Alias, alias)
        if row is None:
            session.add(Alias(name=alias, checkpoint_id=found.id))
        else:
            row.checkpoint_id = found.id
        session.add(Promotion(alias=alias, checkpoint_id=found.id, gate_id=gate))
        return f"{found.model.name}@{found.step}"
