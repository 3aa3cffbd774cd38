"""Scores, leaderboards and differences as JSON, as ``--json`` prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evalsvc.analysis.leaderboard import Board, Difference
from evalsvc.core.columns import ScoreColumns
from evalsvc.store import queries


def evaluation_document(rows: Sequence[ScoreColumns]) -> dict[str, Any]:
    """One evaluation's scores as JSON."""
    first = rows[0]
    who = {"name": first.name, "model": first.model, "step": first.step, "mark": first.mark, "digest": first.digest}
    what = {"suite": first.suite, "evaluation": first.evaluation_id}
    return who | what | {"scores": [score_document(row) for row in rows]}


def board_document(board: Board) -> dict[str, Any]:
    """A board as JSON."""
    entries = [
        {
            "rank": entry.rank,
            "name": f"{entry.model}@{entry.step}{entry.mark}",
            "model": entry.model,
            "family": entry.family,
            "step": entry.step,
            "digest": entry.digest,
            "mark": entry.mark,
            "scores": [score_document(row) for row in entry.scores.values()],
        }
        for entry in board.entries
    ]
    by = {"score": board.ranked_by.label, "direction": board.ranked_by.direction, "protocol": board.ranked_by.protocol}
    of_reference = {"reference": board.reference, "reference_unknown": board.unknown or None}
    return {"suite": board.suite, "ranked_by": by, **of_reference, "entries": entries}


def difference_document(difference: Difference) -> dict[str, Any]:
    """A difference as JSON."""
    return {
        "score": difference.label,
        "a": difference.a.value if difference.a else None,
        "b": difference.b.value if difference.b else None,
        "difference": difference.value,
        "stderr": difference.stderr,
        "interval": difference.interval,
        "stderr_reference": difference.stderr_reference,
        "reference_method": difference.reference_method or None,
        "interval_sampled": difference.interval_sampled,
        "nearness": difference.nearness and asdict(difference.nearness),
        "paired": difference.paired,
        "unpaired": difference.unpaired or None,
        "independent": difference.independent,
        "verdict": difference.verdict,
        "reason": difference.reason or None,
    }


def score_document(row: ScoreColumns) -> dict[str, Any]:
    """A score as JSON."""
    return {key: getattr(row, key) for key in queries.SCORE_VALUES if key != "position"}
