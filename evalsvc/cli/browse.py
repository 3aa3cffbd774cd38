"""Commands that read: leaderboard, ratings, compare, show, models, checkpoints. None of them imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from evalsvc.cli.backends import backend
from evalsvc.cli.console import out, print_json
from evalsvc.cli.documents import score_document
from evalsvc.cli.items import OF
from evalsvc.cli.options import AsJson
from evalsvc.cli.score_tables import print_provenance, print_scores
from evalsvc.core.settings import Settings
from evalsvc.inputs import stored_checkpoints
from evalsvc.store import names, queries
from evalsvc.store.queries import ScoreRow
from evalsvc.store.session import Database

SuiteName = Annotated[str | None, typer.Option(help="Suite; by default the most recently used one.")]
OfModel = Annotated[str | None, typer.Option("--model", help="Alternative to the argument.")]


def leaderboard(
    context: typer.Context,
    suite: SuiteName = None,
    metric: Annotated[str | None, typer.Option(help="Score to rank by; by default the suite's first.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All checkpoints, not only each model's last.")] = False,
    reference: Annotated[
        Literal["sampled", "fixed"],
        typer.Option(help="Whether ranks hold for other references like this one, or on this reference file."),
    ] = "sampled",
    as_json: AsJson = False,
) -> None:
    """Rank models by a score. Models with overlapping intervals share a rank: 1 + the number that are significantly
    better.
    """
    backend(context).leaderboard(suite, metric, "all" if every else "latest", reference).show(as_json=as_json)


def ratings(context: typer.Context, suite: SuiteName = None, as_json: AsJson = False) -> None:
    """Show the ratings by people's votes, the agreement of raters, and rates of people and judges together."""
    backend(context).ratings(suite).show(as_json=as_json)


def compare(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="model, model@step, alias, digest, or the path of a scored checkpoint.")],
    b: Annotated[str, typer.Argument(help="The second checkpoint; differences are b minus a.")],
    suite: SuiteName = None,
    label: Annotated[str | None, typer.Option(help="One score alone, such as the slice 'wer[lang=de]'.")] = None,
    of: Annotated[str | None, typer.Option(help=f"{OF} Lists what got worse and better.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="With --of, number of items each.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show differences between two checkpoints with 95 % intervals, on this reference file and for others like it.
    Scores of different protocols are listed, not compared. With ``--of``, list the items that changed most, with both
    samples.
    """
    if of is not None:
        backend(context).compare_items(a, b, of, limit, suite).show(as_json=as_json)
        return
    backend(context).compare(a, b, suite, label).show(as_json=as_json)


def show(
    checkpoint: Annotated[
        str, typer.Argument(help="model, model@step, alias, digest, or the path of a scored checkpoint.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show all scores of a checkpoint with their protocols, worst slices and provenance."""
    with Database(Settings().database).read() as session:
        found = stored_checkpoints.find(session, checkpoint)
        title = names.title_of(session, found)
        runs = queries.evaluations(session, found.id)
        documents = []
        for run in runs:
            rows = queries.scores(session, evaluation=run.id)
            slices = queries.slices_by_score(session, run.id)
            files = {artifact.kind: artifact.path for artifact in run.artifacts}
            suite = f"{run.suite.name}@{run.suite.version}"
            documents.append(
                {
                    "suite": suite,
                    "status": run.status,
                    "error": run.error,
                    "by": run.by,
                    "scores": [_with_slices(row, slices) for row in rows],
                    "provenance": run.provenance,
                    "cost": {
                        "device_seconds": run.device_seconds,
                        "peak_memory_bytes": run.peak_memory,
                        "energy_joules": run.energy,
                    },
                    "files": files,
                    "fingerprint": run.fingerprint,
                }
            )
            if not as_json and rows:
                print_scores(rows, run.provenance, slices)
            elif not as_json:
                out.print(f"{suite}: {run.status}" + (f": {run.error}" if run.error else ""))
            if not as_json and run.provenance:
                print_provenance(run, files)
    if as_json:
        print_json(
            {
                "name": title,
                "model": found.model.name,
                "family": found.model.family,
                "step": found.step,
                "digest": found.digest,
                "path": found.path,
                "generator": found.generator,
                "generator_version": found.generator_version,
                "options": found.options,
                "configuration": found.configuration,
                "evaluations": documents,
            }
        )


def _with_slices(row: ScoreRow, slices: Mapping[str, Sequence[ScoreRow]]) -> dict[str, Any]:
    found = [score_document(each) for each in slices.get(row.label, ())]
    return score_document(row) | ({"slices": found} if found else {})


def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models with their checkpoints, evaluations and costs."""
    backend(context).models().show(as_json=as_json)


def checkpoints(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Only checkpoints of this model.")] = None,
    of_model: OfModel = None,
    as_json: AsJson = False,
) -> None:
    """List the checkpoints by model and step."""
    backend(context).checkpoints(model or of_model).show(as_json=as_json)
