"""Allow-lists of plug-ins and options for clients of the API; everything else is refused.

A plug-in is allowed if it declares so (:func:`evalsvc.plugins.registry.open_to_clients`) or the server file lists it.
Evaluations that the operator submits from the command line are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from evalsvc.builtin.generators.module_targets import targets_of, texts_of
from evalsvc.core.errors import ForbiddenError
from evalsvc.core.names import SERVED
from evalsvc.inputs.checkpoint_folders import endpoint_name
from evalsvc.inputs.server_file import VARIABLE, Options, server_file
from evalsvc.inputs.suites import Suite
from evalsvc.plugins import metric_adapter
from evalsvc.plugins.registry import PluginKind, Plugins

_WORD = re.compile(r"[A-Za-z0-9_+-]*")


class ClientRules:
    """The rules of one server. ``torch_modules`` are the packages from which networks may be built for clients."""

    def __init__(self, plugins: Plugins, torch_modules: Collection[str] = ()) -> None:
        self._plugins, self._torch_modules = plugins, torch_modules

    def check_generator(self, name: str, options: Mapping[str, Any]) -> None:
        """Raise unless clients may use this generator with these options.

        Raises:
            ForbiddenError: the generator or an option is not allowed.
            InputError: there is no such generator.
        """
        listed = server_file().clients.generators
        if listed is not None and name == SERVED:  # a listed endpoint implies it
            listed = {SERVED: None, **listed}
        self._check(PluginKind.GENERATOR, name, options, listed)
        if name == "torch-module":
            self._check_modules({"module": str(options.get("module", "")), "arguments": options.get("arguments")})

    def check_suite(self, suite: Suite, prompts_kept: bool, items_kept: bool) -> None:
        """Raise unless clients may submit this suite; its prompts or items must be stored already.

        Raises:
            ForbiddenError: a plug-in or an option of the suite is not allowed, or it names a file of prompts or items.
        """
        clients = server_file().clients
        for use in suite.extractors.values():
            self._check(PluginKind.EXTRACTOR, use.use, use.options, clients.extractors)
            if isinstance(frames := use.options.get("frames"), str):  # of frame-wise
                self._check(PluginKind.EXTRACTOR, frames, use.options.get("options") or {}, clients.extractors)
        for scorer in suite.scorers.values():
            self._check(PluginKind.SCORER, scorer.use, scorer.options, clients.scorers)
            if isinstance(features := scorer.options.get("features"), Mapping):  # of torchmetrics
                options = features.get("options") or {}
                self._check(PluginKind.EXTRACTOR, str(features.get("extractor")), options, clients.extractors)
            if (endpoint := scorer.options.get("endpoint")) and endpoint_name(str(endpoint)) is None:
                raise ForbiddenError(
                    f"option 'endpoint' of scorer {scorer.use!r} must be endpoint:NAME, of an endpoint that "
                    f"the operator lists in the file that {VARIABLE} names"
                )
            if isinstance(extractor := scorer.options.get("extractor"), str):
                self._check(PluginKind.EXTRACTOR, extractor, scorer.options.get("options") or {}, clients.extractors)
        for metric in suite.metrics:
            shipped = metric.spec.function.__module__.startswith("evalsvc.metrics.")
            if not shipped and metric.metric not in clients.metrics:
                raise _closed(f"metric {metric.metric!r}", "metrics")
            # Options of a constructor may name files.
            if metric.options and metric.spec.function.__module__ == metric_adapter.__name__:
                raise ForbiddenError(f"metric {metric.metric!r} has no options for clients of this server: omit them")
        item_file = suite.items and suite.items.file
        if (suite.prompts and not prompts_kept) or (item_file and not items_kept):
            kind = "an item" if item_file else "a prompt"
            raise ForbiddenError(
                f"suite {suite.id} names {kind} file on this server: the operator must score with it once, then "
                "clients can name the suite"
            )

    def require_confined(self, generator: str, path: Path) -> None:
        """Raise if this checkpoint selects a program or a network destination.

        Workers call it for every evaluation of a client.

        Raises:
            ForbiddenError: the generator is for operators only; or it connects to the network, and its checkpoint is
                not an endpoint of the server file.
        """
        factory = self._plugins.get(PluginKind.GENERATOR, generator).load()
        if getattr(factory, "operators_only", False):
            raise ForbiddenError(f"generator {generator!r} is for operators only: score it on the command line")
        if getattr(factory, "opens_network", False) and endpoint_name(path) is None:
            raise ForbiddenError(
                f"generator {generator!r} connects to the address in its checkpoint, which clients may not "
                f"choose: name an 'endpoint' that the operator lists in the file that {VARIABLE} names"
            )

    def _check(
        self, kind: PluginKind, name: str, options: Mapping[str, Any], listed: Mapping[str, Options] | None
    ) -> None:
        factory = self._plugins.get(kind, name).load()
        # Declared on the class itself: a subclass of an allowed plug-in may behave differently.
        declared: frozenset[str] | None = vars(factory).get("client_options")
        what = f"{kind.removesuffix('s')} {name!r}"
        if name not in listed if listed is not None else declared is None:
            raise _closed(what, kind)
        given = (listed or {}).get(name)
        allowed = given if given is not None else declared or frozenset()
        if closed := sorted(set(options) - allowed):
            raise _closed(f"option {closed[0]!r} of {what}", f"{kind}.{name}")

    def _check_modules(self, module: Mapping[str, Any]) -> None:
        """Raise if a client selects code or files that the operator has not allowed."""
        for target in targets_of(module):
            package = target.place
            listed = any(package == allowed or package.startswith(f"{allowed}.") for allowed in self._torch_modules)
            if target.is_file or not listed:
                raise ForbiddenError(
                    f"this server does not build networks from {str(target)!r} for clients: the operator lists "
                    "packages in EVALSVC_TORCH_MODULES"
                )
        if text := next((each for each in texts_of(module) if not _WORD.fullmatch(each)), None):
            raise ForbiddenError(
                f"option 'arguments' of generator 'torch-module' contains the text {text!r}, which could be a "
                "path or an address: use numbers and plain words"
            )


def _closed(what: str, where: str) -> ForbiddenError:
    return ForbiddenError(
        f"{what} is not open to clients of this server: the operator lists it under 'clients.{where}' in the file that "
        f"{VARIABLE} names"
    )
