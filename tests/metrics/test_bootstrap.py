import numpy as np
import pytest

from evalsvc.metrics.bootstrap import bootstrap
from evalsvc.metrics.registry import QUANTITIES, Quantity, score
from evalsvc.metrics.score import Direction, MetricError


@pytest.fixture(autouse=True)
def _quantities(monkeypatch):
    for name in ("mean", "spread"):
        monkeypatch.setitem(QUANTITIES, name, Quantity(name, Direction.NEUTRAL, "units"))


def mean(generated):
    return score("mean", float(generated.mean()), None, n=len(generated), method="none")


def mean_and_spread(generated, reference):
    spread = float(generated.std() / reference.std())
    return {"mean": mean(generated), "spread": score("spread", spread, None, n=len(generated), method="none")}


X = np.random.default_rng(0).exponential(size=(400, 1))


def test_the_mean_has_the_standard_error_of_a_mean():
    found = bootstrap(mean, X, replicates=1000)
    assert found.value == mean(X).value
    assert found.stderr == pytest.approx(X.std() / 20, rel=0.1)
    assert found.ci_high - found.ci_low == pytest.approx(3.92 * found.stderr, rel=0.1)
    assert "400 samples, 1000 replicates" in found.stderr_method


def test_the_same_seed_gives_the_same_error_and_another_seed_another():
    one, same, other = (bootstrap(mean, X, replicates=20, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.stderr != other.stderr


def test_every_score_of_a_metric_gets_its_error():
    found = bootstrap(mean_and_spread, X, X, replicates=50)
    assert set(found) == {"mean", "spread"}
    assert all(score.stderr > 0 for score in found.values())


def test_repeated_rows_widen_the_error_only_if_drawn_by_group():
    repeated, groups = np.repeat(X, 9, axis=0), np.repeat(np.arange(400), 9)
    by_row, by_group = bootstrap(mean, repeated), bootstrap(mean, repeated, groups=groups)
    assert by_group.stderr == pytest.approx(X.std() / 20, rel=0.15)
    assert by_row.stderr == pytest.approx(X.std() / 60, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 1}, "replicates = 1"),
        ({"groups": np.zeros(3)}, "one label for each of the 400"),
        ({"groups": np.zeros(400)}, "single group"),
    ],
)
@pytest.mark.usefixtures("shapes_unchecked")
def test_what_has_no_spread_is_named(options, message):
    with pytest.raises(MetricError, match=message):
        bootstrap(mean, X, **options)
