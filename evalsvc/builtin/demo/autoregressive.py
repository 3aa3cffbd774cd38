"""Autoregressive model: NADE (Larochelle and Murray, 2011), each pixel given all before it, in reading order."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from evalsvc.builtin.demo.digits import LEVELS, PIXELS, SIDE, grey, levels_of
from evalsvc.builtin.demo.networks import loaded
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples

HIDDEN, RANK = 96, 4


class NADE(nn.Module):
    """Hidden units sum up what the pixels so far say; each pixel reads its 17 probabilities from them.

    Levels are vectors of 4 numbers on the way in and on the way out, shared by all pixels: 898 digits cannot teach
    every pixel 17 levels apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = nn.Parameter(torch.randn(LEVELS, RANK))
        self.write = nn.Parameter(torch.randn(PIXELS, RANK, HIDDEN) * 0.05)
        self.start = nn.Parameter(torch.zeros(HIDDEN))
        self.read = nn.Parameter(torch.randn(PIXELS, HIDDEN, RANK) * HIDDEN**-0.5)
        self.choice = nn.Parameter(torch.randn(RANK, LEVELS) * RANK**-0.5)
        self.bias = nn.Parameter(torch.zeros(PIXELS, LEVELS))

    def forward(self, levels: Int64[Tensor, "n 64"]) -> Float[Tensor, "n 64 17"]:
        """Log-probabilities of every level of each pixel, given the pixels before it."""
        told = torch.einsum("npr,prh->nph", self.said[levels], self.write)
        before = told.cumsum(1) - told
        hidden = F.dropout(F.silu(self.start + before), 0.5, self.training)
        logits = torch.einsum("nph,phr->npr", hidden, self.read) @ self.choice + self.bias
        return logits.log_softmax(-1)

    def nats(self, levels: Int64[Tensor, "n 64"]) -> Float[Tensor, " n"]:
        """Exact negative log-likelihood of each image, in nats."""
        log_prob: Tensor = self(levels)
        return -log_prob.gather(-1, levels[..., None]).sum((1, 2))

    def levels(self, u: Float[Tensor, "n 64"]) -> Int64[Tensor, "n 64"]:
        """Images of uniforms: each pixel inverts its cumulative distribution, one after the other."""
        sums, chosen = self.start.expand(len(u), HIDDEN), []
        for pixel in range(PIXELS):
            logits = F.silu(sums) @ self.read[pixel] @ self.choice + self.bias[pixel]
            level = (logits.softmax(1).cumsum(1) < u[:, pixel, None]).sum(1).clamp(max=LEVELS - 1)
            sums = sums + self.said[level] @ self.write[pixel]
            chosen.append(level)
        return torch.stack(chosen, dim=1)


@versioned("0.1.0")
@open_to_clients()
class Autoregressive:
    """The plug-in ``autoregressive``. In float64: a rounding that depends on the batch must not choose a level."""

    info = GeneratorInfo("autoregressive", "image", (1, SIDE, SIDE))

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(NADE(), checkpoint, device).double()

    def sample(self, request: SampleRequest) -> Images:
        """Pixel after pixel, each drawn from its probabilities."""
        return Images(grey(self.model.levels(request.uniform(PIXELS).double())))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact negative log-likelihood of grey 8 x 8 images; nothing about it is random."""
        nats = self.model.nats(levels_of(items).to(request.device))
        return NegativeLogLikelihood(nats, PIXELS, "exact")
