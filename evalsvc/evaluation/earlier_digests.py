"""Migration of the rows and files of a checkpoint folder from an earlier digest to its current one.

A digest occurs in five places: the checkpoint's row, to which aliases point; the specs of its evaluations, with their
fingerprints; the names of their shards; gate decisions; and the spending of these. All are changed together, so that
nothing is recomputed and nothing has two names.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from pydantic import ValidationError
from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session

from evalsvc.core.digests import digest_baseline
from evalsvc.core.errors import InputError
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.checkpoint_folders import earlier_digests
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.store import audit, tables
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database
from evalsvc.store.tables import Status


def move_earlier(
    database: Database, artifacts: Callable[[], Artifacts], checkpoint: Checkpoint, generator: str
) -> None:
    """Move the rows of this folder under this generator to its digest, if one is under its label; usually none is.

    Raises:
        InputError: a worker is computing one of them.
    """
    if not checkpoint.path.is_dir():
        return
    labelled = select(tables.Checkpoint).join(tables.Model)
    labelled = labelled.where(
        tables.Model.name == checkpoint.model,
        tables.Checkpoint.step == checkpoint.step,
        tables.Checkpoint.generator == generator,
    )
    with database.read() as session:
        others = {row.digest for row in session.scalars(labelled)} - {checkpoint.digest}
    before = next((digest for digest in earlier_digests(checkpoint.path) if digest in others), None) if others else None
    if before is None:
        return
    left: set[str] = set()
    with database.write() as session:
        content = select(tables.Checkpoint).where(
            tables.Checkpoint.digest == before, tables.Checkpoint.generator == generator
        )
        for row in session.scalars(content.with_for_update(of=tables.Checkpoint)).all():
            same = select(tables.Checkpoint.id).where(
                tables.Checkpoint.model_id == row.model_id,
                tables.Checkpoint.step == row.step,
                tables.Checkpoint.digest == checkpoint.digest,
                tables.Checkpoint.configuration == row.configuration,
            )
            if session.scalar(same) is None:
                left |= _move(session, artifacts(), row, checkpoint.digest)
                facts = {"was": before[:12], "digest": checkpoint.digest[:12]}
                audit.record(session, audit.Action.CHECKPOINT_REDIGEST, f"checkpoint {row.id}", facts)
    with database.read() as session:
        for folder in left:
            if not session.scalar(select(exists().where(tables.Shard.path.startswith(f"{folder}/", autoescape=True)))):
                artifacts().remove(folder)


def _move(session: Session, artifacts: Artifacts, row: tables.Checkpoint, digest: str) -> set[str]:
    """Set another digest on a row; return the folders whose shards are renamed."""
    runs = session.scalars(select(tables.Evaluation).where(tables.Evaluation.checkpoint_id == row.id)).all()
    for run in runs:
        if run.status == Status.RUNNING and run.on_queue:
            raise InputError(
                f"evaluation {run.id} of {row.model.name}@{row.step} is running under the digest of an earlier "
                f"version: wait until it ends ('evalsvc wait {run.id}'), or cancel it"
            )
    decided = update(tables.Gate).where(tables.Gate.checkpoint_id == row.id, tables.Gate.digest == row.digest)
    session.execute(decided.values(digest=digest))
    own = tables.GateSpending.configuration == row.configuration
    _move_spending(session, "candidate", row.digest, digest, own)
    was, now = (digest_baseline([(each, row.configuration)]) for each in (row.digest, digest))
    _move_spending(session, "baseline", was, now)
    row.digest = digest
    return {folder for run in runs for folder in _move_run(artifacts, run, digest)}


def _move_spending(session: Session, side: str, was: str, now: str, *which: ColumnElement[bool]) -> None:
    """Book the spending under one digest to the account of another, after that account's own bookings."""
    booked = tables.GateSpending
    for row in session.scalars(
        select(booked).where(getattr(booked, side) == was, *which).order_by(booked.number)
    ).all():
        account = {"candidate": row.candidate, "baseline": row.baseline} | {side: now}
        same = select(func.count()).where(
            booked.candidate == account["candidate"],
            booked.configuration == row.configuration,
            booked.protocol == row.protocol,
            booked.baseline == account["baseline"],
        )
        row.number = session.scalar(same) or 0
        setattr(row, side, now)
        session.flush()


def _move_run(artifacts: Artifacts, run: tables.Evaluation, digest: str) -> set[str]:
    body = {**run.spec, "checkpoint": digest}
    try:
        before, after = EvaluationSpec.model_validate(run.spec), EvaluationSpec.model_validate(body)
    except ValidationError:  # of a version whose specs are obsolete
        run.spec = body
        return set()
    if run.fingerprint == before.fingerprint:
        run.fingerprint = after.fingerprint
    run.spec = body
    left = set()
    for shard in run.shards:
        part = Shard.model_validate({"kind": shard.kind, "start": shard.start, "stop": shard.stop})
        if shard.path != before.shard_key(part):
            continue
        new = after.shard_key(part)
        if artifacts.is_sound(shard.path) and not artifacts.exists(new):
            with artifacts.placing(new) as path:
                shutil.copyfile(artifacts.checked(shard.path), path)
        left.add(shard.path.rpartition("/")[0])
        shard.path = new
    return left
