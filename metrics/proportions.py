"""Shares of a whole: a value in [0, 1] whose interval stays there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from evalsvc.metrics import registry
from evalsvc.metrics.influence import Influence
from evalsvc.metrics.score import Score
from evalsvc.metrics.units import Units

INDEPENDENT = "binomial over samples"
CLUSTERED = "spread between groups of samples"


def binomial_variance(share: float, n: int) -> float:
    """Variance of the share of ``n`` independent samples."""
    return share * (1 - share) / max(1, n - 1)


def mean_of_flags(
    name: str,
    flags: Bool[np.ndarray, " n"],
    units: Units,
    details: Mapping[str, float] | None = None,
    reference: Influence | str = "",
) -> Score:
    """The share of samples that are flagged, each for itself."""
    variance, influence = units.estimate(flags.astype(np.float64))
    method = CLUSTERED if units.clustered else INDEPENDENT
    return proportion_score(
        name, float(flags.mean()), variance, units, influence, method=method, details=details, reference=reference
    )


def proportion_score(
    name: str,
    share: float,
    variance: float,
    units: Units,
    influence: Influence,
    *,
    method: str,
    details: Mapping[str, float] | None = None,
    reference: Influence | str = "",
) -> Score:
    """A share with Wilson's interval at the number of independent units that its variance amounts to.

    A variance of 0 is not certainty: the error is then the change that one unit could cause.
    """
    spread, z = share * (1 - share), units.quantile
    effective = spread / variance if variance > 0 and spread > 0 else float(units.count)
    shrink = 1 + z**2 / effective
    center = (share + z**2 / (2 * effective)) / shrink
    half = z * math.sqrt(spread / effective + z**2 / (4 * effective**2)) / shrink
    return registry.score(
        name,
        share,
        math.sqrt(variance) if variance > 0 else 1.0 / units.count,
        n=units.rows,
        method=method,
        interval=(max(0.0, center - half), min(1.0, center + half)),
        details=details,
        influence=replace(influence, least=1.0 / units.count),
        units=units,
        reference=reference,
    )
