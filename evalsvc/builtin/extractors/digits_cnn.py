"""Features and class logits of 8 x 8 digits, from a small convolutional classifier that is part of the package.

``python -m evalsvc.builtin.demo.train classifier`` trains it on the training split of the digits only.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.core.errors import InputError
from evalsvc.inputs.checkpoints import Checkpoint, load_into
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import ExtractorInfo
from evalsvc.plugins.registry import open_to_clients
from evalsvc.plugins.samples import Images, Samples

SIDE, FEATURES, CLASSES = 8, 64, 10
WEIGHTS = Path(__file__).parents[1] / "demo" / "weights" / "digits_cnn.safetensors"
_LUMA = (0.299, 0.587, 0.114)


class Classifier(nn.Module):
    """Two convolutions, 64 features, 10 logits. Layers do not mix the images of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * SIDE * SIDE // 4, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Float[Tensor, "n 1 8 8"]) -> tuple[Float[Tensor, "n 64"], Float[Tensor, "n 10"]]:
        """Features and logits of gray images in [-1, 1]."""
        features = self.features(x)
        return features, self.head(features)


@open_to_clients()
class DigitsCNN:
    """The plug-in ``digits-cnn``: outputs ``features`` (64, non-negative) and ``logits`` (10 classes)."""

    def __init__(self, device: torch.device) -> None:
        weights = Checkpoint.open(WEIGHTS, "digits-cnn", 0)
        self.info = ExtractorInfo(
            name="digits-cnn",
            modality="image",
            outputs={"features": FEATURES, "logits": CLASSES},
            weights=weights.digest,
            preprocessing="8x8 as they are, RGB to grey by ITU-R 601 luma, -1 to 1, float32",
            backend=f"torch-{device.type}",
        )
        self.device, self._luma = device, torch.tensor(_LUMA, device=device).view(3, 1, 1)
        self.model = Classifier()
        load_into(self.model, weights)
        self.model.to(device).eval().requires_grad_(False)

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Features (n, 64) and logits (n, 10) of gray or RGB images of 8 x 8 pixels; other sizes raise InputError."""
        if not isinstance(samples, Images):
            raise InputError("extractor 'digits-cnn' requires image samples")
        channels, height, width = samples.pixels.shape[1:]
        if channels not in (1, 3) or (height, width) != (SIDE, SIDE):
            raise InputError(
                f"extractor 'digits-cnn' requires gray or RGB images of 8x8 pixels, got {channels}x{height}x{width}"
            )
        pixels = staged(samples.pixels, self.device).float()
        if channels == 3:
            pixels = (pixels * self._luma).sum(1, keepdim=True)
        features, logits = self.model(pixels / 127.5 - 1)
        return {"features": features, "logits": logits}
