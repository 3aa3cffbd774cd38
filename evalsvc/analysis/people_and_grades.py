"""Grades of people beside the values of a scorer: agreement, and a mean of both that is as unbiased as people's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from evalsvc.analysis.item_measures import ItemMeasure
from evalsvc.analysis.items import ItemTable
from evalsvc.core.errors import InputError
from evalsvc.inputs.human_grades import HumanGrade
from evalsvc.metrics.agreement import Agreement, Level, krippendorff_alpha
from evalsvc.metrics.prediction_powered import FEWEST, PredictionPowered, Rate, prediction_powered

LEVELS: tuple[Level, ...] = ("ordinal", "interval")


@dataclass(frozen=True)
class PeopleAndGrades:
    """``samples`` that people rated and that have a value, and how many that people rated were ``left_out``.

    ``people`` is Krippendorff's alpha of the raters by level, and ``both`` that of the scorer and the mean of people.
    ``means`` are in the unit of the scorer; without them there is a ``reason``.
    """

    suite: str
    checkpoint: str
    of: str
    samples: int
    left_out: int
    raters: int
    people: Mapping[Level, Agreement]
    both: Mapping[Level, Agreement]
    means: PredictionPowered | None
    reason: str


def compare_with_people(table: ItemTable, of: ItemMeasure, grades: Sequence[HumanGrade]) -> PeopleAndGrades:
    """People's grades beside a measure of the same samples; the last grade of a rater for a sample counts.

    Samples without a value, or outside of the slice, are left out. The means hold if the rated items are a random part
    of all, as the first samples of an evaluation are.

    Raises:
        InputError: a grade is of an item or draw that the evaluation does not have, or outside of the range.
    """
    given = _by_sample(table, of, grades)
    values = table.values(of)
    rated = [sample for sample in given if np.isfinite(values[sample])]
    raters = sorted({rater for sample in rated for rater in given[sample]})
    marks = np.array([[given[sample].get(rater, math.nan) for sample in rated] for rater in raters])
    marks = marks.reshape(len(raters), len(rated))
    means = np.array([float(np.mean([*given[sample].values()])) for sample in rated])
    items = table.items[rated]
    clustered = len(np.unique(items)) < len(items)
    found, reason = _means(table, of, items, means, values[rated])
    return PeopleAndGrades(
        table.suite,
        table.name,
        of.key,
        len(rated),
        len(given) - len(rated),
        len(raters),
        _alphas(marks, clustered),
        _alphas(np.stack([means, values[rated]]), clustered),
        found,
        reason,
    )


def _by_sample(table: ItemTable, of: ItemMeasure, grades: Sequence[HumanGrade]) -> dict[int, dict[str, float]]:
    """Grades by sample and rater."""
    places = {
        (table.ids[item], draw): sample
        for sample, (item, draw) in enumerate(zip(table.items.tolist(), table.draws.tolist(), strict=True))
    }
    low, high = of.quantity.low, of.quantity.high
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for each in grades:
        if (sample := places.get((each.item, each.draw))) is None:
            raise InputError(
                f"{each.place}: {table.suite} has no item {each.item!r:.80} with draw {each.draw}: use those of "
                "'evalsvc export --items'"
            )
        if not low <= each.grade <= high:
            raise InputError(
                f"{each.place}: the grade {each.grade:g} is outside of {low:g} to {high:g}, the range of {of.key}"
            )
        found[sample][each.rater] = each.grade
    return found


def _alphas(marks: Float64[np.ndarray, "raters samples"], clustered: bool) -> dict[Level, Agreement]:
    """Alpha by level; where samples share items, without the interval, which counts them as independent."""
    found = {level: krippendorff_alpha(marks, level) for level in LEVELS}
    if clustered:
        return {level: replace(each, ci_low=None, ci_high=None) for level, each in found.items()}
    return found


def _means(
    table: ItemTable,
    of: ItemMeasure,
    items: np.ndarray,
    people: Float64[np.ndarray, " samples"],
    judged: Float64[np.ndarray, " samples"],
) -> tuple[PredictionPowered | None, str]:
    """Means over items of people, of the scorer, and of both together, or the reason why there are none."""
    low, width = of.quantity.low, of.quantity.high - of.quantity.low
    if not math.isfinite(width):
        return None, f"{of.key} has no range: the mean of both together needs a smallest and a largest value"
    rows, place = np.unique(items, return_inverse=True)
    if len(rows) < FEWEST:
        return None, f"people rated {len(rows)} items that have a value; {FEWEST} are needed"
    every, means = table.means(of)
    others = means[~np.isin(every, rows)]

    def by_item(each: Float64[np.ndarray, " samples"]) -> Float64[np.ndarray, " items"]:
        return np.asarray((np.bincount(place, each) / np.bincount(place) - low) / width)

    found = prediction_powered(by_item(people), by_item(judged), (others - low) / width)

    def scaled(rate: Rate) -> Rate:
        ends = {name: low + width * getattr(rate, name) for name in ("value", "ci_low", "ci_high")}
        return replace(rate, stderr=width * rate.stderr, **ends)

    return replace(found, people=scaled(found.people), judge=scaled(found.judge), together=scaled(found.together)), ""
