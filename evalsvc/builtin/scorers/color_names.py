"""The color of an object in an image, by CLIP without training: as GenEval, on the box of the object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.boxes import Box
from evalsvc.builtin.extractors.clip import Clip
from evalsvc.builtin.scorers.composition import COLORS, Color
from evalsvc.plugins.samples import MixedImages

TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


class ColorNames:
    """Names the color of each box: the one whose mean prompt is nearest to the embedding of the crop."""

    def __init__(self, model: str, device: torch.device) -> None:
        self._clip = Clip(device, model=model, preprocess="clip")
        self._prompts: dict[str, Float[Tensor, "colors d"]] = {}
        self.protocol = self._clip.info.protocol
        self.weights = self._clip.info.weights

    @torch.inference_mode()
    def of(self, pixels: UInt8[Tensor, "c h w"], name: str, boxes: Sequence[Box]) -> list[Color]:
        """The color of each of the boxes, which contain objects of a class."""
        embeddings = self._clip.extract(MixedImages(tuple(_crop(pixels, box) for box in boxes)))["embedding"]
        return [COLORS[place] for place in (embeddings @ self._colors(name).T).argmax(1).tolist()]

    def _colors(self, name: str) -> Float[Tensor, "colors d"]:
        if name not in self._prompts:
            texts = [template.format(color=color, name=name) for color in COLORS for template in TEMPLATES]
            embedded = self._clip.embed_texts(texts).view(len(COLORS), len(TEMPLATES), -1)
            self._prompts[name] = F.normalize(embedded.mean(1), dim=-1)
        return self._prompts[name]


def _crop(pixels: UInt8[Tensor, "c h w"], box: Box) -> UInt8[Tensor, "c i j"]:
    """The pixels in a box, at least one."""
    height, width = pixels.shape[1:]
    left, top = min(max(round(box.left), 0), width - 1), min(max(round(box.top), 0), height - 1)
    return pixels[:, top : max(round(box.bottom), top + 1), left : max(round(box.right), left + 1)]
