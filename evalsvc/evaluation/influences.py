"""Influences of an evaluation's scores, stored beside its gallery: a file of float32 vectors by label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evalsvc.core.errors import MissingError
from evalsvc.core.files.verification import Known
from evalsvc.metrics.influence import Influence
from evalsvc.store.artifacts import Artifacts

KIND = "influences"


@dataclass(frozen=True)
class UnitInfluence:
    """A score's influence, or the reason why it has none, and the name of its units."""

    influence: Influence | str
    units: str = ""


def write_influences(artifacts: Artifacts, key: str, influences: Mapping[str, UnitInfluence]) -> None:
    """Write the influences of all labels to one file."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, Any]] = {}
    for label, each in influences.items():
        influence = each.influence
        if isinstance(influence, str):
            facts[label] = {"reason": influence}
            continue
        arrays |= {f"{label}/{part}": vector for part, vector in influence.parts.items()}
        facts[label] = {
            "units": each.units,
            "n": influence.n,
            "student": influence.student,
            "logarithmic": influence.logarithmic,
            "least": influence.least,
        }
    artifacts.write_arrays(key, arrays, {KIND: json.dumps(facts)})


def read_influences(artifacts: Artifacts, key: str, known: Known | None = None) -> dict[str, UnitInfluence]:
    """Read the file of :func:`write_influences`; empty if it is missing or has the format of another version.

    A file without a digest of its own must have a ``known`` sha256.

    Raises:
        DamagedError: the content differs from the digest.
    """
    try:
        arrays, facts = artifacts.read_arrays(key, known), json.loads(artifacts.read_metadata(key)[KIND])
        return {label: _read(each, label, arrays) for label, each in facts.items()}
    except (MissingError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _read(facts: dict[str, Any], label: str, arrays: Mapping[str, np.ndarray]) -> UnitInfluence:
    if "reason" in facts:
        return UnitInfluence(facts["reason"])
    parts: dict[str, Any] = {
        name.rpartition("/")[2]: vector for name, vector in arrays.items() if name.rpartition("/")[0] == label
    }
    units = facts.pop("units")
    return UnitInfluence(Influence(**facts, **parts), units)
