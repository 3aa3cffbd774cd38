"""Tokens of the HTTP API: create, recognize, revoke. The stored digest cannot be turned back into a token."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import OperationalError

from evalsvc.core.errors import InputError, StorageError
from evalsvc.store import audit
from evalsvc.store.audit import Action
from evalsvc.store.session import Database, clock
from evalsvc.store.tables import DatabaseTime, Scope, Token

PREFIX = "evs_"
IMPLIED: dict[str, set[Scope]] = {
    Scope.READ: {Scope.READ},
    Scope.SUBMIT: {Scope.READ, Scope.SUBMIT},
    Scope.WORKER: {Scope.READ, Scope.WORKER},
    Scope.ADMIN: set(Scope),
}
SEEN_EVERY = timedelta(minutes=1)
"""Resolution of ``last_used_at``: a write for every read would serialize readers."""


@dataclass(frozen=True)
class Bearer:
    """The owner of a token and its permissions."""

    id: int
    name: str
    scopes: frozenset[Scope]


def create(
    database: Database, name: str, scopes: Collection[Scope], lifetime: timedelta | None = None
) -> tuple[Token, str]:
    """Create a token and its secret of 256 random bits, which cannot be shown again.

    Raises:
        InputError: there is no scope, or the name is too long.
    """
    if len(name) > 200:
        raise InputError("the name of the token is too long: use at most 200 characters")
    if not scopes:
        raise InputError(f"the token needs at least one scope of {', '.join(Scope)}")
    secret = PREFIX + secrets.token_urlsafe(32)
    with database.write() as session:
        row = Token(
            name=name,
            digest=_digest(secret),
            scopes=sorted(set(scopes)),
            expires_at=None if lifetime is None else clock(session) + lifetime,
        )
        session.add(row)
        session.flush()
        audit.record(session, Action.TOKEN_CREATE, f"token {row.id}", {"name": name, "scopes": " ".join(row.scopes)})
        return row, secret


def recognize(database: Database, secret: str) -> Bearer | None:
    """The token with this secret; ``None`` if it is unknown, revoked or expired.

    The lookup is by digest, so that its duration does not reveal how close a guess was.
    """
    if not secret.startswith(PREFIX):
        return None
    with database.read() as session:
        columns = Token.id, Token.name, Token.scopes, Token.expires_at, Token.last_used_at
        query = select(*columns, DatabaseTime().label("now"))
        row = session.execute(query.where(Token.digest == _digest(secret))).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= row.now):
        return None
    if row.last_used_at is None or row.last_used_at < row.now - SEEN_EVERY:
        _note_use(database, row.id, row.now)
    return Bearer(row.id, row.name, implied(row.scopes))


def implied(scopes: Collection[str]) -> frozenset[Scope]:
    """All scopes that the given ones include; unknown words include nothing."""
    return frozenset[Scope]().union(*(IMPLIED.get(scope, set()) for scope in scopes))


def usable(database: Database) -> int:
    """Number of tokens that have not expired."""
    with database.read() as session:
        alive = or_(Token.expires_at.is_(None), Token.expires_at > DatabaseTime())
        return session.scalar(select(func.count()).select_from(Token).where(alive)) or 0


def revoke(database: Database, token: int) -> None:
    """Revoke a token at once.

    Raises:
        InputError: there is no such token.
    """
    with database.write() as session:
        row = session.get(Token, token)
        if row is None:
            raise InputError(f"there is no token {token}: 'evalsvc token list' lists all tokens")
        audit.record(session, Action.TOKEN_REVOKE, f"token {token}", {"name": row.name})
        session.delete(row)


def _note_use(database: Database, token: int, moment: datetime) -> None:
    # Failing to record the use of a token must not fail the request.
    with suppress(OperationalError, StorageError), database.write() as session:
        session.execute(update(Token).where(Token.id == token).values(last_used_at=moment))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
