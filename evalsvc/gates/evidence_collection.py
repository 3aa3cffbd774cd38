"""The evidence of one look: observations of both sides by label, or the reasons why they are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from sqlalchemy.exc import OperationalError

from evalsvc.analysis.differences import Run, under_fixed_prompts
from evalsvc.core.errors import EvalsvcError, StorageError
from evalsvc.gates.evidence import Absent, Evidence, Observation, drift, pool
from evalsvc.gates.resolution import Sides, over_documents, quantity_at, unbiased_in_n
from evalsvc.gates.sequential import Look
from evalsvc.gates.sources import Runs, Source
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.score import MetricError
from evalsvc.store.tables import Checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Gathering:
    """The inputs of a look: the sides, the labels by gated name, and the source of the scores."""

    suite: Suite
    sides: Sides
    source: Source
    labels: Mapping[str, str]
    seed: int | None = None
    fixed_prompts: bool = False
    pieces: dict[tuple[int, int, int | None, int, int], Runs] = field(default_factory=dict)

    def look(self, look: Look) -> dict[str, Evidence] | None:
        """The evidence of a look; ``None`` if a partial sample is too small for some metric."""
        if isinstance(self.sides.candidate, Absent):
            return self.nothing(self.sides.candidate)
        partial = look.samples < self.suite.samples
        candidate = self._runs(self.sides.candidate, look, self.seed)
        baselines: list[Runs | Absent | None] = []
        if isinstance(self.sides.baselines, tuple):
            # A given seed applies to the candidate; the baseline keeps the suite's own seed.
            baselines = [self._runs(checkpoint, look, None) for checkpoint in self.sides.baselines]
        if candidate is None or None in baselines:
            return None
        found = {}
        documents, unbiased = over_documents(self.suite), unbiased_in_n(self.suite, self.labels.values())
        for name, label in self.labels.items():
            shared = label in documents
            mine = _observe(candidate, label, f"{self.suite.id} produced no {label} for the candidate", None, shared)
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
            if moves:
                mine = self._drifting(self.sides.candidate, mine, label, look, self.seed)
                if isinstance(self.sides.baselines, tuple):
                    theirs = self._drifting(self.sides.baselines[0], theirs, label, look, None)
            same = self._same(mine, theirs, partial)
            found[name] = Evidence(
                label=name,
                direction=quantity_at(self.suite, label).direction.value,
                candidate=mine,
                baseline=theirs,
                partial=moves,
                same=same,
            )
        return found

    def nothing(self, why: Absent) -> dict[str, Evidence]:
        """Evidence for a candidate without scores."""
        baseline = self.sides.baselines if isinstance(self.sides.baselines, Absent) else None
        return {
            name: Evidence(name, quantity_at(self.suite, label).direction.value, why, baseline)
            for name, label in self.labels.items()
        }

    def _runs(self, checkpoint: Checkpoint, look: Look, seed: int | None) -> Runs | Absent | None:
        who = self.sides.title(checkpoint)
        try:
            if look.samples < self.suite.samples:
                part = self.source.part(checkpoint, look.samples, seed)
                return part and self._in_terms_of_prompts(part)
            found = self._in_terms_of_prompts(self.source.full(checkpoint, look.replicates, seed))
        except (StorageError, OperationalError) as error:
            return Absent("unavailable", f"{who}: {' '.join(str(error).split())}")
        except (EvalsvcError, MetricError) as error:
            return Absent("error", f"{who}: {error}")
        return found or self.source.why_nothing(checkpoint)

    def _in_terms_of_prompts(self, found: Runs) -> Runs:
        """The runs as the policy interprets their prompts: as a sample of prompts, or as fixed."""
        if not self.fixed_prompts:
            return found
        return {label: [under_fixed_prompts(run) for run in runs] for label, runs in found.items()}

    def _drifting(self, checkpoint: Checkpoint, side: T, label: str, look: Look, seed: int | None) -> T | Observation:
        """A side that used some of the samples, with the drift to all of them estimated from its own halves and
        quarters.
        """
        if not isinstance(side, Observation):
            return side
        values: dict[int, list[float]] = {}
        gaps: dict[int, list[float]] = {}
        for pieces in (2, 4):
            size = look.samples // pieces
            for piece in range(pieces):
                found = self._piece(checkpoint, look.samples, seed, slice(piece * size, (piece + 1) * size))
                if not found.get(label):
                    return replace(side, drift=None, distance_drift=None)
                (run,) = found[label]
                values.setdefault(pieces, []).append(run.value)
                gaps.setdefault(pieces, []).append(math.nan if run.target is None else run.value - run.target)
        growth = self.suite.samples / look.samples
        moved = drift(side.value, values[2], values[4], growth)
        if side.target is None or np.isnan([*gaps[2], *gaps[4]]).any():
            return replace(side, drift=moved, distance_drift=None)
        apart = drift(side.value - side.target, gaps[2], gaps[4], growth)
        return replace(side, drift=moved, distance_drift=apart)

    def _piece(self, checkpoint: Checkpoint, samples: int, seed: int | None, rows: slice) -> Runs:
        """Scores of some rows of a partial sample; empty if they are too few for a metric."""
        key = checkpoint.id, samples, seed, rows.start, rows.stop
        if key not in self.pieces:
            try:
                self.pieces[key] = self.source.part(checkpoint, samples, seed, rows) or {}
            except (EvalsvcError, MetricError):
                self.pieces[key] = {}
        return self.pieces[key]

    def _same(self, mine: Observation | Absent, theirs: Observation | Absent | None, partial: bool) -> bool:
        """Whether both sides are the same runs of one checkpoint."""
        if not isinstance(mine, Observation) or not isinstance(theirs, Observation):
            return False
        assert isinstance(self.sides.candidate, Checkpoint)
        assert isinstance(self.sides.baselines, tuple)
        if len(self.sides.baselines) > 1 or self.sides.candidate.id != self.sides.baselines[0].id:
            return False
        return self.seed in (None, self.suite.seed) if partial else mine.runs == theirs.runs


def _observe(
    runs: Runs | Absent | None, label: str, otherwise: str, protocol: str | None, shared: bool
) -> Observation | Absent:
    """The runs of a label under one protocol: the requested one if there are any, otherwise the newest."""
    if isinstance(runs, Absent):
        return runs
    singles: Sequence[Run] = runs.get(label, ()) if runs else ()
    if not singles:
        return Absent("missing", otherwise)
    if all(single.outdated for single in singles):
        return Absent("outdated", f"{label} was scored under another protocol ({singles[-1].outdated}): score it again")
    singles = [single for single in singles if not single.outdated]
    there = {single.protocol for single in singles}
    wanted = protocol if protocol in there else max(singles, key=lambda single: single.run).protocol
    return pool([single for single in singles if single.protocol == wanted], shared=shared)


def _median(seen: Sequence[Observation | Absent], protocol: str | None) -> Observation | Absent:
    """The median of several baselines, with the error of the least certain one; if one is unusable, the result is its
    reason.
    """
    found = []
    for each in seen:
        if isinstance(each, Absent) or (protocol is not None and each.protocol != protocol):
            return each
        found.append(each)
    if len(found) == 1:
        return found[0]
    sure = all(each.below is not None and each.above is not None for each in found)
    unknown = [each for each in found if each.stderr_reference is None]
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
        seeds=tuple(seed for each in found for seed in each.seeds),
        spread=max(each.spread for each in found),
        shared=found[0].shared,
        stderr_reference=None if unknown else max(each.stderr_reference or 0.0 for each in found),
        reference_method=(unknown or found)[0].reference_method,
        reference_rows=found[0].reference_rows,
        members=tuple(found),
    )
