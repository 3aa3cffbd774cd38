import hashlib
import subprocess
import sys

import pytest
import torch

from evalsvc.builtin.demo.digits import splits
from evalsvc.builtin.extractors.digits_cnn import WEIGHTS, DigitsCNN
from evalsvc.core.errors import InputError
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, Texts


@pytest.fixture(scope="module")
def cnn():
    return DigitsCNN(torch.device("cpu"))


def test_it_is_registered_under_its_name(cnn):
    assert Plugins().get(PluginKind.EXTRACTOR, "digits-cnn").load() is DigitsCNN
    assert cnn.info.name == "digits-cnn"


def test_it_reads_97_of_100_digits_it_never_saw(cnn):
    _, heldout = splits()
    read = cnn.extract(Images(heldout.pixels))["logits"].argmax(1)
    assert (read.numpy() == heldout.labels).mean() > 0.97


def test_it_gives_64_features_and_10_logits(cnn):
    arrays = cnn.extract(Images(splits()[0].pixels[:5]))
    assert {name: (tuple(a.shape), a.dtype) for name, a in arrays.items()} == {
        "features": ((5, 64), torch.float32),
        "logits": ((5, 10), torch.float32),
    }
    assert cnn.info.weights == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def test_no_row_depends_on_the_others(cnn):
    pixels = splits()[1].pixels[:65]
    together = cnn.extract(Images(pixels))
    for name in together:
        alone = torch.cat([cnn.extract(Images(pixels[i : i + 1]))[name] for i in range(len(pixels))])
        torch.testing.assert_close(alone, together[name], rtol=1e-5, atol=1e-4)


def test_colour_becomes_grey_by_its_luma(cnn):
    pixels = splits()[1].pixels[:9]
    gray = cnn.extract(Images(pixels))["features"]
    torch.testing.assert_close(cnn.extract(Images(pixels.repeat(1, 3, 1, 1)))["features"], gray, rtol=1e-4, atol=1e-4)
    green = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    green[:, 1] = 200
    luma = torch.full((1, 1, 8, 8), round(0.587 * 200), dtype=torch.uint8)
    green_features, luma_features = (cnn.extract(Images(x))["features"] for x in (green, luma))
    torch.testing.assert_close(green_features, luma_features, rtol=0.01, atol=0.1)


@pytest.mark.parametrize(("shape", "found"), [((1, 9, 9), "1x9x9"), ((2, 8, 8), "2x8x8")])
def test_other_images_are_refused_by_their_size(cnn, shape, found):
    with pytest.raises(InputError, match=f"8x8 pixels, got {found}"):
        cnn.extract(Images(torch.zeros(2, *shape, dtype=torch.uint8)))


def test_texts_are_refused(cnn):
    with pytest.raises(InputError, match="requires image samples"):
        cnn.extract(Texts(("a",)))


def test_extracting_imports_no_training():
    code = "import sys, evalsvc.builtin.extractors.digits_cnn; print('evalsvc.builtin.demo.train' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
