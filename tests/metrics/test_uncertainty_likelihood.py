"""Standard errors against 300 independent corpora: within 15 % of the spread, intervals that cover 92 to 98 %."""

import math

import numpy as np
import pytest

from evalsvc.metrics.functional import compression_ratio, distinct_n, repetition, self_bleu
from evalsvc.metrics.likelihood import bits_per_byte, bits_per_dim, paired_difference, perplexity
from tests.metrics.honesty import DRAWS, assert_scores_honest, repeated


def documents(rng, n, spread, nats=3.0):
    """Lengths of very mixed size, and a difficulty that has its own spread for each document."""
    units = np.ceil(rng.lognormal(4, spread, n))
    return nats * units * rng.gamma(20, 1 / 20, n), units


@pytest.mark.parametrize(("n", "spread"), [(100, 0.5), (300, 0.5), (300, 1.0), (2000, 1.0)])
def test_errors_of_likelihood_ratios_are_honest(n, spread):
    rng = np.random.default_rng(0)
    corpora = [documents(rng, n, spread) for _ in range(DRAWS)]
    for metric, truth in ((perplexity, math.exp(3)), (bits_per_byte, 3 / math.log(2)), (bits_per_dim, 3 / math.log(2))):
        assert_scores_honest(repeated(lambda i, metric=metric: metric(*corpora[i])), truth)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("of", ["nats_per_unit", "perplexity"])
def test_errors_of_paired_differences_are_honest(gain, of):
    rng = np.random.default_rng(1)

    def draw(_):
        nll, units = documents(rng, 300, 0.5)
        return paired_difference(nll, (nll - gain * units) * rng.gamma(400, 1 / 400, 300), units, of=of)

    truth = gain if of == "nats_per_unit" else math.exp(3) - math.exp(3 - gain)
    assert_scores_honest(repeated(draw), truth)


def texts(rng, n, law):
    """Documents of Zipfian or uniform words; in the collapsed law half repeat one of eight templates."""
    zipf, words = {"zipf": (1.0, 2000), "uniform": (0.0, 300), "collapsed": (1.2, 2000)}[law]
    chance = np.arange(1, words + 1.0) ** -zipf
    lengths = np.clip(rng.lognormal(math.log(12), 0.5, n), 3, 60).astype(int)
    drawn = rng.choice(words, (n, 60), p=chance / chance.sum())
    if law == "collapsed":
        copied = rng.random(n) < 0.5
        drawn[copied] = (np.arange(60) + 100 * rng.integers(8, size=n)[:, None])[copied]
    return [" ".join(map(str, row[:length])) for row, length in zip(drawn, lengths, strict=True)]


@pytest.mark.parametrize("law", ["zipf", "uniform", "collapsed"])
def test_errors_of_text_diversity_are_honest(law):
    rng = np.random.default_rng(2)
    corpora = [texts(rng, 300, law) for _ in range(DRAWS)]
    for metric, n in ((distinct_n, 1), (distinct_n, 2), (repetition, 1), (self_bleu, 4)):
        assert_scores_honest(repeated(lambda i, metric=metric, n=n: metric(corpora[i], n)))


@pytest.mark.parametrize("law", ["zipf", "collapsed"])
def test_the_error_of_a_compression_ratio_is_no_more_than_half_too_large(law):
    rng = np.random.default_rng(3)
    scores = [compression_ratio(texts(rng, 60, law)) for _ in range(100)]
    assert 0.85 <= np.mean([s.stderr for s in scores]) / np.std([s.value for s in scores]) <= 1.5
