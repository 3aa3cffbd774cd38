"""Let a judge compare pairs of answers: a language model, recorded human preferences, or any plug-in.

The host, not the judge, swaps the order, counts unparsed answers, and detects a judge that compares its own answers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError, ModelError
from evalsvc.metrics.bradley_terry import BradleyTerry, bradley_terry, rate_votes
from evalsvc.metrics.votes import Votes
from evalsvc.plugins.interfaces import ANSWERS, Answer, Judge, JudgeInfo
from evalsvc.plugins.verdicts import points_of
from evalsvc.store.artifacts import Artifacts


@dataclass(frozen=True)
class Player:
    """A checkpoint with its answers, one per prompt, and the names by which a judge may be the same model."""

    name: str
    answers: tuple[str, ...]
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """The result of two players: each prompt is judged in both orders, and a player wins it if both orders prefer that
    player.

    ``contradictions`` counts prompts where both orders preferred the same position; they count as ties. Comparisons
    with an unparsed answer are not counted.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    contradictions: int
    unparsed: int


@dataclass(frozen=True)
class Tournament:
    """The results of all pairs. ``first_place`` is the fraction of decided answers that preferred the first answer: 1/2
    is fair. ``points`` has one row a pair and one entry a prompt, ``None`` where an answer was unparsed.
    """

    judge: JudgeInfo
    outcomes: tuple[Outcome, ...]
    points: tuple[tuple[float | None, ...], ...]
    players: tuple[str, ...]
    ratings: BradleyTerry
    first_place: float | None
    judges_itself: tuple[str, ...]


def run_tournament(
    judge: Judge,
    players: Sequence[Player],
    prompts: Sequence[str],
    artifacts: Artifacts,
    *,
    itself: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Tournament:
    """Let the judge compare all pairs of players on all prompts, twice each. Pairs judged before are read from the
    cache.

    Raises:
        InputError: there are fewer than two players, the number of answers differs from that of the prompts, or the
            judge
            is one of the players and ``itself`` is False.
        ModelError: the judge fails or returns an invalid answer.
    """
    if len(players) < 2 or len({player.name for player in players}) < len(players):
        raise InputError("a judge needs at least two different players")
    for player in players:
        if len(player.answers) != len(prompts):
            raise InputError(f"{player.name} has {len(player.answers)} answers to {len(prompts)} prompts")
    same = tuple(player.name for player in players if player.models & judge.info.models)
    if same and not itself:
        raise InputError(
            f"judge {judge.info.name!r} is the same model as {same[0]}, and models prefer their own answers: use "
            "another judge, or allow it with --itself"
        )
    votes: list[tuple[int, int, float, str]] = []
    given: list[tuple[float | None, ...]] = []
    outcomes, places = [], {"first": 0, "second": 0}
    for (i, a), (j, b) in itertools.combinations(enumerate(players), 2):
        answers = _judged(judge, a, b, prompts, artifacts)
        advance(1)
        outcomes.append(_outcome(a.name, b.name, answers))
        given.append(tuple(_points(*pair) for pair in answers))
        votes += [
            (i, j, won, prompt or str(number))
            for number, (prompt, won) in enumerate(zip(prompts, given[-1], strict=True))
            if won is not None
        ]
        for answer in itertools.chain.from_iterable(answers):
            if answer in places:
                places[answer] += 1
    decided = sum(places.values())
    return Tournament(
        judge.info,
        tuple(outcomes),
        tuple(given),
        tuple(player.name for player in players),
        _rated(votes, len(players)),
        places["first"] / decided if decided else None,
        same,
    )


def _points(straight: Answer, swapped: Answer) -> float | None:
    """Points of the player who is shown first at first; ``None`` if an answer was unparsed."""
    return None if "unparsed" in (straight, swapped) else points_of(straight, swapped)


def _rated(votes: Sequence[tuple[int, int, float, str]], players: int) -> BradleyTerry:
    """Ratings by one rater, whose votes on one prompt depend on each other."""
    if not votes:
        return bradley_terry(np.zeros((players, players)))
    first, second, won, items = zip(*votes, strict=True)
    return rate_votes(Votes.of(first, second, won, ["judge"] * len(votes), items), players)


def _judged(
    judge: Judge, a: Player, b: Player, prompts: Sequence[str], artifacts: Artifacts
) -> list[tuple[Answer, Answer]]:
    """Answers for each prompt with a shown first, and with b shown first; cached, because judges are slow and
    expensive.
    """
    key = f"judgements/{digest_json([judge.info.name, judge.info.protocol, prompts, a.answers, b.answers])[:32]}.json"
    if artifacts.is_sound(key):
        return [(first, second) for first, second in json.loads(artifacts.read_bytes(key))]
    found = [
        (_ask(judge, prompt, x, y), _ask(judge, prompt, y, x))
        for prompt, x, y in zip(prompts, a.answers, b.answers, strict=True)
    ]
    artifacts.write_bytes(key, json.dumps(found).encode())
    return found


def _ask(judge: Judge, prompt: str, first: str, second: str) -> Answer:
    try:
        answer = judge.compare(prompt, first, second)
    except (InputError, ModelError):
        raise
    except Exception as error:
        raise ModelError(f"judge {judge.info.name!r} failed: {type(error).__name__}: {error}") from error
    if answer not in ANSWERS:
        raise ModelError(
            f"judge {judge.info.name!r} returned {answer!r}: a judge must return one of {', '.join(ANSWERS)}"
        )
    return answer


def _outcome(first: str, second: str, answers: Sequence[tuple[Answer, Answer]]) -> Outcome:
    counts = dict.fromkeys(("wins", "losses", "ties", "contradictions", "unparsed"), 0)
    for straight, swapped in answers:
        if "unparsed" in (straight, swapped):
            counts["unparsed"] += 1
        elif straight == swapped != "tie":
            counts["contradictions"] += 1
        elif {straight, swapped} == {"first", "second"}:
            counts["wins" if straight == "first" else "losses"] += 1
        else:
            counts["ties"] += 1
    return Outcome(first, second, **counts)
