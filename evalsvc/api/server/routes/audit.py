"""The audit log."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints

from evalsvc.api import schemas
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page
from evalsvc.api.server.problems import responses
from evalsvc.api.server.state import ServerDep
from evalsvc.store import audit
from evalsvc.store.tables import AuditEntry, Scope

router = guarded("audit")
WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+")


def _written(value: object) -> object:
    """Reject numbers, which pydantic would interpret as seconds since 1970."""
    if isinstance(value, str) and not WRITTEN.fullmatch(value):
        raise ValueError("is not a timestamp: use a form such as 2026-11-28T15:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is before the year 1 or after the year 9999") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]
ActionName = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}(\.[a-z]{1,20})?$")]


@router.get("/audit", responses=responses(400))
@needs(Scope.ADMIN)
def listed(
    server: ServerDep,
    asked: PageParams,
    since: Annotated[Moment | None, Query(description="Only entries from this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Only entries before this time.")] = None,
    actor: Annotated[schemas.Text | None, Query(description="Name of a token or a user.")] = None,
    action: Annotated[
        ActionName | None, Query(description="`alias.move`, or `alias` for all actions on aliases.")
    ] = None,
    subject: Annotated[
        schemas.Text | None, Query(description="`evaluation 7`, or `evaluation` for all evaluations.")
    ] = None,
) -> schemas.Page[schemas.AuditEntry]:
    """Audit entries, newest first."""
    query = audit.entries(since, until, actor, action, subject)
    with server.database.read() as session:
        return page(session, query, AuditEntry.id, asked, schemas.AuditEntry.model_validate, newest_first=True)
