"""Influences of an evaluation's scores, stored beside its gallery: a file of float32 vectors by label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evalsvc.core.errors import MissingError
from evalsvc.core.files.verification import Known
from evalsvc.metrics.influence import Influence
from evalsvc.store.artifacts import Artifacts

KIND = "influences"
OF_REFERENCE = "/reference/"
"""Prefix of the label in the names of the influences of the reference's rows; no label begins with a slash."""
PLACES = ".at"
"""Suffix of the array with the length of a sparse vector and the places of its values."""


@dataclass(frozen=True)
class UnitInfluence:
    """A score's influence, or the reason why it has none, and the name of its units.

    ``reference`` is the influence of the reference's rows; empty if there is none, or it is not kept.
    """

    influence: Influence | str
    units: str = ""
    reference: Influence | str = ""


def write_influences(artifacts: Artifacts, key: str, influences: Mapping[str, UnitInfluence]) -> None:
    """Write the influences of all labels to one file."""
    every: dict[str, tuple[Influence | str, str]] = {}
    for label, each in influences.items():
        every[label] = each.influence, each.units
        if isinstance(each.reference, Influence):
            every[f"{OF_REFERENCE}{label}"] = each.reference, ""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, Any]] = {}
    for label, (influence, units) in every.items():
        if isinstance(influence, str):
            facts[label] = {"reason": influence}
            continue
        for part, vector in influence.parts.items():
            arrays |= _written(f"{label}/{part}", vector, sparse=bool(influence.members))
        facts[label] = {
            "units": units,
            "n": influence.n,
            "student": influence.student,
            "logarithmic": influence.logarithmic,
            "least": influence.least,
        } | {name: value for name in ("members", "shared") if (value := getattr(influence, name))}
    artifacts.write_arrays(key, arrays, {KIND: json.dumps(facts)})


def read_influences(artifacts: Artifacts, key: str, known: Known | None = None) -> dict[str, UnitInfluence]:
    """Read the file of :func:`write_influences`; empty if it is missing or has the format of another version.

    A file without a digest of its own must have a ``known`` sha256.

    Raises:
        DamagedError: the content differs from the digest.
    """
    try:
        arrays, facts = artifacts.read_arrays(key, known), json.loads(artifacts.read_metadata(key)[KIND])
        by_label: dict[str, dict[str, np.ndarray]] = {}
        for name, vector in arrays.items():
            label, _, part = name.rpartition("/")
            by_label.setdefault(label, {})[part] = vector
        found = {label: _read(each, by_label.get(label, {})) for label, each in facts.items()}
    except (MissingError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    of_reference = {label: found.pop(label).influence for label in list(found) if label.startswith(OF_REFERENCE)}
    return {
        label: replace(each, reference=of_reference.get(f"{OF_REFERENCE}{label}", "")) for label, each in found.items()
    }


def _written(name: str, vector: np.ndarray, *, sparse: bool) -> dict[str, np.ndarray]:
    """The arrays of a vector: itself, or its few values other than 0 with their places, as of a slice."""
    at = np.flatnonzero(vector)
    if not sparse or 3 * len(at) >= len(vector):
        return {name: vector}
    return {name: vector[at], f"{name}{PLACES}": np.array([len(vector), *at], np.int32)}


def _read(facts: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> UnitInfluence:
    if "reason" in facts:
        return UnitInfluence(facts["reason"])
    parts: dict[str, Any] = {}
    for name, vector in arrays.items():
        if name.endswith(PLACES):
            continue
        places = arrays.get(f"{name}{PLACES}")
        if places is None:
            parts[name] = vector
        else:
            parts[name] = np.zeros(int(places[0]), vector.dtype)
            parts[name][places[1:]] = vector
    units = facts.pop("units")
    return UnitInfluence(Influence(**facts, **parts), units)
