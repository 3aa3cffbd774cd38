"""Preprocessing of uint8 images for published networks, with the resize filters of their original projects.

Every function takes (n, 3, h, w) uint8 and returns float32 on the same device.
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
"""Rows of a resize matrix that are multiplied at once, and the side up to which splitting does not pay off."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Means and standard deviations of the channels."""


@dataclass(frozen=True)
class Preprocessing:
    """A protocol: its description in an extractor's info, and its function."""

    description: str
    apply: Callable[[UInt8[Tensor, "n 3 h w"]], Float[Tensor, "n 3 s s"]]


def tf1_resize(x: Real[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Bilinear resize of TensorFlow 1: pixel i samples ``i * in / out``, without half-pixel centers or antialiasing."""
    # With aligned corners the scale is (in - 1) / (out - 1): one more pixel on each side makes it TensorFlow's in /
    # out.
    framed = F.pad(x.float(), (0, 1, 0, 1), mode="replicate")
    size = (side + 1, side + 1)
    return F.interpolate(framed, size, mode="bilinear", align_corners=True)[..., :side, :side]


def bicubic_resize(
    x: UInt8[Tensor, "n c h w"], height: int, width: int, *, eight_bit: bool = False
) -> Float[Tensor, "n c height width"]:
    """Antialiased bicubic resize (a = -1/2) as in Pillow.

    Float images are neither clipped nor rounded, so values may overshoot 0..255; with ``eight_bit``, each axis is
    rounded to levels of 0..255. The resize is separable: two small matrix products.
    """
    x = x.float()
    if x.shape[-1] != width:
        x = torch.cat([x[..., band] @ m.T for band, m in _bands(x.shape[-1], width, x.device)], -1)
        x = _whole_levels(x) if eight_bit else x
    if x.shape[-2] != height:
        x = torch.cat([m @ x[..., band, :] for band, m in _bands(x.shape[-2], height, x.device)], -2)
        x = _whole_levels(x) if eight_bit else x
    return x


def center_crop_resize(x: UInt8[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Resize the short side to ``side`` with Pillow's bicubic filter in 8 bits, then crop the center, as in CLIP."""
    height, width = x.shape[-2:]
    short = min(height, width)
    height, width = side * height // short, side * width // short
    top, left = round((height - side) / 2), round((width - side) / 2)
    return bicubic_resize(x, height, width, eight_bit=True)[..., top : top + side, left : left + side]


def square_resize(x: UInt8[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Crop the largest centered square, then resize it with Pillow's bicubic filter in 8 bits, as in CMMD."""
    height, width = x.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return bicubic_resize(x[..., top : top + short, left : left + short], side, side, eight_bit=True)


def pad_resize(x: UInt8[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Resize the long side to ``side`` with a bicubic filter in float, then add black borders, as in HPS v2."""
    scale = side / max(x.shape[-2:])
    height, width = (max(1, round(each * scale)) for each in x.shape[-2:])
    top, left = (side - height) // 2, (side - width) // 2
    borders = (left, side - width - left, top, side - height - top)
    return F.pad(bicubic_resize(x, height, width), borders)


def normalize(
    x: Float[Tensor, "n 3 h w"], statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> Float[Tensor, "n 3 h w"]:
    """``(x / 255 - mean) / std`` per channel, for levels 0..255."""
    mean, std = _levels(statistics, x.dtype, x.device)
    return (x - mean) / std


@lru_cache(maxsize=16)
def _levels(
    statistics: tuple[tuple[float, ...], tuple[float, ...]], dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Mean and standard deviation in levels, once for each device."""
    mean, std = (255 * torch.tensor(each, dtype=dtype, device=device).view(3, 1, 1) for each in statistics)
    return mean, std


# --- the four preprocessings of Inception ---


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
    """The matrix in blocks of rows, each restricted to its non-zero columns."""
    matrix = _bicubic_matrix(size, side)
    bands = []
    for block in torch.split(matrix, BLOCK if size > SMALL else side):
        used = block.any(0).nonzero()
        band = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((band, block[:, band].contiguous().to(device)))
    return bands


def _bicubic_matrix(size: int, side: int) -> Tensor:
    """Weights of Keys' cubic, widened for shrinking, cut at the border and normalized, in double precision."""
    scale = size / side
    widening = max(scale, 1.0)
    support = 2 * widening
    matrix = torch.zeros(side, size, dtype=torch.float64)
    for row in range(side):
        center = (row + 0.5) * scale
        first, last = max(0, math.floor(center - support + 0.5)), min(size, math.floor(center + support + 0.5))
        distance = ((torch.arange(first, last, dtype=torch.float64) - center + 0.5) / widening).abs()
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = -0.5 * (((distance - 5) * distance + 8) * distance - 4)
        weights = torch.where(distance < 1, near, far * (distance < 2))
        matrix[row, first:last] = weights / weights.sum()
    return matrix.float()
