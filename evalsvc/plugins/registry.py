"""How plug-ins are found: entry points of installed distributions, and single files given by hand.

Loading a plug-in runs its code: install only distributions that you trust.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError
from evalsvc.plugins.interfaces import CheckpointFiles


class PluginKind(StrEnum):
    """The entry-point groups."""

    GENERATOR = "generators"
    EXTRACTOR = "extractors"
    REFERENCE = "references"
    METRIC = "metrics"
    JUDGE = "judges"


@dataclass(frozen=True)
class Plugin:
    """A registered name that has not been loaded yet."""

    kind: PluginKind
    name: str
    distribution: str
    version: str
    _load: Callable[[], Any] = field(repr=False, compare=False)

    @cached_property
    def told(self) -> str:
        """The distribution, and the version of the plug-in, as configurations record it.

        Raises:
            InputError: the plug-in cannot be loaded, or the version that it states is not a non-empty string.
        """
        return f"{self.distribution} {self.own_version or self.version}"

    @property
    def own_version(self) -> str | None:
        """The version that the plug-in itself states. A subclass does not inherit it: its code changes separately."""
        stated = _stated(self.load(), "plugin_version")
        if stated is not None and not (isinstance(stated, str) and stated.strip()):
            raise InputError(
                f"invalid plugin_version {stated!r} of plug-in {self.name!r} of {self.distribution}: use a non-empty "
                "string"
            )
        return stated

    def load(self) -> Any:
        """Import the plug-in; whatever its import raises becomes one error that names it."""
        try:
            return self._load()
        except Exception as error:
            raise InputError(
                f"plug-in {self.name!r} ({self.kind}) of {self.distribution} {self.version} is broken: "
                f"{type(error).__name__}: {error}"
            ) from error


class Plugins:
    """All plug-ins that can be seen: installed distributions, and single files given by hand."""

    def __init__(self, files: tuple[Path, ...] = ()) -> None:
        self._found: dict[tuple[PluginKind, str], list[Plugin]] = {}
        for kind in PluginKind:
            for point in importlib.metadata.entry_points(group=f"evalsvc.{kind}"):
                name = point.dist.name if point.dist else "unknown"
                version = point.dist.version if point.dist else "unknown"
                self._add(Plugin(kind, point.name, name, version, point.load))
        for file in files:
            for plugin in _plugins_of_file(file):
                self._add(plugin)

    def _add(self, plugin: Plugin) -> None:
        self._found.setdefault((plugin.kind, plugin.name), []).append(plugin)

    def __iter__(self) -> Iterator[Plugin]:
        for key in sorted(self._found):
            yield from self._found[key]

    def get(self, kind: PluginKind, name: str, others: Iterable[str] = ()) -> Plugin:
        """The plug-in of this name; unknown and doubly defined names are errors that say what there is.

        ``others`` are the names of its kind that are not plug-ins, such as references in the database.
        """
        found = self._found.get((kind, name), [])
        if len(found) == 1:
            return found[0]
        if found:
            owners = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in found)
            raise InputError(f"{owners} both register the {kind.removesuffix('s')} {name!r}: uninstall one")
        names = sorted({*(other for other_kind, other in self._found if other_kind == kind), *others})
        by_case = {other.lower(): other for other in names}
        near = [by_case[each] for each in difflib.get_close_matches(name.lower(), by_case, n=3, cutoff=0.4)] or names
        raise InputError(f"there is no {kind.removesuffix('s')} {name!r}; the nearest are {', '.join(near)}")

    def checkpoint_files(self, generator: str) -> CheckpointFiles | None:
        """Which files of a folder are a checkpoint to this generator, where its plug-in says so."""
        files: CheckpointFiles | None = getattr(
            self.get(PluginKind.GENERATOR, generator).load(), "checkpoint_files", None
        )
        return files


def register(kind: PluginKind | str, name: str) -> Callable[[Any], Any]:
    """Mark an object of a single-file plug-in: ``@register("generators", "my-gan")`` above the class."""

    def mark(target: Any) -> Any:
        target.__evalsvc_plugin__ = (PluginKind(kind), name)
        return target

    return mark


def open_to_clients(*options: str, network: bool = False) -> Callable[[Any], Any]:
    """Mark a generator or extractor as one that clients of the API may use, and name the options that they may give.

    Name none whose value is a path, a module, an address, a program or a model: those stay the operator's. A generator
    whose checkpoint says where to connect declares ``network``: clients name an endpoint of the server file in its
    place, and can bring no such checkpoint.
    """

    def mark(target: Any) -> Any:
        target.client_options, target.opens_network = frozenset(options), network
        return target

    return mark


def versioned(version: str) -> Callable[[Any], Any]:
    """State the version of a generator, or of a ``torchmetrics.Metric`` class: ``@versioned("2")`` above it.

    Stored results are found under it, so that a release of the distribution invalidates none of them. Raise it whenever
    the same checkpoint, options and seeds (for a metric: the same arrays) may give other numbers. A plug-in that has
    stored results keeps them if its first version is that of the distribution which made them.
    """

    def mark(target: Any) -> Any:
        target.plugin_version = version
        return target

    return mark


def _plugins_of_file(file: Path) -> list[Plugin]:
    if not file.is_file():
        raise InputError(f"plug-in file {file} does not exist")
    module_name = f"evalsvc_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"plug-in file {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"plug-in file {file} is broken: {type(error).__name__}: {error}") from error
    version = digest_path(file)[:12]
    marked = [value for value in vars(module).values() if _stated(value, "__evalsvc_plugin__")]
    if not marked:
        raise InputError(
            f'plug-in file {file} registers nothing: put @evalsvc.register("generators", "name") above a class'
        )
    return [_plugin_of(target, file, version) for target in marked]


def _plugin_of(target: Any, file: Path, version: str) -> Plugin:
    kind, name = target.__evalsvc_plugin__
    return Plugin(kind, name, file.name, version, lambda: target)


def _stated(target: Any, attribute: str) -> Any:
    """An attribute that is set on the object itself, not inherited; ``None`` without one."""
    return getattr(target, "__dict__", {}).get(attribute)
