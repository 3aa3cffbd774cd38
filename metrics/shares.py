"""Shares of a whole: a value in [0, 1] whose interval stays there."""

from __future__ import annotations

import math
from collections.abc import Mapping

from metrics import registry
from metrics.score import Z95, Score

INDEPENDENT = "binomial over samples"


def binomial_variance(share: float, n: int) -> float:
    """Variance of the share of ``n`` independent samples."""
    return share * (1 - share) / max(1, n - 1)


def share_score(
    name: str, share: float, variance: float, *, n: int, method: str, details: Mapping[str, float] | None = None
) -> Score:
    """A share with Wilson's interval at the number of independent samples that its variance amounts to.

    A variance of 0 is no certainty: the error is then what one sample in ``n`` could change.
    """
    spread = share * (1 - share)
    effective = spread / variance if variance > 0 and spread > 0 else float(n)
    shrink = 1 + Z95**2 / effective
    centre = (share + Z95**2 / (2 * effective)) / shrink
    half = Z95 * math.sqrt(spread / effective + Z95**2 / (4 * effective**2)) / shrink
    stderr = math.sqrt(variance) if variance > 0 else 1.0 / n
    interval = max(0.0, centre - half), min(1.0, centre + half)
    return registry.score(name, share, stderr, n=n, method=method, interval=interval, details=details)
