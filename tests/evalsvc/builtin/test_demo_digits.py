import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from evalsvc.builtin.demo.digits import LEVELS, digits_reference, gray, levels_of, splits
from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import HasLabels
from evalsvc.plugins.samples import Images, Texts


def rows(*sets):
    return sorted(
        (*image.flatten().tolist(), int(label)) for s in sets for image, label in zip(s.pixels, s.labels, strict=True)
    )


def test_the_digits_are_those_of_scikit_learn():
    theirs = load_digits()
    pixels = gray(torch.from_numpy(theirs.data).long())
    labels = torch.from_numpy(theirs.target)
    assert rows(*splits()) == sorted(
        (*image.flatten().tolist(), int(label)) for image, label in zip(pixels, labels, strict=True)
    )


def test_the_halves_share_no_image():
    train, heldout = splits()
    assert (len(train), len(heldout)) == (898, 899)
    assert not {tuple(row[:-1]) for row in rows(train)} & {tuple(row[:-1]) for row in rows(heldout)}


def test_every_class_is_in_both_halves():
    for split in splits():
        assert np.bincount(split.labels, minlength=10).min() > 60


def test_the_labels_are_those_that_the_interface_asks_for():
    for split in splits():
        assert isinstance(split, HasLabels)
        assert split.labels.dtype == np.int64


def test_grey_is_the_rounded_share_of_white_and_loses_no_level():
    levels = torch.arange(LEVELS).repeat(64, 1).T
    greys = gray(levels)
    assert greys[:, 0, 0, 0].tolist() == [round(level * 255 / 16) for level in range(LEVELS)]
    assert levels_of(Images(greys)).equal(levels)


def test_the_reference_holds_the_two_halves():
    reference = digits_reference()
    assert reference.name == "digits"
    assert (reference.train, reference.heldout) == splits()


def test_a_changed_pixel_changes_the_digest():
    train, heldout = splits()
    changed = train.pixels.clone()
    changed[0, 0, 0, 0] += 1
    digests = {train.digest(), heldout.digest(), type(train)(changed, train.labels).digest()}
    assert len(digests) == 3
    assert train.digest() == type(train)(train.pixels.clone(), train.labels).digest()


def test_reading_beyond_the_end_says_how_many_there_are():
    train, _ = splits()
    assert len(train.read(890, 898)) == 8
    with pytest.raises(InputError, match="there are 898"):
        train.read(890, 899)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (Images(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "3x8x8"),
        (Images(torch.zeros(2, 1, 9, 8, dtype=torch.uint8)), "1x9x8"),
        (Texts(("a",)), "texts"),
    ],
)
def test_levels_are_of_grey_8x8_images_only(items, found):
    with pytest.raises(InputError, match=f"not of {found}"):
        levels_of(items)
