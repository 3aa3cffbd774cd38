"""Conformance check of a plug-in of any kind, built as in evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.suite_entries import ExtractorUse, ScorerUse
from evalsvc.metrics.registry import METRICS
from evalsvc.plugins import conformance
from evalsvc.plugins.conformance import Finding
from evalsvc.plugins.metric_adapter import reads_samples, register_metric
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.scorers import declared_quantities
from evalsvc.plugins.torchmetrics_classes import class_use


def kind_of(plugins: Plugins, name: str, kind: str = "") -> PluginKind:
    """The kind of the plug-in with this name; ``kind`` selects one if several kinds have it.

    Raises:
        InputError: there is no such kind or plug-in, or several kinds have the name and ``kind`` is empty.
    """
    every = [each.removesuffix("s") for each in PluginKind]
    if kind and kind not in every:
        raise InputError(f"there is no kind {kind!r} of plug-ins: use {', '.join(every)}")
    if kind:
        return plugins.get(PluginKind(f"{kind}s"), name).kind
    kinds = sorted({each.kind for each in plugins if each.name == name})
    if len(kinds) > 1:
        raise InputError(f"{name!r} is the name of {' and '.join(kinds)}: pass --kind")
    return plugins.get(kinds[0] if kinds else PluginKind.GENERATOR, name).kind


def check_plugin(
    context: EvaluationContext,
    kind: PluginKind,
    name: str,
    options: Mapping[str, Any],
    checkpoint: Path | None = None,
) -> list[Finding]:
    """Build a plug-in and check its conformance. Only a generator needs a ``checkpoint``.

    Raises:
        InputError: it cannot be built from these options, or a checkpoint is missing or superfluous.
    """
    if (checkpoint is None) == (kind is PluginKind.GENERATOR):
        raise InputError(
            f"generator {name!r} needs a checkpoint that it can load: pass --checkpoint"
            if checkpoint is None
            else f"{kind.removesuffix('s')} {name!r} does not use a checkpoint: omit --checkpoint"
        )
    if options and kind in (PluginKind.REFERENCE, PluginKind.METRIC):
        raise InputError(f"{kind.removesuffix('s')} {name!r} has no options here: omit --option")
    if checkpoint is not None:
        opened = Checkpoint.open(checkpoint, name, 0, context.plugins.checkpoint_files(name))
        decoding = opening.decoding(context, name, None, options)
        return conformance.check_generator(opening.generator(context, name, opened, options, decoding), context.device)
    if kind is PluginKind.EXTRACTOR:
        return conformance.check_extractor(opening.extractor(context, ExtractorUse(use=name, options=dict(options))))
    if kind is PluginKind.JUDGE:
        return conformance.check_judge(opening.judge(context, name, options))
    plugin = context.plugins.get(kind, name)
    if kind is PluginKind.METRIC and reads_samples(plugin.load()):
        use = class_use(name, plugins=context.plugins)
        scorer = opening.scorer(context, ScorerUse(use="torchmetrics", options={"metric": name}))
        return conformance.check_scorer(scorer, use.quantities)
    if kind is PluginKind.SCORER:
        declared = declared_quantities(plugin, options)
        return conformance.check_scorer(opening.scorer(context, ScorerUse(use=name, options=dict(options))), declared)
    if kind is PluginKind.REFERENCE:
        return conformance.check_reference(plugin.load()(), name)
    register_metric(plugin)
    return conformance.check_metric(METRICS[name])
