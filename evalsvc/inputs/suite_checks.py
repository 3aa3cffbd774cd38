"""Consistency of a suite: labels, options of metrics, features, items and slices fit each other."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from evalsvc.inputs.items.schema import Items
from evalsvc.inputs.slice_labels import LONGEST as LONGEST_LABEL
from evalsvc.inputs.slice_labels import fits
from evalsvc.inputs.suite_entries import MetricUse
from evalsvc.metrics.inputs import Form, Source
from evalsvc.metrics.registry import ITEMS, METRICS
from evalsvc.metrics.tokenizers import TOKENIZERS

if TYPE_CHECKING:
    from evalsvc.inputs.suites import Suite

LABEL = "label"
"""Value of ``by`` for the class label of items."""


def check_suite(suite: Suite) -> None:
    """Make sure that the parts of a suite fit each other.

    Raises:
        ValueError: they do not; the message names the first part that does not fit.
    """
    for label, scorer in suite.scorers.items():
        if not scorer.quantities:
            raise ValueError(f"scorer {label!r} declares no quantities: read the suite with its plug-ins")
    for use in suite.metrics:
        _check(suite, use)
    twice = [label for label, count in Counter(suite.labels).items() if count > 1]
    if twice:
        raise ValueError(f"two metrics have the label {twice[0]!r}: set 'label: other_*' on one of them")
    if long := [label for label in suite.labels if len(label) > LONGEST_LABEL]:
        raise ValueError(f"the label {long[0][:20]}... has more than {LONGEST_LABEL} characters: shorten it")
    if suite.neighbours:
        _check_features(suite, "neighbours", suite.neighbours)
    if suite.items:
        _check_items(suite, suite.items)
    if suite.decoding and suite.modality != "text":
        raise ValueError(f"'decoding' applies to texts, but the suite scores {suite.modality} samples: remove it")
    for label, part in suite.index.items():
        if label not in suite.labels:
            raise ValueError(f"the index includes {label!r}, which the suite does not measure: remove it")
        if part.best == part.worst:
            raise ValueError(f"the index of {label} has equal values for best and worst: set different values")


def _check_items(suite: Suite, items: Items) -> None:
    if suite.prompts:
        raise ValueError("'prompts' and 'items' exclude each other: name the file in 'items', with 'prompt: COLUMN'")
    if not (items.count and items.conditions and items.sha256):
        raise ValueError("the items have not been read: read the suite from its file")
    if items.follows_reference and suite.reference is None:
        raise ValueError("labels 'as: reference' need a reference: name one in the suite")
    if suite.samples > (every := items.count * items.draws) and not (items.repeat or items.labels):
        raise ValueError(
            f"{suite.samples} samples are more than {items.count} items x {items.draws} draws = {every}: leave "
            f"'samples' out, set 'draws: {-(-suite.samples // items.count)}', or 'repeat: true'"
        )


def _check(suite: Suite, use: MetricUse) -> None:
    if use.metric not in METRICS:
        raise ValueError(f"there is no metric {use.metric!r}; available are {', '.join(sorted(METRICS))}")
    unknown = set(use.options) - set(use.spec.choices)
    if unknown:
        allowed = ", ".join(use.spec.choices) or "none"
        raise ValueError(f"{use.metric} has no option {sorted(unknown)[0]!r}; it has {allowed}")
    for option, value in use.options.items():
        if option != "tokenizer":  # named here, passed to the function as an object
            _check_option(use, option, value)
    if use.tokenizer not in (None, *TOKENIZERS):
        raise ValueError(f"{use.metric} has no tokenizer {use.tokenizer!r}; available are {', '.join(TOKENIZERS)}")
    if (use.spec.derive is None) is bool(use.of):
        ways = "remove 'of'" if use.of else "add 'of: scorer/quantity'"
        raise ValueError(f"{use.metric} {'does not aggregate' if use.of else 'aggregates'} a scorer: {ways}")
    if use.of:
        suite.scored(use.of)
    if use.by:
        _check_slices(suite, use)
    if suite.items and ITEMS in use.spec.inputs and use.options.get("k", 1) > suite.items.draws:
        raise ValueError(f"{use.metric} needs {use.options['k']} draws of each item: raise 'draws' of the items")
    missing = sorted(name for name, each in use.spec.inputs.items() if each.source is Source.CALLER)
    if missing:
        raise ValueError(f"{use.metric} needs {', '.join(missing)}, which evaluations do not provide")
    if use.spec.reads(Source.PROMPTS) and not (suite.prompts or (suite.items and suite.items.prompt)):
        raise ValueError(f"{use.metric} needs prompts: add 'items:' with 'file: FILE' and 'prompt: COLUMN'")
    if use.spec.reads(Source.ITEMS) and not use.of and not suite.items:
        raise ValueError(f"{use.metric} needs several draws of each item: add 'items:' with 'draws: N'")
    if use.splits and suite.reference is None:
        raise ValueError(f"{use.metric} needs a reference: name one in the suite")
    if use.spec.reads(Source.SAMPLES, Form.MATRIX):
        _check_features(suite, use.metric, use.features)
    elif use.spec.reads(Source.LIKELIHOOD) and use.features:
        if use.features not in suite.extractors:
            raise ValueError(f"{use.metric} needs nll, but 'extractors' has no {use.features!r}")
    elif use.features:
        raise ValueError(f"{use.metric} does not use features: remove 'features'")


def _check_slices(suite: Suite, use: MetricUse) -> None:
    items = suite.items
    known = [*([LABEL] if items and (items.labels or items.label) else ()), *(items.tags if items else ())]
    if use.by not in known:
        raise ValueError(f"{use.metric}: no items have {use.by!r}: use one of {', '.join(known) or 'none'} as 'by'")
    if use.of_documents:
        raise ValueError(f"{use.metric} measures documents of the reference instead of items: remove 'by'")
    if long := [label for each in suite.quantities_of(use) if not fits(label := use.label_of(each.name), use.by)]:
        raise ValueError(f"the label {long[0][:20]}... is too long to be sliced by {use.by[:20]!r}: shorten it")


def _check_features(suite: Suite, what: str, features: str) -> None:
    label, _, output = features.partition("/")
    if label not in suite.extractors or not output:
        known = ", ".join(f"{name}/<output>" for name in suite.extractors) or "no extractor"
        raise ValueError(f"{what} needs 'features: extractor/output' with an extractor of the suite ({known})")


def _check_option(use: MetricUse, option: str, value: Any) -> None:
    """Validate the value of an option before any samples are drawn."""
    try:
        kind: TypeAdapter[Any] = TypeAdapter(_type_of(use.spec.function, option))
    except (AttributeError, NameError, TypeError, PydanticUserError):  # types of a plug-in
        return
    try:
        kind.validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(f"{use.metric}: option {option}: {value!r}: {error.errors()[0]['msg']}") from None


def _type_of(function: Callable[..., Any], option: str) -> Any:
    """The type of one parameter; types of the others may need torch, which reading a suite does not import."""
    alone = SimpleNamespace(__annotations__={option: function.__annotations__.get(option, Any)})
    return get_type_hints(alone, inspect.unwrap(function).__globals__)[option]
