"""Which samples of an evaluation are independent, and which evaluations drew the same units: what pairs two scores."""

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
"""The generator that reads stored samples, which heed no seed."""


@dataclass(frozen=True)
class SamplingUnits:
    """The independent units of an evaluation's samples.

    ``name`` says what they are; evaluations with equal names hold the same units in the same order, so that unit i of
    one belongs to unit i of the other. ``groups`` labels each sample by its prompt where prompts are used repeatedly,
    and is ``None`` where every sample is a unit.
    """

    name: str
    groups: Int64[np.ndarray, " n"] | None = None

    @property
    def unit(self) -> str:
        """What one of them is, in the plural."""
        kind = self.name.partition("/")[0]
        return kind if kind in ("prompts", "documents") else "samples"

    def part(self, rows: slice) -> SamplingUnits:
        """The units of some of the samples."""
        if rows == slice(None):
            return self
        return SamplingUnits(
            f"{self.name}/{rows.start}-{rows.stop}", None if self.groups is None else self.groups[rows]
        )

    @classmethod
    def of(cls, spec: EvaluationSpec, prompts: Sequence[str]) -> SamplingUnits:
        """Units are prompts where there are several, stored samples, or else the noise that each sample is drawn from.

        ``prompts`` are those of the suite's file. A single prompt is what the samples are conditioned on: they are
        independent under it.
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
    """The units of a likelihood: the items of a half of the reference, whatever the seed."""
    return SamplingUnits(f"documents/{spec.reference[split][:16]}")


def _hashed(prompt: str) -> int:
    content = prompt.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big", signed=True)


def _digest(numbers: Int64[np.ndarray, " n"]) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers, np.int64).tobytes()).hexdigest()[:16]
