"""Listings of items for people and clients: bounded rows with the prompt, the target and the answer as texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalsvc.analysis.item_differences import ItemChange, item_differences
from evalsvc.analysis.item_measures import ItemMeasure
from evalsvc.analysis.item_rows import ItemRow
from evalsvc.analysis.items import ItemSample, ItemTable, Outcome
from evalsvc.analysis.kept_samples import KeptSample, KeptSamples

LONGEST_TEXT = 1000
"""Maximum length of a text in a listing, in characters."""
MOST_SLICES = 1000


@dataclass(frozen=True)
class ListedSample:
    """One sample: its number, its draw and value, and its ``answer``, a text or a description of the media.

    Without a value, ``outcome`` is ``not applicable`` or ``failed``. ``absent`` says why the answer is not kept.
    """

    sample: int
    draw: int
    value: float | None
    outcome: str
    reason: str
    answer: str
    absent: str
    item: ItemRow


@dataclass(frozen=True)
class ListedSlice:
    """The items with one value of a tag: the mean over their samples, and the worst of them."""

    value: str
    items: int
    samples: int
    mean: float | None
    failed: int
    worst: ListedSample


@dataclass(frozen=True)
class ItemListing:
    """Samples of one evaluation, from the worst or the best; counts are those of all its samples or of the slice."""

    evaluation: int
    name: str
    suite: str
    of: str
    quantity: str
    direction: str
    unit: str
    samples: int
    scored: int
    not_applicable: int
    failed: int
    items: Sequence[ListedSample]
    slices: Sequence[ListedSlice] = ()


@dataclass(frozen=True)
class ListedChange:
    """One item on both sides: means over its draws, b minus a, and the draw that changed most."""

    value_a: float
    value_b: float
    difference: float
    a: ListedSample
    b: ListedSample


@dataclass(frozen=True)
class ItemComparison:
    """Items that got worse and better from a to b, the largest changes first, and the numbers of all.

    ``unpaired`` items have a value on one side only, ``changed`` ones have another target.
    """

    suite: str
    a: str
    b: str
    of: str
    quantity: str
    direction: str
    unit: str
    paired: int
    worse: int
    better: int
    unpaired: int
    changed: int
    regressions: Sequence[ListedChange]
    improvements: Sequence[ListedChange]


def item_listing(
    table: ItemTable, name: str | None, limit: int, start: int = 0, *, best: bool = False, by: str | None = None
) -> ItemListing:
    """List samples from the ``start``-th worst, or best, by a measure; by default the suite's first.

    Raises:
        InputError: the suite has no such measure, or its items no such tag.
    """
    of = table.measure(name)
    outcomes = table.outcomes(of.scorer)[table.in_slice(of)]
    counts = {each: int((outcomes == each).sum()) for each in Outcome}
    shown = table.ranked(of, best=best)[start : start + limit]
    return ItemListing(
        table.evaluation,
        table.name,
        table.suite,
        **_facts(of),
        samples=len(outcomes),
        scored=counts[Outcome.SCORED],
        not_applicable=counts[Outcome.NOT_APPLICABLE],
        failed=counts[Outcome.FAILED],
        items=listed(table, table.listed(shown, of)),
        slices=_slices(table, of, by) if by else (),
    )


def item_comparison(a: ItemTable, b: ItemTable, name: str | None, limit: int) -> ItemComparison:
    """List at most ``limit`` items that got worse, and as many that got better.

    Raises:
        InputError: the two are not comparable by this measure.
    """
    found = item_differences(a, b, name)

    def changes(of: Iterable[ItemChange]) -> list[ListedChange]:
        every = list(of)
        sides = listed(a, [each.sample_a for each in every]), listed(b, [each.sample_b for each in every])
        return [
            ListedChange(each.value_a, each.value_b, each.difference, *samples)
            for each, *samples in zip(every, *sides, strict=True)
        ]

    return ItemComparison(
        b.suite,
        a.name,
        b.name,
        **_facts(found.of),
        paired=len(found),
        worse=found.worse,
        better=found.better,
        unpaired=found.unpaired,
        changed=found.changed,
        regressions=changes(found.regressions(limit)),
        improvements=changes(found.improvements(limit)),
    )


def listed(table: ItemTable, samples: Iterable[ItemSample]) -> list[ListedSample]:
    """Samples with their answers, all texts shortened."""
    every, kept = list(samples), KeptSamples(table)
    # In their order, so that each file is read once.
    found = {number: _answer(kept[number]) for number in sorted({each.sample for each in every})}
    return [_listed(each, *found[each.sample]) for each in every]


def _answer(sample: KeptSample) -> tuple[str, str]:
    return shortened(sample.described), sample.absent


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text of at most ``longest`` characters, with an ellipsis where it was cut; lone surrogates are escaped."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return text.encode(errors="backslashreplace").decode()


def _facts(of: ItemMeasure) -> dict[str, str]:
    part = f"[{of.tag}={of.value}]" if of.tag else ""
    quantity = of.quantity
    return {
        "of": shortened(of.key + part),
        "quantity": quantity.name,
        "direction": str(quantity.direction),
        "unit": quantity.unit,
    }


def _listed(each: ItemSample, answer: str, absent: str) -> ListedSample:
    item = each.item
    short = replace(
        item,
        id=shortened(item.id),
        prompt=shortened(item.prompt),
        source=shortened(item.source),
        target=shortened(item.target),
        group=shortened(item.group),
        tags={shortened(tag): shortened(value) for tag, value in item.tags.items()},
    )
    return ListedSample(
        each.sample,
        each.draw,
        each.value,
        each.outcome.words,
        shortened(each.reason),
        answer,
        absent,
        short,
    )


def _slices(table: ItemTable, of: ItemMeasure, tag: str) -> list[ListedSlice]:
    """The values of a tag, from the worst mean; those without a value last."""
    values, outcomes = table.values(of), table.outcomes(of.scorer)
    ranked = table.ranked(of)
    texts, of_sample = np.unique(table.tag(tag)[table.items], return_inverse=True)
    found = []
    for place, text in enumerate(texts[:MOST_SLICES]):
        inside = (of_sample == place) & table.in_slice(of)
        if not inside.any():
            continue
        there = values[inside][np.isfinite(values[inside])]
        facts = (
            shortened(str(text)),
            len(np.unique(table.items[inside])),
            int(inside.sum()),
            float(there.mean()) if len(there) else None,
            int((outcomes[inside] == Outcome.FAILED).sum()),
        )
        found.append((facts, ranked[inside[ranked]][0]))
    worst = listed(table, table.listed([first for _, first in found], of))
    slices = [ListedSlice(*facts, each) for (facts, _), each in zip(found, worst, strict=True)]
    return sorted(slices, key=lambda each: (each.mean is None, -of.sign * (each.mean or 0.0)))
