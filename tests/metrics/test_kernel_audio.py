import numpy as np
import pytest
from scipy.spatial.distance import pdist

from evalsvc.metrics import distances
from evalsvc.metrics.kernel import kernel_distance
from evalsvc.metrics.kernel_audio import kernel_audio_distance, median_distance
from evalsvc.metrics.registry import METRICS
from evalsvc.metrics.score import MetricError
from tests.metrics.honesty import assert_scores_honest, repeated


def normal(seed, n, d=8, shift=0.0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d)) + shift


@pytest.mark.parametrize(
    ("seed", "n", "m", "d", "shift", "scale", "value"),
    [
        (0, 200, 300, 16, 0.3, 1.0, 2.775066419873573),
        (1, 301, 150, 64, 0.0, 1.0, -0.022144580046923323),
        (2, 250, 250, 8, 1.0, 0.5, 39.23979909630149),
    ],
)
def test_the_authors_code_gives_the_same_numbers(seed, n, m, d, shift, scale, value):
    """``calc_kernel_audio_distance(generated, reference)`` of YoonjinXD/kadtk at 8bda71d, in float64."""
    rng = np.random.default_rng(seed)
    reference, generated = rng.standard_normal((m, d)), rng.standard_normal((n, d)) * scale + shift
    assert kernel_audio_distance(generated, reference).value == pytest.approx(value, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("m", [2, 3, 30, 61])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_the_bandwidth_is_the_median_of_all_pairs_however_they_are_cut(m, scale, monkeypatch):
    monkeypatch.setattr(distances, "block_side", lambda device: 7)
    x = np.concatenate([normal(m, m - m // 5, scale=scale), normal(m, m // 5, scale=scale)])
    pairs = np.sort(pdist(x))
    assert median_distance(x) == pytest.approx(pairs[(len(pairs) - 1) // 2], rel=1e-6)


def test_no_unit_of_the_features_and_no_rotation_changes_it():
    x, y = normal(0, 200), normal(1, 150, shift=0.4)
    turn = np.linalg.qr(normal(2, 8))[0]
    assert kernel_audio_distance(7 * y @ turn + 3, 7 * x @ turn + 3).value == pytest.approx(
        kernel_audio_distance(y, x).value, rel=1e-4
    )


def test_all_that_is_in_the_units_of_the_value_is_a_hundred_times_that_of_the_kernel_distance():
    x, y = normal(0, 200), normal(1, 150, shift=0.4)
    found = kernel_audio_distance(y, x, bandwidth=3.0)
    plain = kernel_distance(y, x, subsets=None, kernel="rbf", sigma=3.0)
    for name in ("value", "stderr", "ci_low", "ci_high", "stderr_reference"):
        assert getattr(found, name) == pytest.approx(100 * getattr(plain, name))
    assert found.influence.variance == pytest.approx(1e4 * plain.influence.variance)
    assert found.reference.variance == pytest.approx(1e4 * plain.reference.variance)
    assert found.interval(0.9) == pytest.approx([100 * end for end in plain.interval(0.9)])
    assert found.details["bandwidth"] == 3.0


def test_the_bandwidth_is_found_once_of_a_reference():
    (once,) = METRICS["kernel_audio_distance"].precomputed
    x, y = normal(0, 200), normal(1, 150, shift=0.4)
    arrays = once.find({"reference": x}, {})
    assert kernel_audio_distance(y, x, bandwidth=once.restore(arrays, {"reference": x}, {})) == kernel_audio_distance(
        y, x
    )


def test_a_reference_of_copies_has_no_bandwidth():
    with pytest.raises(MetricError, match="median distance"):
        kernel_audio_distance(normal(0, 30), np.repeat(normal(1, 2), [29, 1], axis=0))


def test_the_error_bar_of_kad_is_honest_also_where_windows_of_a_sound_are_alike():
    reference, bandwidth = normal(10**6, 300), 4.0
    owner = np.arange(150) // 3

    def windows(rng):
        sounds = rng.standard_normal((50, 8))[owner]
        return 0.8 * sounds + 0.6 * rng.standard_normal((150, 8)) + 0.3

    def draw(seed):
        return kernel_audio_distance(windows(np.random.default_rng(seed)), reference, bandwidth, groups=owner)

    assert_scores_honest(repeated(draw, 80), ratio=(0.8, 1.25), coverage=(0.9, 1.0))
