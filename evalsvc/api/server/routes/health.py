"""Liveness, readiness and load of the server."""

from __future__ import annotations

import importlib.metadata
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from evalsvc.api import schemas
from evalsvc.api.server.auth import CurrentToken, GuardedRoute, needs
from evalsvc.api.server.problems import ProblemError, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.store.session import HEAD
from evalsvc.store.tables import Scope

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/healthz")
@needs(None)
async def healthz() -> schemas.Health:
    """Liveness: the process responds."""
    return schemas.Health()


@router.get("/readyz", responses=responses(503))
@needs(None, shared=True)
def readyz(server: ServerDep) -> schemas.Health:
    """Readiness: the database responds and has the tables of this version, so that an outdated server receives no
    requests.
    """
    if (found := server.database.revision()) != HEAD:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the database is at revision {found} but this server needs {HEAD}: run the same version everywhere",
            {"retry-after": "60"},
        )
    return schemas.Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@needs(Scope.READ)
def metrics(request: Request) -> Response:
    """Prometheus metrics; a scraper sends its token as a bearer token."""
    return Response(request.app.state.monitor.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/api/v1")
@needs(Scope.READ)
async def about(bearer: CurrentToken) -> schemas.About:
    """The server's version, and the permissions of this token."""
    return schemas.About(version=importlib.metadata.version("evalsvc"), token=bearer.name, scopes=sorted(bearer.scopes))


@router.get("/api/v1/openapi.json", include_in_schema=False)
@needs(None)
async def openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI description of this API."""
    schema: dict[str, Any] = request.app.openapi()
    return schema
