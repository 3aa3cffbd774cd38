"""Modules of Python from files that are not installed: what they import from their folder, its digest, its import.

Modules of two folders never mix: each folder's content is imported under a package name of its own.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from evalsvc.core.digests import digest_json
from evalsvc.core.errors import InputError
from evalsvc.core.files.regular_files import open_regular

_importing = threading.RLock()


@dataclass(frozen=True)
class _Source:
    """A module's file; a folder without ``__init__.py`` is a package without content."""

    path: Path
    content: bytes = b""
    is_package: bool = False


@dataclass(frozen=True)
class SourceTree:
    """A Python file, and all that it imports from its folder, directly or through others.

    ``root`` is the folder above the file's package; ``sources`` are the files by dotted name below it.
    """

    root: Path
    main: str
    sources: dict[str, _Source] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> SourceTree:
        """Read the file and what its import statements name, those inside of functions included; runs nothing.

        Raises:
            InputError: the file does not exist, or one of the files is not valid Python.
        """
        file = file.resolve()
        if not file.is_file():
            raise InputError(f"{file} does not exist: name a Python file, relative to the current folder")
        root = file.parent
        while (root / "__init__.py").is_file():
            root = root.parent
        parts = file.relative_to(root).with_suffix("").parts
        tree = cls(root, ".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        waiting = [tree.main]
        while waiting:
            name = waiting.pop()
            above, _, _ = name.rpartition(".")
            if name in tree.sources or (source := tree._find(name)) is None:
                continue
            tree.sources[name] = source
            waiting += [above] if above else []
            waiting += tree._imported(name, source)
        return tree

    @cached_property
    def digest(self) -> str:
        """sha256 of the names and contents of the files."""
        return digest_json({name: sha256(each.content).hexdigest() for name, each in self.sources.items()})

    def load(self) -> ModuleType:
        """Import the file; the same content of the same folder is imported once.

        Raises:
            Exception: an exception of the code in the files.
        """
        package = f"evalsvc_source_{digest_json([str(self.root), self.main, self.digest])[:16]}"
        with _importing:
            if package not in sys.modules:
                top = ModuleType(package)
                top.__path__ = []
                finder = _Finder(self, package)
                sys.modules[package] = top
                sys.meta_path.append(finder)
            try:
                return importlib.import_module(f"{package}.{self.main}")
            except BaseException:
                for name in [each for each in sys.modules if each.startswith(f"{package}.")]:
                    del sys.modules[name]
                raise

    def places(self, name: str) -> Iterator[str]:
        """Names below ``root`` that an absolute import may mean: beside the file, beside its package, in its folder.

        The last is for files that name their folder, as if it were a package (``root`` itself is the empty name).
        """
        beside, _, _ = self.main.rpartition(".")
        yield from dict.fromkeys([f"{beside}.{name}" if beside else name, name])
        folder, _, below = name.partition(".")
        if folder == self.root.name:
            yield below

    def _find(self, name: str) -> _Source | None:
        path = self.root.joinpath(*name.split("."))
        for file, is_package in ((path / "__init__.py", True), (path.with_name(f"{path.name}.py"), False)):
            if file.is_file():
                with open_regular(file) as opened:
                    return _Source(file, opened.read(), is_package)
        if not (path.is_dir() and any(path.glob("*.py"))):
            return None
        # As for Python, an installed package is preferred to a folder without __init__.py.
        installed = PathFinder.find_spec(path.name)
        return None if installed and installed.loader else _Source(path, is_package=True)

    def _imported(self, name: str, source: _Source) -> Iterator[str]:
        """The dotted names that the imports of a module may mean, packages before what is in them."""
        try:
            nodes = ast.walk(ast.parse(source.content))
        except (SyntaxError, ValueError) as error:
            raise InputError(f"{source.path} is not valid Python ({error}): repair it") from None
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from (each for place in self.places(alias.name) for each in _and_above(place))
            elif isinstance(node, ast.ImportFrom):
                above = name.split(".") if source.is_package else name.split(".")[:-1]
                base = above[: len(above) - node.level + 1] if node.level else []
                whole = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{whole}.{alias.name}".lstrip(".")
                    for place in (inner,) if node.level else self.places(inner):
                        yield from _and_above(place)


def _and_above(name: str) -> Iterator[str]:
    parts = name.split(".") if name else []
    yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


class _Finder(MetaPathFinder, Loader):
    """Imports the files of a tree below a package; their absolute imports prefer files of the tree."""

    def __init__(self, tree: SourceTree, package: str) -> None:
        self._tree, self._package = tree, package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a module of the tree."""
        above, _, name = fullname.partition(".")
        if above != self._package or (source := self._tree.sources.get(name)) is None:
            return None
        spec = ModuleSpec(fullname, self, origin=str(source.path), is_package=source.is_package)
        spec.has_location = True
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Run a file's content as it was read, with imports of its own, so that functions may import later."""
        source = self._tree.sources[module.__name__.partition(".")[2]]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        exec(compile(source.content, source.path, "exec", dont_inherit=True), vars(module))

    def _import(
        self,
        name: str,
        variables: Mapping[str, Any] | None = None,
        local: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        for place in self._tree.places(name) if level == 0 else ():
            if place in self._tree.sources or (not place and not self._tree.sources.keys().isdisjoint(fromlist)):
                target = f"{self._package}.{place}".rstrip(".")
                if fromlist:
                    return builtins.__import__(target, variables, local, fromlist, 0)
                importlib.import_module(target)
                # Without names to import, the statement needs the module of the first part of its name.
                return sys.modules[".".join(target.split(".")[: -name.count(".") or None])]
        return builtins.__import__(name, variables, local, fromlist, level)
