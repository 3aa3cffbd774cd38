"""Denoising diffusion (Ho et al., 2020): 50 steps on a cosine schedule, with a small residual MLP as the denoiser."""

from __future__ import annotations

import math
from typing import NamedTuple

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


class Terms(NamedTuple):
    """Parts of the estimate that depend on the step alone: rows of steps, or those of one step for all images."""

    mean: Tensor
    """Of noisy pixels."""
    total: Tensor
    """Their standard deviation."""
    slope: Tensor
    """Of the linear estimate of a clean pixel."""
    error: Tensor
    """Standard deviation of that estimate's error."""
    waves: Tensor
    """Sines and cosines of the step, inputs of the network."""

    def at(self, step: int) -> Terms:
        """The terms of one step."""
        return Terms(*(rows[step] for rows in self))


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

    def schedule(self, t: Int64[Tensor, " t"]) -> tuple[Float[Tensor, "t 1"], Float[Tensor, "t 1"]]:
        """Scale of the image and of the noise at step t: of each image, or one for all."""
        alpha = self.alpha[t][:, None]
        return alpha, (1 - alpha.square()).sqrt()

    def measure(self, levels: Int64[Tensor, "n 64"]) -> None:
        """Compute the mean and standard deviation of each pixel from the data."""
        x = signed(levels)
        self.center.copy_(x.mean(0))
        self.spread.copy_(x.std(0).clamp(min=0.05))

    def terms(self, t: Int64[Tensor, " t"]) -> Terms:
        """The terms of step t: of each image, or of every step once."""
        alpha, sigma = self.schedule(t)
        total = ((alpha * self.spread).square() + sigma.square()).sqrt()
        octaves = 2.0 ** torch.arange(FREQUENCIES, device=t.device) * (math.pi / 2)
        phase = t[:, None] / STEPS * octaves
        return Terms(
            alpha * self.center,
            total,
            alpha * self.spread.square() / total,
            self.spread * sigma / total,
            torch.cat([phase.sin(), phase.cos()], dim=1),
        )

    def linear(self, x: Float[Tensor, "n 64"], terms: Terms) -> tuple[Tensor, Tensor]:
        """Standardized noisy images, and the best linear estimate of each clean pixel."""
        standard = (x - terms.mean) / terms.total
        return standard, self.center + terms.slope * standard

    def forward(self, x: Float[Tensor, "n 64"], terms: Terms) -> Float[Tensor, "n 64"]:
        """Network output for standardized noisy images of a step: standardized error of the linear estimate."""
        h = self.enter(torch.cat([x, terms.waves.expand(len(x), -1)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        error: Tensor = self.leave(h)
        return error

    def clean(self, x: Float[Tensor, "n 64"], terms: Terms) -> Float[Tensor, "n 64"]:
        """The network's estimate of the clean image for noisy images of a step."""
        standard, guess = self.linear(x, terms)
        corrected: Tensor = guess + terms.error * self(standard, terms)
        return corrected.clamp(-1, 1)

    def sample(self, noise: Float[Tensor, "steps n 64"]) -> Float[Tensor, "n 64"]:
        """Images in [-1, 1] from the normals of each step; those of step 0 are the starting point."""
        alpha, sigma, terms = self._steps()
        ratio = alpha[1:] / alpha[:-1]
        added = (sigma[1:].square() - (ratio * sigma[:-1]).square()).sqrt()
        kept, seen = ratio * (sigma[:-1] / sigma[1:]).square(), alpha[:-1] * (added / sigma[1:]).square()
        spread = added * sigma[:-1] / sigma[1:]
        x = noise[0]
        for step in range(STEPS, 1, -1):
            clean, before = self.clean(x, terms.at(step)), step - 1
            x = kept[before] * x + seen[before] * clean + spread[before] * noise[step]
        return self.clean(x, terms.at(1))

    def bound(self, levels: Int64[Tensor, "n 64"], noise: Float[Tensor, "steps n 64"]) -> Float[Tensor, " n"]:
        """Variational upper bound, in nats, of each image's negative log-likelihood: all steps, one draw per step."""
        x = signed(levels)
        alpha, sigma, terms = self._steps()
        prior = 0.5 * ((alpha[-1] * x).square() + sigma[-1].square() - 1 - 2 * sigma[-1].log()).sum(1)
        total: Tensor = prior.double()
        # The divergence between normals of equal variance is the signal-to-noise loss times the squared error.
        ratio = (alpha / sigma).square()
        lost = ratio[:-1] - ratio[1:]
        for step in range(1, STEPS + 1):
            guess = self.clean(alpha[step] * x + sigma[step] * noise[step], terms.at(step))
            if step == 1:
                total -= log_prob_of_levels(levels, guess, self.log_scale).sum(1)
            else:
                total += 0.5 * (lost[step - 1] * (x - guess).square()).sum(1)
        return total

    def _steps(self) -> tuple[Float[Tensor, "steps 1"], Float[Tensor, "steps 1"], Terms]:
        """The schedule and the terms of all steps."""
        steps = torch.arange(STEPS + 1, device=self.alpha.device)
        return *self.schedule(steps), self.terms(steps)


@versioned("0.1.0")
@open_to_clients()
class DDPM:
    """The plug-in ``ddpm``. Samples are the mean of the last step; the likelihood is that of the whole model."""

    info = GeneratorInfo("ddpm", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(DDPMModel(), checkpoint, device)

    def sample(self, request: SampleRequest) -> Images:
        """Denoise in fifty steps."""
        request = request.with_float64()
        x = self.model.sample(request.normals(PIXELS, streams=range(STEPS + 1)))
        return Images.from_signed(x.view(-1, 1, SIDE, SIDE))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Variational bound of gray 8 x 8 images with one draw of noise per step: an upper bound in expectation."""
        request = request.with_float64()
        levels = levels_of(items).to(request.device)
        nats = self.model.bound(levels, request.normals(PIXELS, streams=range(STEPS + 1)))
        return NegativeLogLikelihood(nats, PIXELS, "upper_bound")
