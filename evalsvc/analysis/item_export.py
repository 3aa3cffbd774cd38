"""Items of one evaluation as a Parquet file: one row a sample, written in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsvc.analysis.items import ItemTable, Outcome
from evalsvc.analysis.kept_samples import KeptSamples

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS = 2_000
"""Rows that are in memory at once."""


def export_items(table: ItemTable, path: Path) -> int:
    """Write all samples with their items, values and outcomes to a Parquet file; return their number.

    Columns are those of the sample (``checkpoint``, ``suite``, ``evaluation``, ``sample``, ``item``, ``draw``,
    ``answer``), of its item (``prompt``, ``source``, ``target``, ``label``, ``group``, ``tag TAG``), and for each
    scorer ``SCORER/QUANTITY`` (null without a value), ``SCORER outcome`` and ``SCORER reason``.
    """
    from pyarrow import parquet

    with parquet.ParquetWriter(path, _schema(table), compression="zstd") as writer:
        for batch in _batches(table):
            writer.write_batch(batch)
    return len(table)


def items_frame(table: ItemTable) -> pd.DataFrame:
    """The same rows as a data frame."""
    import pyarrow as pa

    frame: pd.DataFrame = pa.Table.from_batches(_batches(table), _schema(table)).to_pandas()
    return frame


def _batches(table: ItemTable) -> Iterator[pa.RecordBatch]:
    schema, kept = _schema(table), KeptSamples(table)
    for start in range(0, len(table), ROWS):
        yield _batch(table, kept, schema, range(start, min(start + ROWS, len(table))))


def _scorers(table: ItemTable) -> list[str]:
    return [name.removesuffix(".outcomes") for name in table.arrays if name.endswith(".outcomes")]


def _schema(table: ItemTable) -> pa.Schema:
    import pyarrow as pa

    columns = {
        "checkpoint": pa.string(),
        "suite": pa.string(),
        "evaluation": pa.int64(),
        "sample": pa.int64(),
        "item": pa.string(),
        "draw": pa.int32(),
        **dict.fromkeys(("prompt", "source", "target"), pa.string()),
        "label": pa.int64(),
        "group": pa.string(),
        **{f"tag {tag}": pa.string() for tag in table.item_set.tags},
        "answer": pa.string(),
        **{name: pa.float64() for name in table.arrays if "/" in name},
    }
    for scorer in _scorers(table):
        columns |= {f"{scorer} outcome": pa.string(), f"{scorer} reason": pa.string()}
    return pa.schema(list(columns.items()))


def _batch(table: ItemTable, kept: KeptSamples, schema: pa.Schema, rows: range) -> pa.RecordBatch:
    import pyarrow as pa

    items = [table.item(int(row)) for row in table.items[rows.start : rows.stop]]
    columns: dict[str, Any] = {
        "checkpoint": [table.name] * len(rows),
        "suite": [table.suite] * len(rows),
        "evaluation": [table.evaluation] * len(rows),
        "sample": list(rows),
        "item": [item.id for item in items],
        "draw": table.draws[rows.start : rows.stop],
        "label": [item.label for item in items],
        "answer": [kept[row].text for row in rows],
        **{name: [getattr(item, name) for item in items] for name in ("prompt", "source", "target", "group")},
        **{f"tag {tag}": [item.tags[tag] for item in items] for tag in table.item_set.tags},
    }
    for name, values in table.arrays.items():
        if "/" in name:
            columns[name] = pa.array(values[rows.start : rows.stop], from_pandas=True)  # null for NaN
    for scorer in _scorers(table):
        reasons = table.reasons.get(scorer, {})
        outcomes = table.outcomes(scorer)[rows.start : rows.stop]
        columns[f"{scorer} outcome"] = [Outcome(int(each)).words for each in outcomes]
        columns[f"{scorer} reason"] = [reasons.get(str(row)) for row in rows]
    return pa.RecordBatch.from_pydict({field.name: _sound(columns[field.name]) for field in schema}, schema)


def _sound(values: Any) -> Any:
    """The values without lone surrogates, which UTF-8 cannot hold."""
    if not isinstance(values, list):
        return values
    return [each.encode(errors="backslashreplace").decode() if isinstance(each, str) else each for each in values]
