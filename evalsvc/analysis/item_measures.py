"""Measures of single samples: quantities of scorers, found by the labels of the scores that aggregate them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evalsvc.core.errors import InputError
from evalsvc.inputs.slice_labels import parts
from evalsvc.inputs.suite_entries import MetricUse, ScorerUse
from evalsvc.metrics.aggregates import FAILED
from evalsvc.metrics.registry import METRICS, Quantity
from evalsvc.metrics.score import Direction


@dataclass(frozen=True)
class ItemMeasure:
    """A number of each sample: a ``quantity`` of a scorer, or whether the sample ``failed`` for it (1 or 0).

    ``tag`` and ``value`` restrict it to the items of one slice.
    """

    scorer: str
    quantity: Quantity
    failed: bool = False
    tag: str = ""
    value: str = ""

    @property
    def key(self) -> str:
        """``scorer/quantity``."""
        return f"{self.scorer}/{self.quantity.name}"

    @property
    def sign(self) -> int:
        """-1 if higher values are better, else 1: values times the sign are worse the larger they are."""
        return -1 if self.quantity.direction is Direction.HIGHER else 1


def measures_of(suite: Mapping[str, Any]) -> dict[str, ItemMeasure]:
    """The measures of a suite's body by every name that has one meaning.

    Names are the labels of scores, ``scorer/quantity``, and ``scorer`` if it returns one quantity besides sums. Sums
    have a name only if a score is made of them.
    """
    scorers = {label: ScorerUse.model_validate(each) for label, each in (suite.get("scorers") or {}).items()}
    used = {body.get("of") for body in suite["metrics"]}
    every = {
        f"{label}/{each.name}": ItemMeasure(label, each.quantity)
        for label, scorer in scorers.items()
        for each in scorer.quantities
        if each in scorer.reported or f"{label}/{each.name}" in used
    }
    alone = {
        label: every[f"{label}/{scorer.reported[0].name}"]
        for label, scorer in scorers.items()
        if len(scorer.reported) == 1
    }
    named = every | alone
    labels: dict[str, ItemMeasure] = {}
    for body in suite["metrics"]:
        use = MetricUse.model_validate(body)
        # A metric of a plug-in that is not installed here has labels that are not known.
        if use.of in named and use.metric in METRICS and use.spec.derive:
            derived = use.spec.derive(named[use.of].quantity, {**use.spec.options, **use.options})
            labels |= {use.label_of(each.name): named[use.of] for each in derived}
    failed = {f"{label}_failed": ItemMeasure(label, FAILED, failed=True) for label in scorers}
    return labels | named | failed


def measure_of(suite: Mapping[str, Any], name: str | None, where: str) -> ItemMeasure:
    """The measure that a name means, by default the first; of a slice, ``value`` is written as in the label.

    ``where`` names the suite.

    Raises:
        InputError: there is no such measure.
    """
    known = measures_of(suite)
    if name is None and known:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    cut = parts(name or "")
    if cut and cut[0] in known:
        return replace(known[cut[0]], tag=cut[1], value=cut[2])
    if not known:
        raise InputError(f"{where} scores no items: choose a suite that has scorers")
    raise InputError(f"{where} has no scores of items called {name!r}: use one of {', '.join(known)}")
