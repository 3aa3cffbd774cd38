"""Rows of the page of items, without widgets: filters, orders, distributions and confusion counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from evalsvc.analysis.item_rows import ItemRow

MOST_TAGS = 1000
"""Most values of tags that are offered as filters."""
BINS = 40
LONGEST_CELL = 500
"""Longest text of a cell, in characters: 40,000 rows of any texts then fit into memory."""


def tags_of(row: ItemRow) -> dict[str, str]:
    """The tags of an item, its label among them."""
    return {**({} if row.label is None else {"label": str(row.label)}), **row.tags}


def tag_values(rows: Iterable[ItemRow]) -> dict[str, tuple[str, str]]:
    """Tags and their values by ``tag=value``, the most frequent values of each tag first."""
    counts = Counter(pair for row in rows for pair in tags_of(row).items())
    ranked = sorted(counts, key=lambda pair: (pair[0], -counts[pair], pair[1]))
    return {f"{tag}={value}": (tag, value) for tag, value in ranked[:MOST_TAGS]}


def matching(rows: Sequence[ItemRow], wanted: Iterable[tuple[str, str]], text: str) -> Bool[np.ndarray, " m"]:
    """Items with one of the wanted values of each tag, and with a text in their id, prompt, source or target."""
    values: dict[str, set[str]] = {}
    for tag, value in wanted:
        values.setdefault(tag, set()).add(value)
    found = np.ones(len(rows), bool)
    if values:
        found &= [all(tags_of(row).get(tag) in among for tag, among in values.items()) for row in rows]
    if text:
        search = re.compile(re.escape(text), re.IGNORECASE).search
        found &= [any(map(search, (row.id, row.prompt, row.source, row.target))) for row in rows]
    return found


def distribution(sets: Mapping[str, Float64[np.ndarray, " n"]]) -> list[dict[str, Any]]:
    """Shares of the finite values of each set in common bins; two bins for a yes or no."""
    finite = {name: values[np.isfinite(values)] for name, values in sets.items()}
    every = np.unique(np.concatenate(list(finite.values())))
    if not every.size:
        return []
    low, high = float(every[0]), float(every[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, (2 if len(every) == 2 else BINS) + 1)
    return [
        {"name": name, "low": float(left), "high": float(right), "share": float(count / len(values))}
        for name, values in finite.items()
        if len(values)
        for left, right, count in zip(edges, edges[1:], np.histogram(values, edges)[0], strict=False)
    ]


def confusion(labels: Float64[np.ndarray, " n"], predicted: Float64[np.ndarray, " n"]) -> list[dict[str, Any]]:
    """Counts of predicted classes of the samples of each label, and their share of that label's samples."""
    there = np.isfinite(labels) & np.isfinite(predicted)
    pairs = Counter(zip(labels[there].astype(int).tolist(), predicted[there].astype(int).tolist(), strict=True))
    totals = Counter(labels[there].astype(int).tolist())
    return [
        {"label": label, "predicted": guess, "count": count, "share": count / totals[label]}
        for (label, guess), count in sorted(pairs.items())
    ]
