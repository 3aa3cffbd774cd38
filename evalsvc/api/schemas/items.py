"""Items: the samples of an evaluation one by one, and their changes between two checkpoints."""

from __future__ import annotations

from typing import Literal

from evalsvc.api.schemas.common import Response


class ItemFacts(Response):
    """One row of an item set; media are named, and texts are cut at 1,000 characters."""

    id: str
    prompt: str
    source: str
    target: str
    label: int | None
    group: str
    tags: dict[str, str]


class ItemSample(Response):
    """One sample of an item, with its value; ``answer`` is the text itself, or describes an image, sound or video.

    A sample without a value is ``not applicable`` or ``failed``, for a ``reason``; ``absent`` says why the answer is
    missing.
    """

    sample: int
    draw: int
    value: float | None
    outcome: Literal["scored", "not applicable", "failed"]
    reason: str
    answer: str
    absent: str
    item: ItemFacts


class ItemSlice(Response):
    """The items with one value of a tag: the mean over their samples, and the worst of them."""

    value: str
    items: int
    samples: int
    mean: float | None
    failed: int
    worst: ItemSample


class ItemMeasure(Response):
    """A measure of single samples: ``of`` is `scorer/quantity`, with the slice in brackets if it covers only one."""

    suite: str
    of: str
    quantity: str
    direction: Literal["lower", "higher", "neutral"]
    unit: str


class ItemListing(ItemMeasure):
    """Samples of one evaluation from the worst or the best; the counts are those of all its samples.

    ``slices`` are filled if they were asked for. ``next`` is the cursor of the next page, and null on the last one.
    """

    evaluation: int
    name: str
    samples: int
    scored: int
    not_applicable: int
    failed: int
    items: list[ItemSample]
    slices: list[ItemSlice]
    next: str | None = None


class ItemChange(Response):
    """One item on both sides: means over its draws, b minus a, and the draw that changed most."""

    value_a: float
    value_b: float
    difference: float
    a: ItemSample
    b: ItemSample


class ItemComparison(ItemMeasure):
    """Items that got worse and better from ``a`` to ``b``, the largest changes first, and the numbers of all.

    ``unpaired`` items have a value on one side only; ``changed`` ones have another target, and are left out.
    """

    a: str
    b: str
    paired: int
    worse: int
    better: int
    unpaired: int
    changed: int
    regressions: list[ItemChange]
    improvements: list[ItemChange]
