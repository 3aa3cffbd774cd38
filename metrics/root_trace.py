"""How the trace of a covariance's square root moves when rows are left out: exactly, from a single spectrum.

With ``sqrt(m) = (1 / pi) int m / (m + s^2) ds`` and the determinant lemma, ``tr (M - a z z')^(1/2) - tr M^(1/2)`` is
``(1 / pi) int log(1 - a z' (M + s^2)^-1 z) ds`` over positive s. By the trapezoidal rule in log s the error falls as
``exp(-pi^2 / step)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Float64

from evalsvc.metrics.lazy_torch import torch

if TYPE_CHECKING:
    from torch import Tensor

_STEP = 0.5
_REACH = 4.0
_LEAST = 1e-12
"""Without a row that alone spans a direction, the rest of the determinant is 0."""


@dataclass(frozen=True)
class RootTrace:
    """``tr M^(1/2)`` in the basis of M's eigenvectors; rows are given in units of ``unit``, the largest root."""

    unit: float
    weights: Float64[Tensor, " q"]
    resolvents: Float64[Tensor, "k q"]

    @classmethod
    def of(cls, variances: Float64[Tensor, " k"]) -> RootTrace:
        """From the positive eigenvalues of M, ascending, on the host."""
        if not len(variances):
            return cls(1.0, variances.new_zeros(1), variances.new_zeros(0, 1))
        relative = variances / variances[-1]
        lowest = math.log(float(relative[0])) / 2 - _REACH
        nodes = torch.arange(lowest, _REACH + _STEP, _STEP, dtype=relative.dtype).exp()
        weights = nodes * (_STEP / math.pi)
        # Beyond both ends the terms fall as a geometric series, whose sum the last term carries.
        weights[[0, -1]] /= -math.expm1(-_STEP)
        return cls(math.sqrt(float(variances[-1])), weights, (relative[:, None] + nodes.square()).reciprocal())

    def to(self, device: torch.device) -> RootTrace:
        """The same on a device, where the rows are."""
        return RootTrace(self.unit, self.weights.to(device), self.resolvents.to(device))

    def without(self, rows: Float[Tensor, "n k"], share: float) -> Float64[Tensor, " n"]:
        """Change of the trace if ``share * z z'`` of a row z is subtracted from M, of each row; never positive."""
        left = 1 - share * (rows.double().square() @ self.resolvents)
        return left.clamp(min=_LEAST).log() @ self.weights * self.unit

    def interaction(self, first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> Float64[Tensor, " n"]:
        """``sum_ij y_i y_j / (s_i s_j (s_i + s_j))`` of each pair, y its product and s the roots of the eigenvalues.

        It is minus twice the second derivative of the trace along both rows of the pair.
        """
        return ((first * second).double() @ self.resolvents).square() @ self.weights * (2 * self.unit)
