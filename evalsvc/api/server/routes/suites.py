"""Suites and references."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import yaml
from fastapi import Path
from sqlalchemy import select

from evalsvc.api import schemas
from evalsvc.api.server.auth import needs
from evalsvc.api.server.auth import router as guarded
from evalsvc.api.server.pagination import PageParams, page
from evalsvc.api.server.problems import not_found, responses
from evalsvc.api.server.state import ServerDep
from evalsvc.inputs.suites import SHIPPED, load_suite
from evalsvc.store.tables import Reference, Scope, Suite

router = guarded("suites")


@router.get("/suites")
@needs(Scope.READ, shared=True)
def suites(server: ServerDep) -> schemas.Page[schemas.Suite]:
    """Every suite available by name: shipped ones and used ones, by name and version."""
    with server.database.read() as session:
        used = {f"{row.name}@{row.version}": (row.body, row.digest) for row in session.scalars(select(Suite))}
    known = {name: (body, None) for name, body in _shipped().items()} | used
    return schemas.Page(items=[_suite(name, *known[name]) for name in sorted(known)])


@router.get("/suites/{id}", responses=responses(404))
@needs(Scope.READ, shared=True)
def suite(server: ServerDep, id: Annotated[schemas.SuiteName, Path()]) -> schemas.Suite:
    """One suite, by ``name@version``."""
    for found in suites(server).items:
        if found.id == id:
            return found
    raise not_found(f"there is no suite {id!r}: use name@version")


@router.get("/references", responses=responses(400))
@needs(Scope.READ, shared=True)
def references(server: ServerDep, asked: PageParams) -> schemas.Page[schemas.Reference]:
    """Registered references, by name."""
    with server.database.read() as session:
        return page(session, select(Reference), Reference.name, asked, schemas.Reference.model_validate)


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    bodies = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(SHIPPED.glob("*.yaml"))}
    # Of items and scorers, the file says less than the suite.
    read = {name for name, body in bodies.items() if "items" in body or "scorers" in body}
    return {name: load_suite(name).model_dump(mode="json") if name in read else bodies[name] for name in bodies}


def _suite(name: str, body: dict[str, Any], digest: str | None) -> schemas.Suite:
    return schemas.Suite(
        id=name,
        description=body.get("description", ""),
        modality=body["modality"],
        samples=body["samples"],
        digest=digest,
        body=body,
    )
