"""The runs of a checkpoint under a suite, one per seed, with the influences that pair them with other runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.analysis.differences import Run
from evalsvc.core.errors import DamagedError, StorageError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.influences import KIND, UnitInfluence, read_influences
from evalsvc.store import queries
from evalsvc.store.artifacts import Artifacts
from evalsvc.store.queries import ScoreRow
from evalsvc.store.tables import Artifact, Checkpoint

Runs = Mapping[str, Sequence[Run]]
"""The runs of each score, by label."""
ROUNDING = 1e-9
"""Relative tolerance. Another order of summation changes a score by 1e-12, other samples by far more than this."""
BEFORE = UnitInfluence("scored before influences were stored")
ELSEWHERE = UnitInfluence("its influences are missing from the artifacts of this machine")
DAMAGED = UnitInfluence("its influences are damaged: score it again with --rerun")


def stored_runs(session: Session, artifacts: Artifacts, checkpoint: Checkpoint, suite: str) -> dict[str, list[Run]]:
    """Scores of every evaluated seed, by label; excluding seeds that were already seen would be a selection.

    Seeds whose scores agree up to rounding are one run: the scored samples (files, greedy decoding) do not depend on
    the seed, and repeating them adds no information.
    """
    differing: dict[int, list[ScoreRow]] = {}
    for seed, rows in queries.replicates(session, checkpoint, suite).items():
        if not any(_agree(rows, others) for others in differing.values()):
            differing[seed] = rows
    found: dict[str, list[Run]] = {}
    for seed, rows in differing.items():
        influences, otherwise = _influences(session, artifacts, rows[0].evaluation_id) if rows else ({}, ELSEWHERE)
        for row in rows:
            of = influences.get(row.label, otherwise)
            found.setdefault(row.label, []).append(run_of(row, seed, of))
    return found


def runs_beside(session: Session, artifacts: Artifacts, rows: Sequence[ScoreRow]) -> dict[str, list[Run]]:
    """All runs of the checkpoint whose current scores under a suite are given, at least one."""
    checkpoint = session.get_one(Checkpoint, rows[0].checkpoint_id)
    return stored_runs(session, artifacts, checkpoint, rows[0].suite)


def run_of(row: ScoreRow, seed: int, of: UnitInfluence) -> Run:
    """A stored score as a run."""
    return Run.of(
        row,
        row.protocol,
        row.facts,
        run=row.evaluation_id,
        seed=seed,
        influence=of.influence,
        units=of.units or _documents(row.facts),
        reference=of.reference,
    )


def _documents(facts: Mapping[str, object]) -> str:
    """The units of a likelihood, which its protocol also determines: seeds share them, with influences or without."""
    return f"documents/{facts['reference']}"[:26] if "kind" in facts and "reference" in facts else ""


def _influences(
    session: Session, artifacts: Artifacts, evaluation: int
) -> tuple[dict[str, UnitInfluence], UnitInfluence]:
    """The influences of an evaluation, and the reason for those that are missing."""
    path = session.scalar(select(Artifact.path).where(Artifact.evaluation_id == evaluation, Artifact.kind == KIND))
    if path is None:
        return {}, BEFORE
    known = select(Artifact.digest).where(Artifact.path == path)
    try:
        return read_influences(artifacts, path, lambda: session.scalars(known).all()), ELSEWHERE
    except DamagedError as error:
        report(error)
        return {}, DAMAGED
    except StorageError:
        return {}, ELSEWHERE


def _agree(rows: Sequence[ScoreRow], others: Sequence[ScoreRow]) -> bool:
    """Whether two runs have the same scores, up to the rounding of another order of summation."""
    return [row.label for row in rows] == [row.label for row in others] and all(
        math.isclose(a.value, b.value, rel_tol=ROUNDING, abs_tol=ROUNDING * (a.stderr or 0.0))
        for a, b in zip(rows, others, strict=True)
    )
