"""VGG16's second fully connected layer: the features of the original precision and recall."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from evalsvc.builtin.extractors.backends import Network, open_backend
from evalsvc.builtin.extractors.batches import Pieces, PreparedImages
from evalsvc.builtin.extractors.preprocess import IMAGENET, normalize, tf1_resize
from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.inputs import published_weights as published
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Samples

SIDE, WIDTH = 224, 4096
OUTPUTS = ("fc2", "fc2_relu")
_MAPS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)


def vgg16_convolutions() -> nn.Sequential:
    """The thirteen convolutions, each with its ReLU, and five poolings."""
    layers: list[nn.Module] = []
    width = 3
    for to in _MAPS:
        layers += [nn.Conv2d(width, to, 3, padding=1), nn.ReLU(inplace=True)] if to else [nn.MaxPool2d(2)]
        width = to or width
    return nn.Sequential(*layers)


class VGG16Network(nn.Module):
    """Thirteen convolutions and two fully connected layers, with torchvision's names."""

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg16_convolutions()
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(WIDTH, 1000),
        )

    def forward(self, x: Float[Tensor, "n 3 224 224"]) -> tuple[Float[Tensor, "n 4096"]]:
        """Output of the second fully connected layer before its ReLU."""
        return (self.classifier[:4](self.features(x).flatten(1)),)


@open_to_clients("outputs")
class VGG16:
    """The plug-in ``vgg16``: outputs ``fc2`` and ``fc2_relu``, 4096-d each.

    ``weights`` is torchvision's file, downloaded once unless a path is given. Images are resized to 224 as in
    TensorFlow 1 (torch-fidelity's protocol).
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        weights: str | Path = "",
        outputs: Sequence[str] = ("fc2_relu",),
        backend: str = "auto",
    ) -> None:
        unknown = set(outputs) - set(OUTPUTS)
        if unknown or not outputs:
            raise InputError(f"vgg16 has the outputs {', '.join(OUTPUTS)}, not {', '.join(sorted(unknown)) or 'none'}")
        path = Path(weights) if weights else published.locate(published.get("vgg16"))
        checkpoint = Checkpoint.open(path, "vgg16", 0)
        with torch.device("meta"):  # all tensors come from the file, and random initialization takes seconds
            network = VGG16Network()
        network = network.to_empty(device="cpu").eval().requires_grad_(False)
        load_into(network, checkpoint, trusted=True)
        self._device = torch.device(device)
        probe = self._prepare(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
        identity = digest_json(["vgg16", checkpoint.digest])
        self._backend = open_backend(backend, Network(network, identity, probe), self._device)
        self.info = ExtractorInfo(
            "vgg16",
            "image",
            dict.fromkeys(outputs, WIDTH),
            checkpoint.digest,
            "TF1 bilinear to 224 without half-pixel centres, ImageNet mean and std, float32",
            mixed_sizes=True,
            backend=f"{self._backend.name}-{self._device.type}",
        )
        self._pieces = Pieces(16, "vgg16")

    def extract(self, samples: Samples | UInt8[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n d"]]:
        """The requested outputs for uint8 images of any sizes."""
        (fc2,) = self._pieces.run(self._backend, PreparedImages(samples, "vgg16", self._device, self._prepare))
        outputs = {"fc2": fc2, "fc2_relu": fc2.relu()}
        return {output: outputs[output] for output in self.info.outputs}

    @staticmethod
    def _prepare(pixels: Tensor) -> Tensor:
        return normalize(tf1_resize(pixels, SIDE), IMAGENET)
