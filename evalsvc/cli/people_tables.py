"""Tables of people's votes, alone and beside the judgments of judges."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from evalsvc.api import schemas
from evalsvc.cli.backends import Answer
from evalsvc.cli.console import table


def ratings_answer(found: schemas.Ratings) -> Answer:
    """Ratings by people, their agreement, and judges beside them."""
    made = table(f"ratings by people, {found.suite}", "rank", "checkpoint", "rating", "95 %", "votes", right=("rank",))
    for each in found.ratings:
        rating = f"{each.rating:.0f}" if each.rating is not None else each.standing
        made.add_row(str(each.rank or "–"), each.checkpoint, rating, ends(each.ci_low, each.ci_high), str(each.games))
    remarks = [f"Errors: {found.method}."] if found.ratings else ["No votes yet: people vote on the page Rate."]
    if (alpha := found.agreement) and alpha.alpha is not None:
        interval = f" ({alpha.ci_low:.2f} to {alpha.ci_high:.2f})" if alpha.ci_low is not None else ""
        remarks.append(
            f"Agreement of {alpha.raters} raters: alpha {alpha.alpha:.2f}{interval}, {alpha.items} pairs rated twice."
        )
    shown = [made, *([beside_people(found.judges)] if found.judges else [])]
    return Answer(found.model_dump(mode="json"), shown, remarks)


def beside_people(found: Sequence[schemas.PeopleAndJudge]) -> Table:
    """Points of the first checkpoint against the second: of people, of a judge, of both together."""
    columns = ("first", "second", "judge", "people alone", "judge alone", "both together", "agreed", "kappa")
    made = table("people and judges: points of the first against the second, 95 %", *columns)
    for each in found:
        rates = each.rates
        cells = list(map(_rate, (rates.people, rates.judge, rates.together))) if rates else ["–", "–", each.reason]
        agreed = "–" if each.agreed is None else f"{each.agreed:.0%} of {each.both}"
        kappa = "–" if each.kappa is None else f"{each.kappa:.2f}"
        made.add_row(each.first, each.second, each.judge, *cells, agreed, kappa)
    return made


def ends(low: float | None, high: float | None) -> str:
    """An interval of ratings, or the one end that it has."""
    if low is not None and high is not None:
        return f"{low:.0f} to {high:.0f}"
    return f"at least {low:.0f}" if low is not None else f"at most {high:.0f}" if high is not None else "–"


def _rate(rate: schemas.Rate) -> str:
    return f"{rate.value:.3f} ({rate.ci_low:.3f} to {rate.ci_high:.3f})"
