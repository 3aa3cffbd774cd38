"""Reading of shards: features, texts, likelihoods. Damaged shards are computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from evalsvc.core.errors import DamagedError, IncompatibleWorkerError, InputError
from evalsvc.core.files.verification import Verified, report
from evalsvc.evaluation.compatibility import require_compatible
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.item_values import read_values, values_key
from evalsvc.evaluation.shard_computation import compute_shard
from evalsvc.evaluation.shards import Shard, likelihood_kind
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.stored_shards import identities, identity_of
from evalsvc.inputs.suite_entries import Split
from evalsvc.metrics.score import MetricError
from evalsvc.plugins import validation
from evalsvc.plugins.scoring import Values, concatenate

T = TypeVar("T")
REPAIRS = 2
"""Number of restarts of work that met a damaged artifact before its error is raised."""


def read_shard(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, needed: Set[str] = frozenset()
) -> dict[str, np.ndarray]:
    """The arrays of a shard, which is recomputed if it is missing, damaged, or lacks ``needed`` arrays.

    Raises:
        InputError: it cannot be recomputed, because its checkpoint is missing or has changed.
        IncompatibleWorkerError: it cannot be recomputed here, because versions differ.
    """
    key = spec.shard_key(shard)
    try:
        return _read_fitting(spec, shard, context, needed)
    except DamagedError as error:
        report(error)
    _recompute(spec, shard, context, key, rerun=context.artifacts.is_sound(key))
    return _read_fitting(spec, shard, context, needed)


def _recompute(spec: EvaluationSpec, shard: Shard, context: EvaluationContext, key: str, *, rerun: bool) -> None:
    """Compute what is missing of a shard, or all of it, because of the file under ``key``."""
    try:
        require_compatible(context, spec)
        advance = context.progress(shard.stage, shard.stop - shard.start)
        compute_shard(spec, shard, context, advance, rerun=rerun)
    except (InputError, IncompatibleWorkerError) as error:
        kind = IncompatibleWorkerError if isinstance(error, IncompatibleWorkerError) else InputError
        raise kind(f"artifact {key} is damaged or missing and cannot be recomputed: {error}") from error


def _read_fitting(
    spec: EvaluationSpec, shard: Shard, context: EvaluationContext, needed: Set[str]
) -> dict[str, np.ndarray]:
    """Shards of older versions have no digest, so that only their shape can reveal a misplaced file."""
    key = spec.shard_key(shard)
    arrays = context.artifacts.read_arrays(key)
    rows = [array for name, array in arrays.items() if "/" in name or name == "nats"]
    if not needed <= arrays.keys() or any(len(array) != shard.stop - shard.start for array in rows):
        raise DamagedError(key, "it lacks arrays that this evaluation needs")
    if "indices" in arrays and not np.array_equal(arrays["indices"], spec.indices(shard.start, shard.stop)):
        raise DamagedError(key, "it contains other samples")
    return arrays


def repaired(work: Callable[[], T]) -> T:
    """Return the result of ``work``, restarted if it meets a damaged artifact, which is then recomputed."""
    for _ in range(REPAIRS):
        try:
            return work()
        except DamagedError as error:
            report(error)
    return work()


@dataclass(frozen=True)
class LikelihoodsOfSplit:
    """Negative log-likelihoods of a split of the reference, their possible denominators, and their settings."""

    columns: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    def column(self, name: str) -> np.ndarray | int:
        """``nll`` of each item in nats, ``dims`` of every item, or its ``tokens``, ``words`` or ``bytes``."""
        if name == "nll":
            return self.columns["nats"]
        if name == "dims" and "units" in self.metadata:
            return int(self.metadata["units"])
        if name not in self.columns:
            raise MetricError(f"the generator's likelihoods have no {name}: use a metric for its modality")
        return self.columns[name]

    def facts_for(self, inputs: Collection[str]) -> dict[str, str]:
        """Kind and settings. The tokenizer is a fact of perplexities, but not of bits per byte."""
        facts: dict[str, str] = json.loads(self.metadata.get("facts", "{}"))
        return {"kind": self.metadata["kind"]} | {
            k: v for k, v in facts.items() if k != "tokenizer" or "tokens" in inputs
        }


def read_features(spec: EvaluationSpec, context: EvaluationContext, maps: list[Verified]) -> dict[str, np.ndarray]:
    """One memory-mapped matrix per output, concatenated from the shards in order. ``maps`` can later detect changes."""
    artifacts, rows = context.artifacts, spec.suite.samples
    names = {array for use in spec.suite.metrics for array in use.arrays} | {spec.suite.neighbours} - {""}
    keys = {name: f"{spec.features_key}/{name.replace('/', '.')}.npy" for name in sorted(names)}
    missing = {name: key for name, key in keys.items() if not artifacts.is_sound(key, rows)}
    if missing:
        widths: dict[str, int] = {}
        with ExitStack() as stack:
            writers = {n: stack.enter_context(artifacts.matrix_writer(k, rows)) for n, k in missing.items()}
            for shard in spec.shards_of("samples"):
                arrays = read_shard(spec, shard, context, missing.keys())
                for name, writer in writers.items():
                    validation.same_width(name, widths.setdefault(name, arrays[name].shape[1]), arrays[name])
                    writer.append(arrays[name])
    return {name: artifacts.read_matrix(key, maps) for name, key in keys.items()}


def read_texts(spec: EvaluationSpec, context: EvaluationContext) -> list[str]:
    """All generated texts of an evaluation, in order."""
    shards = (read_shard(spec, shard, context, {"texts"}) for shard in spec.shards_of("samples"))
    return [text for arrays in shards for text in json.loads(arrays["texts"].tobytes())]


def read_scored(spec: EvaluationSpec, context: EvaluationContext, label: str) -> Values:
    """The values that a scorer gave all samples, in order. Missing ones, and those of other samples, are computed."""
    return concatenate([_read_scored(spec, context, label, shard) for shard in spec.shards_of("samples")])


def _read_scored(spec: EvaluationSpec, context: EvaluationContext, label: str, shard: Shard) -> Values:
    key = values_key(spec, label, shard)
    if there := identity_of(spec, shard, context):
        try:
            return read_values(context.artifacts, key, identities(context, spec, there)[label])
        except DamagedError as error:
            report(error)
    _recompute(spec, shard, context, key, rerun=False)
    there = identity_of(spec, shard, context)
    if there is None:
        raise DamagedError(spec.shard_key(shard), "it lacks the identity of its samples")
    return read_values(context.artifacts, key, identities(context, spec, there)[label])


def read_failures(spec: EvaluationSpec, context: EvaluationContext) -> dict[int, str]:
    """The samples of an evaluation that could not be drawn, by their number, and why."""
    failures: dict[int, str] = {}
    for shard in spec.shards_of("samples"):
        key = spec.shard_key(shard)
        if not context.artifacts.is_sound(key):
            read_shard(spec, shard, context)
        found = json.loads(context.artifacts.read_metadata(key).get("failures", "{}"))
        failures |= {shard.start + int(row): str(why) for row, why in found.items()}
    return failures


def read_likelihoods(spec: EvaluationSpec, context: EvaluationContext, split: Split) -> LikelihoodsOfSplit:
    """The likelihood of every item of a split, from the shards."""
    shards = spec.shards_of(likelihood_kind(split))
    parts = [read_shard(spec, shard, context, {"nats"}) for shard in shards]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return LikelihoodsOfSplit(columns, context.artifacts.read_metadata(spec.shard_key(shards[0])))
