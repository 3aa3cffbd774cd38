"""How beautiful people are expected to find an image, by a linear head on embeddings of CLIP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from evalsvc.builtin.scorers.rows import checked, score_rows
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import CheckpointError
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.registry import Quantity
from evalsvc.metrics.score import Direction
from evalsvc.plugins import validation
from evalsvc.plugins.items import ItemBatch, Scored
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Samples
from evalsvc.plugins.scorers import ScorerInfo


@open_to_clients()
@versioned("1")
class Aesthetic:
    """The plug-in ``aesthetic``: the value of a linear head of a normalized CLIP embedding of the image.

    ``head`` is a file of weights: one linear layer, as LAION's aesthetic predictor of 2022, or several without
    activations between them, as the improved predictor (``sac+logos+ava1-l14-linearMSE.pth``), whose values are about
    1 to 10. ``model`` is the CLIP for which the head was trained, a folder or a hub id of ``transformers``.
    """

    quantities = (Quantity("aesthetic", Direction.HIGHER, "points", title="Aesthetic score", title_zh="美学评分"),)

    def __init__(self, device: torch.device, *, head: str, model: str = "openai/clip-vit-large-patch14") -> None:
        from evalsvc.builtin.extractors.clip import Clip

        checked("aesthetic", "model", model, str)
        checkpoint = Checkpoint.open(Path(checked("aesthetic", "head", head, str)), "aesthetic", 0)
        self._clip = Clip(device, model=model, preprocess="clip")
        self._direction, self._offset = _affine(checkpoint, self._clip.info.outputs["embedding"])
        self.info = ScorerInfo(
            "aesthetic",
            frozenset({"image"}),
            self.quantities,
            weights=digest_json([self._clip.info.weights, checkpoint.digest]),
            facts={"extractor": self._clip.info.protocol, "settings": "linear head, float64"},
        )

    def score(self, samples: Samples, items: ItemBatch) -> Scored:
        """The value of each image."""
        embedded = validation.extract(self._clip, samples)["embedding"]

        def judge(row: int) -> Sequence[float]:
            return [float(embedded[row] @ self._direction) + self._offset]

        return score_rows(self.info, len(samples), judge)


def _affine(checkpoint: Checkpoint, width: int) -> tuple[Float64[np.ndarray, " d"], float]:
    """A chain of linear layers as one: the vector that embeddings are multiplied with, and what is added.

    Raises:
        CheckpointError: the file is not a chain of linear layers from this width to one value.
    """
    tensors = {name: tensor.double().numpy() for name, tensor in checkpoint.tensors(trusted=True).items()}
    matrix, offset = np.eye(width), np.zeros(width)
    fits = True
    for layer in sorted({name.rpartition(".")[0] for name in tensors}, key=_numbers):
        weight, bias = (tensors.pop(f"{layer}.{part}".lstrip("."), np.zeros(0)) for part in ("weight", "bias"))
        fits = fits and weight.ndim == 2 and weight.shape[1] == len(matrix) and bias.shape == weight.shape[:1]
        if fits:
            matrix, offset = weight @ matrix, weight @ offset + bias
    if not fits or tensors or len(matrix) != 1 or not np.isfinite([*matrix[0], *offset]).all():
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is not a chain of linear layers from {width} features to one value: pass "
            "the head that was trained for this CLIP"
        )
    return matrix[0], float(offset[0])


def _numbers(layer: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", layer)]
