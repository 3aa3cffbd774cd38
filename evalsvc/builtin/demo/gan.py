"""GAN (Goodfellow et al., 2014): a generator trained against a discriminator. No likelihood."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from evalsvc.builtin.demo.digits import PIXELS, SIDE
from evalsvc.builtin.demo.networks import loaded, mlp
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest

LATENT = 100


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


class GeneratorNet(nn.Module):
    """Maps latents to pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(LATENT, 256, 512, PIXELS, activation=_leaky)

    def forward(self, z: Float[Tensor, "n 100"]) -> Float[Tensor, "n 64"]:
        """Images for the given latents."""
        return torch.tanh(self.layers(z))


class Discriminator(nn.Module):
    """Maps pixels to one logit, positive for real images. Used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(PIXELS, 256, 128, 1, activation=_leaky)

    def forward(self, x: Float[Tensor, "n 64"]) -> Float[Tensor, "n 1"]:
        """Logits for the class "real"."""
        logits: Tensor = self.layers(x)
        return logits


@versioned("0.1.0")
@open_to_clients()
class GAN:
    """The plug-in ``gan``."""

    info = GeneratorInfo("gan", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.generator = loaded(GeneratorNet(), checkpoint, device)

    def sample(self, request: SampleRequest) -> Images:
        """One forward pass of the generator."""
        request = request.with_float64()
        return Images.from_signed(self.generator(request.normal(LATENT)).view(-1, 1, SIDE, SIDE))
