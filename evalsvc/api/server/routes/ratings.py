"""Ratings by people, beside those of judges."""

from __future__ import annotations

from evalsvc.analysis.rating_report import rating_report
from evalsvc.api import schemas
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.core.errors import InputError
from evalsvc.store import queries
from evalsvc.store.tables import Scope

router = guarded("ratings")


@router.get("/ratings", responses=responses(404))
@needs(Scope.READ, shared=True)
def ratings(server: ServerDep, suite: schemas.SuiteName | None = None) -> schemas.Ratings:
    """Ratings by people's votes, the agreement of raters, and rates of people and judges together."""
    with server.database.read() as session:
        try:
            chosen = queries.pick_suite(session, suite)
        except InputError as error:
            raise not_found(error) from None
        return schemas.Ratings.model_validate(rating_report(session, chosen))
