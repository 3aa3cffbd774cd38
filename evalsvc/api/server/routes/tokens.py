"""Tokens: create, list and revoke, for admins only."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Response
from sqlalchemy import select

from evalsvc.api import schemas
from evalsvc.api.server import token_store
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import InputError
from evalsvc.store.audit import Action
from evalsvc.store.tables import Scope, Token

router = guarded("tokens")


@router.get("/tokens", responses=responses(400))
@needs(Scope.ADMIN)
def listed(server: ServerDep, asked: PageParams) -> schemas.Page[schemas.Token]:
    """The tokens, newest first, without secrets."""
    with server.database.read() as session:
        return page(session, select(Token), Token.id, asked, schemas.Token.model_validate, newest_first=True)


@router.post("/tokens", status_code=201)
@needs(Scope.ADMIN, action=Action.TOKEN_CREATE)
def create(server: ServerDep, asked: schemas.TokenCreate) -> schemas.TokenCreated:
    """Create a token. Only this response contains its secret."""
    lifetime = None if asked.days is None else timedelta(days=asked.days)
    row, secret = token_store.create(server.database, asked.name, [Scope(scope) for scope in asked.scopes], lifetime)
    return schemas.TokenCreated(token=secret, **schemas.Token.model_validate(row).model_dump())


@router.delete("/tokens/{id}", status_code=204, response_class=Response, responses=responses(404))
@needs(Scope.ADMIN, action=Action.TOKEN_REVOKE)
def revoke(server: ServerDep, id: schemas.Id) -> None:
    """Revoke a token at once."""
    try:
        token_store.revoke(server.database, id)
    except InputError as error:
        raise not_found(error) from None
