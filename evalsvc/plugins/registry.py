"""Discovery of plug-ins: entry points of installed distributions, and single files named on the command line.

Loading a plug-in runs its code: install only distributions that you trust.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from evalsvc.core.digests import CONTENTS, digest_path
from evalsvc.core.errors import CheckpointError, InputError
from evalsvc.plugins.interfaces import CheckpointFiles

T = TypeVar("T")


class PluginKind(StrEnum):
    """The entry-point groups."""

    GENERATOR = "generators"
    EXTRACTOR = "extractors"
    REFERENCE = "references"
    METRIC = "metrics"
    JUDGE = "judges"
    SCORER = "scorers"


@dataclass(frozen=True)
class Plugin:
    """A registered name that has not been loaded yet."""

    kind: PluginKind
    name: str
    distribution: str
    version: str
    _load: Callable[[], Any] = field(repr=False, compare=False)

    @cached_property
    def recorded_version(self) -> str:
        """The distribution and the version of the plug-in, as configurations record it.

        Raises:
            InputError: the plug-in cannot be loaded, or its declared version is not a non-empty string.
        """
        return f"{self.distribution} {self.own_version or self.version}"

    @property
    def own_version(self) -> str | None:
        """The version that the plug-in declares. Subclasses do not inherit it: their code changes separately."""
        declared = _own_attribute(self.load(), "plugin_version")
        if declared is not None and not (isinstance(declared, str) and declared.strip()):
            raise InputError(
                f"invalid plugin_version {declared!r} of plug-in {self.name!r} of {self.distribution}: use a non-empty "
                "string"
            )
        return declared

    def load(self) -> Any:
        """Import the plug-in; an exception during the import is raised as an error that names the plug-in."""
        try:
            return self._load()
        except Exception as error:
            raise InputError(
                f"plug-in {self.name!r} ({self.kind}) of {self.distribution} {self.version} is broken: "
                f"{type(error).__name__}: {error}"
            ) from error


class Plugins:
    """All available plug-ins: those of installed distributions and those of single files."""

    def __init__(self, files: tuple[Path, ...] = ()) -> None:
        self._by_name: dict[tuple[PluginKind, str], list[Plugin]] = {}
        points = importlib.metadata.entry_points()
        owner = lru_cache(_owner)  # which reads the whole description of a distribution
        for kind in PluginKind:
            for point in points.select(group=f"evalsvc.{kind}"):
                self.add(Plugin(kind, point.name, *owner(point.dist), point.load))
        for file in files:
            for plugin in _plugins_of_file(file):
                self.add(plugin)

    def add(self, plugin: Plugin) -> None:
        """Make one more plug-in available."""
        self._by_name.setdefault((plugin.kind, plugin.name), []).append(plugin)

    def __iter__(self) -> Iterator[Plugin]:
        for key in sorted(self._by_name):
            yield from self._by_name[key]

    def get(self, kind: PluginKind, name: str, others: Iterable[str] = ()) -> Plugin:
        """Return the plug-in with this name; unknown and ambiguous names raise an error that lists the candidates.

        ``others`` are names of the same kind that are not plug-ins, such as references in the database.
        """
        matches = self._by_name.get((kind, name), [])
        if len(matches) == 1:
            return matches[0]
        if matches:
            owners = " and ".join(f"{plugin.distribution} {plugin.version}" for plugin in matches)
            raise InputError(f"{owners} both register the {kind.removesuffix('s')} {name!r}: uninstall one")
        names = sorted({*(other for other_kind, other in self._by_name if other_kind == kind), *others})
        by_case = {other.lower(): other for other in names}
        near = [by_case[each] for each in difflib.get_close_matches(name.lower(), by_case, n=3, cutoff=0.4)] or names
        raise InputError(f"there is no {kind.removesuffix('s')} {name!r}; the nearest are {', '.join(near)}")

    def checkpoint_files(self, generator: str) -> CheckpointFiles | None:
        """The function that selects the files of a checkpoint folder, if the generator has one."""
        files: CheckpointFiles | None = getattr(
            self.get(PluginKind.GENERATOR, generator).load(), "checkpoint_files", None
        )
        return files

    def pinned(self, generator: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the digests of the files that they name, if the generator has a method ``pin``.

        Raises:
            CheckpointError: pinned options name files that have changed since.
            InputError: an option names a file that does not exist.
        """
        pin = getattr(self.get(PluginKind.GENERATOR, generator).load(), "pin", None)
        if pin is None:
            return dict(options)
        pinned: dict[str, Any] = pin({name: value for name, value in options.items() if name != CONTENTS})
        if options.get(CONTENTS) not in (None, pinned.get(CONTENTS)):
            names = " or ".join(pinned.get(CONTENTS, ())) or CONTENTS
            raise CheckpointError(
                f"option {names} of generator {generator!r} names content that has changed since: restore it, or give "
                f"the options without {CONTENTS!r} to score what is there now"
            )
        return pinned


def register(kind: PluginKind | str, name: str) -> Callable[[T], T]:
    """Mark an object of a single-file plug-in: ``@register("generators", "my-gan")`` above the class."""
    return _mark(__evalsvc_plugin__=(PluginKind(kind), name))


def open_to_clients(*options: str, network: bool = False) -> Callable[[T], T]:
    """Mark a generator, extractor or scorer as usable by clients of the API, and name the options that they may set.

    Leave out options whose value is a path, a module, an address, a program or a model: only the operator may set
    those. A generator that connects to the address in its checkpoint declares ``network``: clients then name an
    endpoint of the server file and cannot submit such a checkpoint.
    """
    return _mark(client_options=frozenset(options), opens_network=network)


def versioned(version: str) -> Callable[[T], T]:
    """Set the version of a generator, or of a ``torchmetrics.Metric`` class: ``@versioned("2")`` above it.

    Results are stored under this version, so that a release of the distribution does not invalidate them. Raise it
    if the same checkpoint, options and seeds (for a metric: the same arrays) may give other values. A plug-in
    that has stored results keeps them if its first version is the version of the distribution that computed them.
    """
    return _mark(plugin_version=version)


def _mark(**attributes: object) -> Callable[[T], T]:
    def mark(target: T) -> T:
        for name, value in attributes.items():
            setattr(target, name, value)
        return target

    return mark


def _owner(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Name and version of a distribution."""
    if distribution is None:
        return "unknown", "unknown"
    return distribution.name, distribution.version


def _plugins_of_file(file: Path) -> list[Plugin]:
    if not file.is_file():
        raise InputError(f"plug-in file {file} does not exist")
    module_name = f"evalsvc_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"plug-in file {file} is not a Python file: use a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"plug-in file {file} is broken: {type(error).__name__}: {error}") from error
    version = digest_path(file)[:12]
    marked = [value for value in vars(module).values() if _own_attribute(value, "__evalsvc_plugin__")]
    if not marked:
        raise InputError(
            f'plug-in file {file} registers nothing: put @evalsvc.register("generators", "name") above a class'
        )
    return [_plugin_of(target, file, version) for target in marked]


def _plugin_of(target: Any, file: Path, version: str) -> Plugin:
    kind, name = target.__evalsvc_plugin__
    return Plugin(kind, name, file.name, version, lambda: target)


def _own_attribute(target: Any, attribute: str) -> Any:
    """An attribute that is set on the object itself and not inherited, or ``None``."""
    return getattr(target, "__dict__", {}).get(attribute)
