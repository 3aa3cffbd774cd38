import numpy as np
import pytest

from evalsvc.metrics import distances
from evalsvc.metrics.balls import neighbor_radii
from evalsvc.metrics.clipped import clipped_density_coverage, expected_coverage
from evalsvc.metrics.precision_recall import prdc
from evalsvc.metrics.score import MetricError
from tests.metrics import naive_precision_recall as naive
from tests.shapes import unchecked


def normal(seed, n, d=8, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


def found(generated, reference, k=5):
    scores = clipped_density_coverage(generated, reference, k)
    return {"density": scores["clipped_density"].value, "coverage": scores["clipped_coverage"].value}


@pytest.mark.parametrize(
    ("seed", "n", "m", "d", "k", "shift", "scale", "density", "coverage"),
    [
        (0, 300, 400, 8, 5, 0.0, 1.0, 1.020637898686679, 0.9933554817275747),
        (1, 400, 300, 8, 5, 0.7, 1.0, 1.0516194331983808, 0.7506234413965087),
        (3, 600, 200, 4, 3, 1.0, 1.2, 0.5465465465465466, 0.4875207986688852),
        (5, 300, 300, 8, 1, 0.5, 1.0, 1.0550458715596331, 0.9568106312292359),
    ],
)
def test_the_authors_code_gives_the_same_numbers(seed, n, m, d, k, shift, scale, density, coverage):
    """From nicolassalvy/ClippedDensityCoverage at 9920dae, with scikit-learn 1.9.1."""
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((m, d))
    generated = rng.standard_normal((n, d)) * scale + shift * np.eye(d)[0]
    scores = clipped_density_coverage(generated, reference, k)
    assert scores["clipped_density"].details["uncut"] == pytest.approx(density, rel=1e-12)
    assert scores["clipped_density"].value == min(1.0, scores["clipped_density"].details["uncut"])
    assert scores["clipped_coverage"].value == pytest.approx(coverage, rel=1e-12)


@pytest.mark.parametrize("kind", ["plain", "lattice", "clusters", "copies"])
def test_any_shape_gives_what_all_pairs_give(kind, monkeypatch):
    monkeypatch.setattr(distances, "block_side", lambda device: 7)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        k = int(rng.integers(1, 4))
        n, m, d = (int(size) for size in rng.integers((k + 1, k + 1, 1), (30, 30, 9)))
        x, y = rng.standard_normal((m, d)), rng.standard_normal((n, d)) * rng.uniform(0.5, 1.5)
        if kind == "lattice":
            x, y = x.round(), y.round()
        if kind == "clusters":
            x, y = (1e-6 * z + 3 * np.eye(d)[rng.integers(0, d, len(z))] for z in (x, y))
        if kind == "copies":
            y = x[rng.integers(0, min(m, 4), n)]
        dtype = (np.float32, np.float64)[seed % 2]
        x, y = x.astype(dtype), y.astype(dtype)
        expected = naive.clipped(y, x, k)
        assert found(y, x, k) == pytest.approx({**expected, "density": min(1.0, expected["density"])}, rel=1e-12)
        kept = clipped_density_coverage(y, x, k, neighbor_radii(x, k))
        assert found(y, x, k) == {name.removeprefix("clipped_"): score.value for name, score in kept.items()}


def test_the_coverage_of_equal_laws_is_the_analytic_one_whatever_the_law():
    n, m, k, draws = 40, 30, 3, 30
    laws = [lambda rng, n: rng.standard_normal((n, 2)), lambda rng, n: rng.standard_cauchy((n, 1)) ** 3]
    for law in laws:
        with unchecked():
            values = [
                clipped_density_coverage(law(rng, n), law(rng, m), k)["clipped_coverage"].details["covered"]
                for rng in map(np.random.default_rng, range(draws))
            ]
        expected = expected_coverage(n, m, k)[-1]
        assert abs(np.mean(values) - expected) < 4 * np.std(values, ddof=1) / draws**0.5


@pytest.mark.parametrize("good", [0.25, 0.5, 0.75])
def test_a_set_of_which_a_share_is_good_scores_that_share(good):
    n = 1500
    generated = normal(1, n)
    generated[round(good * n) :] += 100
    values = found(generated, normal(0, n))
    assert values["density"] == pytest.approx(good, abs=0.03)
    assert values["coverage"] == pytest.approx(good, abs=0.05)


def test_an_outlier_of_the_reference_does_not_make_bad_samples_good():
    """As published density and coverage do: one far image of the reference, with a ball as large as the data."""
    reference, generated = normal(0, 300), normal(1, 300, shift=2.5)
    outliers = np.concatenate([reference, [[6.0] * 8], [[7.0] * 8]])
    before, after = found(generated, reference), found(generated, outliers)
    published = [prdc(generated, x)["density"].value for x in (reference, outliers)]
    assert published[1] > published[0] + 0.1
    assert after["density"] == pytest.approx(before["density"], abs=0.01)


def test_samples_in_the_densest_region_make_up_for_bad_ones_by_a_bounded_factor():
    reference = normal(0, 400, 4)
    generated = np.concatenate([0.1 * normal(1, 200, 4), normal(2, 200, 4, shift=50)])
    score = clipped_density_coverage(generated, reference)["clipped_density"]
    assert score.value == pytest.approx(0.5 / score.details["real"], rel=0.01)


def test_collapse_lowers_coverage_and_not_density():
    reference = normal(0, 400, 16)
    values = found(reference[np.arange(400) % 10], reference)
    assert values["density"] > 0.8
    assert values["coverage"] < 0.15


def test_a_perfect_score_has_an_error_that_is_not_zero():
    for score in clipped_density_coverage(normal(1, 300, scale=0.3), normal(0, 300)).values():
        assert score.value <= score.ci_high <= 1
        assert score.stderr > 0


def test_small_halves_leave_the_coverage_without_an_error_and_too_few_rows_are_refused():
    scores = clipped_density_coverage(normal(1, 11), normal(0, 30))
    assert scores["clipped_coverage"].stderr is None
    assert scores["clipped_density"].stderr is not None
    with pytest.raises(MetricError, match="n = 5"):
        clipped_density_coverage(normal(1, 5), normal(0, 30))
