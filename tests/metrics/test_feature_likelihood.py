import numpy as np
import pytest

from evalsvc.metrics.feature_likelihood import feature_likelihood_divergence
from evalsvc.metrics.score import MetricError

LAWS = {
    "new": lambda rng, train, n, d: rng.standard_normal((n, d)),
    "far": lambda rng, train, n, d: rng.standard_normal((n, d)) * 1.3 + 1,
    "noisy copies": lambda rng, train, n, d: train[rng.integers(0, len(train), n)] + 0.1 * rng.standard_normal((n, d)),
}


def draw(seed, law, n=100, m=200, h=100, d=16):
    rng = np.random.default_rng(seed)
    train, heldout = rng.standard_normal((m, d)), rng.standard_normal((h, d))
    return LAWS[law](rng, train, n, d), train, heldout


@pytest.mark.parametrize(
    ("seed", "law", "n", "m", "h", "d", "nats"),
    [
        (0, "new", 100, 200, 120, 8, 1.5394623279571533),
        (1, "new", 120, 150, 100, 32, 1.6816298961639404),
        (2, "noisy copies", 100, 200, 120, 16, 31.87237548828125),
        (3, "far", 100, 200, 100, 16, 1.8929775953292847),
    ],
)
def test_the_authors_code_gives_the_same_likelihoods(seed, law, n, m, h, d, nats):
    """marcojira/fld at ffbbf20: ``FLD("test", baseline_nll=1)``, over 100, plus 1, in float32."""
    found = feature_likelihood_divergence(*draw(seed, law, n, m, h, d))
    assert found.details["nats"] == pytest.approx(nats, rel=2e-4 if law == "new" else 1e-5)
    assert found.value == pytest.approx(100 * (found.details["nats"] - found.details["baseline_nats"]))


def test_new_samples_are_as_good_as_data_and_copies_and_noise_are_not():
    new, far, noisy = (feature_likelihood_divergence(*draw(0, law)).value for law in LAWS)
    assert abs(new) < 5
    assert 20 < far < 100
    assert noisy > 500


def test_the_closer_the_copies_the_worse():
    rng = np.random.default_rng(0)
    train, heldout, noise = (rng.standard_normal((150, 8)) for _ in range(3))
    values = [feature_likelihood_divergence(train + s * noise, train, heldout).value for s in (0.5, 0.2, 0.05, 0.0)]
    assert values == sorted(values)
    assert values[0] > 5
    assert values[-1] > 1e6


def test_a_part_of_copies_is_seen():
    generated, train, heldout = draw(1, "new", n=150, m=300)
    mixed = np.concatenate([generated[:75], train[:75] + 1e-3])
    before, after = (feature_likelihood_divergence(x, train, heldout).value for x in (generated, mixed))
    assert after > before + 4


def test_collapse_to_one_mode_is_unlikely_to_make_held_out_samples():
    generated, train, heldout = (x + 20 * np.eye(16)[np.arange(len(x)) % 4] for x in draw(1, "new"))
    assert abs(feature_likelihood_divergence(generated, train, heldout).value) < 5
    assert feature_likelihood_divergence(generated[::4], train, heldout).value > 8


def test_units_constant_features_and_order_change_nothing():
    generated, train, heldout = draw(2, "new")
    before = feature_likelihood_divergence(generated, train, heldout)
    scale = np.geomspace(1e-3, 1e3, 16)
    moved = [x * scale + 5 for x in (generated, train, heldout)]
    assert feature_likelihood_divergence(*moved).value == pytest.approx(before.value, abs=1e-3)
    assert feature_likelihood_divergence(generated[::-1].copy(), train, heldout).value == pytest.approx(
        before.value, abs=1e-3
    )
    wide = [np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in (generated, train, heldout)]
    assert np.isfinite(feature_likelihood_divergence(*wide).value)


def test_what_cannot_be_compared_is_refused():
    generated, train, heldout = draw(0, "new")
    with pytest.raises(MetricError, match="columns"):
        feature_likelihood_divergence(generated, train, heldout[:, :3])
    with pytest.raises(MetricError, match="train"):
        feature_likelihood_divergence(generated, train[:3], heldout)
