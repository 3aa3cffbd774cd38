"""Figures of the layout of a checkout: ``python -m benchmarks.layout [NAME=]PATH ... [--json] [--list]``.

A room is a folder directly in ``evalsvc/`` (``metrics/`` and ``dashboards/`` too, wherever they lie); a module that
lies loose beside them is a room of its own. An arrow leads from one room to another that it imports, function-level
imports included. Floors are the longest chain of arrows, circles counted as one floor. The order of layers is that of
the longest ``layers`` contract in ``pyproject.toml``: an arrow up points from a lower layer to a higher one. Where few
rooms have a declared layer, read the arrows within circles instead: each circle holds at least one arrow up.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

PACKAGES = ("evalsvc", "metrics", "dashboards")
LONG_MODULE, LONG_FUNCTION, WINDOW = 300, 60, 6
Arrow = tuple[str, str]


@dataclass(frozen=True)
class Module:
    """One file, by its dotted name without ``evalsvc.`` in front."""

    name: str
    path: Path
    is_package: bool

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]

    @property
    def is_loose(self) -> bool:
        return "." not in self.name and not self.is_package

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and lines of each function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1

    def imports(self, names: Mapping[str, Module]) -> Iterator[str]:
        """Modules that this one imports, the deepest that each name leads to."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                wanted = [f"{base}.{alias.name}" for alias in node.names]
            else:
                continue
            for each in map(_short, wanted):
                parts = each.split(".")
                deepest = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
                target = next((name for name in deepest if name in names), None)
                if target and target != self.name:
                    yield target

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = f"evalsvc.{self.name}".split(".") + ["__init__"] * self.is_package
        return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])

    def code(self) -> list[tuple[int, str]]:
        """Lines that say something, with their numbers: no imports, comments, empty lines or single brackets."""
        left_out: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        lines = ((number, line.strip()) for number, line in enumerate(self.text.splitlines(), 1))
        return [
            (number, line)
            for number, line in lines
            if line.strip("()[]{},:") and line[0] != "#" and number not in left_out
        ]


class Layout:
    """All modules of a checkout and what they import."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {module.name: module for module in _modules(root)}
        self.edges = {
            (module.name, target) for module in self.modules.values() for target in module.imports(self.modules)
        }

    def figures(self) -> dict[str, float]:
        """All figures, in the order in which they are shown."""
        arrows = {(a, b) for a, b in map(self._rooms, self.edges) if a != b}
        rooms = {module.room for module in self.modules.values()}
        order = _layers(self.root)
        placed = [(order[a], order[b]) for a, b in arrows if a in order and b in order]
        staying = sum(a == b for a, b in map(self._rooms, self.edges))
        room_of_circle, circles = _circles(rooms, arrows)
        return {
            "modules": len(self.modules),
            "rooms": len(rooms),
            "loose modules": sum(module.is_loose for module in self.modules.values()),
            "floors": _floors(room_of_circle, arrows),
            "arrows": len(arrows),
            "rooms without a declared layer": len(rooms - order.keys()),
            "arrows between declared layers": len(placed),
            "arrows up": sum(a > b for a, b in placed),
            "circles of rooms": circles,
            "arrows within circles": sum(room_of_circle[a] == room_of_circle[b] for a, b in arrows),
            "circles of modules": _circles(self.modules, self.edges)[1],
            "imports": len(self.edges),
            "imports that stay in a room, %": round(100 * staying / len(self.edges), 1),
            f"modules over {LONG_MODULE} lines": len(self.long_modules()),
            f"functions over {LONG_FUNCTION} lines": len(self.long_functions()),
            f"lines that stand twice ({WINDOW} or more in a row)": sum(map(len, self.repeated().values())),
        }

    def long_modules(self) -> list[str]:
        """Files that are longer than they should be, with their lines."""
        sizes = {module.path: len(module.text.splitlines()) for module in self.modules.values()}
        return [f"{self._shown(path)}: {size}" for path, size in sorted(sizes.items()) if size > LONG_MODULE]

    def long_functions(self) -> list[str]:
        """Functions that are longer than they should be, with their lines."""
        return [
            f"{self._shown(module.path)} {name}: {size}"
            for module in self.modules.values()
            for name, size in module.functions()
            if size > LONG_FUNCTION
        ]

    def repeated(self) -> dict[Path, list[int]]:
        """Lines of each file that belong to a run of lines which stands somewhere else too."""
        found: dict[tuple[str, ...], list[tuple[Path, tuple[int, ...]]]] = defaultdict(list)
        for module in self.modules.values():
            code = module.code()
            for start in range(len(code) - WINDOW + 1):
                numbers, lines = zip(*code[start : start + WINDOW], strict=True)
                found[lines].append((module.path, numbers))
        lines_of: dict[Path, set[int]] = defaultdict(set)
        for path, numbers in (place for places in found.values() if len(places) > 1 for place in places):
            lines_of[path].update(numbers)
        return {path: sorted(numbers) for path, numbers in sorted(lines_of.items())}

    def details(self) -> dict[str, list[str]]:
        """The files and functions behind the last three figures."""
        repeated = [f"{self._shown(path)}: {len(numbers)}" for path, numbers in self.repeated().items()]
        return {"modules": self.long_modules(), "functions": self.long_functions(), "repeated lines": repeated}

    def _rooms(self, edge: Arrow) -> Arrow:
        return self.modules[edge[0]].room, self.modules[edge[1]].room

    def _shown(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def _short(name: str) -> str:
    return name.removeprefix("evalsvc.")


def _modules(root: Path) -> Iterator[Module]:
    """Each file once; ``evalsvc/metrics`` may be a link to ``metrics``. The package's own face belongs to no room."""
    seen: set[Path] = set()
    for package in PACKAGES:
        for folder, folders, files in os.walk(root / package, followlinks=True):
            folders.sort()
            for path in sorted(Path(folder, file) for file in files if file.endswith(".py")):
                parts = list(path.relative_to(root).with_suffix("").parts)
                is_package = parts[-1] == "__init__"
                name = _short(".".join(parts[:-1] if is_package else parts))
                if path.resolve() not in seen and name not in ("evalsvc", "__main__"):
                    seen.add(path.resolve())
                    yield Module(name, path, is_package)


def _layers(root: Path) -> dict[str, int]:
    """Places of rooms in the declared order, 0 for the highest; rooms of one layer share a place."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = max((contract["layers"] for contract in contracts if contract["type"] == "layers"), key=len)
    names = [[name.strip(" ()") for name in layer.replace("|", ":").split(":")] for layer in layers]
    return {_short(name): place for place, layer in enumerate(names) for name in layer}


def _circles(nodes: Iterable[str], arrows: Iterable[Arrow]) -> tuple[dict[str, int], int]:
    """The strongly connected component of each node, and how many of them hold more than one."""
    numbers = {node: number for number, node in enumerate(sorted(nodes))}
    pairs = np.array([(numbers[a], numbers[b]) for a, b in arrows])
    graph = csr_array((np.ones(len(pairs)), pairs.T), shape=(len(numbers), len(numbers)))
    _, labels = connected_components(graph, connection="strong")
    component = {node: int(labels[number]) for node, number in numbers.items()}
    return component, sum(count > 1 for count in Counter(component.values()).values())


def _floors(component: Mapping[str, int], arrows: Iterable[Arrow]) -> int:
    """Length of the longest chain."""
    below: dict[int, set[int]] = defaultdict(set)
    for a, b in arrows:
        if component[a] != component[b]:
            below[component[a]].add(component[b])
    heights: dict[int, int] = {}

    def height(node: int) -> int:
        if node not in heights:
            heights[node] = 1 + max(map(height, below[node]), default=0)
        return heights[node]

    return max(map(height, component.values()))


def table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table with one column a checkout."""
    rows = dict.fromkeys(name for column in columns.values() for name in column)
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(f"{column[name]:g}" for column in columns.values()) + " |" for name in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", default=["."], metavar="[NAME=]PATH")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--list", action="store_true", help="name what is long or stands twice")
    asked = parser.parse_args()
    split = [given.rpartition("=") for given in asked.checkouts]
    layouts = {name or path: Layout(Path(path).resolve()) for name, _, path in split}
    figures = {name: layout.figures() for name, layout in layouts.items()}
    details = {name: layout.details() for name, layout in layouts.items()} if asked.list else {}
    if asked.json:
        document: dict[str, Any] = {name: {"figures": figures[name], **details.get(name, {})} for name in figures}
        print(json.dumps(document, indent=2))
        return
    print(table(figures))
    for name, lists in details.items():
        for what, lines in lists.items():
            print(f"\n{name}: {what}", *lines, sep="\n  ")


if __name__ == "__main__":
    main()
