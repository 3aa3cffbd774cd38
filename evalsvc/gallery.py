"""Samples to look at, as one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIDE = 256


def as_gallery(images: Sequence[UInt8[np.ndarray, "c h w"]]) -> UInt8[np.ndarray, "n c h w"]:
    """Images of one size as they are; of several, each whole, at most ``SIDE`` wide and high, centred on white."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    return np.stack([_on_canvas(image) for image in images])


def _on_canvas(image: UInt8[np.ndarray, "c h w"]) -> UInt8[np.ndarray, "3 s s"]:
    picture = Image.fromarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).copy())
    picture.thumbnail((SIDE, SIDE))
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return np.asarray(canvas).transpose(2, 0, 1)
