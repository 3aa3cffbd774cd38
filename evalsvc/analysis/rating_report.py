"""Report of people's votes under a suite: ratings, agreement, and rates beside those of judges."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from evalsvc.analysis import human_ratings, people_and_judges
from evalsvc.store import dashboard_queries, names
from evalsvc.store.tables import Checkpoint, Evaluation, Judgment, Rating


def rating_report(session: Session, suite: str) -> dict[str, Any]:
    """The document of ``evalsvc ratings`` and ``GET /ratings``, with unique names of checkpoints."""
    voted = select(Evaluation.checkpoint_id).where(
        or_(
            *(
                Evaluation.id.in_(select(side).where(table.suite == suite))
                for table, side in (
                    (Rating, Rating.left_id),
                    (Rating, Rating.right_id),
                    (Judgment, Judgment.first_id),
                    (Judgment, Judgment.second_id),
                )
            )
        )
    )
    checkpoints = session.scalars(select(Checkpoint).where(Checkpoint.id.in_(voted))).all()
    name = names.titles(session, checkpoints)
    runs = dashboard_queries.runs_of(session, suite, list(name))
    standings = human_ratings.standings(session, suite, runs)
    agreement = people_and_judges.agreement(session, suite, runs)
    return {
        "suite": suite,
        "method": standings[0].method if standings else "",
        "ratings": [asdict(each) | {"checkpoint": name[each.checkpoint]} for each in standings],
        "agreement": asdict(agreement) if agreement else None,
        "judges": [
            asdict(each) | {"first": name[each.first], "second": name[each.second]}
            for each in people_and_judges.together(session, suite, runs)
        ],
    }
