"""Pagination by cursor: the key of the last row, so that inserted or deleted rows do not shift pages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from evalsvc.api import schemas
from evalsvc.api.server.problems import ProblemError
from evalsvc.store import names

Item = TypeVar("Item")


class Slice:
    """The requested page."""

    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=200, description="Items per page.")] = 50,
        cursor: Annotated[
            str | None, Query(max_length=400, pattern="^[A-Za-z0-9_-]*$", description="`next` of the previous page.")
        ] = None,
    ) -> None:
        self.limit, self.cursor = limit, cursor

    def after(self, kind: type) -> Any:
        """The key after which the page starts; ``None`` for the first page."""
        if not self.cursor:
            return None
        try:
            value = json.loads(base64.urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4)))
        except (ValueError, binascii.Error, RecursionError):
            value = None
        sound = value.isprintable() if isinstance(value, str) else type(value) is int and 0 <= value < 2**31
        if type(value) is not kind or not sound:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid cursor: omit it to start over")
        return value


PageParams = Annotated[Slice, Depends()]
"""The requested page, as a parameter of a route."""


def page(
    session: Session,
    query: Select[*tuple[Any, ...]],
    key: InstrumentedAttribute[Any],
    asked: Slice,
    make: Callable[..., Item],
    *,
    newest_first: bool = False,
) -> schemas.Page[Item]:
    """One page in the order of the unique ``key``; ``make`` converts the columns of a row to an item."""

    def each(rows: Sequence[Any]) -> list[Item]:
        return [make(*row) for row in rows]

    return page_of(session, query, key, asked, each, newest_first=newest_first)


def page_of(
    session: Session,
    query: Select[*tuple[Any, ...]],
    key: InstrumentedAttribute[Any],
    asked: Slice,
    make: Callable[[Sequence[Any]], list[Item]],
    *,
    newest_first: bool = False,
) -> schemas.Page[Item]:
    """Like :func:`page`, but ``make`` converts all rows of the page at once, so that related data needs one query."""
    after = asked.after(key.type.python_type)
    if after is not None:
        query = query.where(key < after if newest_first else key > after)
    keyed = query.add_columns(key).order_by(key.desc() if newest_first else key).limit(asked.limit + 1)
    rows, cursor = cut(session.execute(keyed).all(), asked.limit, lambda row: row[-1])
    return schemas.Page(items=make([row[:-1] for row in rows]), next=cursor)


def marked(
    session: Session, checkpoint: Callable[[Any], int | None], make: Callable[..., Item]
) -> Callable[[Sequence[Any]], list[Item]]:
    """Items made with the ``marks`` of the names on this page; ``checkpoint`` returns a row's checkpoint."""

    def each(rows: Sequence[Any]) -> list[Item]:
        marks = names.marks(session, {checkpoint(row) or 0 for (row,) in rows})
        return [make(row, marks=marks) for (row,) in rows]

    return each


def cut(rows: Sequence[Any], limit: int, key: Callable[[Any], int | str]) -> tuple[Sequence[Any], str | None]:
    """The rows of a page, and the cursor of the next page if one more row was read."""
    if len(rows) <= limit:
        return rows, None
    text = json.dumps(key(rows[limit - 1]))
    return rows[:limit], base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
