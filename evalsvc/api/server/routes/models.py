"""Models and their checkpoints."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from sqlalchemy import select

from evalsvc.api import schemas
from evalsvc.api.server import serializers
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, marked, page, page_of
from evalsvc.api.server.problems import no_checkpoint, not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import InputError
from evalsvc.store import names, paged_queries
from evalsvc.store.tables import Checkpoint, Model, Scope

router = guarded("models")


@router.get("/models", responses=responses(400))
@needs(Scope.READ, shared=True)
def models(server: ServerDep, asked: PageParams) -> schemas.Page[schemas.Model]:
    """The models, by name."""
    with server.database.read() as session:
        return page(session, paged_queries.models(), Model.name, asked, serializers.model)


@router.get("/checkpoints", responses=responses(400, 404, 409))
@needs(Scope.READ, shared=True)
def checkpoints(
    server: ServerDep,
    asked: PageParams,
    model: schemas.Text | None = None,
    name: Annotated[
        schemas.Name | None, Query(description="Only the checkpoint of this model@step, alias or digest.")
    ] = None,
) -> schemas.Page[schemas.Checkpoint]:
    """Checkpoints, newest first."""
    query = select(Checkpoint)
    if model is not None:
        query = query.join(Model).where(Model.name == model)
    with server.database.read() as session:
        if name is not None:
            try:
                query = query.where(Checkpoint.id == names.find(session, name).id)
            except InputError as error:
                raise no_checkpoint(error) from None
        made = marked(session, lambda row: row.id, serializers.checkpoint)
        return page_of(session, query, Checkpoint.id, asked, made, newest_first=True)


@router.get("/checkpoints/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def checkpoint(server: ServerDep, id: schemas.Id) -> schemas.Checkpoint:
    """One checkpoint."""
    with server.database.read() as session:
        row = session.get(Checkpoint, id)
        if row is None:
            raise not_found(f"there is no checkpoint {id}")
        return serializers.checkpoint(row, names.marks(session, [row.id]))
