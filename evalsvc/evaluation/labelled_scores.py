"""Scores of an evaluation with the labels, facts and units that are stored beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalsvc.core.digests import digest_json
from evalsvc.evaluation.sampling_units import SamplingUnits
from evalsvc.metrics import slices
from evalsvc.metrics.score import Score


@dataclass(frozen=True)
class LabelledScore:
    """A score with its label in the suite, the facts that make it comparable, and its independent units.

    A slice names the whole score as ``slice_of``; ``notes`` are texts for its details.
    """

    label: str
    score: Score
    facts: Mapping[str, Any]
    units: SamplingUnits
    slice_of: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """Short digest of the facts."""
        return digest_json(dict(self.facts))[:16]

    @property
    def independent(self) -> int:
        """Number of independent units behind the standard error."""
        return slices.independent(self.score)

    def without(self, fact: str) -> LabelledScore:
        """The same score, comparable for any value of this fact."""
        return replace(self, facts={key: value for key, value in self.facts.items() if key != fact})
