"""The evidence of one look: observations of both sides, label by label, or why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.exc import OperationalError

from evalsvc.errors import EvalsvcError, StorageError
from evalsvc.gates.evidence import Absent, Drift, Evidence, Observation, Single, pool
from evalsvc.gates.sequential import Look
from evalsvc.gates.sources import Runs, Source
from evalsvc.gates.subjects import Sides, over_documents, quantities_of, unbiased_in_n
from evalsvc.store.tables import Checkpoint
from evalsvc.suites import Suite
from metrics.score import MetricError


@dataclass(frozen=True)
class Gathering:
    """What is needed to look: the sides, the labels by gated name, and where scores come from."""

    suite: Suite
    sides: Sides
    source: Source
    labels: Mapping[str, str]
    seed: int | None = None

    def look(self, look: Look) -> dict[str, Evidence] | None:
        """The evidence at a look; ``None`` where a part of the samples is too few for some metric."""
        if isinstance(self.sides.candidate, Absent):
            return self.nothing(self.sides.candidate)
        partial = look.samples < self.suite.samples
        candidate = self._runs(self.sides.candidate, look, self.seed)
        baselines: list[Runs | Absent | None] = []
        whole: Runs | Absent | None = None
        # A given seed is the candidate's; the baseline then keeps to the suite's own, so that the two are independent.
        seed = None if self.seed is None else self.suite.seed
        if isinstance(self.sides.baselines, tuple):
            if partial:
                whole = self._runs(self.sides.baselines[0], Look(self.suite.samples, 1, look.fractions), seed)
            baselines = [self._runs(checkpoint, look, seed) for checkpoint in self.sides.baselines]
        if candidate is None or None in baselines:
            return None
        found = {}
        quantities, documents = quantities_of(self.suite), over_documents(self.suite)
        unbiased = unbiased_in_n(self.suite)
        for name, label in self.labels.items():
            shared = label in documents
            mine = _observe(candidate, label, f"{self.suite.id} gave the candidate no {label}", None, shared)
            protocol = mine.protocol if isinstance(mine, Observation) else None
            theirs: Observation | Absent | None
            if isinstance(self.sides.baselines, Absent) or self.sides.baselines is None:
                theirs = self.sides.baselines
            else:
                seen = [
                    _observe(runs, label, f"the baseline has no {label}", protocol, shared)
                    for runs in baselines
                    if runs
                ]
                theirs = _median(seen, protocol)
            moves = partial and label not in unbiased
            found[name] = Evidence(
                label=name,
                direction=quantities[label].direction.value,
                candidate=mine,
                baseline=theirs,
                covariance=self._covariance(mine, theirs, label, partial),
                partial=moves,
                drift=_drift(whole, theirs, label) if moves else None,
            )
        return found

    def nothing(self, why: Absent) -> dict[str, Evidence]:
        """Evidence that the candidate has no scores."""
        quantities = quantities_of(self.suite)
        baseline = self.sides.baselines if isinstance(self.sides.baselines, Absent) else None
        return {
            name: Evidence(name, quantities[label].direction.value, why, baseline)
            for name, label in self.labels.items()
        }

    def _runs(self, checkpoint: Checkpoint, look: Look, seed: int | None) -> Runs | Absent | None:
        who = f"{checkpoint.model.name}@{checkpoint.step}"
        try:
            if look.samples < self.suite.samples:
                return self.source.part(checkpoint, look.samples, seed)
            found = self.source.full(checkpoint, look.replicates, seed)
        except (StorageError, OperationalError) as error:
            return Absent("unavailable", f"{who}: {' '.join(str(error).split())}")
        except (EvalsvcError, MetricError) as error:
            return Absent("error", f"{who}: {error}")
        return found or self.source.why_nothing(checkpoint)

    def _covariance(
        self, mine: Observation | Absent, theirs: Observation | Absent | None, label: str, partial: bool
    ) -> float:
        """A run compared with itself varies with it, and likelihoods over the same documents vary together. All others
        count as independent, which is the wider claim.
        """
        if not isinstance(mine, Observation) or not isinstance(theirs, Observation):
            return 0.0
        assert isinstance(self.sides.candidate, Checkpoint)
        assert isinstance(self.sides.baselines, tuple)
        if len(self.sides.baselines) > 1:
            return 0.0
        candidate, baseline = self.sides.candidate, self.sides.baselines[0]
        same = self.seed in (None, self.suite.seed) if partial else mine.runs == theirs.runs
        if candidate.id == baseline.id and same:
            return (mine.stderr or 0.0) ** 2
        if mine.protocol != theirs.protocol or label not in over_documents(self.suite):
            return 0.0
        return self.source.covariance(candidate, baseline, label)


def _observe(
    runs: Runs | Absent | None, label: str, otherwise: str, protocol: str | None, shared: bool
) -> Observation | Absent:
    """The runs of a label under one protocol: the one asked for where there are any, else the newest."""
    if isinstance(runs, Absent):
        return runs
    singles: Sequence[Single] = runs.get(label, ()) if runs else ()
    if not singles:
        return Absent("missing", otherwise)
    there = {single.protocol for single in singles}
    wanted = protocol if protocol in there else max(singles, key=lambda single: single.run).protocol
    return pool([single for single in singles if single.protocol == wanted], shared=shared)


def _median(seen: Sequence[Observation | Absent], protocol: str | None) -> Observation | Absent:
    """The middle of several baselines, no surer than the least sure of them; one that does not fit stands for all."""
    found = []
    for each in seen:
        if isinstance(each, Absent) or (protocol is not None and each.protocol != protocol):
            return each
        found.append(each)
    if len(found) == 1:
        return found[0]
    sure = all(each.below is not None and each.above is not None for each in found)
    return Observation(
        value=float(np.median([each.value for each in found])),
        below=max(each.below or 0.0 for each in found) if sure else None,
        above=max(each.above or 0.0 for each in found) if sure else None,
        n=min(each.n for each in found),
        protocol=found[0].protocol,
        facts=found[0].facts,
        method=f"largest of {len(found)}",
        runs=tuple(run for each in found for run in each.runs),
        replicates=min(each.replicates for each in found),
    )


def _drift(whole: Runs | Absent | None, part: Observation | Absent | None, label: str) -> Drift | None:
    """What the baseline's score changes by from a part of the samples to all of them.

    The part is inside the whole, so of an average of independent samples the difference varies by what the part
    varies more.
    """
    full = _observe(whole, label, "", None, shared=False)
    if not isinstance(part, Observation) or not isinstance(full, Observation):
        return None
    if part.stderr is None or full.stderr is None:
        return None
    return Drift(full.value - part.value, math.sqrt(max(0.0, part.stderr**2 - full.stderr**2)))
