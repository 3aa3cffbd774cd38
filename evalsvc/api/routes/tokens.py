"""Tokens: made, listed, revoked, by admins alone."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Response
from sqlalchemy import select

from evalsvc import tokens, wire
from evalsvc.api.auth import needs
from evalsvc.api.auth import router as guarded
from evalsvc.api.paging import Asked, page
from evalsvc.api.problems import not_found, responses
from evalsvc.api.server import Here
from evalsvc.audit import Action
from evalsvc.errors import InputError
from evalsvc.store.tables import Scope, Token

router = guarded("tokens")


@router.get("/tokens", responses=responses(400))
@needs(Scope.ADMIN)
def listed(server: Here, asked: Asked) -> wire.Page[wire.Token]:
    """The tokens, the newest first. No secret is among it."""
    with server.database.read() as session:
        return page(session, select(Token), Token.id, asked, wire.Token.model_validate, newest_first=True)


@router.post("/tokens", status_code=201)
@needs(Scope.ADMIN, action=Action.TOKEN_CREATE)
def create(server: Here, asked: wire.MakeToken) -> wire.NewToken:
    """A new token. Its secret is in this answer and nowhere else."""
    lifetime = None if asked.days is None else timedelta(days=asked.days)
    row, secret = tokens.create(server.database, asked.name, [Scope(scope) for scope in asked.scopes], lifetime)
    return wire.NewToken(token=secret, **wire.Token.model_validate(row).model_dump())


@router.delete("/tokens/{id}", status_code=204, response_class=Response, responses=responses(404))
@needs(Scope.ADMIN, action=Action.TOKEN_REVOKE)
def revoke(server: Here, id: wire.Id) -> None:
    """End a token at once."""
    try:
        tokens.revoke(server.database, id)
    except InputError as error:
        raise not_found(error) from None
