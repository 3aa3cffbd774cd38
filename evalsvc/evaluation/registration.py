"""Registration of checkpoints and suites in the database; changed suites are refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from evalsvc.core.digests import CONTENTS, digest_json
from evalsvc.core.errors import InputError
from evalsvc.store import tables
from evalsvc.store.session import get_or_insert

if TYPE_CHECKING:  # torch takes seconds to import, and reading commands must not wait for it
    from evalsvc.evaluation.spec import EvaluationSpec
    from evalsvc.inputs.suites import Suite


def register_checkpoint(session: Session, spec: EvaluationSpec) -> int:
    """Id of the spec's checkpoint in its configuration; adds it and its model if they are new."""
    by_name = select(tables.Model).where(tables.Model.name == spec.model)
    model = get_or_insert(session, by_name, tables.Model(name=spec.model, family=spec.family))
    content = select(tables.Checkpoint).where(
        tables.Checkpoint.model_id == model.id,
        tables.Checkpoint.step == spec.step,
        tables.Checkpoint.digest == spec.checkpoint,
    )
    new = tables.Checkpoint(
        model_id=model.id,
        step=spec.step,
        digest=spec.checkpoint,
        path=spec.path,
        generator=spec.generator,
        generator_version=spec.generator_version,
        options=spec.options,
        configuration=spec.configuration,
    )
    same = content.where(tables.Checkpoint.configuration == spec.configuration)
    if session.scalar(same) is None:
        _adopt(session, content, spec)
    row = get_or_insert(session, same, new)
    if not Path(row.path).exists():
        row.path = spec.path  # it was moved
    if CONTENTS in row.options:
        row.options = spec.options  # the files that its options name may have moved
    return row.id


def unchanged_suite(session: Session, suite: Suite) -> tables.Suite | None:
    """The row of a suite, or ``None`` if it is new.

    Raises:
        InputError: its name and version were used with other content.
    """
    row = session.scalar(
        select(tables.Suite).where(tables.Suite.name == suite.name, tables.Suite.version == suite.version)
    )
    if row is not None and row.digest != suite.digest:
        raise InputError(
            f"suite {suite.id} has changed since it was first used: raise its version to {suite.version + 1}"
        )
    return row


def register_suite(session: Session, suite: Suite) -> int:
    """Id of the suite; raises if its name and version were used with other content."""
    row = unchanged_suite(session, suite)
    if row is None:
        body = suite.model_dump(mode="json")
        row = tables.Suite(name=suite.name, version=suite.version, digest=suite.digest, body=body)
        session.add(row)
        session.flush()
    elif row.body.get("index", {}) != (index := suite.model_dump(mode="json")["index"]):
        row.body = row.body | {"index": index}  # the index may change, because scores do not depend on it
    return row.id


def is_of_operator(session: Session, checkpoint: int) -> bool:
    """Whether an operator submitted this checkpoint in its configuration, and thereby chose what it opens."""
    own = select(tables.Evaluation.id).where(
        tables.Evaluation.checkpoint_id == checkpoint, ~tables.Evaluation.restricted
    )
    return session.scalar(own.limit(1)) is not None


def _adopt(session: Session, content: Select[tables.Checkpoint], spec: EvaluationSpec) -> None:
    """Set the configuration of a row from before versions were stored, if it was never evaluated."""
    evaluated = exists().where(tables.Evaluation.checkpoint_id == tables.Checkpoint.id)
    early = content.where(
        tables.Checkpoint.generator == spec.generator, tables.Checkpoint.generator_version == "", ~evaluated
    )
    for row in session.scalars(early).all():
        if digest_json(row.options) == digest_json(spec.options):
            row.generator_version, row.configuration = spec.generator_version, spec.configuration
            session.flush()
            return
