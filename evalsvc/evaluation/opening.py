"""Opening of plug-ins and references on the device of an evaluation's context, which caches them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from evalsvc.core.digests import CONTENTS, digest_json
from evalsvc.core.errors import EvalsvcError, InputError
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import OPTIONS, Decoding
from evalsvc.inputs.references import OpenReference, open_reference
from evalsvc.inputs.suite_entries import ExtractorUse, ScorerUse
from evalsvc.metrics.full_precision import full_precision
from evalsvc.plugins.interfaces import Extractor, Generator, Judge, Modality
from evalsvc.plugins.registry import PluginKind
from evalsvc.plugins.scorers import Scorer, ScoresLikelihoods


def extractor(context: EvaluationContext, use: ExtractorUse) -> Extractor:
    """The extractor of a suite's entry."""
    key = digest_json(use.model_dump())
    if key not in context.extractors:
        factory = context.plugins.get(PluginKind.EXTRACTOR, use.use).load()
        context.extractors[key] = _built_with(context, f"extractor {use.use!r}", factory, use.options)
    return context.extractors[key]


def scorer(context: EvaluationContext, use: ScorerUse, modality: Modality | None = None) -> Scorer | ScoresLikelihoods:
    """The scorer of an entry of a suite of this modality."""
    key = digest_json([use.use, use.options, modality])
    if key not in context.scorers:
        factory = context.plugins.get(PluginKind.SCORER, use.use).load()
        context.scorers[key] = _built_with(context, f"scorer {use.use!r}", factory, use.options, modality)
    return context.scorers[key]


def judge(context: EvaluationContext, name: str, options: Mapping[str, Any]) -> Judge:
    """The judge of this name."""
    factory = context.plugins.get(PluginKind.JUDGE, name).load()
    built: Judge = _build(f"judge {name!r}", factory, (context.device,), options)
    return built


def reference(context: EvaluationContext, name: str) -> OpenReference:
    """The reference with this name, verified once."""
    if name not in context.references:
        context.references[name] = open_reference(context.database, context.plugins, name)
    return context.references[name]


def reference_of(context: EvaluationContext, spec: EvaluationSpec) -> OpenReference:
    """The reference of an evaluation."""
    assert spec.suite.reference is not None
    return reference(context, spec.suite.reference)


def decoding(
    context: EvaluationContext, generator: str, asked: Decoding | None, options: Mapping[str, Any]
) -> Decoding | None:
    """Decoding options of a generator of texts: those of the suite, overridden by options."""
    factory = context.plugins.get(PluginKind.GENERATOR, generator).load()
    if "decoding" not in inspect.signature(factory).parameters:
        return None
    return (asked or Decoding()).but({key: value for key, value in options.items() if key in OPTIONS})


def generator(
    context: EvaluationContext,
    name: str,
    checkpoint: Checkpoint,
    options: Mapping[str, Any],
    decoding: Decoding | None = None,
) -> Generator:
    """The generator built from this checkpoint."""
    if decoding:
        options = {key: value for key, value in options.items() if key not in OPTIONS}
    key = digest_json([name, checkpoint.digest, dict(options), decoding and decoding.model_dump()])
    if context.generator is None or context.generator[0] != key:
        context.generator = None
        factory = context.plugins.get(PluginKind.GENERATOR, name).load()
        given = context.plugins.pinned(name, options)
        if hasattr(factory, "pin"):
            given.pop(CONTENTS, None)
        if decoding:
            given["decoding"] = decoding
        files = context.plugins.checkpoint_files(name)
        context.content.require(checkpoint, files)
        built = _build(f"generator {name!r}", factory, (checkpoint, context.device), given)
        context.content.require(checkpoint, files)
        context.generator = key, built
    return context.generator[1]


def generator_of(context: EvaluationContext, spec: EvaluationSpec) -> Generator:
    """The generator of a spec."""
    return generator(context, spec.generator, checkpoint_of(spec), spec.options, spec.decoding)


def checkpoint_of(spec: EvaluationSpec) -> Checkpoint:
    """The checkpoint of a spec, without reading it."""
    return Checkpoint(spec.model, spec.step, Path(spec.path), spec.checkpoint)


def _built_with(
    context: EvaluationContext, what: str, factory: Any, options: Mapping[str, Any], modality: Modality | None = None
) -> Any:
    ours = {"plugins": context.plugins} | ({"modality": modality} if modality else {})
    given = {name: value for name, value in ours.items() if name in inspect.signature(factory).parameters}
    return _build(what, factory, (context.device,), {**options, **given})


def _build(what: str, factory: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    try:
        # The output of a plug-in is talk, and trials by which it chooses how to compute are float32.
        with redirect_stdout(sys.stderr), full_precision():
            return factory(*arguments, **options)
    except EvalsvcError:
        raise
    except TypeError as error:
        raise InputError(f"{what} does not take these options ({error})") from error
    except Exception as error:
        raise InputError(f"{what} failed to load ({type(error).__name__}: {error})") from error
