"""Checks of scorers: what ships keeps its contract, and each breach is found by the clause that it breaks."""

import pytest
import torch

from evalsvc.builtin.scorers.choice import Choice
from evalsvc.builtin.scorers.exact_match import ExactMatch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.conformance import check_scorer
from evalsvc.plugins.items import Scored
from evalsvc.plugins.scorers import ScorerInfo

SHARE = Quantity("share", Direction.HIGHER, "share", 0.0, 1.0)


def broken(findings):
    return [finding.check for finding in findings if not finding.ok]


class Vowels:
    """Share of vowels in a text, unless the test says otherwise."""

    quantities = (SHARE,)

    def __init__(self, score=None, **facts):
        facts = {"quantities": self.quantities, "takes": frozenset({"text"})} | facts
        self.info = ScorerInfo("vowels", **facts)
        self.given = score or (lambda texts, items: [sum(c in "aeiou" for c in t) / max(1, len(t)) for t in texts])

    def score(self, samples, items):
        found = self.given(samples.items, items)
        return found if isinstance(found, Scored | dict) else {"share": torch.tensor(found, dtype=torch.float64)}


class Counting(Vowels):
    calls = 0

    def score(self, samples, items):
        self.calls += 1
        return {"share": torch.full((len(samples),), 1 / self.calls)}


@pytest.mark.parametrize("scorer", [Vowels(), ExactMatch(torch.device("cpu")), Choice(torch.device("cpu"))])
def test_a_scorer_that_keeps_its_word_passes(scorer):
    assert broken(check_scorer(scorer, scorer.quantities)) == []


@pytest.mark.parametrize(
    ("scorer", "clause"),
    [
        (Vowels(quantities=(SHARE, SHARE)), "quantities: names, declaration"),
        (Vowels(quantities=(Quantity("share", Direction.LOWER, "share"),)), "quantities: names, declaration"),
        (Vowels(weights=" "), "facts: name, weights"),
        (Vowels(lambda texts, items: [2.0] * len(texts)), "text: shape, dtype, range"),
        (Vowels(lambda texts, items: [0.5]), "text: shape, dtype, range"),
        (
            Vowels(lambda texts, items: {"share": torch.ones(len(texts), dtype=torch.int64)}),
            "text: shape, dtype, range",
        ),
        (Vowels(lambda texts, items: {"other": torch.ones(len(texts))}), "text: shape, dtype, range"),
        (Counting(), "text: determinism, same samples, second run"),
        (Vowels(lambda texts, items: [1 / len(texts)] * len(texts)), "text: batches of 1, 5 and 6 samples"),
        (Vowels(lambda texts, items: [i / 12 for i in range(len(texts))]), "text: same samples in reverse order"),
        (Vowels(lambda texts, items: [1 / len(text) for text in texts]), "text: samples without content"),
    ],
)
def test_each_breach_of_a_scorer_is_found_by_its_clause(scorer, clause):
    assert clause in broken(check_scorer(scorer, Vowels.quantities))
