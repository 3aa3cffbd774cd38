"""What a quantity declares about its expectation at other numbers of samples holds, by Monte Carlo."""

import math

import numpy as np
import pytest

from evalsvc.metrics import functional  # noqa: F401  (declares the metrics)
from evalsvc.metrics.registry import METRICS, QUANTITIES
from evalsvc.metrics.score import Score

DRAWS, FEW, MANY = 30, 40, 200
REFERENCE = np.random.default_rng(1).standard_normal((200, 6))
SUBSETS = {"subsets": 4, "subset_size": 20}
CASES = [
    ("kernel_distance", {"subsets": None}),
    ("kernel_distance", {"subsets": None, "biased": True}),
    ("kernel_distance", SUBSETS),
    ("kernel_distance", {**SUBSETS, "biased": True}),
    ("precision_recall", {"k": 20}),
    ("density_coverage", {}),
    ("authenticity", {}),
    ("frechet_distance", {}),
    ("mind", {"directions": 60}),
    ("vendi_score", {}),
    ("memorization_informed_frechet", {}),
    ("repetition", {"n": 1}),
    ("distinct_n", {"n": 1}),
    ("self_bleu", {"n": 2}),
    ("compression_ratio", {}),
]


def measured(name, options, rng, n):
    spec = METRICS[name]
    x = rng.standard_normal((n, 6)) * 0.5
    texts = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(n if "texts" in spec.inputs else 0)]
    given = {"generated": x, "x": x, "texts": texts, "reference": REFERENCE, "train": REFERENCE}
    if options.get("subsets"):
        options = {**options, "seed": int(rng.integers(2**31))}  # the reference's subsets are drawn anew too
    found = spec.function(**{each: given[each] for each in spec.inputs}, **options)
    return {each.name: each.value for each in ([found] if isinstance(found, Score) else found.values())}


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_an_expectation_moves_with_the_number_of_samples_exactly_where_it_is_declared_to(name, options):
    rng = np.random.default_rng(7)
    few, many = ([measured(name, options, rng, n) for _ in range(DRAWS)] for n in (FEW, MANY))
    for quantity in few[0]:
        at_few, at_many = ([each[quantity] for each in side] for side in (few, many))
        error = math.sqrt((np.var(at_few, ddof=1) + np.var(at_many, ddof=1)) / DRAWS)
        stays = bool(abs(np.mean(at_few) - np.mean(at_many)) <= 4 * error)
        assert stays == METRICS[name].unbiased_in_n(QUANTITIES[quantity], options), quantity


def test_means_over_samples_and_likelihoods_are_unbiased_and_what_nobody_declared_is_not():
    means = ["clip_score", "copied_share", "near_duplicate_share", "perplexity", "bits_per_byte", "bits_per_dim"]
    assert all(QUANTITIES[name].unbiased_in_n is True for name in means)
    for name in ("inception_score", "mauve", "mauve_star", "ct_score", "frechet_distance_infinity"):
        assert QUANTITIES[name].unbiased_in_n is False
