"""The influence of samples, and of the reference's rows, on a Frechet distance: by the transport between two laws."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evalsvc.metrics.arrays import as_matrix
from evalsvc.metrics.influence import LEAST, Influence
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.transport import Gaussian, Transport, squared_lengths
from evalsvc.metrics.units import Units

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 4096
_ROWS = 2048
_STATISTICS = "none: published statistics do not hold samples"


def law_and_halves(sample: Tensor, units: Units) -> tuple[Gaussian, list[tuple[Gaussian, Tensor]]]:
    """The law of the sample, and its two halves with their rows; few rows hold their halves already."""
    n, d = sample.shape
    if n < d:
        return Gaussian.of_rows(sample), []
    indices = [torch.from_numpy(half) for half in units.halves]
    if min(map(len, indices)) < d:
        return Gaussian.of_moments(Moments.of(sample)), [(law_of(sample, index), index) for index in indices]
    first, second = (Moments.of_blocks(_pieces(sample, index)) for index in indices)
    parts = [(Gaussian.of_moments(half), index) for half, index in zip((first, second), indices, strict=True)]
    return Gaussian.of_moments(copy.copy(first).merge_state(second)), parts


def law_of(sample: Tensor, index: Tensor) -> Gaussian:
    """The law of the rows in ``index``."""
    if len(index) < sample.shape[1]:
        return Gaussian.of_rows(sample[index])
    return Gaussian.of_moments(Moments.of_blocks(_pieces(sample, index.sort().values)))


def _pieces(sample: Tensor, index: Tensor) -> Iterator[Tensor]:
    for piece in torch.split(index, _PIECE):
        yield sample[piece.to(sample.device)]


@dataclass(frozen=True)
class Pull:
    """How rows pull at the distance of a law to the target: by the transport between the two."""

    law: Gaussian
    target: Gaussian
    transport: Transport

    @classmethod
    def of(cls, law: Gaussian, target: Gaussian, gram: Tensor | None = None) -> Pull:
        """``gram`` is the target within the law's few rows, where that is known."""
        few = law.rows is not None
        return cls(law, target, Transport.between(target, law, gram) if few else Transport.between(law, target))

    def of_sample(self, sample: Tensor, index: Tensor) -> Tensor:
        """The influence of the law's own rows, which are those of the ``sample`` at ``index``."""
        gap, rows, freedom = self.law.mean - self.target.mean, self.law.rows, self.law.n - 1
        if rows is None:
            return _influence(_pieces(sample, index), self.law.mean, gap, self.transport.forward)
        squares: Tensor = rows.square().sum(1) - self.transport.squares
        return squares.mul_(freedom).add_(rows @ gap, alpha=2 * freedom**0.5)

    def of_reference(self, rows: Tensor) -> Tensor:
        """The influence of rows of the reference."""
        few = self.law.rows is not None
        root = self.transport.forward if few else self.transport.backward
        pieces = torch.split(rows, _PIECE)
        return _influence(pieces, self.target.mean, self.target.mean - self.law.mean, root)


def _influence(pieces: Iterable[Tensor], mean: Tensor, gap: Tensor, root: Tensor) -> Tensor:
    """``2 gap' c + |c|^2 - |root' c|^2`` of each row, centered to c."""
    psi = []
    for piece in pieces:
        centered = piece.to(torch.float64) - mean
        psi.append(2 * centered @ gap + centered.square().sum(1) - squared_lengths(centered, root))
    return torch.cat(psi)


def pulls_of(law: Gaussian, parts: list[tuple[Gaussian, Tensor]], target: Gaussian, units: Units) -> list[Pull]:
    """Of the sample and of its halves."""
    if law.rows is None:
        return [Pull.of(each, target) for each in (law, *(part for part, _ in parts))]
    gram = target.within(law.rows)
    return [Pull.of(law, target, gram)] + [
        Pull.of(*_half_of_few(law, gram, index, target)) for index in map(torch.from_numpy, units.halves)
    ]


def _half_of_few(law: Gaussian, gram: Tensor, index: Tensor, target: Gaussian) -> tuple[Gaussian, Gaussian, Tensor]:
    """The law of the rows in ``index`` and the target within them, from the products of all rows."""
    assert law.rows is not None
    rows, gram = law.rows[index], gram[index][:, index]
    scale = ((law.n - 1) / (len(index) - 1)) ** 0.5
    center = rows.mean(0)
    gram = (gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()) * scale**2
    half = Gaussian(len(index), law.mean + center * (law.n - 1) ** 0.5, None, (rows - center) * scale)
    return half, target, gram


def of_sample(sample: Tensor, pulls: list[Pull], units: Units) -> list[np.ndarray]:
    """psi of every row, and of the rows of each half under the half's own law."""
    indices = [np.arange(len(sample)), *units.halves]
    found = (
        pull.of_sample(sample, torch.from_numpy(index)).cpu().numpy()
        for pull, index in zip(pulls, indices, strict=True)
    )
    return list(found)


def of_reference(reference: Any, pulls: list[Pull]) -> Influence | str:
    """The influence of the reference's rows, of random ones where they are many: more would not help an average.

    It is as noisy as both laws. The noise of the sample shows as half the disagreement of its halves and is
    taken off. The reference's own noise is to it as n to m, and one half of it is not an error; all models share it.
    """
    if isinstance(reference, Moments):
        return _STATISTICS
    m = len(reference)
    if m < LEAST:
        return f"none: fewer than {LEAST} samples in the reference"
    # Random, because the order may carry classes; the same for all models, so that they are paired.
    rows = as_matrix(reference[np.random.default_rng(m).permutation(m)[:_ROWS]], "reference")
    whole, first, second = pulls
    psi, few = whole.of_reference(rows), rows[: _ROWS // 2]
    noise = _centered((first.of_reference(few) - second.of_reference(few)) / 2)
    own = math.sqrt(whole.law.n / (2 * m)) * float(np.square(noise, dtype=np.float64).mean()) ** 0.5
    return Influence(m, whole=_centered(psi), noise=noise, shared=own)


def _centered(psi: Tensor) -> np.ndarray:
    return np.asarray((psi - psi.mean()).cpu(), np.float32)
