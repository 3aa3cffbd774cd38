"""Sums on a device: those of the CPU, in any order of the rows, to the same digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsvc.metrics.sums import add_by_label, running_sums
from tests.pretended_device import pretended


def _by_label(device, rows, labels):
    total = device.tensor(np.ones((4, rows.shape[1])))
    add_by_label(total, device.tensor(labels), device.tensor(rows))
    return total.cpu()


@settings(max_examples=15)
@given(n=st.integers(0, 30), seed=st.integers(0, 99), power=st.sampled_from([-300, -20, 0, 3, 300]))
def test_sums_by_label_on_a_device_are_those_of_the_cpu_in_any_order(n, seed, power):
    rng = np.random.default_rng(seed)
    rows, labels = rng.standard_normal((n, 3)) * 10.0**power, rng.integers(0, 4, n)
    expected = torch.ones(4, 3, dtype=torch.float64)
    add_by_label(expected, torch.from_numpy(labels), torch.from_numpy(rows))
    order = rng.permutation(n)
    with pretended() as device:
        found = _by_label(device, rows, labels)
        assert torch.equal(found, _by_label(device, rows[order], labels[order]))
        assert not device.nondeterministic
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13 * 10.0**power)


@pytest.mark.parametrize("shape", [(0,), (1,), (50,), (3, 50)])
def test_running_sums_on_a_device_are_those_of_the_cpu(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    with pretended() as device:
        found = running_sums(device.tensor(x)).cpu()
        assert not device.nondeterministic
    assert torch.equal(running_sums(torch.from_numpy(x)), torch.from_numpy(x).cumsum(-1))
    torch.testing.assert_close(found, torch.from_numpy(x).cumsum(-1), rtol=1e-13, atol=1e-13)
