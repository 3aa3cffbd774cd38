"""Leave-one-out influences of samples, and of the reference's rows, on a Frechet distance: from one spectrum."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from evalsvc.metrics.arrays import as_matrix, taken
from evalsvc.metrics.devices import staged
from evalsvc.metrics.influence import LEAST, Influence, variance
from evalsvc.metrics.lazy_torch import torch
from evalsvc.metrics.moments import Moments
from evalsvc.metrics.root_trace import RootTrace
from evalsvc.metrics.skewness import Noise, frechet_noise
from evalsvc.metrics.transport import Coordinates, Gaussian, Transport
from evalsvc.metrics.units import Units

if TYPE_CHECKING:
    from torch import Tensor

    Rows: TypeAlias = tuple[Tensor, Tensor]
    """Rows less their mean (n, d), and their coordinates (n, k)."""

_PIECE = 4096
_ROWS = 2048
_PAIRS = 512
_ROW_PAIRS = 16
"""Pairs of rows a row that the pair function of groups may cost."""
_MOST_SHORT = 1.2
_NOISY, _CROWDED = 0.25, 0.4
_STATISTICS = "none: published statistics do not hold samples"


def law_of_sample(sample: Tensor, units: Units) -> Gaussian:
    """The law of all rows; many are summed half by half, which moves a value's last digit."""
    n, d = sample.shape
    if n < d:
        return Gaussian.of_rows(sample)
    halves = [torch.from_numpy(half) for half in units.halves]
    if min(map(len, halves)) < d:
        return Gaussian.of_moments(Moments.of(sample))
    first, second = (Moments.of_blocks(_pieces(sample, half)) for half in halves)
    return Gaussian.of_moments(copy.copy(first).merge_state(second))


def law_of(sample: Tensor, index: Tensor) -> Gaussian:
    """The law of the rows in ``index``."""
    if len(index) < sample.shape[1]:
        return Gaussian.of_rows(taken(sample, index))
    return Gaussian.of_moments(Moments.of_blocks(_pieces(sample, index.sort().values)))


def _pieces(sample: Tensor, index: Tensor) -> Iterator[Tensor]:
    for piece in torch.split(index.to(sample.device), _PIECE):
        yield sample[piece]


@dataclass(frozen=True)
class Deletions:
    """The distance of the law of a ``sample`` to a target, without each row of either."""

    sample: Tensor
    law: Gaussian
    target: Gaussian
    transport: Transport
    trace: RootTrace

    @classmethod
    def of(cls, sample: Tensor, law: Gaussian, target: Gaussian) -> Deletions:
        """By the spectrum within the factor of the target, or within the sample's rows where those are few."""
        few = law.rows is not None
        transport = Transport.between(target, law) if few else Transport.between(law, target)
        return cls(sample, law, target, transport, RootTrace.of(transport.variances).to(law.mean.device))

    @functools.cached_property
    def roots(self) -> np.ndarray:
        """The roots of the coordinates' variances (k,), whose sum is the trace of the root."""
        return self.transport.variances.sqrt().numpy()

    @property
    def directions(self) -> float:
        """The effective number of directions."""
        return float(self.roots.sum() ** 2 / max(np.square(self.roots).sum(), np.finfo(float).tiny))

    def of_sample(self) -> tuple[np.ndarray, np.ndarray]:
        """The influence of every sample (n,), and the variance of each squared coordinate in squared variances (k,)."""
        psi, fourth = [], self.law.mean.new_zeros(len(self.transport.variances))
        for start in range(0, len(self.sample), _PIECE):
            rows = self._rows(slice(start, start + _PIECE))
            psi.append(self._influence(rows, self.law, self.target))
            fourth += rows[1].square().double().square_().sum(0)
        n = self.law.n
        kurtosis = fourth.cpu() * (self.trace.unit**2 / self.transport.variances) ** 2 * ((n + 1) / (n - 1) / n)
        return torch.cat(psi).cpu().numpy(), (kurtosis - 1).numpy()

    def of_reference(self, rows: Tensor, deviation: float) -> tuple[np.ndarray, np.ndarray]:
        """The influence of rows of the reference, and how some interact with a sample each, by a ``deviation``."""
        root = self.transport.of_second if self.law.rows is None else self.transport.of_first
        centered, inner = self._centered(rows, self.target.mean, root)
        psi = self._influence((centered, inner), self.target, self.law)
        order = np.resize(np.random.default_rng(self.law.n).permutation(self.law.n), len(rows))[:_PAIRS]
        noise = self._interaction(self._rows(order), (centered[:_PAIRS], inner[:_PAIRS]))
        return (psi - psi.mean()).cpu().numpy(), _scaled(noise, deviation)

    def pairs(self, units: Units, deviation: float) -> np.ndarray:
        """How disjoint pairs of units move the distance beside what each does: half the second derivative.

        In the sample's own coordinates it comes out too small, and is scaled to a ``deviation`` over pairs of rows.
        Zeros where groups have too many of those.
        """
        one, other, pair = units.disjoint_pairs(_ROW_PAIRS * units.rows)
        one, other, pair = one[pair < _PAIRS], other[pair < _PAIRS], pair[pair < _PAIRS]
        if len(one) < 2:
            return np.zeros(2)
        values = _scaled(self._interaction(self._rows(one), self._rows(other)), deviation)
        return np.bincount(pair, values) * (units.count / units.rows) ** 2

    def _interaction(self, first: Rows, second: Rows) -> np.ndarray:
        means = (first[0] * second[0]).sum(1)
        return (self.trace.interaction(first[1], second[1]) + 2 * means).cpu().numpy()

    def _rows(self, index: slice | np.ndarray) -> Rows:
        if len(self.sample) > _PIECE:
            return self._found(index)
        centered, inner = self._whole
        return _at(centered, index), _at(inner, index)

    @functools.cached_property
    def _whole(self) -> Rows:
        return self._found(slice(None))

    def _found(self, index: slice | np.ndarray) -> Rows:
        if self.law.rows is None:
            return self._centered(_at(self.sample, index), self.law.mean, self.transport.of_first)
        scale = (self.law.n - 1) ** 0.5
        return _at(self.law.rows, index) * scale, _at(self.transport.of_factor, index) * scale

    def _centered(self, rows: Tensor, mean: Tensor, coordinates: Coordinates) -> Rows:
        centered = staged(rows, mean.device, torch.float64) - mean
        return centered, coordinates(centered)

    def _influence(self, rows: Rows, own: Gaussian, other: Gaussian) -> Tensor:
        """``(n - 1) (F - F without the row)`` of rows of ``own``, up to a constant."""
        n, (centered, inner) = own.n, rows
        root = self.trace.without(inner, n / (n - 1) ** 2)
        lengths = centered.square().sum(1) * (n / (n - 2) - 1 / (n - 1))
        scale: float = 2 * (n - 1) ** 1.5 / (n - 2) ** 0.5
        return 2 * centered @ (own.mean - other.mean) + lengths + scale * root


def _at(x: Tensor, index: slice | np.ndarray) -> Tensor:
    return x[index] if isinstance(index, slice) else x[torch.from_numpy(index).to(x.device)]


def _scaled(values: np.ndarray, deviation: float) -> np.ndarray:
    spread = float(values.std(ddof=1))
    scaled: np.ndarray = (values - values.mean()) * (deviation / spread if spread > 0 else 0.0)
    return scaled


@dataclass(frozen=True)
class Errors:
    """The errors of a distance: ``first`` is the variance by the ``influence`` of the units alone.

    It counts interactions of two units twice. ``second`` is their variance, which is that of the ``noise`` between
    equal laws.
    """

    first: float
    second: float
    influence: Influence
    noise: Noise
    reference: Influence | str
    directions: float

    @property
    def remark(self) -> str:
        """The end of a method where noise is a quarter of the variance or more and the directions are many."""
        if self.second < _NOISY * self.first or self.directions < _CROWDED * self.influence.n:
            return ""
        return "; near equality with under 2.5 samples a direction, so that the error may be off by a fifth"

    @property
    def variance(self) -> float:
        """The squared standard error, as the :class:`Influence` has it."""
        return variance(self.first, self.first + 2 * self.second)


def errors_of(deletions: Deletions, units: Units, reference: Any) -> Errors:
    """The errors of a distance by the samples, and by the rows of the ``reference``."""
    psi, kurtosis = deletions.of_sample()
    noise = _noise(deletions, units.rows, kurtosis)
    # Two units interact with a variance of 2 n^2 times that of the noise.
    spread = 2**0.5 * units.rows * noise.deviation
    pairs = deletions.pairs(units, spread / 2)
    first, influence = units.estimate(psi)
    second = 2 * float(pairs.var(ddof=1)) / units.count**2
    rows = noise.deviation * units.rows / second**0.5 if second > 0 else float(units.count)
    return Errors(
        first,
        second,
        influence.interacting(pairs),
        noise._replace(deviation=noise.deviation * units.rows / units.count),
        _of_reference(deletions, reference, spread, rows),
        deletions.directions,
    )


def _noise(deletions: Deletions, n: int, kurtosis: np.ndarray) -> Noise:
    """The noise between equal laws with this spectrum.

    Few samples a feature make the trace of the root too small. Of equal laws it would be the mean of both traces.
    """
    noise = frechet_noise(deletions.roots, n, kurtosis)
    total = deletions.law.trace + deletions.target.trace
    short = total / (2 * float(deletions.roots.sum())) if len(deletions.roots) else 1.0
    return noise._replace(deviation=noise.deviation * min(short, _MOST_SHORT))


def _of_reference(deletions: Deletions, reference: Any, spread: float, independent: float) -> Influence | str:
    """The influence of the reference's rows, of random ones where they are many: more would not help an average.

    It is as noisy as both laws. The noise of ``independent`` samples is taken off. The reference's own is to it as n
    to m, and one half of that is not an error; all models share it.
    """
    if isinstance(reference, Moments):
        return _STATISTICS
    m = len(reference)
    if m < LEAST:
        return f"none: fewer than {LEAST} samples in the reference"
    # Random, because the order may carry classes; the same for all models, so that they are paired.
    rows = as_matrix(reference[np.random.default_rng(m).permutation(m)[:_ROWS]], "reference")
    psi, noise = deletions.of_reference(rows, spread / independent**0.5)
    return Influence(m, whole=psi.astype(np.float32), noise=noise.astype(np.float32), shared=spread / (2 * m) ** 0.5)
