"""The audit: who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AwareDatetime, StringConstraints

from evalsvc import audit, wire
from evalsvc.api.auth import needs
from evalsvc.api.auth import router as guarded
from evalsvc.api.paging import Asked, page
from evalsvc.api.problems import responses
from evalsvc.api.server import Here
from evalsvc.store.tables import AuditEntry, Scope

router = guarded("audit")
ActionName = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,20}(\.[a-z]{1,20})?$")]


@router.get("/audit", responses=responses(400))
@needs(Scope.ADMIN)
def listed(
    server: Here,
    asked: Asked,
    since: Annotated[AwareDatetime | None, Query(description="Only from this moment on.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only before this moment.")] = None,
    actor: Annotated[wire.Text | None, Query(description="Name of a token or a user.")] = None,
    action: Annotated[ActionName | None, Query(description="`alias.move`, or `alias` for all about them.")] = None,
    subject: Annotated[wire.Text | None, Query(description="`evaluation 7`, or `evaluation` for all of them.")] = None,
) -> wire.Page[wire.AuditEntry]:
    """Who did what, the newest first."""
    query = audit.entries(since, until, actor, action, subject)
    with server.database.read() as session:
        return page(session, query, AuditEntry.id, asked, wire.AuditEntry.model_validate, newest_first=True)
