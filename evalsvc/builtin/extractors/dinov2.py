"""DINOv2 class tokens, for a Frechet distance that agrees better with people than Inception's (Stein et al., 2023)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from evalsvc.builtin.extractors.batches import Pieces, PreparedImages
from evalsvc.builtin.extractors.preprocess import IMAGENET, bicubic_resize, normalize
from evalsvc.builtin.pretrained import open_pretrained
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples

SIDE = 224
OFFSET = 0.1
"""Offset, in patches, with which the published network interpolates position embeddings; ``transformers`` omits it."""


@open_to_clients()
class DinoV2:
    """The plug-in ``dinov2``: output ``features``, the normalized class token (1024-d for ViT-L/14).

    ``model`` is a folder or a hub id. Images are resized to 224 x 224 by Pillow's antialiased bicubic filter in 8 bits,
    without cropping.
    """

    def __init__(self, device: torch.device, *, model: str = "facebook/dinov2-large") -> None:
        loaded, digest, _ = open_pretrained("Dinov2Model", model, "extractor 'dinov2'", "clip")
        embeddings = loaded.embeddings
        patches = SIDE // int(loaded.config.patch_size)
        embeddings.position_embeddings = nn.Parameter(_positions(embeddings.position_embeddings, patches))
        self._model, self._device = loaded.to(device).requires_grad_(False), device
        self.info = ExtractorInfo(
            "dinov2",
            "image",
            {"features": int(loaded.config.hidden_size)},
            digest,
            f"Pillow bicubic to {SIDE} in whole levels, ImageNet mean and std, positions scaled as published, float32",
            mixed_sizes=True,
            backend=f"torch-{device.type}",
        )
        self._pieces = Pieces(32, "dinov2")

    def extract(self, samples: Samples | UInt8[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n d"]]:
        """Features of uint8 images of any sizes."""
        (features,) = self._pieces.run(self._features, PreparedImages(samples, "dinov2", self._device, self._prepare))
        return {"features": features}

    @staticmethod
    def _prepare(pixels: Tensor) -> Tensor:
        return normalize(bicubic_resize(pixels, SIDE, SIDE, eight_bit=True), IMAGENET)

    @torch.inference_mode()
    def _features(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self._model(pixel_values=x).pooler_output,)


def _positions(trained: Float[Tensor, "1 n d"], patches: int) -> Float[Tensor, "1 m d"]:
    """Position embeddings of the class token and of ``patches`` x ``patches`` patches, interpolated."""
    side = math.isqrt(trained.shape[1] - 1)
    if side == patches:
        return trained
    grid = trained[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (patches + OFFSET) / side
    places = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([trained[:, :1], places.flatten(2).transpose(1, 2)], 1)
