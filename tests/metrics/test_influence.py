"""Two scores over the same units: their difference is as sure as independent draws of the pair say."""

import pickle

import numpy as np
import pytest

from evalsvc.metrics import functional as metrics
from evalsvc.metrics.influence import Influence, paired
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import MetricError, Score
from tests.metrics.honesty import repeated

REFERENCE = np.random.default_rng(100).standard_normal((300, 6)).astype(np.float32)
LENGTHS = np.random.default_rng(7).integers(20, 200, 150).astype(float)


def likelihoods(rng):
    """Two models on the same documents: what is hard for one is hard for the other."""
    hard = rng.gamma(8.0, 0.3, len(LENGTHS))
    return [LENGTHS * hard * rng.gamma(400.0, 1 / 400, len(LENGTHS)) * gain for gain in (1.0, 0.98)]


def images(rng, n=200):
    """Two generators fed the same noise, which correlates what they make; one is somewhat wider and off."""
    noise, own = rng.standard_normal((n, 6)), rng.standard_normal((n, 6))
    return [(1.2 * noise + 0.3).astype(np.float32), (1.3 * (0.95 * noise + 0.31 * own) + 0.4).astype(np.float32)]


def texts(rng, n=120):
    """Two writers: the second repeats most of what the first says."""
    first = [rng.zipf(1.5, rng.integers(5, 40)).clip(max=200) for _ in range(n)]
    second = [np.where(rng.random(len(text)) < 0.9, text, rng.zipf(1.5, len(text)).clip(max=200)) for text in first]
    return [[" ".join(map(str, text)) for text in writer] for writer in (first, second)]


def flat(result):
    return list(result.values()) if isinstance(result, dict) else [result]


LIKELIHOODS = {
    "perplexity": lambda nll: metrics.perplexity(nll, LENGTHS),
    "bits_per_byte": lambda nll: metrics.bits_per_byte(nll, LENGTHS),
}
SETS = {
    "frechet_distance": lambda x: metrics.frechet_distance(x, REFERENCE),
    "prdc": lambda x: metrics.prdc(x, REFERENCE, k=3),
    "authenticity": lambda x: metrics.authenticity(x, REFERENCE),
    "kernel_distance": lambda x: metrics.kernel_distance(x, REFERENCE, subsets=None),
    "kernel_distance of subsets": lambda x: metrics.kernel_distance(x, REFERENCE, subsets=20, subset_size=50),
    "inception_score": lambda x: metrics.inception_score(4 * x, splits=2),
    "vendi_score": lambda x: metrics.vendi_score(x + 1),
    "clip_score": lambda x: metrics.clip_score(x, REFERENCE[: len(x)]),
    "ct_score": lambda x: metrics.ct_score(x, REFERENCE[:150], REFERENCE[150:], cells=2),
    "memorization_informed_frechet": lambda x: metrics.memorization_informed_frechet(x, REFERENCE, REFERENCE),
}
TEXTS = {
    "distinct_n": lambda texts: metrics.distinct_n(texts),
    "repetition": lambda texts: metrics.repetition(texts, 1),
    "self_bleu": lambda texts: metrics.self_bleu(texts, 2),
    "compression_ratio": lambda texts: metrics.compression_ratio(texts),
}
DRAWS = {name: (likelihoods, function) for name, function in LIKELIHOODS.items()}
DRAWS |= {name: (images, function) for name, function in SETS.items()}
DRAWS |= {name: (texts, function) for name, function in TEXTS.items()}
ON_THE_SAFE_SIDE = {"distinct_n", "self_bleu", "compression_ratio"}
"""Jackknives of differences count effects shared between texts twice."""


@pytest.mark.parametrize("name", DRAWS)
def test_a_score_compared_with_itself_differs_by_nothing(name):
    draw, function = DRAWS[name]
    for score in flat(function(draw(np.random.default_rng(0))[1])):
        assert paired(score.influence, score.influence) == 0


@pytest.mark.parametrize("name", DRAWS)
def test_the_influences_vary_as_the_error_says(name):
    draw, function = DRAWS[name]
    for score in flat(function(draw(np.random.default_rng(0))[1])):
        if name in ON_THE_SAFE_SIDE:
            assert score.stderr**2 <= score.influence.variance * (1 + 1e-5) <= 4.1 * score.stderr**2
        else:
            # A U-statistic's own error has its noise from all pairs; MIFID's takes the divisor for independent.
            rough = name.startswith("kernel") or name.startswith("memorization")
            assert score.influence.variance == pytest.approx(score.stderr**2, rel=0.1 if rough else 1e-5)


@pytest.mark.parametrize("name", DRAWS)
def test_the_error_of_a_paired_difference_is_that_of_differences(name):
    draw, function = DRAWS[name]
    pairs = repeated(lambda i: [flat(function(x)) for x in draw(np.random.default_rng(i))], 40)
    for column in range(len(pairs[0][0])):
        a, b = ([side[column] for side in sides] for sides in zip(*pairs, strict=True))
        differences = [one.value - other.value for one, other in zip(a, b, strict=True)]
        errors = [paired(one.influence, other.influence) for one, other in zip(a, b, strict=True)]
        alone = np.sqrt(np.mean([one.stderr**2 + other.stderr**2 for one, other in zip(a, b, strict=True)]))
        truth = np.std(differences, ddof=1)
        ratio = np.sqrt(np.mean(np.square(errors))) / truth
        assert 0.75 < ratio < (2.0 if name in ON_THE_SAFE_SIDE else 1.35), a[0].name
        assert truth < 0.97 * alone, a[0].name


def test_perplexities_are_paired_as_their_paired_difference_is():
    a, b = likelihoods(np.random.default_rng(1))
    scores = [metrics.perplexity(nll, LENGTHS) for nll in (a, b)]
    expected = metrics.paired_difference(a, b, LENGTHS, of="perplexity").stderr
    assert paired(scores[0].influence, scores[1].influence) == pytest.approx(expected, rel=1e-4)


def test_scores_of_other_units_are_not_paired():
    few, many = (metrics.frechet_distance(images(np.random.default_rng(n), n)[0], REFERENCE) for n in (50, 60))
    with pytest.raises(MetricError, match="50 and 60 units"):
        paired(few.influence, many.influence)


def test_influences_travel_and_count_for_nothing_in_equality():
    score = metrics.frechet_distance(images(np.random.default_rng(0))[0], REFERENCE)
    copy = pickle.loads(pickle.dumps(score))
    assert copy == score
    assert isinstance(copy.influence, Influence)
    np.testing.assert_array_equal(copy.influence.whole, score.influence.whole)


def test_a_score_without_an_error_says_why_it_is_not_paired():
    score = metrics.frechet_distance(REFERENCE[:10], REFERENCE)
    assert score.stderr is None
    assert "fewer than 20" in score.influence


def test_what_the_reference_alone_is_to_blame_for_cancels_in_a_difference():
    psi = np.array([3.0, -1.0, -2.0], np.float32)
    score = Influence(3, whole=psi, noise=0 * psi, shared=1.0)
    assert score.variance == pytest.approx((7 - 1) / 3)
    assert score.times(2.0).variance == pytest.approx(4 * score.variance)
    assert score.minus(Influence(3, whole=0 * psi, noise=0 * psi, shared=1.0)).variance == pytest.approx(7 / 3)


def test_two_near_models_differ_by_their_errors_and_that_of_a_small_reference():
    def draw(i):
        rng = np.random.default_rng(i)
        reference = rng.standard_normal((200, 8))
        return [
            metrics.frechet_distance(rng.standard_normal((2000, 8)) + 0.1 * side, reference) for side in np.eye(8)[:2]
        ]

    pairs = repeated(draw, 80)
    both = [a.influence.variance + b.influence.variance + a.reference.minus(b.reference).variance for a, b in pairs]
    # Of 80 values the spread is known within 16 %. With the noise that both share taken off, this was 0.66.
    assert np.sqrt(np.mean(both)) == pytest.approx(np.std([a.value - b.value for a, b in pairs], ddof=1), rel=0.2)


@pytest.mark.parametrize("name", ["frechet_distance", "frechet_distance_infinity", "kernel_distance", "mind"])
def test_a_score_says_where_one_sample_carries_its_error(name):
    options = {"kernel_distance": {"subsets": None}, "mind": {"directions": 6}}.get(name, {})
    rows = np.random.default_rng(0).standard_normal((200, 6))
    usual = METRICS[name].function(rows, REFERENCE, **options)
    rows[7] *= 30
    heavy = METRICS[name].function(rows, REFERENCE, **options)
    assert "carries" not in usual.stderr_method
    assert "one of 200 carries" in heavy.stderr_method


@pytest.mark.parametrize("name", ["mind", "mauve", "clipped_density_coverage", "feature_likelihood_divergence"])
def test_an_unknown_error_of_the_reference_is_not_zero_and_says_why(name):
    sets = np.random.default_rng(0).standard_normal((3, 60, 4))
    found = METRICS[name].function(*sets[: len(METRICS[name].inputs)])
    first = found if isinstance(found, Score) else found["clipped_density"]
    assert first.stderr_reference is None
    assert first.reference_method.startswith("none: ")
