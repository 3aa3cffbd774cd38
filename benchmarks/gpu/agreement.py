"""What two results of a metric must agree in, and how closely, with the reason of each tolerance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.lines import DiffersError
from evalsvc.metrics.influence import Influence

Numbers = dict[str, np.ndarray]
_FACTS = ("value", "stderr", "stderr_reference", "skewness", "ci_low", "ci_high")


@dataclass(frozen=True)
class Tolerance:
    """Largest distance of values, of errors, and of the influences behind them.

    As shares of the number itself (of the largest entry), or of the scale of the terms that it is a difference of,
    where that is larger.
    """

    value: float
    error: float
    influence: float
    why: str
    of_ranks: bool = False
    """Whether errors follow ranks, which rounding decides where distances are equal: there only values are held."""

    def where_tied(self) -> Tolerance:
        """What is held of data with equal distances."""
        return replace(self, error=math.inf, influence=math.inf) if self.of_ranks else self


SUMS = Tolerance(1e-9, 1e-6, 1e-4, "sums of float64 in another order; influences come from products in float32")
COUNTS = Tolerance(1e-12, 1e-9, 1e-6, "decisions between pairs are taken in float64, so that all counts are equal")
RANKS = Tolerance(
    1e-12, 1e-4, 1e-2, f"{COUNTS.why}; the ranks of neighbors behind the errors are those of float32 products", True
)
TOLERANCES = {
    "authenticity": COUNTS,
    **dict.fromkeys(("precision_recall", "density_coverage", "prdc", "clipped_density_coverage"), RANKS),
    "kernel_distance": Tolerance(
        1e-6, 1e-6, 1e-4, "products of float32 features are float32: 1e-7 of the kernel's size a pair, in another order"
    ),
    **dict.fromkeys(
        ("mauve", "mauve_star", "feature_likelihood_divergence"),
        Tolerance(
            3e-3, 1e-6, 1e-5, "its rows are float32: a few that are as far from two centers as float32 tells may change"
        ),
    ),
}
"""By metric; all others are :data:`SUMS`."""


def tolerance(metric: str) -> Tolerance:
    """That of a metric, by its registered name."""
    return TOLERANCES.get(metric, SUMS)


def numbers(result: Any, name: str = "") -> Numbers:
    """All numbers of a result by name, influences included, as float64.

    Raises:
        DiffersError: what lies behind a score is not on the host.
    """
    if result is None or isinstance(result, str):
        return {}
    if isinstance(result, Mapping):
        return _merged(numbers(value, f"{name}{key}/") for key, value in result.items())
    if isinstance(result, tuple | list):
        return _merged(numbers(value, f"{name}{place}/") for place, value in enumerate(result))
    if isinstance(result, Influence):
        for part, vector in result.parts.items():
            if not isinstance(vector, np.ndarray):
                raise DiffersError(f"the influence {name}{part} is no NumPy array but a {type(vector).__name__}")
        return {f"{name}influence {part}": vector.astype(np.float64) for part, vector in result.parts.items()}
    if hasattr(result, "stderr_method"):
        facts = {f"{name}{fact}": getattr(result, fact) for fact in _FACTS}
        found = {key: np.array([value], np.float64) for key, value in facts.items() if value is not None}
        found |= numbers(result.influence, f"{name}own ") | numbers(result.reference, f"{name}reference ")
        return found | {f"{name}detail {key}": np.array([value]) for key, value in result.details.items()}
    if dataclasses.is_dataclass(result):
        return _merged(numbers(value, f"{name}{key} ") for key, value in vars(result).items())
    if isinstance(result, torch.Tensor):
        result = result.detach().cpu().numpy()
    return {f"{name}value": np.atleast_1d(np.asarray(result, np.float64))}


def distance(mine: Numbers, theirs: Numbers, allowed: Tolerance, size: float = 0.0) -> str:
    """How far the numbers of a device are from those of the CPU, in words.

    Raises:
        DiffersError: one is further away than is allowed, or one of the two results lacks it.
    """
    if missing := sorted(mine.keys() ^ theirs.keys()):
        raise DiffersError(f"only one of both has {', '.join(missing[:3])}")
    worst: dict[str, tuple[float, str]] = {}
    over = []
    for name, expected in mine.items():
        found = theirs[name]
        if expected.shape != found.shape:
            raise DiffersError(f"{name} has shape {found.shape}, on the CPU {expected.shape}")
        kind, limit = _kind(name, allowed)
        scale = max(float(np.abs(expected).max(initial=0.0)), 1.0 if name.endswith("skewness") else size, 1e-300)
        apart = float(np.abs(expected - found).max(initial=0.0)) / scale
        worst[kind] = max(worst.get(kind, (0.0, "")), (apart, name))
        if not apart <= limit:
            over.append(f"{name} by {apart:.1e} (allowed {limit:.0e})")
    if over:
        raise DiffersError("; ".join(over[:4]))
    return ", ".join(f"{kind} {apart:.0e}" for kind, (apart, _) in worst.items())


def same_bits(first: Numbers, second: Numbers) -> bool:
    """Whether two results have no bit that differs."""
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def _kind(name: str, allowed: Tolerance) -> tuple[str, float]:
    if "influence" in name:
        return "influence", allowed.influence
    if any(word in name for word in ("stderr", "skewness", "ci_", "detail")):
        return "error", allowed.error
    return "value", allowed.value


def _merged(parts: Any) -> Numbers:
    return {key: value for part in parts for key, value in part.items()}
