"""Rows of the page of items, without widgets: filters, orders, distributions and confusion counts."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evalsvc.analysis.item_rows import ItemRow, item_row
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.metrics.confusion import confusion_matrix

MOST_TAGS = 1000
"""Most values of tags that are offered as filters."""
BINS = 40
LONGEST_CELL = 500
"""Longest text of a cell, in characters: 40,000 rows of any texts then fit into memory."""


def tags_of(items: ItemSet) -> dict[str, tuple[str, ...]]:
    """The value of each tag for every item, that of the label among them."""
    labels = {} if items.labels is None else {"label": tuple(map(str, items.labels.tolist()))}
    return {**labels, **items.tags}


def tags_in_words(item: ItemRow) -> str:
    """The tags of an item and its label, as ``label=3, lang=de``."""
    labels = [] if item.label is None else [f"label={item.label}"]
    return ", ".join([*labels, *(f"{tag}={value}" for tag, value in item.tags.items())])


def tag_values(items: ItemSet) -> dict[str, tuple[str, str]]:
    """Tags and their values by ``tag=value`` as in links, the most frequent values of each tag first."""
    tags = tags_of(items)
    most = MOST_TAGS // max(1, len(tags))  # a tag of many values leaves room for the others
    pairs = [(tag, value) for tag, values in tags.items() for value, _ in Counter(values).most_common(most)]
    return {linked(f"{tag}={value}"): (tag, value) for tag, value in pairs}


def linked(name: str) -> str:
    """An untrusted name as part of a link: a digest if it is long or has characters that cannot be seen."""
    if name.isprintable() and len(name) <= 100:
        return name
    return f"~{hashlib.sha256(name.encode(errors='backslashreplace')).hexdigest()[:16]}"


def matching(items: ItemSet, wanted: Iterable[tuple[str, str]], text: str) -> Bool[np.ndarray, " m"]:
    """Items with one of the wanted values of each tag, and with a text in their id, prompt, source or target."""
    chosen: dict[str, set[str]] = {}
    for tag, value in wanted:
        chosen.setdefault(tag, set()).add(value)
    found = np.ones(len(items), bool)
    for tag, among in chosen.items():
        found &= [value in among for value in tags_of(items)[tag]]
    if text:
        search = re.compile(re.escape(text), re.IGNORECASE).search
        for row in np.flatnonzero(found).tolist():
            item = item_row(items, row)
            found[row] = any(map(search, (item.id, item.prompt, item.source, item.target)))
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


def confusion(labels: Int64[np.ndarray, " n"], predicted: Float64[np.ndarray, " n"]) -> list[dict[str, Any]]:
    """Counts of predicted classes of the samples of each label, and their share of that label's samples."""
    there = np.isfinite(predicted)
    if not there.any():
        return []
    classes = 1 + int(max(labels[there].max(), predicted[there].max()))
    counts = confusion_matrix(labels, predicted, classes)
    totals = counts.sum(1)
    return [
        {"label": i, "predicted": j, "count": int(counts[i, j]), "share": float(counts[i, j] / totals[i])}
        for i, j in np.argwhere(counts).tolist()
    ]
