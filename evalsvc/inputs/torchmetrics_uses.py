"""Metrics of suites that are classes of torchmetrics: a scorer of each class, and the aggregate of its states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.inputs.suite_entries import ScorerQuantity
from evalsvc.metrics.merged import merged
from evalsvc.metrics.registry import METRICS
from evalsvc.plugins.metric_adapter import reads_samples
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.torchmetrics_classes import class_use

PREFIX = "torchmetrics/"
SCORER = "torchmetrics"
_OF_CLASS = ("inputs", "options", "outputs")
_OF_SCORE = ("label", "by")


def with_torchmetrics(data: dict[str, Any], what: str, plugins: Plugins | None) -> dict[str, Any]:
    """The keys of a suite in which each class of torchmetrics is a scorer and an aggregate; others as they are.

    Raises:
        InputError: there is no such class, or it does not take the inputs or options that the suite gives.
    """
    uses, scorers = data.get("metrics"), data.get("scorers", {})
    if not isinstance(uses, list) or not isinstance(scorers, dict):
        return data
    expanded, scorers = list[Any](), dict(scorers)
    for place, use in enumerate(uses):
        if (name := _class_of(use, plugins)) is None:
            expanded.append(use)
            continue
        try:
            expanded += _expanded(use, name, data, scorers, plugins)
        except InputError as error:
            raise InputError(f"{what}: metrics.{place}: {error}") from None
    return {**data, "metrics": expanded, "scorers": scorers} if expanded != uses else data


def _class_of(use: Any, plugins: Plugins | None) -> str | None:
    """The class that an entry of the metrics names, if it is one that reads samples."""
    name = use.get("metric") if isinstance(use, dict) else None
    if not isinstance(name, str) or name in METRICS:
        return None
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    named = [each for each in plugins or () if each.kind is PluginKind.METRIC and each.name == name]
    return name if named and ("inputs" in use or reads_samples(named[0].load())) else None


def _expanded(
    use: Mapping[str, Any], name: str, data: Mapping[str, Any], scorers: dict[str, Any], plugins: Plugins | None
) -> list[dict[str, Any]]:
    """The aggregates of a class, one for each quantity; its scorer is added to ``scorers``."""
    if wrong := sorted(use.keys() - {"metric", "features", "error", *_OF_CLASS, *_OF_SCORE}):
        known = ", ".join((*_OF_CLASS, "features", "error", *_OF_SCORE))
        raise InputError(f"{wrong[0]!r} is not a key of {use['metric']}: use {known}")
    options = {"metric": name, **{key: use[key] for key in _OF_CLASS if key in use}}
    quantities = class_use(**options, plugins=plugins).quantities
    if "features" in use:
        options["features"] = _extractor(use["features"], data.get("extractors"))
    entry = {"use": SCORER, "options": options, "quantities": [ScorerQuantity.of(each) for each in quantities]}
    stem = quantities[0].name.replace("_", "-") if len(quantities) == 1 else name.rpartition(".")[2].lower()
    label, number = stem, 1
    while scorers.get(label, entry) != entry:
        number += 1
        label = f"{stem}-{number}"
    scorers[label] = entry
    shared = {key: use[key] for key in _OF_SCORE if key in use}
    if "error" in use:
        shared["options"] = {"error": use["error"]}
    return [{"metric": merged.__name__, "of": f"{label}/{each.name}", **shared} for each in quantities]


def _extractor(features: Any, extractors: Any) -> dict[str, Any]:
    """The extractor of the suite and its output that ``label/output`` names, as the scorer takes them."""
    label, _, output = str(features).partition("/")
    use = extractors.get(label) if isinstance(extractors, dict) else None
    if not isinstance(use, dict) or not output:
        raise InputError(
            f"'features: {features}' does not name an output of the suite's 'extractors': use label/output"
        )
    return {"extractor": use.get("use"), "output": output, "options": use.get("options") or {}}
