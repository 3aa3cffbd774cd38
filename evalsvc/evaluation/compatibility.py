"""Whether what is here is still what a spec was made from: plug-ins, references and the checkpoint's content."""

from __future__ import annotations

from pathlib import Path

from evalsvc.core.errors import CheckpointError, IncompatibleWorkerError, InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.plugins.interfaces import HoldsSamples
from evalsvc.plugins.registry import PluginKind


def require_compatible(context: EvaluationContext, spec: EvaluationSpec) -> None:
    """Make sure that this machine computes what was asked for: the same checkpoint, plug-ins and references.

    Raises:
        IncompatibleWorkerError: something differs from what it was where the evaluation was submitted.
    """
    plugin = context.plugins.get(PluginKind.GENERATOR, spec.generator)
    here = {f"generator {spec.generator!r}": plugin.recorded_version}
    there = {f"generator {spec.generator!r}": spec.generator_version}
    for label, use in spec.suite.extractors.items():
        here[f"extractor {use.use!r}"] = opening.extractor(context, use).info.protocol
        there[f"extractor {use.use!r}"] = spec.extractors[label]
    for split, digest in spec.reference.items():
        what = f"reference {spec.suite.reference!r} ({split})"
        here[what], there[what] = opening.reference(context, spec.suite.reference or "").digests[split], digest
    for what, wanted in there.items():
        if here[what] != wanted:
            raise IncompatibleWorkerError(
                f"{what} is {here[what]} here and was {wanted} where the evaluation was submitted: bring "
                "both to one version"
            )
    try:
        context.content.require(opening.checkpoint_of(spec), context.plugins.checkpoint_files(spec.generator))
    except CheckpointError as error:
        raise IncompatibleWorkerError(
            f"checkpoint {spec.path} has changed since it was submitted: submit it again"
        ) from error


def require_content(context: EvaluationContext, spec: EvaluationSpec) -> None:
    """Make sure that stored samples, which are read one by one, are still those that were digested. Where they are
    no longer there, their shards are all that is left of them, and nothing was read.

    Raises:
        CheckpointError: they were changed; the shards that may hold other samples are removed.
    """
    if not Path(spec.path).exists() or not _reads_samples(context, spec.generator):
        return  # weights are read once, when the generator is built
    try:
        context.content.require(opening.checkpoint_of(spec), context.plugins.checkpoint_files(spec.generator))
    except CheckpointError:
        context.artifacts.remove(spec.samples_key)
        raise


def _reads_samples(context: EvaluationContext, generator: str) -> bool:
    try:
        factory = context.plugins.get(PluginKind.GENERATOR, generator).load()
    except InputError:  # a plug-in that is not installed here, of which only shards are there
        return False
    return isinstance(factory, HoldsSamples)  # a class has it too
