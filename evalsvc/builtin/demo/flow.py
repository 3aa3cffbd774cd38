"""Normalizing flow: RealNVP couplings (Dinh et al., 2017) over pixels that are individually mapped to Gaussians.

A level becomes a real number by uniform dequantization, ``level + u``. The density there is exact, but its mean
logarithm over ``u`` only bounds the log-probability of the level from below (Theis et al., "A note on the evaluation of
generative models", 2016), so the likelihood is an ``upper_bound``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from evalsvc.builtin.demo.digits import LEVELS, PIXELS, SIDE, gray, levels_of
from evalsvc.builtin.demo.networks import loaded, mlp
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.plugins.interfaces import GeneratorInfo, NegativeLogLikelihood
from evalsvc.plugins.registry import open_to_clients, versioned
from evalsvc.plugins.samples import Images, SampleRequest, Samples

HIDDEN = 96
_TAIL = 1e-6


class Marginals(nn.Module):
    """A cumulative distribution per pixel, linear within each level, followed by the normal quantile function."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(PIXELS, LEVELS))

    def _bins(self) -> tuple[Float[Tensor, "64 17"], Float[Tensor, "64 17"]]:
        # Each level keeps a thousandth of a uniform share, so that no level has probability zero.
        mass = 0.999 * self.logits.softmax(1) + 0.001 / LEVELS
        return mass, mass.cumsum(1) - mass

    def forward(
        self, levels: Int64[Tensor, "n 64"], u: Float[Tensor, "n 64"]
    ) -> tuple[Float[Tensor, "n 64"], Float[Tensor, " n"]]:
        """Normal scores of ``level + u``, and the log-determinant of the Jacobian."""
        pixel = torch.arange(PIXELS, device=levels.device)
        mass, start = (table[pixel, levels] for table in self._bins())
        z = torch.special.ndtri((start + u * mass).clamp(_TAIL, 1 - _TAIL))
        return z, (mass.log() + 0.5 * z.square() + 0.5 * math.log(2 * math.pi)).sum(1)

    def inverse(self, z: Float[Tensor, "n 64"]) -> Int64[Tensor, "n 64"]:
        """Levels from normal scores."""
        _, start = self._bins()
        above = torch.searchsorted(start, torch.special.ndtr(z).T.contiguous(), right=True)
        return (above.T - 1).clamp(min=0)

    @torch.no_grad()
    def count(self, levels: Int64[Tensor, "n 64"]) -> None:
        """Initialize with the frequency of each level at each pixel, plus one."""
        counts = nn.functional.one_hot(levels, LEVELS).sum(0) + 1
        self.logits.copy_(counts.log())


class Coupling(nn.Module):
    """Affine coupling: half of the pixels, and the class if there are any, determine scale and shift of the others."""

    def __init__(self, stays: Bool[Tensor, " 64"], classes: int = 0) -> None:
        super().__init__()
        self.register_buffer("stays", stays.nonzero().squeeze(1), persistent=False)
        self.register_buffer("moves", (~stays).nonzero().squeeze(1), persistent=False)
        self.stays: Tensor
        self.moves: Tensor
        self.net = mlp(PIXELS // 2 + classes, HIDDEN, PIXELS, dropout=0.1)
        for parameter in self.net[-1].parameters():
            nn.init.zeros_(parameter)

    def _affine(
        self, z: Float[Tensor, "n 64"], y: Float[Tensor, "n classes"] | None
    ) -> tuple[Float[Tensor, "n 32"], Float[Tensor, "n 32"]]:
        stays = z[:, self.stays]
        log_scale, shift = self.net(stays if y is None else torch.cat([stays, y], 1)).chunk(2, dim=1)
        return torch.tanh(log_scale), shift

    def forward(
        self, z: Float[Tensor, "n 64"], y: Float[Tensor, "n classes"] | None = None
    ) -> tuple[Float[Tensor, "n 64"], Float[Tensor, " n"]]:
        """Map pixels one step toward the base distribution; also return the log-determinant of the Jacobian."""
        log_scale, shift = self._affine(z, y)
        return z.index_copy(1, self.moves, z[:, self.moves] * log_scale.exp() + shift), log_scale.sum(1)

    def inverse(self, z: Float[Tensor, "n 64"], y: Float[Tensor, "n classes"] | None = None) -> Float[Tensor, "n 64"]:
        """Inverse of :meth:`forward`."""
        log_scale, shift = self._affine(z, y)
        return z.index_copy(1, self.moves, (z[:, self.moves] - shift) * torch.exp(-log_scale))


class FlowModel(nn.Module):
    """Marginals, followed by four checkerboard and stripe couplings, each with its complement.

    A model of ``classes`` takes one-hot labels ``y``; couplings learn them, the marginals are those of all classes.
    """

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        row, column = torch.arange(PIXELS) // SIDE, torch.arange(PIXELS) % SIDE
        patterns = [(row + column) % 2, row % 2, column % 2, (row // 2 + column // 2) % 2]
        self.marginals = Marginals()
        self.couplings = nn.ModuleList(Coupling(pattern == bit, classes) for pattern in patterns for bit in (0, 1))

    def nats(
        self, levels: Int64[Tensor, "n 64"], u: Float[Tensor, "n 64"], y: Float[Tensor, "n classes"] | None = None
    ) -> Float[Tensor, " n"]:
        """Negative log-density, in nats, of each dequantized image ``level + u``."""
        z, log_jacobian = self.marginals(levels, u)
        for coupling in self.couplings:
            z, log_scale = coupling(z, y)
            log_jacobian = log_jacobian + log_scale
        nats: Tensor = 0.5 * z.square().sum(1) + 0.5 * PIXELS * math.log(2 * math.pi) - log_jacobian
        return nats

    def levels(self, z: Float[Tensor, "n 64"], y: Float[Tensor, "n classes"] | None = None) -> Int64[Tensor, "n 64"]:
        """Images, as levels, from standard normals."""
        for coupling in reversed(cast(list[Coupling], list(self.couplings))):
            z = coupling.inverse(z, y)
        levels: Tensor = self.marginals.inverse(z)
        return levels


@versioned("0.1.0")
@open_to_clients()
class Flow:
    """The plug-in ``flow``. Uses float64, so that batch-dependent rounding does not change a level."""

    info = GeneratorInfo("flow", "image", (1, SIDE, SIDE), takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self.model = loaded(FlowModel(), checkpoint, device).double()

    def sample(self, request: SampleRequest) -> Images:
        """Map standard normals through the inverse flow."""
        request = request.with_float64()
        return Images(gray(self.model.levels(request.normal(PIXELS).double())))

    def nll(self, items: Samples, request: SampleRequest) -> NegativeLogLikelihood:
        """Negative log-density of gray 8 x 8 images, dequantized once: an upper bound in expectation."""
        request = request.with_float64()
        nats = self.model.nats(levels_of(items).to(request.device), request.uniform(PIXELS).double())
        return NegativeLogLikelihood(nats, PIXELS, "upper_bound")
