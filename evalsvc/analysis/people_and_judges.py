"""People beside judges: agreement, and rates of both together that are as unbiased as people's and narrower."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from evalsvc.analysis.human_ratings import POINTS, item_of, votes
from evalsvc.analysis.judge_tournament import Tournament
from evalsvc.core.digests import digest_json
from evalsvc.metrics.agreement import Agreement, cohen_kappa, krippendorff_alpha
from evalsvc.metrics.prediction_powered import FEWEST, PredictionPowered, prediction_powered
from evalsvc.store.tables import Judgment


@dataclass(frozen=True)
class Together:
    """Points of the first checkpoint against the second, 1 a win and 1/2 a tie: of people, of a judge, of both.

    ``rates`` is ``None`` for the ``reason`` in words. ``agreed`` is the share of samples on which people and the judge
    have the same winner or tie, ``kappa`` the same beyond chance, over the ``both`` samples that both rated.
    """

    first: int
    second: int
    judge: str
    rates: PredictionPowered | None
    reason: str
    both: int
    agreed: float | None
    kappa: float | None


def record(session: Session, suite: str, found: Tournament, evaluations: Sequence[int], samples: Sequence[int]) -> None:
    """Keep a tournament's judgments, ``evaluations`` in the order of its players and ``samples`` in that of prompts."""
    protocol = digest_json([found.judge.name, found.judge.protocol])[:64]
    of = dict(zip(found.players, evaluations, strict=True))
    for outcome, given in zip(found.outcomes, found.points, strict=True):
        first, second = of[outcome.first], of[outcome.second]
        known = [(sample, points) for sample, points in zip(samples, given, strict=True) if points is not None]
        if first > second:
            first, second, known = second, first, [(sample, 1 - points) for sample, points in known]
        row = Judgment(
            suite=suite,
            first_id=first,
            second_id=second,
            judge=found.judge.name[:200],
            protocol=protocol,
            samples=[int(sample) for sample, _ in known],
            points=[points for _, points in known],
        )
        session.execute(
            delete(Judgment).where(
                Judgment.first_id == first, Judgment.second_id == second, Judgment.protocol == protocol
            )
        )
        session.add(row)


def together(session: Session, suite: str, checkpoint_of: Mapping[int, int]) -> list[Together]:
    """Each judge's judgments on two evaluations beside the votes of people on the same two."""
    people: dict[tuple[int, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote, _ in votes(session, suite, checkpoint_of):
        first, second = sorted((vote.left_id, vote.right_id))
        points = POINTS[vote.outcome]
        people[first, second][vote.sample].append(points if vote.left_id == first else 1 - points)
    query, item = select(Judgment).where(Judgment.suite == suite).order_by(Judgment.id), item_of(session, checkpoint_of)
    return [
        _together(
            row,
            people[row.first_id, row.second_id],
            [item(row.first_id, sample) for sample in row.samples],
            (checkpoint_of[row.first_id], checkpoint_of[row.second_id]),
        )
        for row in session.scalars(query)
        if row.first_id in checkpoint_of and row.second_id in checkpoint_of
    ]


def _together(
    row: Judgment, people: Mapping[int, Sequence[float]], items: Sequence[int], checkpoints: tuple[int, int]
) -> Together:
    both = [place for place, sample in enumerate(row.samples) if people.get(sample)]
    said, judged = ([float(np.mean(people[row.samples[i]])) for i in both], [row.points[i] for i in both])
    found = Together(*checkpoints, row.judge, None, "", len(both), None, None)
    if both:
        winners = np.sign(np.array(said) - 0.5), np.sign(np.array(judged) - 0.5)
        found = replace(found, agreed=float((winners[0] == winners[1]).mean()), kappa=cohen_kappa(*winners))
    by_judge, by_people = (
        _by_item(items, each) for each in (dict(enumerate(row.points)), dict(zip(both, said, strict=True)))
    )
    # Samples are in random order: the items up to the first without a vote are a random subset of all.
    first = list(itertools.takewhile(by_people.__contains__, by_judge))
    if len(first) < FEWEST:
        reason = f"people have rated the first {len(first)} items of the judge's random order; {FEWEST} are needed"
        return replace(found, reason=reason)
    people_s, judge_s = (np.array([each[item] for item in first], np.float64) for each in (by_people, by_judge))
    others = np.array([by_judge[item] for item in list(by_judge)[len(first) :]], np.float64)
    return replace(found, rates=prediction_powered(people_s, judge_s, others))


def _by_item(items: Sequence[int], points: Mapping[int, float]) -> dict[int, float]:
    """Mean points of the samples of each item, in the order of their first samples."""
    found: dict[int, list[float]] = {}
    for place, won in points.items():
        found.setdefault(items[place], []).append(won)
    return {item: float(np.mean(each)) for item, each in found.items()}


def agreement(session: Session, suite: str, evaluations: Collection[int]) -> Agreement | None:
    """Krippendorff's alpha of the votes of different people on the same pairs of samples; ``None`` without votes."""
    place: dict[str, int] = {}
    units: dict[tuple[int, int, int], int] = {}
    marks: list[tuple[int, int, float]] = []
    for vote, _ in votes(session, suite, evaluations):
        first, second = sorted((vote.left_id, vote.right_id))
        points = POINTS[vote.outcome] if vote.left_id == first else 1 - POINTS[vote.outcome]
        unit = units.setdefault((first, second, vote.sample), len(units))
        marks.append((place.setdefault(vote.rater, len(place)), unit, points))
    if not marks:
        return None
    table = np.full((len(place), len(units)), np.nan)
    for rater, unit, points in marks:  # a rater's last vote on a pair of samples counts
        table[rater, unit] = points
    return krippendorff_alpha(table)
