"""Structural similarity of an image and its target."""

from __future__ import annotations

import torch
from torch import Tensor

from evalsvc.builtin.scorers.image_pairs import LEVELS, by_torchmetrics, image_pair_info, score_image_pairs
from evalsvc.builtin.scorers.rows import NotApplicable
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples

WINDOW = 11
"""Side of the Gaussian window, in pixels."""


@open_to_clients()
@versioned("1")
class SSIM:
    """The plug-in ``ssim``: structural similarity by torchmetrics, from -1 to 1 (Wang et al. 2004).

    Gaussian window of 11 x 11 pixels with sigma 1.5, k1 = 0.01, k2 = 0.03, levels of 0 to 255, mean over all pixels and
    channels, images reflected at their borders. It does not apply to images smaller than the window.
    """

    quantities = (Quantity("ssim", Direction.HIGHER, "similarity", -1.0, 1.0, title="SSIM", title_zh="结构相似性"),)

    def __init__(self, device: torch.device) -> None:
        self._device = device
        from torchmetrics.functional.image import structural_similarity_index_measure

        self._ssim = structural_similarity_index_measure
        self.info = image_pair_info(
            "ssim", self.quantities, by_torchmetrics("Gaussian 11, sigma 1.5, k 0.01 0.03, range 255, float32, reflect")
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The structural similarity of each image, in float32: convolutions in float64 take 15 times as long."""
        return score_image_pairs(self.info, samples, items, self._compare, self._device)

    def _compare(self, image: Tensor, target: Tensor) -> float:
        height, width = image.shape[2:]
        if min(height, width) < WINDOW:
            raise NotApplicable(f"the window of {WINDOW}x{WINDOW} pixels does not fit in {height}x{width}")
        similarity = self._ssim(image.float(), target.float(), data_range=LEVELS)
        assert isinstance(similarity, Tensor)
        return float(similarity)
