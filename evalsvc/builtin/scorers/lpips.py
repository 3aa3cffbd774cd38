"""Learned perceptual distance of an image and its target."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.scorers.image_pairs import LEVELS, image_pair_info, score_image_pairs
from evalsvc.builtin.scorers.lpips_trunks import TRUNKS, activations
from evalsvc.builtin.scorers.rows import NotApplicable, checked
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and standard deviation of the channels of ImageNet, for levels of -1 to 1."""
EPS = 1e-10
"""Least length that a vector of activations is divided by."""


@open_to_clients("trunk")
@versioned("1")
class LPIPS:
    """The plug-in ``lpips``: distance of the activations of a network, from 0 for equal images (Zhang et al. 2018).

    Version 0.1 of the published heads, for levels of -1 to 1. ``trunk`` is ``alex``, ``vgg`` or ``squeeze``;
    ``weights`` is torchvision's file of ImageNet weights, downloaded once unless a path is given. It does not apply to
    images smaller than the network takes: 31, 16 and 17 pixels.
    """

    quantities = (Quantity("lpips", Direction.LOWER, "distance", 0.0, title="LPIPS", title_zh="学习感知图像块相似度"),)

    def __init__(self, device: torch.device, *, trunk: str = "alex", weights: str = "") -> None:
        if checked("lpips", "trunk", trunk, str) not in TRUNKS:
            raise InputError(f"scorer 'lpips' has no trunk {trunk!r}; available are {', '.join(TRUNKS)}")
        self._trunk, self._device = TRUNKS[trunk], device
        given = checked("lpips", "weights", weights, str)
        path = Path(given) if given else published.locate(published.get(self._trunk.weights))
        checkpoint, head = Checkpoint.open(path, trunk, 0), published.get(f"lpips-{trunk}")
        self._layers = self._trunk.build().requires_grad_(False)
        load_into(self._layers, checkpoint, "features", trusted=True)
        self._layers.to(device)
        tensors = Checkpoint.open(published.locate(head), trunk, 0).tensors(trusted=True)
        self._heads = [tensors[f"lin{number}.model.1.weight"].to(device) for number in range(len(tensors))]
        self._shift, self._scale = (torch.tensor(each, device=device).view(3, 1, 1) for each in (SHIFT, SCALE))
        self.info = image_pair_info(
            "lpips",
            self.quantities,
            {"trunk": trunk, "settings": "version 0.1, levels -1 to 1, float32"},
            digest_json([checkpoint.digest, head.sha256]),
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The distance of each image from its target."""
        return score_image_pairs(self.info, samples, items, self._compare, self._device)

    def _compare(self, image: UInt8[Tensor, "1 c h w"], target: UInt8[Tensor, "1 c h w"]) -> float:
        height, width = image.shape[2:]
        least = self._trunk.least
        if min(height, width) < least:
            raise NotApplicable(f"the network takes images from {least}x{least} pixels on, not {height}x{width}")
        levels = torch.cat([image, target]).float().expand(-1, 3, -1, -1) / LEVELS * 2 - 1
        outputs = activations(self._layers, self._trunk, (levels - self._shift) / self._scale)
        distances = [_distance(pair, head) for pair, head in zip(outputs, self._heads, strict=True)]
        return float(sum(torch.stack(distances).tolist()))


def _distance(pair: Float[Tensor, "2 c i j"], head: Float[Tensor, "1 c 1 1"]) -> Float[Tensor, ""]:
    """Squared difference of the activations at length one, weighted by channel, mean over places."""
    first, second = pair / (pair.norm(dim=1, keepdim=True) + EPS)
    distance: Tensor = (head[0] * (first - second).square()).sum(0).mean()
    return distance
