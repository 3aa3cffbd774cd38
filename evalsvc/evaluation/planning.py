"""Planning: from a checkpoint, its configuration and a suite to a frozen spec, checked before any computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.evaluation import opening
from evalsvc.evaluation.conditions import check_conditions
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.earlier_digests import move_earlier
from evalsvc.evaluation.items import items_of, places_of, sources_of
from evalsvc.evaluation.scorer_checks import check_scorers, needs_samples
from evalsvc.evaluation.slicing import require_sliceable
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.suite_prompts import prompts_of
from evalsvc.inputs.checkpoints import Checkpoint
from evalsvc.inputs.decoding_options import Decoding
from evalsvc.inputs.published_statistics import StatisticsFile
from evalsvc.inputs.references import OpenReference
from evalsvc.inputs.sample_order import SampleOrder, order_of
from evalsvc.inputs.suite_entries import Split
from evalsvc.inputs.suites import Suite
from evalsvc.plugins.interfaces import EmbedsTexts, ExtractorInfo, FindsItems, Generator, HoldsSamples, Likelihood
from evalsvc.plugins.registry import PluginKind


def plan(
    context: EvaluationContext,
    checkpoint: Checkpoint,
    generator: str,
    options: Mapping[str, Any],
    suite: Suite,
    seed: int | None = None,
) -> EvaluationSpec:
    """Open everything that an evaluation needs and freeze it; ``seed`` defaults to the suite's.

    Raises:
        InputError: the generator, extractors, metrics, prompts or reference are incompatible with the suite or each
            other.
    """
    plugin = context.plugins.get(PluginKind.GENERATOR, generator)
    options = context.plugins.pinned(generator, options)
    move_earlier(context.database, lambda: context.artifacts, checkpoint, generator)
    decoding = opening.decoding(context, generator, suite.decoding, options)
    loaded = opening.generator(context, generator, checkpoint, options, decoding)
    if loaded.info.modality != suite.modality:
        raise InputError(
            f"suite {suite.id} scores {suite.modality} samples, but generator {generator!r} makes "
            f"{loaded.info.modality} samples"
        )
    extractors = {label: opening.extractor(context, use).info for label, use in suite.extractors.items()}
    _check_modalities(suite, extractors)
    _check_arrays(suite, extractors)
    _check_prompts(context, suite)
    scorers = {label: opening.scorer(context, use, suite.modality) for label, use in suite.scorers.items()}
    check_scorers(suite, scorers, loaded, frozenset({checkpoint.model, checkpoint.path.name, checkpoint.digest}))
    check_conditions(suite, generator, loaded.info, {column for each in scorers.values() for column in each.info.reads})
    reference = opening.reference(context, suite.reference) if suite.reference else None
    splits = _splits(suite, reference, extractors)
    spec = EvaluationSpec(
        model=checkpoint.model,
        step=checkpoint.step,
        path=str(checkpoint.path),
        checkpoint=checkpoint.digest,
        generator=generator,
        generator_version=plugin.recorded_version,
        options=options,
        suite=suite,
        seed=suite.seed if seed is None else seed,
        reference={split: reference.digests[split] for split in splits} if reference else {},
        reference_counts=splits,
        extractors={label: info.protocol for label, info in extractors.items()},
        scorers={label: scorer.info.protocol for label, scorer in scorers.items()},
        draws=needs_samples(suite, scorers),
        likelihood=isinstance(loaded, Likelihood),
        family=loaded.info.family,
        decoding=decoding,
        weights=loaded.info.weights,
        order=_order(context, suite, loaded, decoding),
    )
    if isinstance(loaded, HoldsSamples):
        _check_held(context, spec, loaded)
    require_sliceable(context, spec, extractors, reference.split if reference else None)
    return spec


def _check_held(context: EvaluationContext, spec: EvaluationSpec, loaded: HoldsSamples) -> None:
    """Raise unless the stored samples include all that the suite scores."""
    suite, items = spec.suite, items_of(context, spec.suite)
    if suite.items and items and isinstance(loaded, FindsItems) and loaded.finds_items:
        rows, draws = places_of(context, spec, 0, suite.samples)
        for row, draw in zip(rows.tolist(), draws.tolist(), strict=True):
            loaded.find(items.ids[row], draw)
    elif suite.items and loaded.held >= suite.samples:
        needed = int(sources_of(context, spec, 0, suite.samples).max()) + 1
        if loaded.held < needed:
            raise InputError(
                f"{spec.path} contains {loaded.held} samples, but suite {suite.id} scores sample {needed}: draw d of "
                f"item i is sample d x {suite.items.count} + i; add samples, or use fewer draws"
            )
    elif loaded.held < suite.samples:
        raise InputError(
            f"{spec.path} contains {loaded.held} samples, but suite {suite.id} scores "
            f"{suite.samples}{getattr(loaded, 'note', '')}: add samples, or use a smaller suite"
        )


def _check_modalities(suite: Suite, extractors: Mapping[str, ExtractorInfo]) -> None:
    """Make sure that every extractor takes the samples that the suite scores."""
    for label, info in extractors.items():
        if suite.modality not in info.takes:
            taken, name = " and ".join(sorted(info.takes)), suite.extractors[label].use
            raise InputError(
                f"suite {suite.id} scores {suite.modality} samples, and extractor {name!r} takes {taken} samples"
            )


def _check_arrays(suite: Suite, extractors: Mapping[str, ExtractorInfo]) -> None:
    """Raise unless every array that the suite names is an output of its extractor."""
    asked = [(use.metric, array) for use in suite.metrics for array in sorted(use.arrays)]
    for what, array in [*asked, ("neighbours", suite.neighbours)] if suite.neighbours else asked:
        label, _, output = array.partition("/")
        if output not in extractors[label].outputs:
            raise InputError(
                f"suite {suite.id}: {what} needs {array!r}, but extractor {label!r} returns "
                f"{', '.join(extractors[label].outputs)}"
            )


def _check_prompts(context: EvaluationContext, suite: Suite) -> None:
    """Raise if prompts are missing, or if an extractor cannot embed them for a metric."""
    if suite.prompts and len(prompts := prompts_of(context, suite)) < suite.samples:
        raise InputError(
            f"{suite.prompts.path} contains {len(prompts)} prompts, but suite {suite.id} draws "
            f"{suite.samples} samples: add prompts, or draw fewer samples"
        )
    items_of(context, suite)  # reads and stores them, for workers elsewhere
    for use in suite.metrics:
        embedder = suite.extractors.get(use.features.partition("/")[0])
        if "prompts" not in use.spec.inputs or embedder is None:
            continue
        if not isinstance(opening.extractor(context, embedder), EmbedsTexts):
            raise InputError(f"suite {suite.id}: extractor {embedder.use!r} cannot embed prompts: use 'clip'")


def _splits(suite: Suite, reference: OpenReference | None, extractors: Mapping[str, ExtractorInfo]) -> dict[Split, int]:
    """The splits of the reference that the suite uses, and their numbers of samples."""
    if reference is None:
        return {}
    wanted = {split for use in suite.metrics for split in use.splits}
    if suite.neighbours or (suite.items and suite.items.follows_reference):
        wanted.add("train")
    for use in suite.metrics:
        if any(use.target_of(quantity) == "reference" for quantity in suite.quantities_of(use)):
            wanted |= {use.against} & {*reference.splits}
    if "heldout" in reference.splits and any(use.has_control for use in suite.metrics):
        wanted.add("heldout")
    splits = {split: len(reference.split(split)) for split in sorted(wanted)}
    for split in splits:
        samples = reference.split(split)
        if isinstance(samples, StatisticsFile):
            samples.check(suite, split, extractors)
        elif samples.modality != suite.modality:
            raise InputError(
                f"suite {suite.id} scores {suite.modality} samples, and reference {suite.reference!r} holds "
                f"{samples.modality} samples"
            )
    return splits


def _order(
    context: EvaluationContext, suite: Suite, loaded: Generator, decoding: Decoding | None
) -> SampleOrder | None:
    if suite.items:  # which have an order of their own
        return None
    # Keyed by the suite's seed: an evaluation with another seed uses the same items with other noise.
    return order_of(
        suite.seed,
        prompts=len(prompts_of(context, suite)) if suite.prompts else None,
        held=loaded.held if isinstance(loaded, HoldsSamples) else None,
        own=len(decoding.prompts) if decoding else 0,
    )
