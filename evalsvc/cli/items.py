"""``items``: the samples of a checkpoint one by one, and the tables of items that it and ``compare`` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from evalsvc.api import schemas
from evalsvc.cli.backends import Answer, backend
from evalsvc.cli.console import ARROWS, number, styled, table
from evalsvc.cli.options import AsJson
from evalsvc.core.settings import Settings
from evalsvc.inputs import stored_checkpoints
from evalsvc.store.artifacts import open_artifacts
from evalsvc.store.session import Database

if TYPE_CHECKING:
    from evalsvc.analysis.item_listings import ItemComparison, ItemListing
    from evalsvc.analysis.items import ItemTable

SHORT = 120
"""Maximum length of a text in a table, in characters."""
OF = "Score whose items are listed: a label, a slice of it as in 'wer[lang=de]', scorer/quantity, or a scorer."


def items(
    context: typer.Context,
    checkpoint: Annotated[
        str, typer.Argument(help="model, model@step, alias, digest, or the path of a scored checkpoint.")
    ],
    of: Annotated[str | None, typer.Option(help=f"{OF} By default the suite's first.")] = None,
    worst: Annotated[int, typer.Option(min=1, max=200, help="Number of samples to list, the worst first.")] = 20,
    by: Annotated[str | None, typer.Option(help="Tag whose values are listed as slices, the worst first.")] = None,
    suite: Annotated[str | None, typer.Option(help="Suite; by default the most recently used one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the samples with the worst values, with prompt, target and answer. Samples that failed come last."""
    backend(context).items(checkpoint, of, worst, by, suite).show(as_json=as_json)


def stored_tables(database: Database, suite: str | None, *checkpoints: str) -> list[ItemTable]:
    """The item tables of checkpoints of this machine's database, by name or path."""
    from evalsvc.analysis.items import items_of_checkpoints  # other commands do not wait for the metrics

    with database.read() as session:
        found = [stored_checkpoints.find(session, each) for each in checkpoints]
        return items_of_checkpoints(session, open_artifacts(Settings()), found, suite)


def listing_answer(listing: ItemListing | schemas.ItemListing) -> Answer:
    """Print the output of ``items``."""
    found = schemas.ItemListing.model_validate(listing)
    arrow = ARROWS[found.direction]
    shown: list[Table] = []
    if found.slices:
        made = table(
            f"{found.name} under {found.suite}: slices of {found.of}",
            *("slice", f"mean {arrow}", "items", "samples", "failed", "worst item", "prompt"),
            right=("items", "samples", "failed"),
        )
        for each in found.slices:
            counts = str(each.items), str(each.samples), str(each.failed)
            item, _, given = _item(each.worst)
            made.add_row(_short(each.value), number(each.mean), *counts, item, given)
        shown.append(made)
    title = f"{found.name} under {found.suite}: {found.of}, the worst of {found.samples} samples"
    made = table(title, f"{found.quantity} {arrow}".strip(), "item", "draw", "prompt", "target", "answer")
    for sample in found.items:
        made.add_row(_value(sample), *_item(sample), _short(sample.item.target), _answer(sample))
    unscored = {"failed": found.failed, "not applicable": found.not_applicable}
    said = ", ".join(f"{count} {outcome}" for outcome, count in unscored.items() if count)
    document = found.model_dump(mode="json", exclude={"next"})
    return Answer(document, [*shown, made], [f"without a value: {said}"] if said else [])


def changes_answer(comparison: ItemComparison | schemas.ItemComparison) -> Answer:
    """Print the output of ``compare --of``."""
    found = schemas.ItemComparison.model_validate(comparison)
    shown = [
        _changes(found, f"got worse ({found.worse} of {found.paired} items)", found.regressions),
        _changes(found, f"got better ({found.better} of {found.paired} items)", found.improvements),
    ]
    left_out = {"have a value on one side only": found.unpaired, "have another target": found.changed}
    remarks = [f"left out: {count} items {why}" for why, count in left_out.items() if count]
    return Answer(found.model_dump(mode="json"), shown, remarks)


def _changes(found: schemas.ItemComparison, title: str, changes: Sequence[schemas.ItemChange]) -> Table:
    heads = ("change", found.a, found.b, "item", "draw", "prompt", "target", f"answer of {found.a}", f"of {found.b}")
    made = table(f"{found.suite}: {found.of}, {found.b} against {found.a}: {title}", *heads)
    for each in changes:
        values = f"{each.difference:+.4g}", number(each.value_a), number(each.value_b)
        made.add_row(*values, *_item(each.b), _short(each.b.item.target), _answer(each.a), _answer(each.b))
    return made


def _item(sample: schemas.ItemSample) -> tuple[str, str, str]:
    item = sample.item
    given = item.prompt or item.source or ("" if item.label is None else f"label {item.label}")
    return _short(item.id), str(sample.draw), _short(given)


def _value(sample: schemas.ItemSample) -> str | Text:
    if sample.value is not None and sample.outcome == "scored":
        return number(sample.value)
    style = "red" if sample.outcome == "failed" else "dim"
    return styled(f"{sample.outcome}: {_short(sample.reason)}" if sample.reason else sample.outcome, style)


def _answer(sample: schemas.ItemSample) -> str | Text:
    return styled(sample.absent, "dim") if sample.absent else _short(sample.answer)


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
