"""Human preferences: pairs of samples rated blindly, and the resulting ratings of checkpoints."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError
from evalsvc.store import audit
from evalsvc.store.session import Database
from evalsvc.store.tables import Rating

Outcome = Literal["left", "right", "tie"]


@dataclass(frozen=True)
class Pair:
    """The samples of two evaluations with the same index in their source, in the order in which they are shown."""

    left: int
    right: int
    sample: int


@dataclass(frozen=True)
class Standing:
    """A checkpoint's rating by people; without numbers if none exist yet, and ``standing`` gives the reason."""

    checkpoint: int
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    rank: int | None
    games: int
    standing: str


def draw(session: Session, suite: str, samples: Mapping[int, Collection[int]], chance: random.Random) -> Pair:
    """Draw a least-rated pair, at a random index that both evaluations have, in random order.

    ``samples`` are the indices of the samples that each evaluation has stored.

    Raises:
        InputError: no two evaluations have a sample with the same index.
    """
    shown = sorted(evaluation for evaluation, indices in samples.items() if indices)
    shared = {(a, b): set(samples[a]) & set(samples[b]) for i, a in enumerate(shown) for b in shown[i + 1 :]}
    if not any(shared.values()):
        raise InputError(
            "rating needs two checkpoints with stored samples of the same indices: choose other checkpoints"
        )
    query = select(Rating.left_id, Rating.right_id, func.count()).where(Rating.suite == suite)
    games: Counter[frozenset[int]] = Counter()
    for left, right, count in session.execute(query.group_by(Rating.left_id, Rating.right_id)):
        games[frozenset((left, right))] += count
    pairs = [pair for pair, indices in shared.items() if indices]
    least = min(games[frozenset(pair)] for pair in pairs)
    left, right = chance.choice([pair for pair in pairs if games[frozenset(pair)] == least])
    sample = chance.choice(sorted(shared[left, right]))
    if chance.random() < 0.5:
        left, right = right, left
    return Pair(left, right, sample)


def rate(database: Database, suite: str, pair: Pair, outcome: Outcome, rater: str) -> None:
    """Record a preference."""
    with database.write() as session:
        row = Rating(
            suite=suite,
            left_id=pair.left,
            right_id=pair.right,
            sample=pair.sample,
            outcome=outcome,
            rater=rater[:200],
        )
        session.add(row)
        session.flush()
        facts: dict[str, audit.Fact] = {"suite": suite, "left": pair.left, "right": pair.right}
        audit.record(session, audit.Action.RATING_ADD, f"rating {row.id}", facts)


def standings(session: Session, suite: str, checkpoint_of: Mapping[int, int]) -> list[Standing]:
    """Bradley-Terry ratings of the rated checkpoints, best first.

    ``checkpoint_of`` maps each current evaluation to its checkpoint, so that all its seeds are one player.
    """
    from evalsvc.metrics.bradley_terry import (
        bradley_terry,
    )  # importing torch takes seconds, and there may be nothing to rate

    query = select(Rating.left_id, Rating.right_id, Rating.outcome, func.count()).where(Rating.suite == suite)
    rows = [
        (checkpoint_of[left], checkpoint_of[right], outcome, count)
        for left, right, outcome, count in session.execute(
            query.group_by(Rating.left_id, Rating.right_id, Rating.outcome)
        )
        if left in checkpoint_of and right in checkpoint_of
    ]
    players = sorted({player for a, b, *_ in rows for player in (a, b)})
    if len(players) < 2:
        return []
    place = {player: i for i, player in enumerate(players)}
    wins = np.zeros((len(players), len(players)))
    for left, right, outcome, count in rows:
        a, b = place[left], place[right]
        if a == b:
            continue
        wins[a, b] += count * {"left": 1.0, "tie": 0.5, "right": 0.0}[outcome]
        wins[b, a] += count * {"left": 0.0, "tie": 0.5, "right": 1.0}[outcome]
    found = bradley_terry(wins)
    table = [
        Standing(
            checkpoint=player,
            rating=found.ratings[i],
            ci_low=found.ci_low[i],
            ci_high=found.ci_high[i],
            rank=found.ranks[i],
            games=int((wins[i] + wins[:, i]).sum()),
            standing=found.standings[i],
        )
        for i, player in enumerate(players)
    ]
    return sorted(table, key=lambda each: -(each.rating or 0.0))


def agreement(table: Sequence[Standing], values: Mapping[int, float], direction: str) -> float | None:
    """Spearman's rank correlation of ratings with a metric, 1 if both order checkpoints alike; ``None`` for fewer than
    3.
    """
    both = [(each.rating, values[each.checkpoint]) for each in table if each.rating and each.checkpoint in values]
    if len(both) < 3 or len({value for _, value in both}) < 2:
        return None
    found = float(spearmanr([rating for rating, _ in both], [value for _, value in both]).statistic)
    return -found if direction == "lower" else found
