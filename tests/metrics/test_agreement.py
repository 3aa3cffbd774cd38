import numpy as np
import pytest

from evalsvc.metrics.agreement import cohen_kappa, krippendorff_alpha
from evalsvc.metrics.score import MetricError

NAN = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Four observers of twelve units: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C."""


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)]
)
def test_alpha_of_krippendorff_s_example(level, alpha):
    """The digits after the third are those of the package krippendorff 0.9."""
    found = krippendorff_alpha(KRIPPENDORFF, level)
    assert found.alpha == pytest.approx(alpha, abs=1e-6)
    assert (found.items, found.raters) == (11, 4)
    assert found.ci_low < found.alpha < found.ci_high <= 1


def test_alpha_is_one_where_all_agree_and_zero_by_chance():
    rng = np.random.default_rng(0)
    same = np.tile(rng.integers(0, 3, 50), (3, 1))
    assert krippendorff_alpha(same).alpha == 1
    assert krippendorff_alpha(same).ci_low is None
    chance = krippendorff_alpha(rng.integers(0, 3, (3, 2000)))
    assert abs(chance.alpha) < 0.03
    assert chance.ci_low < 0 < chance.ci_high


@pytest.mark.parametrize("ratings", [[[1.0, NAN], [NAN, 2]], [[1, 1], [1, 1]], [[NAN, NAN]]])
def test_without_two_ratings_or_any_difference_there_is_no_alpha(ratings):
    assert krippendorff_alpha(np.array(ratings)).alpha is None


def test_bad_ratings_are_refused():
    for ratings, level in ((np.array([[np.inf]]), "nominal"), (-np.ones((2, 2)), "ratio")):
        with pytest.raises(MetricError, match="ratings"):
            krippendorff_alpha(ratings, level)


def test_kappa_of_a_table_by_hand():
    """Of 50 applications both say yes to 20 and no to 15; yes by 25 and 30: 0.7 observed, 0.5 by chance."""
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(np.ones(3), np.ones(3)) is None
    with pytest.raises(MetricError, match="same items"):
        cohen_kappa(np.ones(0), np.ones(0))
