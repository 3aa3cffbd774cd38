"""From uint8 images to what a published network was shown: resizes as their own projects compute them.

Every function takes (n, 3, h, w) uint8 and gives float32 on the same device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Real, UInt8
from torch import Tensor

BLOCK, SMALL = 32, 64
"""Rows of a resize matrix that are multiplied at once, and the side up to which cutting it costs more than it saves."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Means and standard deviations of the channels."""


@dataclass(frozen=True)
class Preprocessing:
    """A protocol: how it reads in an extractor's info, and the function itself."""

    description: str
    apply: Callable[[UInt8[Tensor, "n 3 h w"]], Float[Tensor, "n 3 s s"]]


def tf1_resize(x: Real[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Bilinear as TensorFlow 1 had it: pixel i looks at ``i * in / out``, neither centred nor antialiased."""
    # With aligned corners the scale is (in - 1) / (out - 1): one more pixel each makes it TensorFlow's in / out.
    framed = F.pad(x.float(), (0, 1, 0, 1), mode="replicate")
    size = (side + 1, side + 1)
    return F.interpolate(framed, size, mode="bilinear", align_corners=True)[..., :side, :side]


def bicubic_resize(
    x: UInt8[Tensor, "n c h w"], height: int, width: int, *, eight_bit: bool = False
) -> Float[Tensor, "n c height width"]:
    """Antialiased bicubic (a = -1/2) as Pillow computes it.

    On float images nothing is clipped or rounded, so that values may leave 0..255 by overshoot; with ``eight_bit`` each
    axis ends in whole levels of 0..255. The resize is separable, so it is two small matrices.
    """
    x = x.float()
    if x.shape[-1] != width:
        x = torch.cat([x[..., band] @ m.T for band, m in _bands(x.shape[-1], width, x.device)], -1)
        x = _whole_levels(x) if eight_bit else x
    if x.shape[-2] != height:
        x = torch.cat([m @ x[..., band, :] for band, m in _bands(x.shape[-2], height, x.device)], -2)
        x = _whole_levels(x) if eight_bit else x
    return x


def centre_crop_resize(x: UInt8[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """The short side to ``side`` by Pillow's bicubic in whole levels, then the centre, as CLIP's own transform does."""
    height, width = x.shape[-2:]
    short = min(height, width)
    height, width = side * height // short, side * width // short
    top, left = round((height - side) / 2), round((width - side) / 2)
    return bicubic_resize(x, height, width, eight_bit=True)[..., top : top + side, left : left + side]


def square_resize(x: UInt8[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """The largest square in the centre, by Pillow's bicubic in whole levels, as CMMD reads its images."""
    height, width = x.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return bicubic_resize(x[..., top : top + short, left : left + short], side, side, eight_bit=True)


def normalise(
    x: Float[Tensor, "n 3 h w"], statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> Float[Tensor, "n 3 h w"]:
    """``(x / 255 - mean) / std`` a channel, of levels 0..255."""
    mean, std = statistics
    return (x - 255 * x.new_tensor(mean).view(3, 1, 1)) / (255 * x.new_tensor(std).view(3, 1, 1))


# --- the four ways to Inception ---


def _tf1(x: Tensor) -> Tensor:
    return tf1_resize((x.float() - 128) / 128, 299)


def _pytorch_fid(x: Tensor) -> Tensor:
    return 2 * F.interpolate(x.float() / 255, (299, 299), mode="bilinear", align_corners=False) - 1


def _clean(x: Tensor) -> Tensor:
    return (bicubic_resize(x, 299, 299).clamp(0, 255) - 128) / 128


def _torchmetrics(x: Tensor) -> Tensor:
    resized = F.interpolate(x.float(), (299, 299), mode="bilinear", align_corners=False, antialias=True)
    return (resized - 128) / 128


INCEPTION: Mapping[str, Preprocessing] = {
    "tf1": Preprocessing("TF1 bilinear to 299 without half-pixel centres, (x - 128) / 128", _tf1),
    "pytorch-fid": Preprocessing("bilinear to 299, half-pixel, no antialias, 2 x / 255 - 1", _pytorch_fid),
    "clean": Preprocessing("Pillow bicubic antialiased to 299 in float, clipped, (x - 128) / 128", _clean),
    "torchmetrics": Preprocessing("bilinear antialiased to 299, (x - 128) / 128", _torchmetrics),
}


# --- matrices ---


def _whole_levels(x: Tensor) -> Tensor:
    return x.add_(0.5).floor_().clamp_(0, 255)


@lru_cache(maxsize=64)
def _bands(size: int, side: int, device: torch.device) -> list[tuple[slice, Tensor]]:
    """The matrix in blocks of rows, each cut to the columns it uses: a resize only looks around."""
    matrix = _bicubic_matrix(size, side)
    bands = []
    for block in torch.split(matrix, BLOCK if size > SMALL else side):
        used = block.any(0).nonzero()
        band = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((band, block[:, band].contiguous().to(device)))
    return bands


def _bicubic_matrix(size: int, side: int) -> Tensor:
    """Weights of Keys' cubic, widened by the scale where it shrinks, cut at the border and normalised, in double."""
    scale = size / side
    widening = max(scale, 1.0)
    support = 2 * widening
    matrix = torch.zeros(side, size, dtype=torch.float64)
    for row in range(side):
        centre = (row + 0.5) * scale
        first, last = max(0, math.floor(centre - support + 0.5)), min(size, math.floor(centre + support + 0.5))
        distance = ((torch.arange(first, last, dtype=torch.float64) - centre + 0.5) / widening).abs()
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = -0.5 * (((distance - 5) * distance + 8) * distance - 4)
        weights = torch.where(distance < 1, near, far * (distance < 2))
        matrix[row, first:last] = weights / weights.sum()
    return matrix.float()
