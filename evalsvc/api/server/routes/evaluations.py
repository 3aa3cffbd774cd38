"""Evaluations: submit, follow, cancel, retry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import lazyload
from starlette.concurrency import run_in_threadpool

from evalsvc.api import schemas
from evalsvc.api.server import serializers
from evalsvc.api.server.auth import CurrentToken, forbidden, needs, recognized
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.checkpoint_files import under_roots, uploaded
from evalsvc.api.server.pagination import PageParams, cut
from evalsvc.api.server.problems import ProblemError, not_found, responses
from evalsvc.api.server.state import Server, ServerDep
from evalsvc.core.errors import InputError
from evalsvc.evaluation import lifecycle
from evalsvc.evaluation.progress import progress
from evalsvc.store import queries, tables
from evalsvc.store.audit import Action
from evalsvc.store.session import Database
from evalsvc.store.tables import Scope, Status

router = guarded("evaluations")
LOCATION = {"description": "URL of the evaluation.", "schema": {"type": "string"}}


@router.get("/evaluations", responses=responses(400))
@needs(Scope.READ, shared=True)
def evaluations(
    server: ServerDep, asked: PageParams, status: Annotated[list[Status] | None, Query(max_length=6)] = None
) -> schemas.Page[schemas.Evaluation]:
    """Evaluations, newest first."""
    with server.database.read() as session:
        found = progress(session, statuses=status, before=asked.after(int), limit=asked.limit + 1)
    rows, cursor = cut(found, asked.limit, lambda row: row.id)
    return schemas.Page(items=[serializers.evaluation(row) for row in rows], next=cursor)


@router.post(
    "/evaluations",
    status_code=202,
    responses=responses(404, 409)
    | {
        200: {
            "model": schemas.Evaluation,
            "description": "The evaluation exists already.",
            "headers": {"Location": LOCATION},
        },
        202: {"description": "The evaluation was enqueued.", "headers": {"Location": LOCATION}},
    },
)
@needs(Scope.SUBMIT, action=Action.EVALUATION_SUBMIT)
async def submit(
    server: ServerDep, bearer: CurrentToken, response: Response, asked: schemas.EvaluationCreate
) -> schemas.Evaluation:
    """Submit an evaluation. Submitting the same evaluation again returns the existing one."""
    if isinstance(asked.suite, dict) and Scope.ADMIN not in bearer.scopes:
        raise forbidden(bearer, Scope.ADMIN, "a suite that is unknown to the server")
    path = None
    if asked.path is not None:
        path = await run_in_threadpool(under_roots, asked.path, server.settings.checkpoint_roots)
    elif asked.upload is not None:
        path = uploaded(asked.upload, server.uploads)
    found = await server.task_processes.submit(asked, path)
    response.status_code = 202 if found.created else 200
    response.headers["location"] = f"/api/v1/evaluations/{found.id}"
    return await run_in_threadpool(_evaluation, server, found.id)


@router.get("/evaluations/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def evaluation(server: ServerDep, id: schemas.Id) -> schemas.EvaluationDetail:
    """One evaluation with its progress, scores and provenance."""
    with server.database.read() as session:
        found = progress(session, [id])
        if not found:
            raise _unknown(id)
        shallow = [lazyload(tables.Evaluation.checkpoint), lazyload(tables.Evaluation.suite)]
        row = session.get_one(tables.Evaluation, id, populate_existing=True, options=shallow)
        return serializers.evaluation_detail(found[0], row, queries.scores(session, evaluation=id))


@router.post("/evaluations/{id}/cancel", responses=responses(404, 409))
@needs(Scope.SUBMIT, action=Action.EVALUATION_CANCEL)
def cancel(server: ServerDep, id: schemas.Id) -> schemas.Evaluation:
    """Cancel an evaluation; its workers stop within one batch, and finished shards are kept."""
    return _changed(server, id, lifecycle.cancel)


@router.post("/evaluations/{id}/retry", status_code=202, responses=responses(404, 409))
@needs(Scope.SUBMIT, action=Action.EVALUATION_RETRY)
def retry(server: ServerDep, id: schemas.Id) -> schemas.Evaluation:
    """Put a failed or canceled evaluation on the queue again; finished shards are kept."""
    return _changed(server, id, lifecycle.retry)


def _changed(server: ServerDep, id: int, change: Callable[[Database, int], object]) -> schemas.Evaluation:
    """The evaluation after a change, or 409 if its current status does not permit the change."""
    _evaluation(server, id)
    try:
        change(server.database, id)
    except InputError as error:
        raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
    return _evaluation(server, id)


async def _followed(
    request: Request, server: ServerDep, bearer: CurrentToken, id: schemas.Id
) -> AsyncIterator[schemas.Evaluation]:
    """The evaluation, and a slot among the streams until this stream ends."""
    state = request.app.state
    async with state.streams.turn(bearer.id):
        async with state.turns.turn(bearer.id):
            now = await run_in_threadpool(_evaluation, server, id)
        yield now


@router.get("/evaluations/{id}/events", response_class=EventSourceResponse, responses=responses(404, 429))
@needs(Scope.READ)
async def events(
    request: Request, now: Annotated[schemas.Evaluation, Depends(_followed)]
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: ``progress`` with the evaluation after each change, ``ended`` as the last.

    The stream is closed when its token is revoked or expires. The operator limits the streams of one token and of all
    tokens; exceeding a limit is 429 or 503.
    """
    async with aclosing(request.app.state.feed.follow(now)) as updates:
        async for update in updates:
            if update is not None:
                ended = update.evaluation.ended
                yield ServerSentEvent(raw_data=update.data, event="ended" if ended else "progress")
                if ended:
                    return
            if await recognized(request) is None:
                return


def read(server: Server, ids: Collection[int]) -> list[schemas.Evaluation]:
    """The current state of these evaluations; unknown ones are omitted."""
    with server.database.read() as session:
        return [serializers.evaluation(row) for row in progress(session, ids)]


def _evaluation(server: Server, id: int) -> schemas.Evaluation:
    found = read(server, [id])
    if not found:
        raise _unknown(id)
    return found[0]


def _unknown(id: int) -> ProblemError:
    return not_found(f"there is no evaluation {id}")
