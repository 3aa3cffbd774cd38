"""The networks whose activations LPIPS compares, with the layer numbers of torchvision's ``features``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.builtin.extractors.vgg16 import vgg16_convolutions


class Fire(nn.Module):
    """A module of SqueezeNet: 1 x 1 convolutions to ``squeeze`` channels, then 1 x 1 and 3 x 3 to ``expand`` each."""

    def __init__(self, width: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """The two convolutions side by side."""
        squeezed = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], 1).relu()


@dataclass(frozen=True)
class Trunk:
    """A network: its published file, its layers, those whose outputs are compared, and the least side of an image."""

    weights: str
    build: Callable[[], nn.Sequential]
    compared: tuple[int, ...]
    least: int


def activations(layers: nn.Sequential, trunk: Trunk, x: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n c i j"]]:
    """Outputs of the layers that are compared."""
    outputs = []
    for number, layer in enumerate(layers):
        x = layer(x)
        if number in trunk.compared:
            outputs.append(x)
    return outputs


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


def _squeezenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


def _vgg16() -> nn.Sequential:
    *layers, _last_pooling = vgg16_convolutions()
    return nn.Sequential(*layers)


TRUNKS: Mapping[str, Trunk] = {
    "alex": Trunk("alexnet", _alexnet, (1, 4, 7, 9, 11), 31),
    "vgg": Trunk("vgg16", _vgg16, (3, 8, 15, 22, 29), 16),
    "squeeze": Trunk("squeezenet", _squeezenet, (1, 4, 7, 9, 10, 11, 12), 17),
}
