"""Variational autoencoder (Kingma and Welling, 2014) with 12 latents and a decoder over the 17 gray levels."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from evalsvc.builtin.demo.digits import PIXELS, SIDE, levels_of, signed
from evalsvc.builtin.demo.networks import loaded, log_prob_of_levels, mlp
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples

LATENT = 12


class VAEModel(nn.Module):
    """Encoder, decoder, and the variance of the decoder's distribution at each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp(PIXELS, 256, 2 * LATENT)
        self.decoder = mlp(LATENT, 256, PIXELS)
        self.log_scale = nn.Parameter(torch.full((PIXELS,), math.log(0.15)))

    def decode(self, z: Float[Tensor, "n 12"]) -> Float[Tensor, "n 64"]:
        """Mean image in [-1, 1] for each latent."""
        return torch.tanh(self.decoder(z))

    def bound(self, levels: Int64[Tensor, "n 64"], noise: Float[Tensor, "n 12"]) -> Float[Tensor, " n"]:
        """Upper bound (negative ELBO, nats) of each image's negative log-likelihood, with one draw from the encoder."""
        mean, log_variance = self.encoder(signed(levels)).chunk(2, dim=1)
        z = mean + noise * torch.exp(log_variance / 2)
        divergence: Tensor = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        reconstruction = log_prob_of_levels(levels, self.decode(z), self.log_scale).sum(1)
        return divergence - reconstruction


@versioned("0.1.0")
@open_to_clients()
class VAE:
    """The plug-in ``vae``. Samples are the decoder's mean images; the likelihood is that of the whole model."""

    info = GeneratorInfo("vae", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(VAEModel(), checkpoint, device)

    def sample(self, request: SampleRequest) -> Images:
        """Decoded standard normals."""
        request = request.with_float64()
        return Images.from_signed(self.model.decode(request.normal(LATENT)).view(-1, 1, SIDE, SIDE))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Negative ELBO of gray 8 x 8 images, with one draw of the latents each: an upper bound in expectation."""
        request = request.with_float64()
        nats = self.model.bound(levels_of(items).to(request.device), request.normal(LATENT))
        return NegativeLogLikelihood(nats.double(), PIXELS, "upper_bound")
