"""Unused files: shards of failed or canceled evaluations, their uploads, and partially written files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, delete, exists, select
from sqlalchemy.orm import Session

from evalsvc.core.errors import EvalsvcError
from evalsvc.core.files.atomic_files import TEMPORARY, file_time
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.metrics.errors import MetricError
from evalsvc.store import audit
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.session import Database, database_time
from evalsvc.store.tables import IN_PROGRESS, Checkpoint, Evaluation, Shard, Status

_VAIN = (Status.FAILED, Status.CANCELLED)


@dataclass(frozen=True)
class Leftover:
    """A folder of shards or a partial file by its key, or an uploaded checkpoint by its path."""

    name: str
    bytes: int


def orphaned_shards(database: Database, artifacts: Artifacts, before: datetime, *, remove: bool) -> Iterator[Leftover]:
    """Folders of shards, values and kept samples that only evaluations have that failed or were canceled ``before``.

    A later retry computes the shards again.
    """
    ended = _is_unused(before)
    with database.read() as session:
        beside = _folders_beside(session, ended)
        named = select(Shard.path, Shard.evaluation_id, ended).join(Evaluation)
        folders: dict[str, dict[int, bool]] = {}
        for path, evaluation, orphaned in session.execute(named):
            folders.setdefault(path.rpartition("/")[0], {})[evaluation] = orphaned
        active = select(Evaluation.spec).where(Evaluation.status.in_(IN_PROGRESS))
        specs = [EvaluationSpec.model_validate(each) for each in session.scalars(active)]
    for folder, evaluations in beside.items():
        folders.setdefault(folder, {}).update(evaluations)
    wanted = {folder for spec in specs for folder in _beside(spec)}
    wanted |= {spec.shard_key(shard).rpartition("/")[0] for spec in specs for shard in spec.shards if shard.start == 0}
    for folder, evaluations in sorted(folders.items()):
        if folder in wanted or not all(evaluations.values()):
            continue
        leftover = Leftover(folder, sum(artifacts.sizes(folder).values()))
        if folder in beside and not leftover.bytes:
            continue  # it was removed before
        if remove:
            with database.write() as session:
                still = select(Evaluation.id).where(Evaluation.id.in_(evaluations), ended).with_for_update()
                if len(session.scalars(still).all()) < len(evaluations):
                    continue  # it has just been retried
                audit.record(session, audit.Action.CACHE_SWEEP, f"shards {folder}", {"bytes": leftover.bytes})
                session.execute(delete(Shard).where(Shard.path.startswith(f"{folder}/", autoescape=True)))
                artifacts.remove(folder)
        yield leftover


def _folders_beside(session: Session, ended: ColumnElement[bool]) -> dict[str, dict[int, bool]]:
    """The folders of values and kept samples of unused evaluations, and whether each evaluation that shares one is."""
    orphaned = select(Evaluation.id, Checkpoint.digest, Evaluation.spec).join(Checkpoint).where(ended)
    found = [
        (i, digest, spec)
        for i, digest, spec in session.execute(orphaned)
        if spec.get("scorers") or spec["suite"].get("items")
    ]
    folders: dict[str, dict[int, bool]] = {folder: {} for *_, spec in found for folder in _beside_of(spec)}
    sharing = select(Evaluation.id, ended, Evaluation.spec).join(Checkpoint)
    for evaluation, unused, spec in session.execute(
        sharing.where(Checkpoint.digest.in_({digest for _, digest, _ in found}))
    ):
        for folder in folders.keys() & _beside_of(spec):
            folders[folder][evaluation] = unused
    return folders


def _beside_of(body: Mapping[str, Any]) -> set[str]:
    """The same from a stored specification; none if it is that of another version."""
    try:
        return _beside(EvaluationSpec.model_validate(body))
    except (ValidationError, EvalsvcError, MetricError):
        return set()


def _beside(spec: EvaluationSpec) -> set[str]:
    """The folders of the values of an evaluation, and of its kept samples."""
    kept = {spec.draws_key} if spec.keeps_samples else set()
    return kept | {spec.values_key(label) for label in spec.scorers}


def unused_uploads(database: Database, uploads: Path, before: datetime, *, remove: bool) -> Iterator[Leftover]:
    """Uploads from ``before`` without scores, and without evaluations in progress or ended since then."""
    in_use = exists().where(Evaluation.checkpoint_id == Checkpoint.id, ~_is_unused(before))
    with database.read() as session:
        known = session.scalars(select(Checkpoint.path).where(in_use)).all()
        # A checkpoint that was found under another path may still be evaluated from an upload.
        read = session.scalars(select(Evaluation.spec["path"].as_string()).where(~_is_unused(before))).all()
    kept = {Path(path) for path in (*known, *read) if path}
    written_before = before + (file_time(uploads) - database_time(database))
    for folder in sorted(uploads.resolve().glob("*")):
        files = [folder] if folder.is_file() else list(folder.iterdir())  # a file here is an interrupted upload
        changed = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        if changed >= written_before or not kept.isdisjoint(files):
            continue
        leftover = Leftover(str(folder), sum(file.stat().st_size for file in files))
        yield leftover
        if remove:
            with database.write() as session:  # first, so that a row exists for every removed file
                audit.record(session, audit.Action.CACHE_SWEEP, f"upload {folder.name}", {"bytes": leftover.bytes})
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


def partial_files(artifacts: Artifacts, before: datetime, *, remove: bool) -> Iterator[Leftover]:
    """Files from ``before``, by :func:`file_time`, that were partially written when their process was killed."""
    for file in sorted(artifacts.root.rglob(f"{TEMPORARY}*")):
        with suppress(FileNotFoundError):  # it has just been completed
            stat = file.stat()
            if datetime.fromtimestamp(stat.st_mtime, UTC) < before:
                yield Leftover(file.relative_to(artifacts.root).as_posix(), stat.st_size)
                if remove:
                    file.unlink()


def _is_unused(before: datetime) -> ColumnElement[bool]:
    return and_(Evaluation.status.in_(_VAIN), Evaluation.finished_at < before)
