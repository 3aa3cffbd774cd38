"""Raw pixels as features, for nearest neighbors and diversity of small images."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from evalsvc.core.errors import InputError
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Images, Samples


@open_to_clients()
class Pixels:
    """Each image flattened (c, h, w) and scaled to [0, 1]."""

    info = ExtractorInfo("pixels", "image", {"pixels": 0}, "none", "flattened / 255, float32")

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Output ``pixels``: (n, c * h * w)."""
        if not isinstance(samples, Images):
            raise InputError("extractor 'pixels' requires image samples")
        return {"pixels": staged(samples.pixels, self._device).flatten(1).float() / 255}
