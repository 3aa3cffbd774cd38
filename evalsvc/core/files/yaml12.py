"""YAML 1.2 loader for policies: ``040`` is forty, ``1:30`` and ``1_000`` are text, and so are ``no`` and dates."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
"""The core schema of YAML 1.2.2, chapter 10.3, plus the merge key, with which policies share limits."""


class PolicyLoader(yaml.SafeLoader):
    """YAML 1.2 loader that rejects duplicate keys, of which the first would silently be lost."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; a tagged number must be written as a number."""
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and kind in _CORE and not re.fullmatch(_CORE[kind][0], node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is not a valid {kind}", node.start_mark
            )
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node, with its keys checked."""
        keys = ["<<" if key.tag == f"{_TAG}merge" else self.construct_object(key, deep=True) for key, _ in node.value]
        seen: set[Hashable] = set()
        for key in keys:
            if not isinstance(key, Hashable):
                continue  # rejected below
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """An integer: decimal even with leading zeros, unless it starts with ``0o`` or ``0x``."""
        text = str(self.construct_scalar(node))
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


PolicyLoader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _CORE.items():
    PolicyLoader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_pattern})$"), _first)
PolicyLoader.add_constructor(f"{_TAG}int", PolicyLoader.construct_whole)
