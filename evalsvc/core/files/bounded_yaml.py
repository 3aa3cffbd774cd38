"""YAML from outside, within limits: a few lines of aliases can expand to billions of nodes."""

from __future__ import annotations

import re
from typing import Any

import yaml

LARGEST = 2**18
"""Maximum length of a document in characters. Parsing takes about ten seconds per million."""
DEPTH = 30
NODES = 20_000
"""Limits of a document after the expansion of its aliases."""
DIGITS = 100

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+]?(0[xob])?[0-9a-f._+-]*", re.IGNORECASE)


def load_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Parse a document.

    Raises:
        ValueError: it exceeds the limits; the message is one sentence.
        yaml.YAMLError: it is not valid YAML.
    """
    _check(text)
    return yaml.load(text, loader)


def _check(text: str) -> None:
    """Count the nodes of a document with its aliases expanded, without building them."""
    if len(text) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST} characters")
    # For each open collection: its anchor, and the number of nodes and levels below it so far.
    opened: list[tuple[str | None, list[int]]] = [(None, [0, 0])]
    anchors: dict[str, tuple[int, int]] = {}

    def add(nodes: int, levels: int) -> None:
        below = opened[-1][1]
        below[0], below[1] = below[0] + nodes, max(below[1], levels)
        if sum(each[1][0] for each in opened) > NODES:
            raise ValueError(f"it has more than {NODES} values after its aliases are expanded")
        if len(opened) + levels > DEPTH:
            raise ValueError(f"it is nested more than {DEPTH} levels deep")

    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, [0, 0]))
            add(1, 0)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, (nodes, levels) = opened.pop()
            add(nodes, levels + 1)
            if anchor is not None:
                anchors[anchor] = nodes, levels + 1
        elif isinstance(event, yaml.ScalarEvent):
            if event.implicit[0] and len(event.value) > DIGITS and _NUMBER.fullmatch(event.value):
                raise ValueError(f"a number has more than {DIGITS} digits")
            add(1, 0)
            if event.anchor is not None:
                anchors[event.anchor] = 1, 0
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise ValueError(f"alias *{event.anchor} refers to a collection that contains it")
            add(*anchors.get(event.anchor or "", (1, 0)))
