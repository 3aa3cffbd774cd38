"""Workers of the queue."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from sqlalchemy import select

from evalsvc.api import schemas
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page
from evalsvc.api.server.problems import responses
from evalsvc.api.server.state import ServerDep
from evalsvc.store.tables import WORKING, Scope, Worker, WorkerStatus

router = guarded("workers")


@router.get("/workers", responses=responses(400))
@needs(Scope.READ, shared=True)
def workers(
    server: ServerDep, asked: PageParams, status: Annotated[list[WorkerStatus] | None, Query(max_length=4)] = None
) -> schemas.Page[schemas.Worker]:
    """Worker processes and their current tasks; by default the running ones."""
    query = select(Worker).where(Worker.status.in_(status or WORKING))
    with server.database.read() as session:
        return page(session, query, Worker.id, asked, schemas.Worker.model_validate)
