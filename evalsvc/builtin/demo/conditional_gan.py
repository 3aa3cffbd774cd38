"""Class-conditional GAN (Mirza and Osindero, 2014): generator and discriminator both see the label."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.builtin.demo.digits import CLASSES, PIXELS, SIDE
from evalsvc.builtin.demo.networks import loaded, mlp, one_hot_labels
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest

LATENT = 32


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


class ConditionalGeneratorNet(nn.Module):
    """Maps latents and one-hot labels to pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(LATENT + CLASSES, 256, 256, PIXELS, activation=_leaky)

    def forward(self, z: Float[Tensor, "n 32"], y: Float[Tensor, "n 10"]) -> Float[Tensor, "n 64"]:
        """Images for the given latents and labels."""
        return torch.tanh(self.layers(torch.cat([z, y], 1)))


class ConditionalDiscriminator(nn.Module):
    """Maps pixels and one-hot labels to one logit, positive for real images of that class. Used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(PIXELS + CLASSES, 256, 128, 1, activation=_leaky)

    def forward(self, x: Float[Tensor, "n 64"], y: Float[Tensor, "n 10"]) -> Float[Tensor, "n 1"]:
        """Logits for the class "real"."""
        logits: Tensor = self.layers(torch.cat([x, y], 1))
        return logits


@versioned("0.1.0")
@open_to_clients()
class ConditionalGAN:
    """The plug-in ``conditional-gan``: digits of the class that is asked for."""

    info = GeneratorInfo("gan", "image", (1, SIDE, SIDE), takes=frozenset({"label"}), needs=frozenset({"label"}))

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.generator = loaded(ConditionalGeneratorNet(), checkpoint, device)

    def sample(self, request: SampleRequest) -> Images:
        """One forward pass of the generator."""
        request = request.with_float64()
        images = self.generator(request.normal(LATENT), one_hot_labels(request))
        return Images.from_signed(images.view(-1, 1, SIDE, SIDE))
