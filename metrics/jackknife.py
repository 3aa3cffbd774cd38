"""Jackknife over documents, for statistics of a whole corpus: the error at this number of documents drawn like these.

Where documents act on each other (a shared n-gram is distinct once), leaving one out also counts its effect on all the
others; the plain jackknife of such effects is up to 40 % too large, because it counts an effect shared by two documents
twice. Metrics with shared effects subtract their variance, exactly and in linear time.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from evalsvc.metrics.influence import Influence
from evalsvc.metrics.ratio import Vector
from evalsvc.metrics.registry import score
from evalsvc.metrics.score import Score
from evalsvc.metrics.units import Units

FEW = 100
"""Below this many documents the correction for shared effects takes too much and is left out."""


def method(documents: int) -> str:
    """How the error was found, for this number of documents."""
    if documents < FEW:
        return f"jackknife over documents; under {FEW} documents up to 1.5 times too large"
    return "jackknife over documents less effects shared between documents"


def jackknife(left_out: Vector, shared_variance: float) -> float:
    """Standard error from the values without each document; the correction never takes more than half of it."""
    n = len(left_out)
    variance = (1 - 1 / n) * float(((left_out - left_out.mean()) ** 2).sum())
    return math.sqrt(min(max(variance - (shared_variance if n >= FEW else 0.0), variance / 4), variance))


def jackknifed(name: str, value: float, left_out: Vector, stderr: float, units: Units) -> Score:
    """A score with its jackknife error. Of a difference the shared effects are unknown: it keeps the larger error."""
    influence = replace(left_out_influence(left_out), student=units.clustered)
    return score(name, value, stderr, n=units.rows, method=method(units.count), influence=influence, units=units)


def left_out_influence(left_out: Vector) -> Influence:
    """Influences of the documents, from the values without each of them."""
    n = len(left_out)
    return Influence(n, whole=((n - 1) * (left_out.mean() - left_out)).astype(np.float32))
