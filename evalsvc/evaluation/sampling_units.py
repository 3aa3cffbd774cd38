"""Sampling units: which samples are independent, and which evaluations share units and can be paired."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from evalsvc.core.digests import digest_json
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.schedule import Places
from evalsvc.inputs.suite_entries import Split

STORED = "samples"
"""The generator of stored samples, which do not depend on seeds."""
KINDS = ("prompts", "items", "groups", "documents")
"""Kinds of units that have a name of their own; others are samples."""


@dataclass(frozen=True)
class SamplingUnits:
    """The independent units of an evaluation's samples.

    ``name`` identifies them: evaluations with equal names have the same units in the same order, so that unit i of one
    is paired with unit i of the other. ``groups`` labels each sample with its unit if units have several samples
    (draws of an item, items of a group, repeated prompts), and is ``None`` if every sample is a unit.
    """

    name: str
    groups: Int64[np.ndarray, " n"] | None = None

    @property
    def unit(self) -> str:
        """Kind of the units, in the plural."""
        kind = self.name.partition("/")[0]
        return kind if kind in KINDS else "samples"

    def part(self, rows: slice) -> SamplingUnits:
        """The units of a subset of the samples."""
        if rows == slice(None):
            return self
        return SamplingUnits(
            f"{self.name}/{rows.start}-{rows.stop}", None if self.groups is None else self.groups[rows]
        )

    def only(self, there: Bool[np.ndarray, " n"]) -> SamplingUnits:
        """The units of the samples that are there: units of other parts are others."""
        if there.all():
            return self
        groups = None if self.groups is None else self.groups[there]
        return SamplingUnits(f"{self.name}/{_digest(np.flatnonzero(there))}", groups)

    @classmethod
    def of_items(cls, spec: EvaluationSpec, items: ItemSet, places: Places) -> SamplingUnits:
        """Units are the items, or their groups if they have any; samples of class labels are independent."""
        rows, draws = places
        if spec.suite.items and spec.suite.items.labels:
            drawn = _digest(np.concatenate([items.hashes[rows], draws]))
            return cls(f"{_source(spec)}/{drawn}")
        kind = "groups" if items.groups else "items"
        every = np.array([_hashed(each) for each in items.groups], np.int64) if items.groups else items.hashes
        mine = every[rows]
        distinct = np.unique(mine)
        if len(distinct) == len(mine):
            return cls(f"{kind}/{_digest(mine)}")
        if len(distinct) > 1:
            return cls(f"{kind}/{_digest(distinct)}", mine)
        return cls(f"{_source(spec)}/{_digest(np.concatenate([mine, draws]))}")

    @classmethod
    def of(cls, spec: EvaluationSpec, prompts: Sequence[str]) -> SamplingUnits:
        """Units are prompts if there are several, stored samples, or else the noise of each sample.

        ``prompts`` are those of the suite's file. Given a single prompt, the samples are independent.
        """
        indices = spec.indices(0, spec.suite.samples)
        every = prompts or (spec.decoding.prompts if spec.decoding else ())
        if len(set(every)) > 1:
            hashes = {prompt: _hashed(prompt) for prompt in set(every)}
            mine = np.array([hashes[every[i % len(every)]] for i in indices.tolist()], np.int64)
            distinct = np.unique(mine)
            if len(distinct) == len(mine):
                return cls(f"prompts/{_digest(mine)}")
            if len(distinct) > 1:
                return cls(f"prompts/{_digest(distinct)}", mine)
        return cls(f"{_source(spec)}/{_digest(indices)}")


def documents(spec: EvaluationSpec, split: Split) -> SamplingUnits:
    """Units of a likelihood: the items of a split of the reference, for any seed."""
    return SamplingUnits(f"documents/{spec.reference[split][:16]}")


def _source(spec: EvaluationSpec) -> str:
    """The randomness of samples that share nothing else."""
    if spec.generator == STORED:
        return f"stored/{digest_json([spec.checkpoint, spec.options])[:16]}"
    return f"noise/{spec.seed}"


def _hashed(prompt: str) -> int:
    content = prompt.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def _digest(numbers: Int64[np.ndarray, " n"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, np.int64).tobytes()).hexdigest()[:16]
