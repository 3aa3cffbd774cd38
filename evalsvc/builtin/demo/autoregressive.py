"""Autoregressive model: NADE (Larochelle and Murray, 2011), each pixel conditioned on all previous ones."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from evalsvc.builtin.demo.digits import LEVELS, PIXELS, SIDE, gray, levels_of
from evalsvc.builtin.demo.networks import loaded
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples

HIDDEN, RANK = 96, 4


class NADE(nn.Module):
    """Hidden units accumulate the previous pixels; each pixel's 17 probabilities are computed from them.

    Levels are embedded as vectors of 4 numbers on input and output, shared by all pixels, since 898 digits are too few
    to learn 17 levels per pixel.
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
        """Log-probabilities of every level of each pixel, given the previous pixels."""
        written = torch.einsum("npr,prh->nph", self.said[levels], self.write)
        before = written.cumsum(1) - written
        hidden = F.dropout(F.silu(self.start + before), 0.5, self.training)
        logits = torch.einsum("nph,phr->npr", hidden, self.read) @ self.choice + self.bias
        return logits.log_softmax(-1)

    def nats(self, levels: Int64[Tensor, "n 64"]) -> Float[Tensor, " n"]:
        """Exact negative log-likelihood of each image, in nats."""
        log_prob: Tensor = self(levels)
        return -log_prob.gather(-1, levels[..., None]).sum((1, 2))

    def levels(self, u: Float[Tensor, "n 64"]) -> Int64[Tensor, "n 64"]:
        """Images from uniforms: the cumulative distribution of each pixel is inverted in turn."""
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
    """The plug-in ``autoregressive``. Uses float64, so that batch-dependent rounding does not change a level."""

    info = GeneratorInfo("autoregressive", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(NADE(), checkpoint, device).double()

    def sample(self, request: SampleRequest) -> Images:
        """Sample pixel by pixel from the conditional probabilities."""
        request = request.with_float64()
        return Images(gray(self.model.levels(request.uniform(PIXELS).double())))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Exact negative log-likelihood of gray 8 x 8 images; deterministic."""
        request = request.with_float64()
        nats = self.model.nats(levels_of(items).to(request.device))
        return NegativeLogLikelihood(nats, PIXELS, "exact")
