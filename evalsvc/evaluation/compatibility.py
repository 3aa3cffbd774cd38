"""Compatibility of this machine with a spec: plug-ins, references and the checkpoint's content."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import CheckpointError, IncompatibleWorkerError, InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.plugins.interfaces import HoldsSamples
from evalsvc.plugins.registry import PluginKind


def require_compatible(context: EvaluationContext, spec: EvaluationSpec) -> None:
    """Raise unless this machine would compute the requested evaluation: same checkpoint, plug-ins and references.

    Raises:
        IncompatibleWorkerError: something differs from the machine that submitted the evaluation.
        InputError: a file that the options name is missing here, or differs.
    """
    plugin = context.plugins.get(PluginKind.GENERATOR, spec.generator)
    here = {f"generator {spec.generator!r}": plugin.recorded_version}
    there = {f"generator {spec.generator!r}": spec.generator_version}
    for label, use in spec.suite.extractors.items():
        here[f"extractor {use.use!r}"] = opening.extractor(context, use).info.protocol
        there[f"extractor {use.use!r}"] = spec.extractors[label]
    for label, scorer in spec.suite.scorers.items():
        here[f"scorer {scorer.use!r}"] = opening.scorer(context, scorer, spec.suite.modality).info.protocol
        there[f"scorer {scorer.use!r}"] = spec.scorers[label]
    for split, digest in spec.reference.items():
        what = f"reference {spec.suite.reference!r} ({split})"
        here[what], there[what] = opening.reference(context, spec.suite.reference or "").digests[split], digest
    for what, wanted in there.items():
        if here[what] != wanted:
            raise IncompatibleWorkerError(
                f"{what} is {here[what]} here but was {wanted} where the evaluation was submitted: use the same "
                "version on both"
            )
    context.plugins.pinned(spec.generator, spec.options)
    try:
        context.content.require(opening.checkpoint_of(spec), context.plugins.checkpoint_files(spec.generator))
    except CheckpointError as error:
        raise IncompatibleWorkerError(
            f"checkpoint {spec.path} has changed since it was submitted: submit it again"
        ) from error


def require_content(context: EvaluationContext, spec: EvaluationSpec) -> None:
    """Raise if stored samples, which are read one by one, have changed since they were digested.

    If they no longer exist, only their shards remain, and nothing is read.

    Raises:
        CheckpointError: they have changed; shards that may contain other samples are removed.
    """
    if not Path(spec.path).exists() or not _holds_samples(context, spec.generator):
        return  # weights are read once, when the generator is built
    try:
        context.content.require(opening.checkpoint_of(spec), context.plugins.checkpoint_files(spec.generator))
    except CheckpointError:
        context.artifacts.remove(spec.samples_key)
        raise


def _holds_samples(context: EvaluationContext, generator: str) -> bool:
    try:
        factory = context.plugins.get(PluginKind.GENERATOR, generator).load()
    except InputError:  # a plug-in that is not installed here, of which only shards exist
        return False
    return isinstance(factory, HoldsSamples)  # also true for the class
