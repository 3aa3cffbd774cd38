"""Aliases, and the gate that lets one be moved."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Path
from sqlalchemy import select

from evalsvc import wire
from evalsvc.api import documents
from evalsvc.api.auth import Asking, forbidden, needs
from evalsvc.api.auth import router as guarded
from evalsvc.api.paging import Asked, page
from evalsvc.api.problems import ProblemError, not_found, responses
from evalsvc.api.server import Here
from evalsvc.errors import InputError
from evalsvc.gates.promote import NAME, point
from evalsvc.store import names
from evalsvc.store.tables import Alias, Checkpoint, Gate, Scope

router = guarded("aliases")
Name = Annotated[str, Path(pattern=f"^{NAME}$")]


@router.get("/aliases", responses=responses(400))
@needs(Scope.READ, shared=True)
def aliases(server: Here, asked: Asked) -> wire.Page[wire.Alias]:
    """Every alias and what it points at, by name."""
    with server.database.read() as session:
        made = partial(documents.alias, marks=names.marks(session))
        return page(session, select(Alias), Alias.name, asked, made)


@router.get("/aliases/{name}", responses=responses(404))
@needs(Scope.READ, shared=True)
def alias(server: Here, name: Name) -> wire.Alias:
    """One alias."""
    with server.database.read() as session:
        row = session.get(Alias, name)
        if row is None:
            raise not_found(f"there is no alias {name!r}")
        return documents.alias(row, names.marks(session, [row.checkpoint_id]))


@router.put("/aliases/{name}", responses=responses(404, 409))
@needs(Scope.SUBMIT)
def set_alias(server: Here, bearer: Asking, name: Name, wanted: wire.Promote) -> wire.Alias:
    """Point an alias at a checkpoint: by a gate that this very checkpoint has passed, or with scope admin."""
    # One transaction: what the gate judged is what the alias gets, even where two checkpoints share model and step.
    with server.database.write() as session:
        try:
            found = names.find(session, wanted.checkpoint)
        except InputError as error:
            raise not_found(error) from None
        if wanted.gate is not None:
            _check_gate(session.get(Gate, wanted.gate), wanted.gate, found)
        elif Scope.ADMIN not in bearer.scopes:
            raise forbidden(bearer, Scope.ADMIN, "setting an alias without a gate")
        return documents.alias(point(session, name, found, wanted.gate), names.marks(session, [found.id]))


def _check_gate(gate: Gate | None, number: int, checkpoint: Checkpoint) -> None:
    if gate is None:
        raise not_found(f"there is no gate {number}")
    if gate.status != "PASS":
        raise ProblemError(HTTPStatus.CONFLICT, f"gate {number} is {gate.status}: only a passed one moves an alias")
    if gate.checkpoint_id != checkpoint.id:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"gate {number} judged {gate.model}@{gate.step}, not {checkpoint.model.name}@{checkpoint.step}",
        )
