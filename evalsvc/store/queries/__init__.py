"""Queries of the tables: reading only, one file a noun."""

from __future__ import annotations

from evalsvc.store.queries.checkpoint_rows import ModelCost, checkpoints, costs, known_by_digest, models, scored_before
from evalsvc.store.queries.decisions import aliases, gates, passed_gates, promotions, protections
from evalsvc.store.queries.evaluation_runs import evaluations, replicates, side
from evalsvc.store.queries.score_rows import (
    EVALUATION_VALUES,
    IN_ORDER,
    PROTOCOL,
    SCORE_VALUES,
    ScoreRow,
    chosen_scores,
    last_scores,
    score_values,
    scores,
    scores_of,
    slices,
    slices_by_score,
)
from evalsvc.store.queries.suite_bodies import pick_suite, suite_body, suite_versions, suites

__all__ = [
    "EVALUATION_VALUES",
    "IN_ORDER",
    "PROTOCOL",
    "SCORE_VALUES",
    "ModelCost",
    "ScoreRow",
    "aliases",
    "checkpoints",
    "chosen_scores",
    "costs",
    "evaluations",
    "gates",
    "known_by_digest",
    "last_scores",
    "models",
    "passed_gates",
    "pick_suite",
    "promotions",
    "protections",
    "replicates",
    "score_values",
    "scored_before",
    "scores",
    "scores_of",
    "side",
    "slices",
    "slices_by_score",
    "suite_body",
    "suite_versions",
    "suites",
]
