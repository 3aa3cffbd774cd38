"""Peak signal-to-noise ratio of an image and its target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evalsvc.builtin.scorers.image_pairs import LEVELS, image_pair_info, score_image_pairs
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples

MOST = 100.0
"""PSNR in dB of equal images, whose ratio is infinite, and the largest of others."""


@open_to_clients()
@versioned("1")
class PSNR:
    """The plug-in ``psnr``: ``10 log10(255^2 / MSE)`` in dB over all pixels and channels, at most 100.

    Equal images count 100 instead of infinity: leaving them out would lower the mean of a model for its best samples.
    """

    quantities = (Quantity("psnr", Direction.HIGHER, "dB", 0.0, MOST, title="PSNR", title_zh="峰值信噪比"),)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.info = image_pair_info("psnr", self.quantities, {"settings": f"data range 255, at most {MOST:g} dB"})

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The PSNR of each image."""
        return score_image_pairs(self.info, samples, items, _psnr, self._device)


def _psnr(image: Tensor, target: Tensor) -> float:
    error = int((image.int() - target.int()).square().sum()) / image.numel()  # exact, on devices without float64 too
    return min(MOST, 10 * math.log10(LEVELS**2 / error)) if error else MOST
