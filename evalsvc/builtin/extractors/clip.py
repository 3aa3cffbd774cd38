"""CLIP image embeddings: for CMMD (ViT-L/14 at 336), and for the similarity of an image and its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.extractors.batches import Pieces, PreparedImages
from evalsvc.builtin.extractors.preprocess import CLIP, center_crop_resize, normalize, pad_resize, square_resize
from evalsvc.builtin.pretrained import open_pretrained, open_tokenizer
from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples

_WAYS = {
    "cmmd": "centre square, Pillow bicubic to {0} in whole levels, CLIP mean and std",
    "clip": "Pillow bicubic of the short side to {0}, centre crop, CLIP mean and std",
    "pad": "Pillow bicubic of the long side to {0} in float, black borders, CLIP mean and std",
}


@open_to_clients("preprocess")
class Clip:
    """The plug-in ``clip``: output ``embedding``, projected and normalized.

    ``model`` is a folder or a hub id. ``preprocess`` is ``cmmd`` (center crop, then resize, as in CMMD), ``clip``
    (resize the short side, then center crop, as in CLIP) or ``pad`` (resize the long side, black borders, as in HPS
    v2). The first two are equal for square images.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        model: str = "openai/clip-vit-large-patch14-336",
        preprocess: Literal["cmmd", "clip", "pad"] = "cmmd",
    ) -> None:
        if preprocess not in _WAYS:
            raise InputError(f"extractor 'clip' has no preprocessing {preprocess!r}; available are {', '.join(_WAYS)}")
        loaded, digest, folder = open_pretrained("CLIPModel", model, "extractor 'clip'", "clip")
        self._model, self._folder = loaded.to(device), folder
        self._device, self._way = device, preprocess
        self._side = int(loaded.config.vision_config.image_size)
        way = _WAYS[preprocess].format(self._side)
        width = int(loaded.config.projection_dim)
        self.info = ExtractorInfo(
            "clip",
            "image",
            {"embedding": width},
            digest,
            f"{preprocess}: {way}, L2, float32",
            mixed_sizes=True,
            backend=f"torch-{device.type}",
        )
        self._pieces = Pieces(32, "clip")

    @property
    def scale(self) -> float:
        """The factor of cosines in the model's own logits, ``exp(logit_scale)``."""
        return float(self._model.logit_scale.exp())

    def extract(self, samples: Samples | UInt8[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n d"]]:
        """Embeddings of uint8 images of any sizes."""
        (embedding,) = self._pieces.run(self._embed, PreparedImages(samples, "clip", self._device, self._prepare))
        return {"embedding": embedding}

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Normalized embeddings of prompts; longer ones are truncated at the model's limit, as for the CLIP score."""
        tokenizer = open_tokenizer(self._folder, "the prompts of extractor 'clip'")
        limit = int(self._model.config.text_config.max_position_embeddings)
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        pooled = self._model.text_model(**tokens.to(self._device)).pooler_output
        return F.normalize(self._model.text_projection(pooled), dim=-1)

    def _prepare(self, pixels: Tensor) -> Tensor:
        resize = {"cmmd": square_resize, "clip": center_crop_resize, "pad": pad_resize}[self._way]
        return normalize(resize(pixels, self._side), CLIP)

    @torch.inference_mode()
    def _embed(self, x: Tensor) -> tuple[Tensor, ...]:
        pooled = self._model.vision_model(pixel_values=x).pooler_output
        return (F.normalize(self._model.visual_projection(pooled), dim=-1),)
