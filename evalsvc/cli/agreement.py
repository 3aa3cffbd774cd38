"""``agreement``: grades of people beside the values of a scorer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsvc.cli.console import err, out, print_json, table
from evalsvc.cli.items import OF, stored_tables
from evalsvc.cli.options import AsJson
from evalsvc.core.settings import Settings
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.analysis.people_and_grades import PeopleAndGrades
    from evalsvc.metrics.agreement import Agreement


def agreement(
    checkpoint: Annotated[
        str, typer.Argument(help="model, model@step, alias, digest, or the path of a scored checkpoint.")
    ],
    people: Annotated[
        Path,
        typer.Option(help="File of grades: columns item and grade, and maybe draw and rater (.csv, .jsonl, .parquet)."),
    ],
    of: Annotated[str | None, typer.Option(help=f"{OF} By default the suite's first.")] = None,
    suite: Annotated[str | None, typer.Option(help="Suite; by default the most recently used one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the values of a scorer with grades of people: agreement, and the mean of both together."""
    from evalsvc.analysis.people_and_grades import compare_with_people
    from evalsvc.inputs.human_grades import read_grades

    grades = read_grades(people)
    (items,) = stored_tables(Database(Settings().database), suite, checkpoint)
    found = compare_with_people(items, items.measure(of), grades)
    if as_json:
        print_json(asdict(found))
        return
    _print(found)


def _print(found: PeopleAndGrades) -> None:
    raters = "1 rater" if found.raters == 1 else f"{found.raters} raters"
    title = f"{found.checkpoint} under {found.suite}: {found.of} and {raters}"
    made = table(title, "agreement (Krippendorff's alpha)", "ordinal", "interval", "samples", right=("samples",))
    for name, alphas in (("people with each other", found.people), (f"people and {found.of}", found.both)):
        cells = [_alpha(each) for each in alphas.values()]
        made.add_row(name, *cells, str(alphas["ordinal"].items))
    out.print(made)
    if found.means is None:
        err.print(f"no means: {found.reason}")
    else:
        means = table("means over items, 95 %", "of", "mean", "interval", "items", right=("mean", "items"))
        rates = {"people": found.means.people, found.of: found.means.judge, "both together": found.means.together}
        for name, rate in rates.items():
            means.add_row(name, f"{rate.value:.3f}", f"{rate.ci_low:.3f} to {rate.ci_high:.3f}", str(rate.items))
        out.print(means)
        err.print("The means hold if the rated items are a random part of all, as the first of the export are.")
    if found.left_out:
        err.print(f"left out: {found.left_out} rated samples without a value")


def _alpha(found: Agreement) -> str:
    if found.alpha is None:
        return "–"
    interval = "" if found.ci_low is None else f" ({found.ci_low:.2f} to {found.ci_high:.2f})"
    return f"{found.alpha:.2f}{interval}"
