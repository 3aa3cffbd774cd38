import pytest
import torch

from evalsvc.core.errors import ModelError
from evalsvc.plugins.samples import Audio, Images, MixedImages, Texts, Videos, on_host
from tests.pretended_device import pretended


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


def grey(height, width):
    return torch.arange(height * width, dtype=torch.uint8).view(1, height, width)


@pytest.mark.parametrize(
    "samples",
    [
        Images(torch.arange(48, dtype=torch.uint8).view(3, 1, 4, 4)),
        Videos(torch.arange(48, dtype=torch.uint8).view(3, 4, 1, 2, 2)),
        MixedImages((grey(4, 4), grey(2, 5), grey(1, 1))),
        Audio((torch.linspace(-1, 1, 5), torch.zeros(3)), 16_000),
        Texts(("a", "b")),
    ],
    ids=lambda samples: type(samples).__name__,
)
def test_samples_come_from_a_device_in_one_copy(samples):
    def there(value):
        if isinstance(value, torch.Tensor):
            return device.tensor(value)
        return tuple(map(there, value)) if isinstance(value, tuple) else value

    with pretended() as device:
        found = on_host(type(samples)(*map(there, vars(samples).values())))
        assert sum(times for (way, _), times in device.copies.items() if way == "to host") == (
            type(samples) is not Texts
        )
    for got, want in zip(vars(found).values(), vars(samples).values(), strict=True):
        pairs = zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]
        assert all(a.equal(b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)
