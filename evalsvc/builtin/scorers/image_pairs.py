"""Rows of scorers that compare an image with the image that is the target of its item."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence

from jaxtyping import UInt8
from torch import Tensor

from evalsvc.builtin.scorers.rows import Failed, score_rows
from evalsvc.core.errors import InputError
from evalsvc.metrics.devices import staged_together
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.samples import Images, MixedImages, Samples
from evalsvc.plugins.scorers import ScorerInfo

LEVELS = 255.0
"""Difference of the darkest and the brightest level."""
Compare = Callable[[UInt8[Tensor, "1 c h w"], UInt8[Tensor, "1 c h w"]], float]
"""From an image and its target, levels 0 to 255 of equal shape, to a value."""


def image_pair_info(
    name: str, quantities: tuple[Quantity, ...], facts: Mapping[str, str], weights: str = "none"
) -> ScorerInfo:
    """Facts about such a scorer; ``facts`` are its own settings."""
    return ScorerInfo(name, frozenset({"image"}), quantities, frozenset({"target"}), weights, facts)


def by_torchmetrics(settings: str) -> dict[str, str]:
    """Facts about a scorer that computes by torchmetrics."""
    return {"settings": settings, "torchmetrics": importlib.metadata.version("torchmetrics")}


def score_image_pairs(
    info: ScorerInfo, samples: Samples, items: ItemBatch, compare: Compare, device: torch.device
) -> Scored:
    """Compare each image with its target on a device. A gray image has three equal channels beside an RGB image.

    An image of another size than its target fails.

    Raises:
        InputError: the samples or the targets are not images.
    """
    targets = items.targets
    if not isinstance(samples, Images | MixedImages) or not isinstance(targets, Images | MixedImages):
        raise InputError(
            f"scorer {info.name!r} compares images: score an image suite, and set 'target' of the items to a column "
            "of image files"
        )
    images, wanted = (staged_together(each.items, device) for each in (samples, targets))

    def judge(row: int) -> Sequence[float]:
        image, target = images[row], wanted[row]
        if image.shape[1:] != target.shape[1:]:
            raise Failed(f"the image is {_size(image)}, but its target is {_size(target)}")
        channels = max(len(image), len(target))
        pair = (each.expand(channels, -1, -1)[None] for each in (image, target))
        return [compare(*pair)]

    return score_rows(info, len(samples), judge)


def _size(image: Tensor) -> str:
    height, width = image.shape[1:]
    return f"{height}x{width} pixels"
