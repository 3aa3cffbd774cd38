"""Scores, protocols, leaderboards and comparisons."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from fastapi import Header, Path, Request, Response
from sqlalchemy import Row
from sqlalchemy.orm import Session

from evalsvc.analysis import leaderboard as ranking
from evalsvc.analysis.runs import runs_beside
from evalsvc.api import schemas
from evalsvc.api.server import leaderboard_stream, serializers
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page_of
from evalsvc.api.server.problems import no_checkpoint, not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import InputError
from evalsvc.metrics.score import Reference
from evalsvc.store import dashboard_queries, names, paged_queries, queries
from evalsvc.store.tables import Protocol, Scope, Score

router = guarded("scores")


@router.get("/scores", responses=responses(400))
@needs(Scope.READ, shared=True)
def scores(
    server: ServerDep,
    asked: PageParams,
    suite: schemas.SuiteName | None = None,
    model: schemas.Text | None = None,
    step: schemas.Whole | None = None,
    label: schemas.Text | None = None,
    digest: schemas.Digits | None = None,
    configuration: schemas.Digits | None = None,
) -> schemas.Page[schemas.Score]:
    """Current scores, newest first; replicates are separate."""
    query = paged_queries.scores(suite, model, step, label, digest or "", configuration or "")
    with server.database.read() as session:
        return page_of(session, query, Score.id, asked, partial(_chosen, session), newest_first=True)


@router.get("/protocols/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def protocol(server: ServerDep, id: Annotated[str, Path(pattern="^[0-9a-f]{1,16}$")]) -> schemas.Protocol:
    """The facts of a protocol."""
    with server.database.read() as session:
        row = session.get(Protocol, id)
        if row is None:
            raise not_found(f"there is no protocol {id!r}")
        return schemas.Protocol(id=row.id, facts=row.facts)


@router.get(
    "/leaderboard",
    response_model=list[schemas.Board],
    responses=responses(404) | {304: {"description": "Not modified since If-None-Match."}},
)
@needs(Scope.READ, shared=True)
def leaderboard(
    server: ServerDep,
    request: Request,
    suite: schemas.SuiteName | None = None,
    metric: schemas.Text | None = None,
    which: Literal["latest", "all"] = "latest",
    reference: Reference = "sampled",
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Models ranked by one score, one board per protocol. Models with overlapping intervals share a rank.

    Ranks count the choice of the reference's rows (`sampled`), or hold on this reference file (`fixed`).
    A board of more than a hundred entries is streamed in parts.
    """
    with server.database.read() as session:
        stamp = paged_queries.stamp(session)
        try:
            chosen = queries.pick_suite(session, suite)
        except InputError as error:
            raise not_found(error) from None
        tag = f'"{hashlib.sha256(repr((chosen, metric, which, reference, stamp)).encode()).hexdigest()[:32]}"'
        if if_none_match == tag:
            return Response(status_code=304, headers={"etag": tag})
        body = server.boards.get(tag)
        if body is None:
            columns = ranking.columns_of(dashboard_queries.measured(session, chosen, last=which == "latest"))
            boards = _ranked(session, chosen, metric, which, columns, reference)
    if body is None:
        made = partial(leaderboard_stream.pieces, server.database, boards, columns)
        entries = sum(len(board.entries) for board in boards)
        if entries > leaderboard_stream.ENTRIES:
            return leaderboard_stream.Pieces(made, entries, request.app.state.pieces, {"etag": tag})
        body = b"".join(made())
        server.boards.put(tag, body)
    return Response(body, media_type="application/json", headers={"etag": tag})


def _ranked(
    session: Session,
    suite: str,
    metric: str | None,
    which: ranking.Which,
    columns: Sequence[ranking.Column],
    reference: Reference,
) -> list[ranking.Board]:
    """Boards whose entries have only the score that ranks them."""
    if not columns:
        return []
    label = ranking.ranking_label(dict.fromkeys(column.label for column in columns), metric, suite)
    read = queries.last_scores if which == "latest" else queries.scores
    return ranking.boards(read(session, suite, label=label), label, "all", reference)


@router.get("/comparison", responses=responses(404, 409))
@needs(Scope.READ, shared=True)
def comparison(
    server: ServerDep,
    a: schemas.Name,
    b: schemas.Name,
    suite: schemas.SuiteName | None = None,
    label: schemas.Text | None = None,
) -> schemas.Comparison:
    """Differences between two checkpoints (each model@step, model, alias or digest), b minus a, with 95 % intervals.

    `label` selects one score, such as that of a slice, which is left out otherwise.
    """
    with server.database.read() as session:
        try:
            chosen = queries.pick_suite(session, suite)
            (name_a, rows_a), (name_b, rows_b) = (
                queries.side(session, names.find(session, name), chosen, label) for name in (a, b)
            )
        except InputError as error:
            raise no_checkpoint(error) from None
        sides = [ranking.Side(rows, runs_beside(session, server.artifacts, rows)) for rows in (rows_a, rows_b)]
    found = ranking.compare(*sides)
    return schemas.Comparison(
        suite=chosen, a=name_a, b=name_b, differences=[serializers.difference(each) for each in found]
    )


def _chosen(session: Session, rows: Sequence[Row[int]]) -> list[schemas.Score]:
    return [serializers.score(row) for row in queries.chosen_scores(session, [id_ for (id_,) in rows])]
