"""Tables of people's votes, alone and beside the judgments of judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from evalsvc.cli.console import table

if TYPE_CHECKING:  # importing torch takes seconds
    from evalsvc.analysis.people_and_judges import Together
    from evalsvc.metrics.prediction_powered import Rate

Names = Sequence[str] | Mapping[int, str]


def beside_people(found: Sequence[Together], names: Names) -> Table:
    """Points of the first checkpoint against the second: of people, of a judge, of both together."""
    made = table(
        "people and judges: points of the first against the second, 95 %",
        "first",
        "second",
        "people",
        "judge",
        "both together",
        "agreed",
        "kappa",
    )
    for each in found:
        rates = each.rates
        cells = (
            [_rate(rate) for rate in (rates.people, rates.judge, rates.together)] if rates else ["–", "–", each.reason]
        )
        agreed = "–" if each.agreed is None else f"{each.agreed:.0%} of {each.both}"
        kappa = "–" if each.kappa is None else f"{each.kappa:.2f}"
        made.add_row(names[each.first], f"{names[each.second]} ({each.judge})", *cells, agreed, kappa)
    return made


def document(each: Together, names: Names) -> dict[str, Any]:
    """One row of the same as JSON."""
    return asdict(each) | {"first": names[each.first], "second": names[each.second]}


def ends(low: float | None, high: float | None) -> str:
    """An interval of ratings, or the one end that it has."""
    if low is not None and high is not None:
        return f"{low:.0f} to {high:.0f}"
    return f"at least {low:.0f}" if low is not None else f"at most {high:.0f}" if high is not None else "–"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.3f} ({rate.ci_low:.3f} to {rate.ci_high:.3f}, {rate.items} items)"
