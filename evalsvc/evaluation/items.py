"""Items of an evaluation: which item and draw each sample is, and what generators and scorers are given of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Int64

from evalsvc.core.errors import DamagedError, InputError
from evalsvc.core.files.verification import report
from evalsvc.evaluation import opening
from evalsvc.evaluation.context import EvaluationContext
from evalsvc.evaluation.sampling_units import SamplingUnits
from evalsvc.evaluation.spec import EvaluationSpec
from evalsvc.evaluation.suite_prompts import prompts_of
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.reading import read_items
from evalsvc.inputs.items.schedule import Places, by_frequency, by_item
from evalsvc.inputs.items.storage import load_items, load_media, store_items
from evalsvc.inputs.suites import Suite
from evalsvc.metrics.devices import staged
from evalsvc.metrics.lazy_torch import torch
from evalsvc.plugins.interfaces import HasLabels
from evalsvc.plugins.items import Column, ItemBatch, Usage
from evalsvc.plugins.rng import item_seeds
from evalsvc.plugins.sample_files import KeepsFiles
from evalsvc.plugins.samples import SampleRequest, Samples, Texts


def items_of(context: EvaluationContext, suite: Suite) -> ItemSet | None:
    """The items of a suite in the order in which they are drawn; prompts of a suite without items in their order.

    ``None`` if the suite has neither.

    Raises:
        InputError: the file has changed since the suite was read, or cannot be read.
    """
    if suite.items is None:
        if suite.prompts is None:
            return None
        key = f"prompts {suite.prompts.sha256}"
        if key not in context.items:
            context.items[key] = ItemSet.of_prompts(prompts_of(context, suite))
        return context.items[key]
    assert suite.items.sha256
    key = f"items {suite.items.sha256} {suite.seed}"
    if key not in context.items:
        items = _loaded(context, suite, suite.items.sha256)
        if (items.conditions, len(items)) != (suite.items.conditions, suite.items.count):
            raise InputError(f"suite {suite.id} declares other items than those of its digest: read it from its file")
        context.items[key] = items.ordered(suite.seed)
    return context.items[key]


def _loaded(context: EvaluationContext, suite: Suite, sha256: str) -> ItemSet:
    """The items from the artifacts, else from their file, which is then stored."""
    assert suite.items
    try:
        return load_items(context.artifacts, sha256)
    except DamagedError as error:
        if not suite.items.labels:
            report(error)
        try:
            read = read_items(suite.items)
        except InputError as unreadable:
            raise InputError(f"artifact {error.key} ({error.reason}) cannot be restored: {unreadable}") from None
    if read.items.sha256 != sha256:
        raise InputError(
            f"{suite.items.file} has changed since suite {suite.id} was read: restore it, or raise the suite's version"
        )
    store_items(context.artifacts, read.items, read.media)
    return read.items


def holds_items(context: EvaluationContext, suite: Suite) -> bool:
    """Whether the items of a suite are stored already, so that its file is not read."""
    if suite.items is None or suite.items.sha256 is None:
        return False
    try:
        load_items(context.artifacts, suite.items.sha256)
    except DamagedError:
        return False
    return True


def places_of(context: EvaluationContext, spec: EvaluationSpec, start: int, stop: int) -> Places:
    """Row in :func:`items_of`, and number of the draw, of samples ``start`` to ``stop``: int64, shape (n,) each.

    Without items, a sample's row is its index in the source.
    """
    suite = spec.suite
    if suite.items is None:
        indices = spec.indices(start, stop)
        return indices, np.zeros_like(indices)
    items = items_of(context, suite)
    assert items
    if suite.items.labels and suite.items.labels.frequencies == "reference":
        counts = label_counts(context, suite, suite.items.labels.classes)
        return by_frequency(counts[items.positions], suite.seed, start, stop)
    return by_item(len(items), suite.items.draws, start, stop)


def label_counts(context: EvaluationContext, suite: Suite, classes: int) -> Int64[np.ndarray, " classes"]:
    """How many training samples of the suite's reference have each class label.

    Raises:
        InputError: the reference has no labels, or none in this range.
    """
    assert suite.reference
    samples = opening.reference(context, suite.reference).split("train")
    if not isinstance(samples, HasLabels) or samples.labels.max(initial=-1) < 0:
        raise InputError(
            f"reference {suite.reference!r} has no class labels, but suite {suite.id} draws labels 'as: "
            "reference': use 'as: balanced', or a reference with labels"
        )
    labels = samples.labels
    if not len(kept := labels[(labels >= 0) & (labels < classes)]) or int(labels.max()) >= classes:
        raise InputError(
            f"reference {suite.reference!r} has class labels up to {labels.max()}, but suite {suite.id} draws labels 0 "
            f"to {classes - 1}: set 'classes: {max(int(labels.max()) + 1, 1)}'"
        )
    return np.bincount(kept, minlength=classes)


def sources_of(context: EvaluationContext, spec: EvaluationSpec, start: int, stop: int) -> Int64[np.ndarray, " n"]:
    """Index in its source of each sample from ``start`` to ``stop``: of a stored sample, or of noise.

    Draw d of the item in row p of its file has the index ``d * items + p``.
    """
    if spec.suite.items is None:
        return spec.indices(start, stop)
    items = items_of(context, spec.suite)
    assert items
    rows, draws = places_of(context, spec, start, stop)
    indices: Int64[np.ndarray, " n"] = draws * len(items) + items.positions[rows]
    return indices


def units_of(context: EvaluationContext, spec: EvaluationSpec) -> SamplingUnits:
    """The independent units of the samples of an evaluation."""
    if spec.suite.items is None:
        return SamplingUnits.of(spec, prompts_of(context, spec.suite))
    items = items_of(context, spec.suite)
    assert items
    return SamplingUnits.of_items(spec, items, places_of(context, spec, 0, spec.suite.samples))


def request_of(context: EvaluationContext, spec: EvaluationSpec, start: int, stop: int) -> SampleRequest:
    """The request for samples ``start`` to ``stop``, with the conditions of their items."""
    suite, device = spec.suite, context.device
    indices = torch.from_numpy(sources_of(context, spec, start, stop).astype(np.int64))
    if suite.items is None:
        return SampleRequest.at(spec.seed, indices, device, prompts_of(context, suite))
    every = items_of(context, suite)
    assert every
    rows, draws = places_of(context, spec, start, stop)
    items, numbers = every.taken(rows), torch.from_numpy(draws)
    return SampleRequest(
        seeds=staged(item_seeds(spec.seed, torch.from_numpy(items.hashes), numbers), device),
        indices=staged(indices, device),
        device=device,
        prompts=items.prompts,
        labels=None if items.labels is None else staged(torch.from_numpy(items.labels), device),
        sources=_sources_of(context, suite, items),
        item_ids=items.ids,
        draws=staged(numbers, device),
    )


def item_batch(
    context: EvaluationContext,
    spec: EvaluationSpec,
    start: int,
    stop: int,
    reads: Collection[Column] = (),
    usage: Usage | None = None,
) -> ItemBatch:
    """The items of samples ``start`` to ``stop`` for a scorer that reads these columns.

    Without items, a sample is its own item.
    """
    rows, draws = places_of(context, spec, start, stop)
    numbers, used = torch.from_numpy(draws), usage if "usage" in reads else None
    files = _files_of(context, spec, start, stop) if "file" in reads else ()
    every = items_of(context, spec.suite)
    if every is None:
        return ItemBatch(tuple(map(str, rows.tolist())), numbers, usage=used, files=files)
    items = every.taken(rows)
    return ItemBatch(
        ids=items.ids,
        draws=numbers,
        prompts=items.prompts if "prompt" in reads else (),
        labels=staged(torch.from_numpy(items.labels), context.device)
        if "label" in reads and items.labels is not None
        else None,
        sources=_sources_of(context, spec.suite, items) if "source" in reads else None,
        targets=_targets_of(context, spec.suite, items) if "target" in reads else (),
        choices=items.choices if "choices" in reads else (),
        answers=items.answers if "answer" in reads else (),
        tags=items.tags if "tags" in reads else {},
        usage=used,
        files=files,
    )


def _files_of(
    context: EvaluationContext, spec: EvaluationSpec, start: int, stop: int
) -> tuple[Callable[[], bytes], ...]:
    generator = opening.generator_of(context, spec)
    assert isinstance(generator, KeepsFiles)
    return generator.files(request_of(context, spec, start, stop))


def _sources_of(context: EvaluationContext, suite: Suite, items: ItemSet) -> Samples | None:
    if not items.sources:
        return None
    return _media(context, suite, items.sources) if "source" in items.media else Texts(items.sources)


def _targets_of(context: EvaluationContext, suite: Suite, items: ItemSet) -> tuple[tuple[str, ...], ...] | Samples:
    if "target" not in items.media:
        return items.targets
    return _media(context, suite, [name for (name,) in items.targets])


def _media(context: EvaluationContext, suite: Suite, names: Sequence[str]) -> Samples:
    assert suite.items
    assert suite.items.sha256
    return load_media(context.artifacts, suite.items.sha256, names)
