"""Structural similarity of an image and its target at five scales."""

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

LEAST = 176
"""Least height and width: 16 times the window of 11 pixels."""


@open_to_clients()
@versioned("1")
class MSSSIM:
    """The plug-in ``ms-ssim``: structural similarity at five scales by torchmetrics, from 0 to 1 (Wang et al. 2003).

    Settings as of ``ssim``, the published weights of the scales, and negative terms cut at 0. It does not apply to
    images of fewer than 176 pixels in height or width.
    """

    quantities = (
        Quantity("ms_ssim", Direction.HIGHER, "similarity", 0.0, 1.0, title="MS-SSIM", title_zh="多尺度结构相似性"),
    )

    def __init__(self, device: torch.device) -> None:
        self._device = device
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

        self._ms_ssim = multiscale_structural_similarity_index_measure
        self.info = image_pair_info(
            "ms-ssim",
            self.quantities,
            by_torchmetrics("Gaussian 11, sigma 1.5, k 0.01 0.03, range 255, 5 scales, relu, float32, reflect"),
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The similarity of each image."""
        return score_image_pairs(self.info, samples, items, self._compare, self._device)

    def _compare(self, image: Tensor, target: Tensor) -> float:
        height, width = image.shape[2:]
        if min(height, width) < LEAST:
            raise NotApplicable(f"five scales of {LEAST} pixels do not fit in {height}x{width}")
        return float(self._ms_ssim(image.float(), target.float(), data_range=LEVELS, normalize="relu"))
