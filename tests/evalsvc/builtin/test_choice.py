"""Scorers of likelihoods, on likelihoods written here."""

import numpy as np
import torch

from evalsvc.builtin.scorers.choice import Choice
from evalsvc.builtin.scorers.target_nll import TargetLikelihood
from evalsvc.plugins.items import ItemBatch, Message
from evalsvc.plugins.scorers import CandidateLikelihoods, ScoresLikelihoods

CPU = torch.device("cpu")
CHOICES = ("no", "perhaps", "never")


def items(answers, choices=None, **more):
    n = len(answers)
    chosen = choices or [CHOICES] * n
    prompts = more.pop("prompts", ("Is it?",) * n)
    ids = tuple(map(str, range(n)))
    return ItemBatch(
        ids, torch.zeros(n, dtype=torch.int64), prompts, choices=tuple(chosen), answers=tuple(answers), **more
    )


def likelihoods(*nats):
    return CandidateLikelihoods(np.array(nats, dtype=float), np.ones(len(nats), dtype=np.int64))


def test_the_most_likely_choice_counts_and_per_character_another_may():
    scorer = Choice(CPU)
    assert isinstance(scorer, ScoresLikelihoods)
    found = scorer.score_likelihoods([likelihoods(2.0, 3.0, 9.0)] * 2, items([0, 1])).values
    assert found["acc"].tolist() == [1, 0]
    assert found["acc_norm"].tolist() == [0, 1]  # 2 / 2, 3 / 7, 9 / 5
    assert found["nll"].tolist() == [2, 3]


def test_an_answer_is_an_index_a_text_a_letter_or_digits_in_this_order():
    found = Choice(CPU).score_likelihoods([likelihoods(9, 9, 1)] * 5, items([2, "never", "C", "c", "2"])).values
    assert found["acc"].tolist() == [1] * 5
    numbers = items(["2", "B", "0"], [("2", "3"), ("B", "A"), ("8", "9")])
    found = Choice(CPU).score_likelihoods([likelihoods(1, 2)] * 3, numbers).values
    assert found["acc"].tolist() == [1, 1, 1]


def test_choices_that_share_the_first_place_share_the_point():
    found = Choice(CPU).score_likelihoods([likelihoods(1, 1, 2)] * 3, items([0, 1, 2])).values
    assert found["acc"].tolist() == [0.5, 0.5, 0]


def test_an_item_that_cannot_be_scored_has_a_reason_and_asks_for_no_likelihood():
    bad = items(
        ["", 3, "perhaps not", -1, 0, 0, 1, "9" * 5000, "²"],
        [CHOICES, CHOICES, CHOICES, CHOICES, (), ("one",), ("one", ""), CHOICES, CHOICES],
    )
    scorer = Choice(CPU)
    assert scorer.candidates(bad) == ((),) * 9
    found = scorer.score_likelihoods([likelihoods()] * 9, bad)
    assert all(bool(values.isnan().all()) for values in found.values.values())
    assert list(found.reasons.values()) == [
        "the item has no answer",
        "the answer is number 4 of 3 choices",
        "the answer is not a choice",
        "the answer is number 0 of 3 choices",
        "the item has no choices",
        "the item has one choice",
        "choice 2 is empty",
        "the answer is not a choice",
        "the answer is not a choice",
    ]
    assert not found.failed


def test_a_certain_answer_has_no_negative_nats():
    certain = likelihoods(-2e-6, 30.0, 40.0)
    assert Choice(CPU).score_likelihoods([certain], items([0])).values["nll"].item() == 0
    found = TargetLikelihood(CPU).score_likelihoods([certain], items([""], targets=(("a", "b", "c"),)))
    assert all(column.item() == 0 for column in found.values.values())


def test_a_delimiter_stands_before_a_choice_but_not_in_a_chat():
    both = items([0, 0], prompts=("Is it?", (Message("user", "Is it?"),)))
    assert Choice(CPU, delimiter="\n").candidates(both) == (("\nno", "\nperhaps", "\nnever"), CHOICES)
    assert Choice(CPU).info.protocol != Choice(CPU, delimiter="").info.protocol


def test_of_several_targets_the_most_likely_one_counts():
    scorer = TargetLikelihood(CPU)
    both = items(["", ""], targets=(("é", "", "yes"), ()))
    assert scorer.candidates(both) == ((" é", " yes"), ())
    found = scorer.score_likelihoods(
        [CandidateLikelihoods(np.array([4.0, 6.0]), np.array([2, 1])), likelihoods()], both
    )
    assert [found.values[name][0].item() for name in ("nats", "nats_per_token", "nats_per_byte")] == [4, 2, 2]
    assert found.reasons == {1: "the item has no target"}
