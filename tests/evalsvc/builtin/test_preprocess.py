import math

import numpy as np
import pytest
import torch
from PIL import Image

from evalsvc.builtin.extractors import preprocess
from evalsvc.builtin.extractors.preprocess import INCEPTION, bicubic_resize, tf1_resize

SIZES = [(1, 1), (7, 32), (32, 32), (26, 23), (240, 320), (299, 299), (64, 700)]


def images(height, width, n=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=random)


def gathered_tf1(x, side):
    """The published rule, pixel by pixel along each axis: four neighbours, the upper ones clamped."""

    def neighbours(size):
        position = torch.arange(side, dtype=torch.float32) * torch.tensor(size / side, dtype=torch.float32)
        lower = position.floor().long()
        return lower, (lower + 1).clamp_max(size - 1), position - lower

    x = x.double()
    (top, bottom, dy), (left, right, dx) = neighbours(x.shape[2]), neighbours(x.shape[3])
    upper = x[:, :, top][..., left] * (1 - dx) + x[:, :, top][..., right] * dx
    lower = x[:, :, bottom][..., left] * (1 - dx) + x[:, :, bottom][..., right] * dx
    return upper * (1 - dy[:, None]) + lower * dy[:, None]


def pillow(channel, height, width, mode):
    image = Image.fromarray(channel.numpy().astype(np.float32 if mode == "F" else np.uint8), mode=mode)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def pillow_all(x, height, width, mode):
    return torch.from_numpy(np.stack([[pillow(c, height, width, mode) for c in image] for image in x]))


@pytest.mark.parametrize("size", SIZES)
def test_the_tf1_resize_is_the_gather_form(size):
    x = images(*size)
    assert (tf1_resize(x, 299) - gathered_tf1(x, 299)).abs().max() < 5e-5


@pytest.mark.parametrize("size", SIZES)
def test_the_clean_resize_is_pillows_on_floats(size):
    x = images(*size)
    assert (bicubic_resize(x, 299, 299) - pillow_all(x, 299, 299, "F")).abs().max() < 2e-4


@pytest.mark.parametrize("size", SIZES)
def test_the_eight_bit_resize_is_pillows_to_the_level(size):
    x = images(*size)
    found, expected = bicubic_resize(x, 224, 150, eight_bit=True), pillow_all(x, 224, 150, "L")
    # Pillow rounds fixed-point sums: a level apart at ties, and nowhere else.
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 0.01


def test_the_preprocessings_of_pytorch_fid_and_torchmetrics_are_torch_resizes():
    x = images(40, 500)
    half_pixel = torch.nn.functional.interpolate(x.float(), (299, 299), mode="bilinear") / 127.5 - 1
    antialiased = torch.nn.functional.interpolate(x.float(), (299, 299), mode="bilinear", antialias=True)
    assert torch.allclose(INCEPTION["pytorch-fid"].apply(x), half_pixel, atol=1e-6)
    assert torch.allclose(INCEPTION["torchmetrics"].apply(x), antialiased / 128 - 1, atol=1e-6)


def test_no_two_preprocessings_agree():
    x = images(64, 64)
    made = [INCEPTION[name].apply(x) for name in INCEPTION]
    for i, first in enumerate(made):
        for second in made[i + 1 :]:
            assert (first - second).abs().mean() > 1e-3


@pytest.mark.parametrize("name", INCEPTION)
def test_a_flat_image_stays_flat_and_in_range(name):
    for level in (0, 128, 255):
        x = torch.full((1, 3, 50, 70), level, dtype=torch.uint8)
        made = INCEPTION[name].apply(x)
        assert made.shape == (1, 3, 299, 299)
        expected = 2 * level / 255 - 1 if name == "pytorch-fid" else (level - 128) / 128
        assert (made - expected).abs().max() < 1e-5


def test_an_image_of_the_right_size_is_not_touched():
    x = images(299, 299)
    assert torch.equal(tf1_resize(x, 299), x.float())
    assert torch.equal(bicubic_resize(x, 299, 299), x.float())


def test_bands_hold_the_whole_matrix():
    for size in (1, 30, 299, 1000):
        whole = torch.zeros(224, size)
        start = 0
        for band, block in preprocess._bands(size, 224, torch.device("cpu")):
            whole[start : start + len(block), band] = block
            start += len(block)
        assert torch.equal(whole, preprocess._bicubic_matrix(size, 224))
        assert math.isclose(float(whole.sum()), 224, rel_tol=1e-5)
