"""Denoising diffusion (Ho et al., 2020): 50 steps on a cosine schedule, with a small residual MLP as the denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from evalsvc.builtin.demo.digits import PIXELS, SIDE, levels_of, signed
from evalsvc.builtin.demo.networks import loaded, log_prob_of_levels, mlp
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples

STEPS, HIDDEN, BLOCKS, FREQUENCIES = 50, 160, 2, 8


class DDPMModel(nn.Module):
    """Noisy images ``x_t = alpha_t x + sigma_t noise`` for t from 0 (clean) to 50 (noise), and their denoising.

    The network corrects the best linear estimate of each pixel, in units of that estimate's error, so that its inputs
    and outputs have unit scale at every step (the preconditioning of Karras et al., 2022, per pixel).
    """

    def __init__(self) -> None:
        super().__init__()
        # The cosine schedule of Nichol and Dhariwal (2021).
        angle = (torch.linspace(0, 1, STEPS + 1, dtype=torch.float64) + 0.008) / 1.008 * math.pi / 2
        alpha = angle.cos() / angle.cos()[0]
        self.register_buffer("center", torch.zeros(PIXELS))
        self.register_buffer("spread", torch.ones(PIXELS))
        self.center: Tensor
        self.spread: Tensor
        self.register_buffer("alpha", alpha.clamp(0.01, 1).float(), persistent=False)
        self.alpha: Tensor
        self.enter = nn.Linear(PIXELS + 2 * FREQUENCIES, HIDDEN)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(HIDDEN), mlp(HIDDEN, HIDDEN, HIDDEN, dropout=0.1)) for _ in range(BLOCKS)
        )
        self.leave = nn.Linear(HIDDEN, PIXELS)
        nn.init.zeros_(self.leave.weight)
        self.log_scale = nn.Parameter(torch.full((PIXELS,), math.log(0.05)))

    def schedule(self, t: Int64[Tensor, " n"]) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 1"]]:
        """Scale of the image and of the noise at step t."""
        alpha = self.alpha[t][:, None]
        return alpha, (1 - alpha.square()).sqrt()

    def measure(self, levels: Int64[Tensor, "n 64"]) -> None:
        """Compute the mean and standard deviation of each pixel from the data."""
        x = signed(levels)
        self.center.copy_(x.mean(0))
        self.spread.copy_(x.std(0).clamp(min=0.05))

    def linear(self, x: Float[Tensor, "n 64"], t: Int64[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Standardized noisy images, the best linear estimate of each clean pixel, and the error of that estimate."""
        alpha, sigma = self.schedule(t)
        total = ((alpha * self.spread).square() + sigma.square()).sqrt()
        standard = (x - alpha * self.center) / total
        guess = self.center + alpha * self.spread.square() / total * standard
        return standard, guess, self.spread * sigma / total

    def forward(self, x: Float[Tensor, "n 64"], t: Int64[Tensor, " n"]) -> Float[Tensor, "n 64"]:
        """Network output for standardized noisy images of step t: standardized error of the linear estimate."""
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=x.device) * (math.pi / 2)
        phase = t[:, None] / STEPS * octaves
        h = self.enter(torch.cat([x, phase.sin(), phase.cos()], dim=1))
        for block in self.blocks:
            h = h + block(h)
        error: Tensor = self.leave(h)
        return error

    def clean(self, x: Float[Tensor, "n 64"], t: Int64[Tensor, " n"]) -> Float[Tensor, "n 64"]:
        """The network's estimate of the clean image for noisy images of step t."""
        standard, guess, error = self.linear(x, t)
        corrected: Tensor = guess + error * self(standard, t)
        return corrected.clamp(-1, 1)

    def sample(self, noise: Callable[[int], Float[Tensor, "n 64"]]) -> Float[Tensor, "n 64"]:
        """Images in [-1, 1]; ``noise(t)`` returns the normals of step t, ``noise(0)`` the starting point."""
        x = noise(0)
        for step in range(STEPS, 1, -1):
            t = torch.full((len(x),), step, device=x.device)
            (alpha, sigma), (alpha_next, sigma_next) = self.schedule(t), self.schedule(t - 1)
            ratio = alpha / alpha_next
            added = (sigma.square() - (ratio * sigma_next).square()).sqrt()
            kept, seen = ratio * (sigma_next / sigma).square(), alpha_next * (added / sigma).square()
            x = kept * x + seen * self.clean(x, t) + added * sigma_next / sigma * noise(step)
        return self.clean(x, torch.ones(len(x), dtype=torch.int64, device=x.device))

    def bound(
        self, levels: Int64[Tensor, "n 64"], noise: Callable[[int], Float[Tensor, "n 64"]]
    ) -> Float[Tensor, " n"]:
        """Variational upper bound, in nats, of each image's negative log-likelihood: all steps, one draw per step."""
        x = signed(levels)
        last = torch.full((len(x),), STEPS, device=x.device)
        alpha, sigma = self.schedule(last)
        prior = 0.5 * ((alpha * x).square() + sigma.square() - 1 - 2 * sigma.log()).sum(1)
        total: Tensor = prior.double()
        for step in range(1, STEPS + 1):
            t = torch.full((len(x),), step, device=x.device)
            alpha, sigma = self.schedule(t)
            guess = self.clean(alpha * x + sigma * noise(step), t)
            if step == 1:
                total -= log_prob_of_levels(levels, guess, self.log_scale).sum(1)
            else:
                # The divergence between normals of equal variance is the signal-to-noise loss times the squared error.
                alpha_next, sigma_next = self.schedule(t - 1)
                lost = (alpha_next / sigma_next).square() - (alpha / sigma).square()
                total += 0.5 * (lost * (x - guess).square()).sum(1)
        return total


@versioned("0.1.0")
@open_to_clients()
class DDPM:
    """The plug-in ``ddpm``. Samples are the mean of the last step; the likelihood is that of the whole model."""

    info = GeneratorInfo("ddpm", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(DDPMModel(), checkpoint, device)

    def sample(self, request: SampleRequest) -> Images:
        """Denoise in fifty steps."""
        x = self.model.sample(lambda t: request.normal(PIXELS, stream=t))
        return Images.from_signed(x.view(-1, 1, SIDE, SIDE))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Variational bound of gray 8 x 8 images with one draw of noise per step: an upper bound in expectation."""
        levels = levels_of(items).to(request.device)
        nats = self.model.bound(levels, lambda t: request.normal(PIXELS, stream=t))
        return NegativeLogLikelihood(nats, PIXELS, "upper_bound")
