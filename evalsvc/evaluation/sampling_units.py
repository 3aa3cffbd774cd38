"""Sampling units: which samples are independent, and which evaluations share units and can be paired."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from evalsvc.core.digests import digest_json
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.suites import Split

STORED = "samples"
"""The generator of stored samples, which do not depend on seeds."""


@dataclass(frozen=True)
class SamplingUnits:
    """The independent units of an evaluation's samples.

    ``name`` identifies them: evaluations with equal names have the same units in the same order, so that unit i of one
    is paired with unit i of the other. ``groups`` labels each sample with its prompt if prompts are repeated, and is
    ``None`` if every sample is a unit.
    """

    name: str
    groups: Int64[np.ndarray, " n"] | None = None

    @property
    def unit(self) -> str:
        """Kind of the units, in the plural."""
        kind = self.name.partition("/")[0]
        return kind if kind in ("prompts", "documents") else "samples"

    def part(self, rows: slice) -> SamplingUnits:
        """The units of a subset of the samples."""
        if rows == slice(None):
            return self
        return SamplingUnits(
            f"{self.name}/{rows.start}-{rows.stop}", None if self.groups is None else self.groups[rows]
        )

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
        if spec.generator == STORED:
            return cls(f"stored/{digest_json([spec.checkpoint, spec.options])[:16]}/{_digest(indices)}")
        return cls(f"noise/{spec.seed}/{_digest(indices)}")


def documents(spec: EvaluationSpec, split: Split) -> SamplingUnits:
    """Units of a likelihood: the items of a split of the reference, for any seed."""
    return SamplingUnits(f"documents/{spec.reference[split][:16]}")


def _hashed(prompt: str) -> int:
    content = prompt.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def _digest(numbers: Int64[np.ndarray, " n"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, np.int64).tobytes()).hexdigest()[:16]
