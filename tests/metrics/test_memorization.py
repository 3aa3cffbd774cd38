import numpy as np
import pytest
import torch
from torchmetrics.image.mifid import _compute_cosine_distance

from evalsvc.metrics.cells import cells_of, kmeans
from evalsvc.metrics.frechet import frechet_distance
from evalsvc.metrics.functional import authenticity, ct_score, memorization_informed_frechet, training_spacing
from evalsvc.metrics.score import MetricError
from tests.metrics import naive_precision_recall as naive


def normal(seed, n, d=6, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((n, d))


def near_copies(train, n, noise=0.01, seed=9):
    rng = np.random.default_rng(seed)
    return train[rng.integers(0, len(train), n)] + noise * rng.standard_normal((n, train.shape[1]))


TRAIN, HELDOUT = normal(0, 600), normal(1, 300)


def test_copies_are_not_authentic_and_distant_samples_are():
    assert authenticity(TRAIN[:50], TRAIN).value == 0
    assert authenticity(TRAIN[:50] + 100, TRAIN).value == 1
    assert authenticity(near_copies(TRAIN, 200), TRAIN).value < 0.02


def test_authenticity_comes_with_its_heldout_control():
    score = authenticity(normal(2, 400), TRAIN, HELDOUT)
    assert score.details["heldout"] == authenticity(HELDOUT, TRAIN).value
    assert abs(score.value - score.details["heldout"]) < 4 * np.hypot(score.stderr, score.details["heldout_stderr"])


def test_authenticity_is_what_all_pairs_give():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, m, d = rng.integers((1, 2, 1), (40, 40, 8))
        generated, train = rng.standard_normal((n, d)), rng.standard_normal((m, d))
        assert authenticity(generated, train).value == naive.authenticity(generated, train)


@pytest.mark.parametrize("heldout", [HELDOUT, None])
def test_what_is_known_of_a_training_set_changes_no_score(heldout):
    training = training_spacing(TRAIN, heldout)
    for generated in (normal(2, 400), near_copies(TRAIN, 400, 0.2), TRAIN[:50]):
        known = authenticity(generated, TRAIN, heldout, training=training)
        assert known == authenticity(generated, TRAIN, heldout)
    with pytest.raises(MetricError, match=r"training is of 600 training .* compute it again with training_spacing"):
        authenticity(TRAIN, HELDOUT, heldout, training=training)


def test_the_spacing_of_a_training_set_is_exact_also_between_copies():
    train = np.concatenate([TRAIN[:100], TRAIN[:10], 1e3 + TRAIN[:2]]).astype(np.float32)
    apart = np.square(train[:, None].astype(np.float64) - train[None]).sum(-1)
    np.fill_diagonal(apart, np.inf)
    np.testing.assert_allclose(training_spacing(train).squared, apart.min(1), rtol=1e-12)


def test_mifid_is_the_frechet_distance_where_nothing_is_near():
    generated, reference, train = normal(2, 400, 40), normal(1, 300, 40), normal(0, 600, 40)
    score = memorization_informed_frechet(generated, reference, train)
    assert score.details["penalty"] == 1
    assert score.value == frechet_distance(generated, reference).value


def test_mifid_of_copies_is_divided_by_their_cosine_distance():
    generated = near_copies(TRAIN, 400)
    score = memorization_informed_frechet(generated, HELDOUT, TRAIN)
    distance = frechet_distance(generated, HELDOUT)
    assert score.value == pytest.approx(distance.value / naive.cosine_distance(generated, TRAIN), rel=1e-9)
    assert score.stderr > distance.stderr * score.details["penalty"]


def test_cosine_distance_is_that_of_torchmetrics():
    generated = near_copies(TRAIN, 200, noise=0.2)
    expected = _compute_cosine_distance(torch.from_numpy(generated), torch.from_numpy(TRAIN), cosine_distance_eps=2.0)
    found = memorization_informed_frechet(generated, HELDOUT, TRAIN).details["cosine_distance"]
    assert found == pytest.approx(float(expected), rel=1e-9)


def test_the_direction_of_a_copy_does_not_matter_and_zero_rows_have_none():
    assert memorization_informed_frechet(-3 * TRAIN, HELDOUT, TRAIN).details["cosine_distance"] < 1e-15
    half_empty = TRAIN[:200] * (np.arange(200) % 2)[:, None]
    assert memorization_informed_frechet(half_empty, HELDOUT, TRAIN).details["cosine_distance"] == pytest.approx(0.5)
    empty = np.zeros_like(TRAIN)
    assert memorization_informed_frechet(TRAIN, HELDOUT, empty).details["cosine_distance"] == 1


def test_scores_about_a_training_set_do_not_take_it_for_a_sample():
    for score in (authenticity(normal(2, 100), TRAIN), ct_score(normal(2, 100), TRAIN, HELDOUT, cells=2)):
        assert score.stderr_reference is None
        assert "about this training set" in score.reference_method


def test_ct_is_near_zero_for_new_data_negative_for_copies_and_positive_for_noise():
    new, copied, noisy = (
        ct_score(x, TRAIN, HELDOUT, cells=4)
        for x in (normal(2, 500), near_copies(TRAIN, 500, 0.1), normal(3, 500, scale=2))
    )
    assert abs(new.value) < 3
    assert copied.ci_high < -5
    assert noisy.ci_low > 3


def test_ct_is_the_papers_average_over_cells():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        generated, train, heldout = (rng.standard_normal((n, 3)).round(1) for n in (300, 200, 150))
        centres = kmeans(torch.from_numpy(train), 5, 2020)

        def assign(x, centres=centres):
            return cells_of(torch.from_numpy(x), centres).numpy()

        expected = naive.ct_score(generated, train, heldout, assign)
        assert ct_score(generated, train, heldout, cells=5).value == pytest.approx(expected, rel=1e-12)


def test_cells_are_the_clusters_where_there_are_any():
    centres = 10 * np.eye(4)
    points = np.repeat(centres, 30, axis=0) + normal(0, 120, 4, 0.1)
    found = cells_of(torch.from_numpy(points), kmeans(torch.from_numpy(points), 4, 1)).reshape(4, 30)
    assert len(set(found[:, 0].tolist())) == 4
    assert (found == found[:, :1]).all()
    assert len(kmeans(torch.ones(9, 2), 4, 1)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: authenticity(TRAIN, TRAIN[:1]), "at least 2 rows"),
        (lambda: authenticity(TRAIN, TRAIN[:, :2]), "columns"),
        (lambda: authenticity(TRAIN, TRAIN, HELDOUT[:, :2]), "heldout has 2 columns"),
        (lambda: memorization_informed_frechet(TRAIN, HELDOUT, TRAIN[:, :2]), "columns"),
        (lambda: ct_score(TRAIN[:10], TRAIN, HELDOUT), "none of 10 cells"),
        (lambda: ct_score(TRAIN, TRAIN, HELDOUT, cells=0), "cells = 0"),
        (lambda: ct_score(TRAIN, TRAIN * np.nan, HELDOUT), "train holds NaN"),
    ],
)
@pytest.mark.usefixtures("shapes_unchecked")
def test_what_is_missing_is_named(call, message):
    with pytest.raises(MetricError, match=message):
        call()
