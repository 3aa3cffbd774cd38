"""Suites that were used."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError
from evalsvc.store import names
from evalsvc.store.tables import (
    Evaluation,
    Status,
    Suite,
)


def suites(session: Session) -> list[str]:
    """``name@version`` of every suite with a current score, the most recently used first."""
    newest = (
        select(func.max(Evaluation.id))
        .where(Evaluation.suite_id == Suite.id, Evaluation.status == Status.SUCCEEDED)
        .scalar_subquery()
    )
    query = select(Suite.name, Suite.version).where(newest.is_not(None)).order_by(newest.desc())
    return [f"{name}@{version}" for name, version in session.execute(query)]


def pick_suite(session: Session, wanted: str | None) -> str:
    """The requested suite, or the one used last; unknown suites and an empty store raise an error with the way out."""
    known = suites(session)
    if not known:
        raise InputError("nothing has been scored yet: run 'evalsvc demo', or 'evalsvc score CHECKPOINT --suite SUITE'")
    if wanted is None:
        return known[0]
    matches = [suite for suite in known if wanted in (suite, suite.partition("@")[0])]
    if not matches:
        raise InputError(f"nothing has been scored under suite {wanted!r}: choose one of {', '.join(known)}")
    return max(matches, key=lambda suite: int(suite.partition("@")[2]))


def suite_versions(session: Session, name: str) -> list[int]:
    """The used versions of a suite, in order."""
    return list(session.scalars(select(Suite.version).where(Suite.name == name).order_by(Suite.version)))


def suite_body(session: Session, name: str) -> dict[str, Any] | None:
    """The content of a suite when it was first used; without a version, its newest."""
    title, _, version = name.partition("@")
    query = select(Suite).where(Suite.name == title).order_by(Suite.version.desc()).limit(1)
    if names.is_number(version):
        query = query.where(Suite.version == int(version))
    body = session.scalar(query)
    return body.body if body else None
