"""Rows of an item set as people read them: prompts, targets, sources and tags as texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalsvc.store.artifacts import Artifacts


@dataclass(frozen=True)
class ItemRow:
    """One item. Media are named by their ``source`` and ``target``, the others are texts."""

    id: str
    prompt: str = ""
    source: str = ""
    target: str = ""
    label: int | None = None
    group: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def read_item_rows(artifacts: Artifacts, sha256: str) -> Sequence[ItemRow]:
    """All rows of a stored item set, in its order."""
    body = json.loads(artifacts.read_bytes(f"items/{sha256}/items.json"))
    return [_row(each) for each in body["items"]]


def _row(body: Mapping[str, Any]) -> ItemRow:
    return ItemRow(**body)
