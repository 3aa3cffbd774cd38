"""Data of the demo: 1,797 handwritten digits of 8 x 8 pixels in 17 gray levels, in two splits.

Source, license and layout of ``digits.npz``: see the README beside it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import Modality, Reference
from evalsvc.plugins.samples import Images, Samples

SIDE = 8
PIXELS = SIDE * SIDE
LEVELS = 17
CLASSES = 10


@dataclass(frozen=True)
class DigitSet:
    """Digits in memory, with their labels 0 to 9: a :class:`evalsvc.plugins.interfaces.SampleSet`."""

    pixels: UInt8[Tensor, "n 1 8 8"]
    labels: Int64[np.ndarray, " n"]
    modality: Modality = "image"

    def __len__(self) -> int:
        return len(self.pixels)

    def digest(self) -> str:
        """sha256 of the pixels and their shape; labels are not part of a sample."""
        shape = "x".join(map(str, self.pixels.shape))
        return hashlib.sha256(f"{shape}\0".encode() + self.pixels.numpy().tobytes()).hexdigest()

    def read(self, start: int, stop: int) -> Images:
        """Digits ``start`` to ``stop``; a range outside of the set raises an :class:`InputError`."""
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"digits {start} to {stop} are out of range: there are {len(self)}")
        return Images(self.pixels[start:stop])


@functools.cache
def splits() -> tuple[DigitSet, DigitSet]:
    """The 898 digits of the training split, and the 899 of the held-out split."""
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        levels, labels = torch.from_numpy(file["levels"]), file["labels"].astype(np.int64)
    pixels = gray(levels.flatten(1).long())
    # The stream of RandomState is frozen (NEP 19), so the splits never change.
    order = np.random.RandomState(0).permutation(len(pixels))
    train, heldout = order[: len(order) // 2], order[len(order) // 2 :]
    return DigitSet(pixels[train], labels[train]), DigitSet(pixels[heldout], labels[heldout])


def digits_reference() -> Reference:
    """The reference ``digits`` with its training and held-out splits."""
    train, heldout = splits()
    return Reference("digits", train, heldout)


def gray(levels: Int64[Tensor, "n 64"]) -> UInt8[Tensor, "n 1 8 8"]:
    """Gray images of levels 0 to 16: ``round(level * 255 / 16)``.

    >>> gray(torch.tensor([[0] * 62 + [8, 16]]))[0, 0, 7].tolist()
    [0, 0, 0, 0, 0, 0, 128, 255]
    """
    return Images.from_signed(signed(levels).view(-1, 1, SIDE, SIDE)).pixels


def signed(levels: Int64[Tensor, "n 64"]) -> Float[Tensor, "n 64"]:
    """Levels 0 to 16 as floats from -1 to 1."""
    return levels / 8 - 1


def levels_of(items: Samples) -> Int64[Tensor, "n 64"]:
    """The level nearest to each pixel of 8 x 8 gray images: the exact inverse of :func:`gray`.

    Raises:
        InputError: the items are not gray images of 8 x 8 pixels.
    """
    if not isinstance(items, Images) or items.pixels.shape[1:] != (1, SIDE, SIDE):
        shape = "x".join(map(str, items.pixels.shape[1:])) if isinstance(items, Images) else "texts"
        raise InputError(f"the digits models compute likelihoods of gray 1x8x8 images, not of {shape}")
    return (items.pixels.flatten(1).double() * ((LEVELS - 1) / 255)).round().long()
