"""Gates, decided on stored scores."""

from __future__ import annotations

from fastapi import Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from evalsvc.api import schemas
from evalsvc.api.server import serializers
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, marked, page_of
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.store import names
from evalsvc.store.audit import Action
from evalsvc.store.tables import Gate, Scope

router = guarded("gates")


@router.get("/gates", responses=responses(400))
@needs(Scope.READ, shared=True)
def gates(
    server: ServerDep, asked: PageParams, model: schemas.Text | None = None, suite: schemas.SuiteName | None = None
) -> schemas.Page[schemas.Gate]:
    """Gate decisions, newest first."""
    query = select(Gate)
    if model is not None:
        query = query.where(Gate.model == model)
    if suite is not None:
        query = query.where(Gate.suite == suite)
    with server.database.read() as session:
        made = marked(session, lambda row: row.checkpoint_id, serializers.gate)
        return page_of(session, query, Gate.id, asked, made, newest_first=True)


@router.post(
    "/gates",
    status_code=201,
    responses=responses(409)
    | {201: {"headers": {"Location": {"description": "The decision.", "schema": {"type": "string"}}}}},
)
@needs(Scope.SUBMIT, action=Action.GATE_DECIDE)
async def decide(server: ServerDep, response: Response, asked: schemas.DecideGate) -> schemas.GateDetail:
    """Judge a candidate under a policy by stored scores, and record the decision.

    A candidate without scores is MISSING, never PASS: submit its evaluation first, and wait for it.
    """
    number = await server.task_processes.decide(asked)
    response.headers["location"] = f"/api/v1/gates/{number}"
    return await run_in_threadpool(gate, server, number)


@router.get("/gates/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def gate(server: ServerDep, id: schemas.Id) -> schemas.GateDetail:
    """A decision: its policy, the evidence at that time, and the verdict."""
    with server.database.read() as session:
        row = session.get(Gate, id)
        if row is None:
            raise not_found(f"there is no gate {id}")
        return serializers.gate_detail(row, names.marks(session, {row.checkpoint_id or 0}))
