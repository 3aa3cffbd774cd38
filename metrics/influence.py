"""Standard errors from influence functions, with the functions' own noise taken off.

The influence psi(x) of a sample on a smooth statistic, found from the sample itself, has a variance V that takes the
noise of psi for signal: where the statistic is near an extremum (two equal laws) V is twice too large. That noise
doubles in half a sample while the signal stays, so the variance V' within two random halves, each under its own psi,
tells them apart.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

LEAST = 20
METHOD = "influence function, own noise taken off by halves"
TOO_FEW = f"none: fewer than {LEAST} samples"


def halves(n: int) -> tuple[Tensor, Tensor]:
    """Two random halves of ``range(n)``, always the same; each sorted, so that rows are read in order.

    Random, because the order of samples may carry their classes.
    """
    order = torch.from_numpy(np.random.default_rng(n).permutation(n))
    return order[: n // 2].sort().values, order[n // 2 :].sort().values


def variance(whole: float, half: float) -> float:
    """Variance of a single sample's influence from V and V': ``clip(V - (V' - V) / 2, V / 2, V)``."""
    return min(max(whole - (half - whole) / 2, whole / 2), whole)


def stderr(whole: float, half: float, n: int) -> float:
    """Standard error of a statistic of ``n`` samples from V and V'."""
    return math.sqrt(variance(whole, half) / n)
