"""The trace of a covariance's root without rows, against eigenvalues."""

import numpy as np
import pytest
import torch

from evalsvc.metrics.root_trace import RootTrace


@pytest.mark.parametrize("variances", [[1.0], [1e-12, 1e-6, 1.0], [0.5, 0.6, 0.7, 1.0]])
def test_the_trace_without_a_row_is_that_of_the_eigenvalues_that_are_left(variances):
    variances, rng = np.array(variances), np.random.default_rng(0)
    rows = rng.standard_normal((50, len(variances))) * variances**0.5
    found = RootTrace.of(torch.from_numpy(variances)).without(torch.from_numpy(rows), 0.01)
    expected = [
        np.linalg.eigvalsh(np.diag(variances) - 0.01 * np.outer(z, z)).clip(0) ** 0.5 - np.sqrt(variances) for z in rows
    ]
    assert found.numpy() == pytest.approx(np.sum(expected, 1), rel=1e-3)


def test_a_row_that_alone_spans_a_direction_takes_its_root_away():
    trace = RootTrace.of(torch.tensor([0.25, 1.0], dtype=torch.float64))
    alone = torch.tensor([[0.5, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = trace.without(alone, 1.0).numpy()
    assert found[1] - found[0] == pytest.approx(-0.5, rel=1e-2)


def test_two_rows_interact_by_the_second_derivative_of_the_trace():
    roots = np.array([0.3, 0.5, 1.0])
    first, second = np.random.default_rng(0).standard_normal((2, 20, 3)) * roots
    product = first * second
    kernel = 1 / (np.outer(roots, roots) * (roots[:, None] + roots))
    found = RootTrace.of(torch.from_numpy(roots**2)).interaction(torch.from_numpy(first), torch.from_numpy(second))
    assert found.numpy() == pytest.approx(np.einsum("ni,ij,nj->n", product, kernel, product), rel=1e-4)


def test_without_any_variance_there_is_no_change():
    none = RootTrace.of(torch.zeros(0, dtype=torch.float64))
    assert none.without(torch.zeros(4, 0), 0.5).tolist() == [0.0] * 4
