import pytest
import torch

from evalsvc.core.errors import ModelError
from evalsvc.plugins.samples import Images


def test_all_256_levels_survive_the_way_through_signed_floats():
    levels = torch.arange(256).view(256, 1, 1, 1)
    assert torch.equal(Images.from_signed((levels.float() - 127.5) / 127.5).pixels, levels.to(torch.uint8))


def test_all_256_levels_survive_the_way_through_unit_floats():
    levels = torch.arange(256).view(256, 1, 1, 1)
    assert torch.equal(Images.from_unit(levels.float() / 255).pixels, levels.to(torch.uint8))


def test_values_outside_the_range_are_clipped():
    x = torch.tensor([-3.0, 3.0]).view(2, 1, 1, 1)
    assert Images.from_signed(x).pixels.flatten().tolist() == [0, 255]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_an_error_that_counts_the_samples(bad):
    x = torch.zeros(5, 1, 2, 2)
    x[3, 0, 1, 1] = bad
    with pytest.raises(ModelError, match="1 of 5 samples with NaN"):
        Images.from_signed(x)


def test_integers_are_not_taken_for_floats():
    with pytest.raises(ModelError, match="int64"):
        Images.from_signed(torch.zeros(1, 1, 2, 2, dtype=torch.int64))
