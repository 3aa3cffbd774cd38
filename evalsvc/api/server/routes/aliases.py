"""Aliases, and the gates and policies that permit their moves."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Path, Response
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from evalsvc.api import schemas
from evalsvc.api.server import serializers
from evalsvc.api.server.auth import CurrentToken, forbidden, needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, marked, page_of
from evalsvc.api.server.problems import ProblemError, no_checkpoint, not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import InputError
from evalsvc.gates import promote
from evalsvc.store import names, queries
from evalsvc.store.audit import Action
from evalsvc.store.tables import Alias, Gate, Promotion, Scope

router = guarded("aliases")
Name = Annotated[str, Path(pattern=f"^{promote.NAME}$")]


@router.get("/aliases", responses=responses(400))
@needs(Scope.READ, shared=True)
def aliases(server: ServerDep, asked: PageParams) -> schemas.Page[schemas.Alias]:
    """Every alias and its checkpoint, by name."""
    with server.database.read() as session:
        made = marked(session, _checkpoint, partial(serializers.alias, pinned=_pinned(session)))
        return page_of(session, select(Alias), Alias.name, asked, made)


@router.get("/aliases/{name}", responses=responses(404))
@needs(Scope.READ, shared=True)
def alias(server: ServerDep, name: Name) -> schemas.Alias:
    """One alias."""
    with server.database.read() as session:
        row = session.get(Alias, name)
        if row is None:
            raise not_found(f"there is no alias {name!r}")
        return serializers.alias(row, names.marks(session, [row.checkpoint_id]), _pinned(session))


@router.get("/aliases/{name}/history", responses=responses(400))
@needs(Scope.READ, shared=True)
def history(server: ServerDep, asked: PageParams, name: Name) -> schemas.Page[schemas.Promotion]:
    """The moves of an alias, newest first, with the user and the gate or reason."""
    with server.database.read() as session:
        query = select(Promotion).where(Promotion.alias == name)
        made = marked(session, _checkpoint, serializers.promotion)
        return page_of(session, query, Promotion.id, asked, made, newest_first=True)


@router.put("/aliases/{name}", responses=responses(404, 409))
@needs(Scope.SUBMIT, action=Action.ALIAS_MOVE)
def set_alias(server: ServerDep, bearer: CurrentToken, name: Name, wanted: schemas.Promote) -> schemas.Alias:
    """Point an alias to a checkpoint: a protected one by a gate under its policy, any other with scope admin."""
    # One transaction: the alias gets the judged checkpoint, even if two checkpoints share model and step.
    with server.database.write() as session:
        if Scope.ADMIN not in bearer.scopes:
            if wanted.gate is None:
                raise forbidden(bearer, Scope.ADMIN, "setting an alias without a gate")
            if promote.protection(session, name) is None:
                raise forbidden(bearer, Scope.ADMIN, "setting an unprotected alias")
        try:
            found = names.find(session, wanted.checkpoint)
        except InputError as error:
            raise no_checkpoint(error) from None
        if wanted.gate is not None and session.get(Gate, wanted.gate) is None:
            raise not_found(f"there is no gate {wanted.gate}")
        authority = promote.Authority(bearer.name, wanted.gate, wanted.reason)
        try:
            row = promote.point(session, name, found, authority)
        except promote.PromotionError as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
        return serializers.alias(row, names.marks(session, [found.id]), _pinned(session))


@router.get("/aliases/{name}/protection", responses=responses(404))
@needs(Scope.READ, shared=True)
def protection(server: ServerDep, name: Name) -> schemas.Protection:
    """The policy whose decisions alone may move an alias."""
    with server.database.read() as session:
        row = promote.protection(session, name)
        if row is None:
            raise not_found(f"alias {name!r} is not protected")
        return schemas.Protection.model_validate(row)


@router.put("/aliases/{name}/protection")
@needs(Scope.ADMIN, action=Action.ALIAS_PROTECT)
async def protect(server: ServerDep, bearer: CurrentToken, name: Name, wanted: schemas.Protect) -> schemas.Protection:
    """Pin a policy and its suite to an alias, which need not have been set before."""
    await server.task_processes.protect(name, wanted, bearer.name)
    return await run_in_threadpool(protection, server, name)


@router.delete("/aliases/{name}/protection", status_code=204, response_class=Response, responses=responses(404))
@needs(Scope.ADMIN, action=Action.ALIAS_UNPROTECT)
def unprotect(server: ServerDep, bearer: CurrentToken, name: Name) -> None:
    """End the protection of an alias."""
    try:
        with server.database.write() as session:
            promote.unprotect(session, name, bearer.name)
    except InputError as error:
        raise not_found(error) from None


def _checkpoint(row: Alias | Promotion) -> int:
    return row.checkpoint_id


def _pinned(session: Session) -> dict[str, str]:
    """The digests of the policies that protect aliases, by name."""
    return {row.alias: row.policy_digest for row in queries.protections(session) if row.ended_at is None}
