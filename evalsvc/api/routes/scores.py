"""Scores, what makes them comparable, who leads, and what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

from fastapi import Header, Path, Response
from pydantic import TypeAdapter

from evalsvc import leaderboard as ranking
from evalsvc import wire
from evalsvc.api import documents
from evalsvc.api.auth import needs
from evalsvc.api.auth import router as guarded
from evalsvc.api.paging import Asked, page
from evalsvc.api.problems import no_checkpoint, not_found, responses
from evalsvc.api.server import Here
from evalsvc.errors import InputError
from evalsvc.runs import runs_beside
from evalsvc.store import names, pages, queries
from evalsvc.store.tables import Protocol, Scope, Score

router = guarded("scores")
BOARDS = TypeAdapter(list[wire.Board])


@router.get("/scores", responses=responses(400))
@needs(Scope.READ, shared=True)
def scores(
    server: Here,
    asked: Asked,
    suite: wire.SuiteName | None = None,
    model: wire.Text | None = None,
    step: wire.Whole | None = None,
    label: wire.Text | None = None,
    digest: wire.Digits | None = None,
    configuration: wire.Digits | None = None,
) -> wire.Page[wire.Score]:
    """Current scores, the newest first; replicates are apart."""
    with server.database.read() as session:
        query, marks = pages.scores(suite, model, step, label, digest or "", configuration or ""), names.marks(session)
        return page(session, query, Score.id, asked, partial(_score, marks), newest_first=True)


@router.get("/protocols/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def protocol(server: Here, id: Annotated[str, Path(pattern="^[0-9a-f]{1,16}$")]) -> wire.Protocol:
    """The facts behind a protocol's id."""
    with server.database.read() as session:
        row = session.get(Protocol, id)
        if row is None:
            raise not_found(f"there is no protocol {id!r}")
        return wire.Protocol(id=row.id, facts=row.facts)


@router.get(
    "/leaderboard",
    response_model=list[wire.Board],
    responses=responses(404) | {304: {"description": "Nothing has changed since If-None-Match."}},
)
@needs(Scope.READ, shared=True)
def leaderboard(
    server: Here,
    suite: wire.SuiteName | None = None,
    metric: wire.Text | None = None,
    which: Literal["latest", "all"] = "latest",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Models by one score, one board a protocol. Those whose intervals overlap share a rank."""
    with server.database.read() as session:
        stamp = pages.stamp(session)
        try:
            chosen = queries.pick_suite(session, suite)
        except InputError as error:
            raise not_found(error) from None
        tag = f'"{hashlib.sha256(repr((chosen, metric, which, stamp)).encode()).hexdigest()[:32]}"'
        if if_none_match == tag:
            return Response(status_code=304, headers={"etag": tag})
        body = server.boards.get(tag)
        if body is None:
            rows = queries.scores(session, suite=chosen)
            body = BOARDS.dump_json([documents.board(board) for board in ranking.boards(rows, metric, which)])
            server.boards.put(tag, body)
    return Response(body, media_type="application/json", headers={"etag": tag})


@router.get("/comparison", responses=responses(404, 409))
@needs(Scope.READ, shared=True)
def comparison(server: Here, a: wire.Name, b: wire.Name, suite: wire.SuiteName | None = None) -> wire.Comparison:
    """Differences of two checkpoints (each model@step, model, alias or digest), b minus a, with 95 % intervals."""
    with server.database.read() as session:
        try:
            chosen = queries.pick_suite(session, suite)
            (name_a, rows_a), (name_b, rows_b) = (
                queries.side(session, names.find(session, name), chosen) for name in (a, b)
            )
        except InputError as error:
            raise no_checkpoint(error) from None
        sides = [ranking.Side(rows, runs_beside(session, server.artifacts, rows)) for rows in (rows_a, rows_b)]
    found = ranking.compare(*sides)
    return wire.Comparison(suite=chosen, a=name_a, b=name_b, differences=[documents.difference(each) for each in found])


def _score(marks: Mapping[int, str], *columns: object) -> wire.Score:
    found = wire.Score.model_validate(dict(zip(wire.Score.model_fields, columns, strict=False)))
    return found.model_copy(update={"mark": marks.get(found.checkpoint_id, "")})
