"""Files with the values of a scorer, one for each shard of samples."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from evalsvc.core.errors import DamagedError
from evalsvc.core.files.verification import report
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.items import items_of, places_of
from evalsvc.evaluation.shards import Shard
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.storage import items_key, store_items
from evalsvc.plugins.scoring import Values
from evalsvc.store.artifacts import Artifacts

KIND = "items"
"""Kind of the artifact with the values of all samples of an evaluation."""
OUTCOMES, REASONS, STATES, STATE_BYTES = "outcomes", "reasons", "states", "state_bytes"


def values_key(spec: EvaluationSpec, label: str, shard: Shard) -> str:
    """Key of the values of a scorer for one shard."""
    return f"{spec.values_key(label)}/{shard.start}-{shard.stop}.safetensors"


def arrays_of(values: Values) -> dict[str, np.ndarray]:
    """The arrays of a file of values: float64 by quantity, outcomes, reasons as JSON, and states with their sizes."""
    reasons = json.dumps({str(row): why for row, why in sorted(values.reasons.items())})
    arrays = {f"values/{name}": column for name, column in values.values.items()}
    arrays |= {OUTCOMES: values.outcomes, REASONS: np.frombuffer(reasons.encode(), np.uint8)}
    if values.states:
        arrays[STATES] = np.frombuffer(b"".join(values.states), np.uint8)
        arrays[STATE_BYTES] = np.array([len(state) for state in values.states], np.int64)
    return arrays


def read_values(artifacts: Artifacts, key: str, of: str) -> Values:
    """The values in a file that were computed from the samples with this identity.

    Raises:
        DamagedError: the file is missing or damaged, or its values are those of other samples.
    """
    if artifacts.read_metadata(key).get("of") != of:
        raise DamagedError(key, "its values are those of other samples")
    return values_of(artifacts.read_arrays(key))


def values_of(arrays: Mapping[str, np.ndarray]) -> Values:
    """The values in the arrays of a file."""
    columns = {name.removeprefix("values/"): each for name, each in arrays.items() if name.startswith("values/")}
    reasons = {int(row): str(why) for row, why in json.loads(arrays[REASONS].tobytes()).items()}
    return Values(columns, arrays[OUTCOMES], reasons, states=_states_of(arrays) if STATES in arrays else ())


def _states_of(arrays: Mapping[str, np.ndarray]) -> tuple[bytes, ...]:
    whole, ends = arrays[STATES].tobytes(), np.cumsum(arrays[STATE_BYTES]).tolist()
    return tuple(whole[start:end] for start, end in zip([0, *ends], ends, strict=False))


def missing_values(
    context: EvaluationContext, spec: EvaluationSpec, shard: Shard, drawn: Mapping[str, str]
) -> list[str]:
    """Labels of the scorers whose values for a shard are missing, damaged or those of other samples.

    ``drawn`` is, for each scorer, the identity of the samples.
    """
    missing = []
    for label in spec.suite.scorers:
        key = values_key(spec, label, shard)
        if not context.artifacts.exists(key):
            missing.append(label)
            continue
        try:
            read_values(context.artifacts, key, drawn[label])
        except DamagedError as error:
            report(error)
            missing.append(label)
    return missing


def write_item_values(
    spec: EvaluationSpec,
    context: EvaluationContext,
    key: str,
    scored: Mapping[str, Values],
    more: Mapping[str, str],
) -> None:
    """Write the values of all samples of an evaluation to one file.

    Its arrays are the values of each ``scorer/quantity`` (float64, NaN where there is none), the outcomes of each
    scorer, the ``item`` of each sample by its row in the stored item set, its ``draw``, and JSON ``reasons`` by scorer
    and sample. Its metadata name the item set by its digest, and the folder of the samples that are kept;
    ``more`` are the keys of further files beside it.
    """
    rows, draws = places_of(context, spec, 0, spec.suite.samples)
    items = items_of(context, spec.suite)
    if items is None:
        items, rows = ItemSet(tuple(map(str, rows.tolist())), np.arange(len(rows))), np.arange(len(rows))
    if not context.artifacts.is_sound(items_key(items.sha256)):
        store_items(context.artifacts, items, {})
    reasons = {label: {str(row): why for row, why in each.reasons.items()} for label, each in scored.items()}
    arrays = {f"{label}/{name}": column for label, each in scored.items() for name, column in each.values.items()}
    arrays |= {f"{label}.outcomes": each.outcomes for label, each in scored.items()}
    arrays |= {
        "item": items.positions[rows].astype(np.int32),
        "draw": draws.astype(np.int32),
        REASONS: np.frombuffer(json.dumps(reasons).encode(), np.uint8),
    }
    context.artifacts.write_arrays(key, arrays, {"items": items.sha256, "samples": spec.draws_key, **more})
