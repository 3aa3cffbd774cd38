"""Inception v3 for FID, sFID, KID, IS and precision, with the four preprocessings of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.extractors.backends import Network, Precision, open_backend
from evalsvc.builtin.extractors.batches import Pieces, PreparedImages
from evalsvc.builtin.extractors.inception_network import WIDTHS, Inception, fold
from evalsvc.builtin.extractors.preprocess import INCEPTION
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples

PIECE = {"cpu": 16, "cuda": 128, "mps": 32}
PROBES = 4
GRAPH = "pools last, halves"
"""Identifies the order of the network's operations: after a change, backends are exported and tried again."""


class InceptionV3:
    """The 2015 Inception v3 with ``weights``, a file of its 566 tensors.

    ``preprocess`` is ``tf1`` (TTUR, ADM, torch-fidelity, StyleGAN), ``pytorch-fid``, ``clean`` (clean-fid) or
    ``torchmetrics`` (1.8 and later): four protocols whose scores are not comparable. ``outputs`` are any of ``64``,
    ``192``, ``sfid`` (2023, the first seven maps of Mixed_6d), ``768``, ``pool3`` (2048) and ``logits`` (1008, without
    the bias, as in the inception score); layers after the last of them are not computed.

    ``backend`` is ``torch``, ``compile``, ``split`` (on CUDA), ``openvino``, ``onnxruntime``, or ``auto`` for the
    fastest with equal results on this machine. A ``precision`` below float32 (``tf32`` on CUDA, ``bfloat16``,
    ``float16``) is another protocol.
    """

    def __init__(
        self,
        weights: str | Path,
        preprocess: str = "tf1",
        outputs: Sequence[str] = ("pool3", "logits"),
        *,
        device: torch.device | str = "cpu",
        backend: str = "torch",
        precision: Precision = "float32",
    ) -> None:
        if preprocess not in INCEPTION:
            raise InputError(f"there is no preprocessing {preprocess!r}; available are {', '.join(INCEPTION)}")
        unknown = [output for output in outputs if output not in WIDTHS]
        if unknown or not outputs:
            asked = repr(unknown[0]) if unknown else "nothing"
            raise InputError(f"extractor 'inception-v3' has no such outputs {asked}; available are {', '.join(WIDTHS)}")
        checkpoint = Checkpoint.open(Path(weights), "inception-v3", 0)
        with torch.device("meta"):  # all tensors come from the file, and random initialization takes seconds
            network = Inception(outputs)
        network = network.to_empty(device="cpu").eval().requires_grad_(False)
        load_into(network, checkpoint, trusted=True)
        self._preprocess = INCEPTION[preprocess]
        self._device = torch.device(device)
        self._pieces = Pieces(PIECE.get(self._device.type, 32), "inception-v3")
        probe = self._preprocess.apply(_probe())
        identity = digest_json(["inception-v3", GRAPH, checkpoint.digest, list(outputs)])
        self.backend = open_backend(backend, Network(network, identity, probe, fold), self._device, precision)
        self.info = ExtractorInfo(
            "inception-v3",
            "image",
            {output: WIDTHS[output] for output in outputs},
            checkpoint.digest,
            f"{preprocess}: {self._preprocess.description}, {precision}",
            mixed_sizes=True,
            backend=f"{self.backend.name}-{self._device.type}",
        )

    def extract(self, samples: Samples | UInt8[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n d"]]:
        """One float32 array per output, for uint8 images of any sizes (gray images are repeated to RGB)."""
        images = PreparedImages(samples, "inception-v3", self._device, self._preprocess.apply)
        arrays = self._pieces.run(self.backend, images)
        return dict(zip(self.info.outputs, arrays, strict=True))


@open_to_clients("preprocess", "outputs", "precision")
def inception_v3(
    device: torch.device,
    *,
    weights: str = "",
    preprocess: Literal["tf1", "pytorch-fid", "clean", "torchmetrics"] = "tf1",
    outputs: Sequence[str] = ("pool3", "logits"),
    backend: str = "auto",
    precision: Precision = "float32",
) -> InceptionV3:
    """The plug-in ``inception-v3``: the published weights, downloaded once, unless a path is given."""
    path = Path(weights) if weights else published.locate(published.get("inception-2015"))
    return InceptionV3(path, preprocess, outputs, device=device, backend=backend, precision=precision)


def _probe() -> UInt8[Tensor, "n 3 64 64"]:
    """Smooth noise with a fixed seed, which is closer to photographs than white noise."""
    coarse = torch.rand(PROBES, 3, 8, 8, generator=torch.Generator().manual_seed(2015))
    return torch.nn.functional.interpolate(coarse * 255, (64, 64), mode="bilinear").to(torch.uint8)
