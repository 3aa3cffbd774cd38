"""Models and their checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from sqlalchemy import select

from evalsvc import wire
from evalsvc.api import documents
from evalsvc.api.auth import needs
from evalsvc.api.auth import router as guarded
from evalsvc.api.paging import Asked, marked, page, page_of
from evalsvc.api.problems import no_checkpoint, not_found, responses
from evalsvc.api.server import Here
from evalsvc.errors import InputError
from evalsvc.store import names, pages
from evalsvc.store.tables import Checkpoint, Model, Scope

router = guarded("models")


@router.get("/models", responses=responses(400))
@needs(Scope.READ, shared=True)
def models(server: Here, asked: Asked) -> wire.Page[wire.Model]:
    """The models, by name."""
    with server.database.read() as session:
        return page(session, pages.models(), Model.name, asked, documents.model)


@router.get("/checkpoints", responses=responses(400, 404, 409))
@needs(Scope.READ, shared=True)
def checkpoints(
    server: Here,
    asked: Asked,
    model: wire.Text | None = None,
    name: Annotated[wire.Name | None, Query(description="Only what this model@step, alias or digest names.")] = None,
) -> wire.Page[wire.Checkpoint]:
    """Checkpoints, the newest first."""
    query = select(Checkpoint)
    if model is not None:
        query = query.join(Model).where(Model.name == model)
    with server.database.read() as session:
        if name is not None:
            try:
                query = query.where(Checkpoint.id == names.find(session, name).id)
            except InputError as error:
                raise no_checkpoint(error) from None
        made = marked(session, lambda row: row.id, documents.checkpoint)
        return page_of(session, query, Checkpoint.id, asked, made, newest_first=True)


@router.get("/checkpoints/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def checkpoint(server: Here, id: wire.Id) -> wire.Checkpoint:
    """One checkpoint."""
    with server.database.read() as session:
        row = session.get(Checkpoint, id)
        if row is None:
            raise not_found(f"there is no checkpoint {id}")
        return documents.checkpoint(row, names.marks(session, [row.id]))
