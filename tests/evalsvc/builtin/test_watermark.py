"""Messages in pixels: those that are embedded are found, others are not, and bits are those of the reference."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from evalsvc.builtin.scorers.watermark import Watermark
from evalsvc.core.errors import InputError
from evalsvc.plugins import scoring
from evalsvc.plugins.samples import Images, MixedImages, Texts
from tests.evalsvc.builtin.test_image_scorers import CPU, batch, noise

SDXL = "101100111110110010010000011110111011000110011110"
GOLDEN = {
    ((256, 256, 1), 48): "e9f7e32bcad6",
    ((256, 256, 1), 136): "dcdceed9c2e7666a67232313bf9d999dcb",
    ((300, 271, 5), 48): "19efcec865a9",
    ((300, 271, 5), 136): "9b065ac669e6bd99910a0066646ccd99e1",
    ((259, 400, 11), 48): "d4b906b31907",
    ((259, 400, 11), 136): "99f24d57eee73b9b19bf3dd62424238673",
}
"""Bits of ``pattern`` by WatermarkDecoder of invisible-watermark 0.2.0 (method dwtDct), in hexadecimal."""


def pattern(height, width, step):
    """An image of a formula, without a message: (3, height, width)."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * (step + c) + y * (3 * c + 1) + (x * y) // (7 + step)) % 256 for c in range(3)]
    return np.stack(planes).astype(np.uint8)


def photo(seed, height=300, width=336):
    """Light of several colors with a rough texture, in which the mark survives rounding."""
    generator = torch.Generator().manual_seed(seed)
    light = torch.rand(1, 3, 6, 6, generator=generator) * 120 + 60
    light = torch.nn.functional.interpolate(light, (height, width), mode="bilinear")[0]
    return (light + torch.randn(3, height, width, generator=generator) * 25).clamp(0, 255).to(torch.uint8)


def marked(image, bits):
    """The image with a message, by the formula of its decoder: U of each block is moved to the level of its bit."""
    red, green, blue = image.double().numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = (blue - luma) * 0.492 + 128
    rows, columns = (side // 8 for side in luma.shape)
    place = 0
    for row in range(rows):
        for column in range(columns):
            block = chroma[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            coarse = block.reshape(4, 2, 4, 2).sum((1, 3)) / 2
            at = int(np.abs(coarse.ravel()[1:]).argmax()) + 1
            level = (coarse.ravel()[at] // 36 + 0.25 + 0.5 * int(bits[place % len(bits)])) * 36
            i, j = divmod(at, 4)
            block[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += (level - coarse[i, j]) / 2
            place += 1
    blue = luma + (chroma - 128) / 0.492
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    return torch.from_numpy(np.stack([red, green, blue]).round().clip(0, 255).astype(np.uint8))


def scored(images, **options):
    return scoring.score(Watermark(CPU, **options), images, batch(len(images)), {})


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({}, "".join(f"{each:08b}" for each in b"StableDiffusionV1")),
        ({"bits": SDXL}, SDXL),
        ({"message": "签名 ✓"}, "".join(f"{each:08b}" for each in "签名 ✓".encode())),
    ],
    ids=["stable diffusion", "sdxl", "unicode"],
)
def test_an_embedded_message_is_found_and_chance_is_not(options, bits):
    plain = [photo(seed) for seed in range(3)]
    found = scored(Images(torch.stack([*plain, *(marked(each, bits) for each in plain)])), **options).values
    assert found["watermark_detected"].tolist() == [0.0] * 3 + [1.0] * 3
    assert found["watermark_bits"][3:].min() > 0.85
    assert found["watermark_bits"][:3].max() < 0.75


def test_another_message_is_not_found():
    image = marked(photo(0), SDXL)[None]
    assert scored(Images(image), message="SomethingElse").values["watermark_detected"].tolist() == [0.0]


@pytest.mark.parametrize(("shape", "bits"), GOLDEN)
def test_bits_are_those_of_the_reference(shape, bits):
    golden = f"{int(GOLDEN[shape, bits], 16):0{bits}b}"
    image = Images(torch.from_numpy(pattern(*shape))[None])
    inverted = "".join("10"[int(each)] for each in golden)
    assert scored(image, bits=golden).values["watermark_bits"].tolist() == [1.0]
    assert scored(image, bits=inverted).values["watermark_bits"].tolist() == [0.0]


@pytest.mark.parametrize("bits", [32, 48, 136, 1024])
def test_a_fair_coin_is_detected_once_in_a_million(bits):
    said = Watermark(CPU, bits="01" * (bits // 2)).info.facts["settings"]
    enough = int(said.rpartition("from ")[2].split()[0])
    assert binom.sf(enough - 1, bits, 0.5) <= 1e-6 < binom.sf(enough - 2, bits, 0.5)


def test_a_small_image_is_not_applicable_and_a_gray_or_flat_one_has_bits():
    flat = torch.full((3, 256, 256), 7, dtype=torch.uint8)
    samples = MixedImages((flat, noise(1, 300, 260), noise(3, 1, 1), noise(3, 4, 30_000), noise(3, 255, 256)))
    found = scored(samples, bits=SDXL)
    assert found.outcomes.tolist() == [scoring.SCORED] * 2 + [scoring.NOT_APPLICABLE] * 3
    assert found.values["watermark_detected"][:2].tolist() == [0.0, 0.0]
    assert found.reasons[2] == "the image has 1x1 pixels, and a mark of 48 bits needs 256x256"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bits": "012"}, "invalid option bits='012' of scorer 'watermark'"),
        ({"bits": 101}, "invalid option bits=101"),
        ({"message": 3}, "invalid option message=3"),
        ({"message": "abc"}, "has 24 bits, and needs 32 to 1024"),
        ({"message": ""}, "has 0 bits"),
        ({"message": "x" * 200}, "has 1600 bits"),
    ],
)
def test_a_wrong_message_is_one_sentence(options, reason):
    with pytest.raises(InputError, match=reason):
        Watermark(CPU, **options)
    with pytest.raises(InputError, match="requires image samples"):
        Watermark(CPU).score(Texts(("a",)), batch(1))


def test_the_message_is_in_the_protocol():
    assert len({Watermark(CPU, **each).info.protocol for each in ({}, {"bits": SDXL}, {"message": "hello"})}) == 3
