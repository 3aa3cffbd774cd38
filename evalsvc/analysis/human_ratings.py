"""Human preferences: pairs of samples rated blindly, and the resulting ratings of checkpoints."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import spearmanr
from sqlalchemy import select
from sqlalchemy.orm import Session

from evalsvc.core.errors import InputError
from evalsvc.store import audit
from evalsvc.store.session import Database
from evalsvc.store.tables import Evaluation, Rating

Outcome = Literal["left", "right", "tie"]
POINTS: Mapping[str, float] = {"left": 1.0, "tie": 0.5, "right": 0.0}
"""Points of the left sample."""
TWICE = 5
"""Every so many samples, one is rated by two people."""


@dataclass(frozen=True)
class Pair:
    """The samples of two evaluations with the same index in their source, in the order in which they are shown."""

    left: int
    right: int
    sample: int


@dataclass(frozen=True)
class Standing:
    """A checkpoint's rating by people; without one if none exists yet, and ``standing`` gives the reason.

    An unbeaten checkpoint has the lower end of its interval alone, a winless one the upper end. ``method`` says what
    the intervals redraw.
    """

    checkpoint: int
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    rank: int | None
    games: int
    standing: str
    method: str = ""


def draw(session: Session, suite: str, samples: Mapping[int, Sequence[int]], chance: random.Random, rater: str) -> Pair:
    """The next sample that this rater should see, of a least-rated pair of evaluations, in random order.

    ``samples`` are the indices of the samples that each evaluation has stored, in the order in which its suite takes
    them. That order is random and recorded, and samples are rated in it: those that have been rated are a random subset
    of all, for which a rater neither chooses nor leaves out a sample. Every fifth is rated by two people, so that
    agreement is known; more of them see a sample again when all have been rated.

    Raises:
        InputError: no two evaluations have a sample with the same index.
    """
    shown = sorted(evaluation for evaluation, indices in samples.items() if indices)
    held = {evaluation: set(samples[evaluation]) for evaluation in shown}
    shared = {
        (a, b): [index for index in samples[a] if index in held[b]] for i, a in enumerate(shown) for b in shown[i + 1 :]
    }
    if not any(shared.values()):
        raise InputError(
            "rating needs two checkpoints with stored samples of the same indices: choose other checkpoints"
        )
    raters: dict[tuple[frozenset[int], int], list[str]] = defaultdict(list)
    games: Counter[frozenset[int]] = Counter()
    query = select(Rating.left_id, Rating.right_id, Rating.sample, Rating.rater).where(Rating.suite == suite)
    for left, right, sample, name in session.execute(query):
        pair = frozenset((left, right))
        games[pair] += 1
        raters[pair, sample].append(name)
    pairs = [pair for pair, indices in shared.items() if indices]
    least = min(games[frozenset(pair)] for pair in pairs)
    chosen = chance.choice([pair for pair in pairs if games[frozenset(pair)] == least])
    of = {sample: raters[frozenset(chosen), sample] for sample in shared[chosen]}
    wanted = [
        sample
        for place, (sample, names) in enumerate(of.items())
        if rater not in names and len(names) < (2 if place % TWICE == 0 else 1)
    ]
    again = min(of, key=lambda sample: (of[sample].count(rater), len(of[sample])))
    left, right = chosen if chance.random() < 0.5 else chosen[::-1]
    return Pair(left, right, wanted[0] if wanted else again)


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


def votes(session: Session, suite: str, evaluations: Collection[int]) -> list[tuple[Rating, int]]:
    """Votes on pairs of these evaluations, each with its item: the draws of an item are one."""
    item = item_of(session, evaluations)
    rows = session.scalars(select(Rating).where(Rating.suite == suite).order_by(Rating.id))
    return [
        (each, item(each.left_id, each.sample))
        for each in rows
        if each.left_id in evaluations and each.right_id in evaluations
    ]


def item_of(session: Session, evaluations: Collection[int]) -> Callable[[int, int], int]:
    """The item that a sample of an evaluation is a draw of."""
    query = select(Evaluation.id, Evaluation.spec).where(Evaluation.id.in_(evaluations))
    orders = {evaluation: spec.get("order") for evaluation, spec in session.execute(query)}
    count = {evaluation: int(order["of"]) for evaluation, order in orders.items() if order}
    return lambda evaluation, sample: sample % count[evaluation] if evaluation in count else sample


def standings(session: Session, suite: str, checkpoint_of: Mapping[int, int]) -> list[Standing]:
    """Bradley-Terry ratings of the rated checkpoints, best first.

    ``checkpoint_of`` maps each current evaluation to its checkpoint, so that all its seeds are one player.
    """
    from evalsvc.metrics.bradley_terry import rate_votes  # importing torch takes seconds
    from evalsvc.metrics.votes import Votes

    rows = [
        (checkpoint_of[each.left_id], checkpoint_of[each.right_id], POINTS[each.outcome], each.rater, item)
        for each, item in votes(session, suite, checkpoint_of)
        if checkpoint_of[each.left_id] != checkpoint_of[each.right_id]
    ]
    players = sorted({player for a, b, *_ in rows for player in (a, b)})
    if len(players) < 2:
        return []
    place = {player: i for i, player in enumerate(players)}
    first, second, points, raters, items = zip(*rows, strict=True)
    found = rate_votes(
        Votes.of([place[player] for player in first], [place[player] for player in second], points, raters, items),
        len(players),
    )
    games = Counter((*first, *second))
    table = [
        Standing(
            checkpoint=player,
            rating=found.ratings[i],
            ci_low=found.ci_low[i],
            ci_high=found.ci_high[i],
            rank=found.ranks[i],
            games=games[player],
            standing=found.standings[i],
            method=found.method,
        )
        for i, player in enumerate(players)
    ]
    return sorted(table, key=lambda each: (each.rank or len(table) + 1, -(each.rating or 0.0)))


def agreement(table: Sequence[Standing], values: Mapping[int, float], direction: str) -> float | None:
    """Spearman's rank correlation of ratings with a metric, 1 if both order checkpoints alike; ``None`` for fewer than
    3.
    """
    # Ratings that are equal but for rounding are equal.
    both = [
        (round(each.rating, 6), values[each.checkpoint]) for each in table if each.rating and each.checkpoint in values
    ]
    if len(both) < 3 or len({value for _, value in both}) < 2:
        return None
    found = float(spearmanr([rating for rating, _ in both], [value for _, value in both]).statistic)
    return -found if direction == "lower" else found
